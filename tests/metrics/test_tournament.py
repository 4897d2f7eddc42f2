"""The tournament: its arithmetic, who may never win it, and what it finds on domains whose truth is known."""

import json

import numpy as np
import pytest

from graft.errors import RequestError
from graft.metrics import (
    EVIDENCE_WEIGHT,
    RiskScore,
    choose,
    consensus,
    predicted_shares,
    reverse_validation,
    score_classifiers,
    score_regressors,
)

KINDS = tuple(EVIDENCE_WEIGHT)


def by(**values):
    """One score of each kind of evidence: clusters=0.3 and so on, larger is better."""
    return [RiskScore(kind, value, True, kind.replace("_", " ")) for kind, value in values.items()]


def test_the_best_by_all_evidence_wins_and_the_reason_names_it():
    scores = {"source-only": by(clusters=0.2, committee=0.5), "coral": by(clusters=0.4, committee=0.7)}
    choice = choose(scores)
    assert choice.chosen == "coral"
    assert choice.standing == {"source-only": 0.0, "coral": 1.0}
    assert choice.for_it["coral"] == ("clusters", "committee")
    assert "'coral'" in choice.reason
    assert "clusters and committee" in choice.reason
    assert choice.warnings == ()


def test_the_baseline_stays_unless_more_than_half_of_the_weight_is_for_another():
    half = {"source-only": by(clusters=0.2, committee=0.5), "coral": by(clusters=0.4, committee=0.3)}
    choice = choose(half)
    assert choice.chosen == "source-only"
    assert "harmful" in choice.warnings[0]
    for alike in (0.2, 0.3):  # where nothing is worse there is no harm to be seen, whether anything is better or not
        even = {"source-only": by(clusters=0.2, density=0.1), "coral": by(clusters=alike, density=0.1)}
        assert (choose(even).chosen, choose(even).warnings) == ("source-only", ())
    light = {
        "source-only": by(clusters=0.2, density=0.1, confidence=0.1),
        "coral": by(clusters=0.1, density=0.2, confidence=0.2),
    }
    assert choose(light).chosen == "source-only"  # two halves do not outweigh one whole


def test_many_scores_of_one_kind_have_one_voice():
    def sure(value):
        return [RiskScore(f"confidence {k}", value, True, "confidence") for k in range(9)]

    scores = {
        "source-only": by(clusters=0.4, committee=0.9) + sure(0.2),
        "boaster": by(clusters=0.1, committee=0.1) + sure(0.9),
    }
    assert choose(scores).chosen == "source-only"


def test_one_kind_of_evidence_is_not_enough():
    choice = choose({"source-only": by(confidence=0.2), "boaster": by(confidence=0.9)})
    assert choice.chosen == "source-only"
    assert "two kinds" in choice.reason


def test_a_heavy_kind_alone_does_not_outweigh_a_light_one():
    scores = {"source-only": by(committee=0.2, weighted_source=0.9), "coral": by(committee=0.9, weighted_source=0.2)}
    choice = choose(scores)
    assert choice.chosen == "source-only"
    assert choice.convincing == ()
    assert choice.voices == {"source-only": 1.0, "coral": 0.0}


def test_voices_are_standings_and_the_convincing_come_best_first():
    scores = {
        "source-only": by(clusters=0.3, committee=0.3),
        "worse": by(clusters=0.1, committee=0.1),
        "better": by(clusters=0.6, committee=0.6),
        "best": by(clusters=0.7, committee=0.7),
        "flat": by(clusters=0.9, committee=0.9),
    }
    shares = {name: np.array([0.5, 0.5]) for name in scores} | {"flat": np.array([1.0, 0.0])}
    choice = choose(scores, shares=shares)
    assert choice.convincing == ("best", "better")
    assert choice.voices == pytest.approx({"source-only": 1 / 6, "worse": 0, "better": 1 / 3, "best": 1 / 2, "flat": 0})
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = {name: by(**{kind.replace(" ", "_"): rng.uniform() for kind in KINDS}) for name in "abcdef"}
        choice = choose(scores, baseline="c")
        assert sum(choice.voices.values()) == pytest.approx(1)
        assert (choice.voices["c"] == 1) == (not choice.convincing)
        assert all(len(choice.for_it[name]) > 1 for name in choice.convincing)
        order = [round(choice.standing[name], 9) for name in choice.convincing]
        assert order == sorted(order, reverse=True)
        assert choice.chosen == "c" or choice.chosen == choice.convincing[0]


def test_the_consensus_errs_by_the_mean_error_less_the_ambiguity():
    rng = np.random.default_rng(0)
    answers = {name: rng.dirichlet(np.ones(3), size=50) for name in "abcd"}
    voices = dict(zip("abcd", rng.dirichlet(np.ones(4)), strict=True))
    truth = np.eye(3)[rng.integers(3, size=50)]
    mean = consensus(answers, voices)
    np.testing.assert_allclose(mean.sum(axis=1), 1, atol=1e-12)
    error = {name: np.square(table - truth).sum() for name, table in answers.items()}
    ambiguity = sum(voices[name] * np.square(answers[name] - mean).sum() for name in answers)
    assert np.square(mean - truth).sum() == pytest.approx(sum(voices[m] * error[m] for m in answers) - ambiguity)
    surprise = {name: -np.log((table * truth).sum(axis=1)).mean() for name, table in answers.items()}
    assert -np.log((mean * truth).sum(axis=1)).mean() <= sum(voices[m] * surprise[m] for m in answers)


def test_the_consensus_hears_only_voices_and_not_how_they_are_counted():
    rng = np.random.default_rng(2)
    answers = {name: rng.dirichlet(np.ones(3), size=8) for name in "abc"}
    alone = consensus(answers, {"a": 0.0, "b": 1.0, "c": 0.0})
    np.testing.assert_array_equal(alone, answers["b"])
    np.testing.assert_allclose(
        consensus(answers, {"a": 2, "b": 6}), consensus(answers, {"b": 0.75, "a": 0.25, "c": 0.0}), atol=1e-15
    )
    with pytest.raises(RequestError, match="answers of 'a'"):
        consensus({"a": np.full((2, 2), 3.0)}, {"a": 1.0})


def test_a_first_place_without_the_majority_falls_to_the_next_that_has_it():
    scores = {
        "source-only": by(clusters=0.30, committee=0.50, circle=0.50),
        "middle": by(clusters=0.40, committee=0.60, circle=0.40),
        "worse": by(clusters=0.10, committee=0.10, circle=0.10),
    }
    assert choose(scores).chosen == "middle"


def test_directions_are_respected_and_units_do_not_matter():
    def of(error, loss):
        return [RiskScore("error", error, False, "circle"), RiskScore("loss", loss, False, "weighted source")]

    scores = {"source-only": of(0.3, 900.0), "good": of(0.1, 300.0), "poor": of(0.5, 1200.0)}
    choice = choose(scores)
    assert choice.chosen == "good"
    scaled = {
        name: [RiskScore(s.name, s.value**3, False, s.evidence) for s in values] for name, values in scores.items()
    }
    assert choose(scaled).standing == choice.standing


def test_the_order_of_candidates_and_scores_does_not_matter():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = {name: by(**{kind.replace(" ", "_"): rng.uniform() for kind in KINDS}) for name in "abcdef"}
        first = choose(scores, baseline="c")
        shuffled = {str(name): list(reversed(scores[name])) for name in rng.permutation(list(scores))}
        second = choose(shuffled, baseline="c")
        assert second.chosen == first.chosen
        assert second.standing == pytest.approx(first.standing)


def test_a_score_that_says_nothing_takes_no_part():
    nan = float("nan")
    scores = {
        "source-only": by(clusters=0.2, committee=0.5, circle=nan),
        "coral": by(clusters=0.4, committee=0.7, circle=0.1),
        "other": by(clusters=0.1, committee=0.2, circle=0.9),
    }
    choice = choose(scores)
    assert choice.chosen == "coral"
    assert "circle" not in choice.for_it["coral"] + choice.against_it["coral"]
    silent = {name: by(clusters=nan, committee=nan) for name in ("source-only", "coral")}
    assert choose(silent).chosen == "source-only"
    assert "no score tells" in choose(silent).reason


def test_equal_candidates_leave_the_baseline():
    scores = {name: by(clusters=0.3, committee=0.5) for name in ("coral", "source-only", "sa")}
    assert choose(scores).chosen == "source-only"
    assert choose({"source-only": by(clusters=0.3)}).reason == "'source-only' stays: there is no other candidate."


def test_what_is_wrong_with_a_table_is_said():
    with pytest.raises(RequestError, match="baseline"):
        choose({"coral": by(clusters=0.1)})
    with pytest.raises(RequestError, match="each score once"):
        choose({"source-only": by(clusters=0.1) * 2})
    with pytest.raises(RequestError, match="evidence"):
        choose({"source-only": [RiskScore("hope", 1.0, True, "hope")]})


def test_the_choice_is_json():
    scores = {"source-only": by(clusters=0.2, committee=float("nan")), "coral": by(clusters=0.4, committee=0.7)}
    plain = json.loads(json.dumps(choose(scores).to_dict()))
    assert plain["candidates"]["source-only"]["scores"]["committee"]["value"] is None
    assert plain["chosen"] == "source-only"


# Warnings


def test_missing_and_shifted_classes_are_warned_of():
    scores = {"source-only": by(clusters=0.2, committee=0.5), "coral": by(clusters=0.4, committee=0.7)}
    options = {"source_shares": [0.25] * 4, "classes": ["w", "x", "y", "z"], "examples": 200}
    even = choose(scores, shares={"source-only": [0.3, 0.2, 0.3, 0.2], "coral": [0.25] * 4}, **options)
    assert even.warnings == ()
    far = choose(scores, shares={"source-only": [0.8, 0.1, 0.1, 0.0], "coral": [0.9, 0.05, 0.05, 0.0]}, **options)
    assert "'z'" in far.warnings[0]
    assert "Target classes seem to differ" in far.warnings[1]
    assert "'w' (25% of the source, 85% predicted)" in far.warnings[1]
    few = choose(
        scores, shares={"source-only": [0.5, 0.5, 0, 0], "coral": [0.5, 0.5, 0, 0]}, **options | {"examples": 6}
    )
    assert few.warnings == ()


def test_who_gives_one_class_to_everything_takes_no_part():
    scores = {"source-only": by(clusters=0.2, committee=0.5), "constant": by(clusters=0.4, committee=0.7)}
    choice = choose(scores, shares={"source-only": [0.5, 0.5], "constant": [1.0, 0.0]})
    assert choice.chosen == "source-only"
    assert "'constant' gives one class" in choice.warnings[-1]


def test_shares_are_those_of_the_predictions():
    assert predicted_shares([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]).tolist() == [0.75, 0.25]


# Simulated domains


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


class Means:
    """Nearest class mean with softmax of minus half the squared distances: calibrated for unit Gaussians."""

    def __init__(self, features, codes, count):
        self.means = np.stack([features[codes == k].mean(axis=0) for k in range(count)])

    def answers(self, features):
        return softmax(-0.5 * ((features[:, None, :] - self.means) ** 2).sum(axis=2))


def contest(seed, *, shift, target_counts=(60, 60, 60), scale=3.0, dimensions=6):
    """Candidates for a target that is moved by `shift`, with their scores, choice and true accuracy."""
    rng = np.random.default_rng(seed)
    count = len(target_counts)
    centres = scale * np.eye(count, dimensions)
    codes = np.repeat(np.arange(count), 60)
    truth = np.repeat(np.arange(count), target_counts)
    source = centres[codes] + rng.normal(size=(len(codes), dimensions))
    target = centres[truth] + rng.normal(size=(len(truth), dimensions)) + shift
    halves = np.arange(len(codes)) % 2 == 0

    def model(move, learn, answer):
        """Answers of class means, after `move` of the target onto the source."""
        return Means(source[learn], codes[learn], count).answers(answer - move)

    move = target.mean(axis=0) - source.mean(axis=0)
    moves = {"source-only": 0.0, "moved": move, "half": 0.5 * move, "wrong way": -move}
    answers, held_out = {}, {}
    for name, by_how_much in moves.items():
        answers[name] = model(by_how_much, np.full(len(codes), True), target)
        held_out[name] = np.empty((len(codes), count))
        for learn in (halves, ~halves):
            held_out[name][~learn] = model(0.0, learn, source[~learn])
    fixed = {
        "constant": lambda n: np.tile(np.eye(count)[0], (n, 1)),
        "nearly constant": lambda n: np.where(np.arange(n)[:, None] == 0, np.eye(count)[1], np.eye(count)[0]),
        "random": lambda n: softmax(rng.normal(size=(n, count))),
        "random and sure": lambda n: np.eye(count)[rng.integers(0, count, n)],
        "in turn and sure": lambda n: np.eye(count)[np.arange(n) % count],
    }
    for name, rule in fixed.items():
        answers[name], held_out[name] = rule(len(truth)), rule(len(codes))
    answers["sure"] = np.eye(count)[answers["wrong way"].argmax(axis=1)]
    held_out["sure"] = np.eye(count)[held_out["wrong way"].argmax(axis=1)]

    def there(by_how_much):
        def fit(features, labels, others):
            present = np.unique(labels)
            if len(present) == 1:
                return lambda x: np.full(len(x), present[0])
            means = np.stack([features[labels == k].mean(axis=0) for k in present])
            gap = by_how_much * (others.mean(axis=0) - features.mean(axis=0))
            return lambda x: present[((x[:, None, :] - gap - means) ** 2).sum(axis=2).argmin(axis=1)]

        return fit

    def regardless(rule):
        return lambda features, labels, others: lambda x: rule(len(x)).argmax(axis=1)

    ways = {"source-only": 0.0, "moved": 1.0, "half": 0.5, "wrong way": -1.0, "sure": -1.0}
    circle = {name: reverse_validation(there(part), source, codes, target) for name, part in ways.items()}
    circle |= {name: reverse_validation(regardless(rule), source, codes, target) for name, rule in fixed.items()}
    scores = score_classifiers(
        answers,
        np.arange(count),
        target_features=target,
        source=held_out,
        source_labels=codes,
        sample_weight=np.ones(len(codes)),
        circle=circle,
    )
    choice = choose(
        scores,
        shares={name: predicted_shares(table) for name, table in answers.items()},
        source_shares=predicted_shares(np.eye(count)[codes]),
        examples=len(truth),
    )
    accuracy = {name: float((table.argmax(axis=1) == truth).mean()) for name, table in answers.items()}
    return choice, accuracy


DEGENERATE = {"constant", "nearly constant", "random", "random and sure", "in turn and sure"}


@pytest.mark.parametrize("seed", range(5))
def test_the_bridge_wins_where_there_is_a_gap(seed):
    choice, accuracy = contest(seed, shift=np.array([2.5, 0, 0, 1.0, 0, 0]))
    assert accuracy["moved"] > accuracy["source-only"] + 0.1
    assert choice.chosen == "moved"


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [(60, 60, 60), (120, 40, 20)])
def test_the_degenerate_never_win(seed, shift, counts):
    choice, accuracy = contest(seed, shift=np.array([shift, 0, 0, 0, 0, 0]), target_counts=counts)
    assert choice.chosen not in DEGENERATE
    # Who claims to be sure of wrong answers gains nothing by it; without a shift, "wrong way" is as good as any.
    assert choice.chosen != "sure" or shift == 0
    assert accuracy[choice.chosen] >= accuracy["source-only"] - 0.02
    assert any("'constant'" in warning for warning in choice.warnings)


def test_nothing_is_lost_where_there_is_no_gap():
    lost = []
    for seed in range(8):
        choice, accuracy = contest(seed, shift=0.0)
        lost.append(accuracy["source-only"] - accuracy[choice.chosen])
    assert np.mean(lost) < 0.005
    assert max(lost) < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_matching_means_is_not_chosen_where_only_the_class_shares_differ(seed):
    choice, accuracy = contest(seed, shift=0.0, target_counts=(170, 5, 5), scale=2.5)
    assert accuracy["moved"] < accuracy["source-only"] - 0.02
    assert accuracy[choice.chosen] >= accuracy["source-only"] - 0.01
    assert any("Target classes seem to differ" in warning for warning in choice.warnings)


def test_standing_follows_the_true_accuracy():
    from scipy.stats import spearmanr

    found = []
    for seed in range(5):
        choice, accuracy = contest(seed, shift=np.array([2.5, 0, 0, 1.0, 0, 0]))
        found.append(spearmanr([choice.standing[m] for m in accuracy], list(accuracy.values()))[0])
    assert np.mean(found) > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_a_regression_moves_where_its_inputs_moved(seed):
    """The circle and the committee speak; the weighted squared error is the same for both, and silent."""
    rng = np.random.default_rng(seed)
    source, clean = rng.normal(size=(150, 1)), rng.normal(size=(150, 1))
    target, numbers = clean + 3, np.sin(1.5 * source[:, 0])

    def smoother(part):
        def fit(features, labels, others):
            gap = part * (others.mean(axis=0) - features.mean(axis=0))

            def predict(x):
                near = np.exp(-(((x - gap)[:, None, 0] - features[None, :, 0]) ** 2) / 0.05) + 1e-9
                return near @ labels / near.sum(axis=1)

            return predict

        return fit

    parts = {"source-only": 0.0, "moved": 1.0, "moved less": 0.9}
    answers = {name: smoother(part)(source, numbers, target)(target) for name, part in parts.items()}
    circle = {
        name: reverse_validation(smoother(part), source, numbers, target, loss="squared-error")
        for name, part in parts.items()
    }
    choice = choose(score_regressors(answers, circle=circle))
    risk = {name: np.mean((answer - np.sin(1.5 * clean[:, 0])) ** 2) for name, answer in answers.items()}
    assert risk[choice.chosen] < 0.5 * risk["source-only"]

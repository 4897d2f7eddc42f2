"""Diagnostics: a shift is found where there is one, not found where there is none, and told by its kind."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from graft.errors import DataError
from graft.importance import Weights, diagnose, domain_auc, kmm, mmd_test
from graft.importance.diagnosis import _shares_p_value, _weighted_p_value
from graft.importance.domain_pair import domain_pair
from graft.importance.weights import weights_of


def flat(rows: int) -> Weights:
    return weights_of("flat", np.ones(rows), {})


@pytest.mark.parametrize("test", [domain_auc, mmd_test])
def test_no_shift_is_found_as_rarely_as_promised(test):
    found = []
    for seed in range(40):
        draws = np.random.default_rng(seed)
        source, target = draws.normal(size=(60, 2)), draws.normal(size=(50, 2))
        options = {"permutations": 99} if test is mmd_test else {}
        found.append(test(source, target, random_state=seed, **options).p_value)
    # Of 40 tests at 5 %, six or more are wrong with a probability of 1 %.
    assert np.mean(np.array(found) < 0.05) <= 5 / 40
    assert np.mean(np.array(found) < 0.6) > 0.1


@pytest.mark.parametrize("test", [domain_auc, mmd_test])
def test_a_clear_shift_is_found(test):
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(100, 3)), draws.normal(0.7, 1, size=(90, 3))
    assert test(source, target).p_value < 0.01


def test_the_auc_is_the_known_one():
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(2000, 1)), draws.normal(1, 1, size=(1500, 1))
    found = domain_auc(source, target)
    assert found.auc == pytest.approx(0.7602, abs=0.02)  # Phi(1 / sqrt 2)
    assert found.low < 0.7602 < found.high
    assert found.high - found.low < 0.06
    # The best classifier errs with Phi(-1/2).
    assert found.balanced_error == pytest.approx(0.3085, abs=0.02)


def test_the_mmd_is_the_plain_double_sum():
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(12, 2)), draws.normal(1, 1, size=(9, 2))
    pooled = np.vstack([source, target])
    gaps = ((pooled[:, None] - pooled) ** 2).sum(axis=2)
    kernel = np.exp(-gaps / (2 * np.median(gaps[np.triu_indices(21, 1)])))
    direct = kernel[:12, :12].mean() - 2 * kernel[:12, 12:].mean() + kernel[12:, 12:].mean()
    assert mmd_test(source, target, standardize=False).mmd == pytest.approx(direct)


def test_good_weights_remove_what_they_can():
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(400, 2)), draws.normal(0.7, 1, size=(300, 2))
    found = diagnose(kmm(source, target), source, target)
    assert found.shift
    assert found.weighted_mmd < 0.1 * found.unweighted_mmd
    assert 1 < found.effective_sample_size < 400
    assert found.effective_share == pytest.approx(found.effective_sample_size / 400)
    assert found.largest_weight > 1
    assert found.hint == "shift of unknown kind"
    json.dumps(found.to_dict(), allow_nan=False)


def test_overlap_of_apart_and_of_equal_domains():
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(200, 2)), draws.normal(size=(200, 2))
    assert diagnose(flat(200), source, target).overlap > 0.85
    apart = diagnose(flat(200), source, target + 20)
    assert apart.overlap < 0.02
    assert apart.auc.auc > 0.99
    half = diagnose(flat(200), source[:, :1], target[:, :1] + 1)
    assert half.overlap == pytest.approx(0.617, abs=0.12)  # 2 Phi(-1/2)


def test_flat_weights_are_all_of_the_sample():
    draws = np.random.default_rng(0)
    source = draws.normal(size=(150, 2))
    found = diagnose(flat(150), source, source)
    assert found.effective_sample_size == pytest.approx(150)
    assert found.largest_weight == 1
    assert not found.shift
    assert found.hint == "none"
    assert found.unweighted_mmd == pytest.approx(0, abs=1e-12)


def labelled(kind: str, seed: int, rows: int = 500, columns: int = 2):
    """Two classes 2.5 apart along the first axis; 30 % of the source are of the second."""
    draws = np.random.default_rng(seed)
    apart = 2.5 * np.eye(columns)[0]
    labels = draws.choice(["n", "p"], p=[0.7, 0.3], size=rows)
    source = draws.normal(size=(rows, columns)) + (labels == "p")[:, None] * apart
    codes = draws.random(rows) < (0.8 if kind in {"label shift", "both"} else 0.3)
    target = draws.normal(size=(rows, columns)) + codes[:, None] * apart
    if kind in {"translation", "both"}:
        target += 0.6
    if kind == "sideways":
        target[:, 1] += 1
    model = LogisticRegression()
    probabilities = cross_val_predict(model, source, labels, method="predict_proba")
    return source, target, labels, probabilities, model.fit(source, labels).predict_proba(target)


HINTS = {
    "none": "none",
    "label shift": "label shift",
    "translation": "covariate shift",
    "sideways": "covariate shift",
    "both": "covariate shift",
}


@pytest.mark.parametrize("size", [(500, 2), (300, 20)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", list(HINTS))
def test_the_kind_of_shift_is_told(kind, seed, size):
    source, target, labels, source_probabilities, target_probabilities = labelled(kind, seed, *size)
    found = diagnose(
        flat(len(source)),
        source,
        target,
        labels=labels,
        source_probabilities=source_probabilities,
        target_probabilities=target_probabilities,
        random_state=seed,
    )
    assert found.hint == HINTS[kind]
    assert found.shift == (kind != "none")


def test_equal_shares_are_found_to_differ_as_rarely_as_promised():
    p_values = []
    for seed in range(200):
        draws = np.random.default_rng(seed)
        p_values.append(_shares_p_value(*(draws.dirichlet([1, 2, 3], size=rows) for rows in (80, 60))))
    # At 5 %: 20 or more of 200 have a probability of 0.3 %.
    assert np.mean(np.array(p_values) < 0.05) < 0.1
    assert 0.35 < np.median(p_values) < 0.65
    draws = np.random.default_rng(0)
    assert _shares_p_value(draws.dirichlet([1, 2, 3], size=80), draws.dirichlet([2, 1, 3], size=60)) < 0.01


def test_the_weighted_kernel_test_keeps_its_level_and_has_power():
    p_values = {"label shift": [], "both": []}
    for kind, found in p_values.items():
        for seed in range(25):
            source, target, labels, *_ = labelled(kind, seed, 150)
            codes = (labels == "p").astype(int)
            truth = np.array([0.2, 0.8]) / np.bincount(codes) * len(codes)
            found.append(_weighted_p_value(domain_pair(source, target), truth[codes], codes, 99, seed))
    # Of 25 tests at 5 %, five or more are wrong with a probability of 0.7 %.
    assert np.sum(np.array(p_values["label shift"]) < 0.05) <= 4
    assert np.mean(np.array(p_values["both"]) < 0.05) > 0.8


def test_the_effective_share_of_moved_gaussians_is_the_known_one():
    draws = np.random.default_rng(0)
    source = draws.normal(size=(3000, 1))
    ratio = np.exp(0.8 * source[:, 0] - 0.32)
    share = ratio.sum() ** 2 / (ratio**2).sum() / len(ratio)
    assert np.exp(-0.64) == pytest.approx(share, abs=0.05)
    found = []
    for seed in range(4):
        draws = np.random.default_rng(seed)
        found.append(domain_auc(draws.normal(size=(2000, 1)), draws.normal(0.8, 1, size=(2000, 1))).effective_share)
    assert np.mean(found) == pytest.approx(np.exp(-0.64), abs=0.05)
    assert domain_auc(source, source).effective_share > 0.99


def test_weights_of_another_source_are_refused():
    draws = np.random.default_rng(0)
    source = draws.normal(size=(50, 2))
    with pytest.raises(DataError, match="expected 40 examples, one for each weight"):
        diagnose(flat(40), source, source)

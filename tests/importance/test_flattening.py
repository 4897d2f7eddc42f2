"""The exponent of weights: validated where the truth is known, and held to the laws of its formula."""

import numpy as np
import pytest

from graft.errors import DataError, RequestError
from graft.importance import domain_auc, domain_classifier, flattening
from graft.importance.exponent import EXPONENTS
from graft.importance.weights import weights_of


def moved(truth, seed: int, rows: int = 600):
    """A source around 0 and a target around 1, and numbers that depend on the place alone."""
    draws = np.random.default_rng(seed)
    source, target = draws.normal(size=(rows, 1)), draws.normal(1, 0.7, size=(rows, 1))
    return source, target, truth(source[:, 0]) + 0.3 * draws.normal(size=rows)


def line(source, numbers, weights):
    return np.polyfit(source[:, 0], numbers, 1, w=np.sqrt(weights))


def line_losses(source, numbers):
    fold = np.arange(len(source)) % 5

    def losses(weights):
        told = np.empty(len(source))
        for one in range(5):
            fitted = line(source[fold != one], numbers[fold != one], weights.sample_weight[fold != one])
            told[fold == one] = np.polyval(fitted, source[fold == one, 0])
        return (told - numbers) ** 2

    return losses


@pytest.mark.parametrize("seed", range(5))
def test_a_model_too_simple_for_both_domains_is_fitted_to_the_target(seed):
    source, target, numbers = moved(np.square, seed)
    found = flattening(
        domain_classifier(source, target), line_losses(source, numbers), domains=domain_auc(source, target)
    )
    assert found.exponent >= 0.5
    assert found.tried[0].excess > 3 * found.tried[0].standard_error

    def target_error(weights):
        return np.mean((np.polyval(line(source, numbers, weights), target[:, 0]) - target[:, 0] ** 2) ** 2)

    assert target_error(found.weights.sample_weight) < 0.5 * target_error(np.ones(len(source)))


def test_a_model_that_is_right_everywhere_needs_no_weights():
    exponents = []
    for seed in range(20):
        source, target, numbers = moved(lambda x: 2 * x, seed, 300)
        exponents.append(flattening(domain_classifier(source, target), line_losses(source, numbers)).exponent)
    # A test at 5 % for each of 20: four or more have a probability of 1.6 %.
    assert np.count_nonzero(exponents) <= 3


def table(seed: int = 0, rows: int = 300):
    draws = np.random.default_rng(seed)
    weights = weights_of("given", draws.gamma(2, size=rows), {})
    return weights, 1 + draws.normal(size=(rows, 5)) - np.array([0.0, 0.3, 0.8, 0.85, 0.7])


def from_table(losses):
    columns = iter(losses.T)
    return lambda _: next(columns)


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_the_formula(seed):
    weights, losses = table(seed)
    found = flattening(weights, from_table(losses))
    v = weights.sample_weight
    risks = (v @ losses) / v.sum()
    best = risks.argmin()
    gaps = losses - losses[:, [best]]
    means = (v @ gaps) / v.sum()
    errors = np.sqrt((v**2) @ (gaps - means) ** 2) / v.sum()
    np.testing.assert_allclose([one.risk for one in found.tried], risks)
    np.testing.assert_allclose([one.excess for one in found.tried], means, atol=1e-12)
    np.testing.assert_allclose([one.standard_error for one in found.tried], errors)
    assert found.exponent == min(EXPONENTS[place] for place in range(5) if means[place] <= errors[place])
    np.testing.assert_allclose(found.weights.sample_weight, weights.flattened(found.exponent).sample_weight)


def test_units_and_the_order_of_rows_do_not_matter():
    weights, losses = table()
    plain = flattening(weights, from_table(losses))
    order = np.random.default_rng(1).permutation(len(losses))
    shuffled = weights_of("given", weights.sample_weight[order], {})
    for one in (flattening(weights, from_table(7 * losses)), flattening(shuffled, from_table(losses[order]))):
        assert one.exponent == plain.exponent
        assert one.reason == plain.reason


def test_losses_that_do_not_differ_leave_the_source_as_it_is():
    weights, losses = table()
    found = flattening(weights, from_table(np.repeat(losses[:, :1], 5, axis=1)))
    assert found.exponent == 0
    np.testing.assert_array_equal(found.weights.sample_weight, 1)


def test_a_handful_of_examples_does_not_decide():
    rows = 1000
    weights = weights_of("given", np.concatenate([np.full(5, 40.0), np.full(rows - 5, 1.0)]), {})
    losses = np.ones((rows, 5))
    losses[:5] -= 0.9 * np.linspace(0, 1, 5)  # what weights gain at five examples
    losses[5:] += 0.05 * np.linspace(0, 1, 5)  # they lose elsewhere
    assert weights.effective_sample_size < 0.25 * rows
    plain = (weights.sample_weight @ losses).argmin()
    assert EXPONENTS[plain] == 1
    assert flattening(weights, from_table(losses)).exponent == 0


def never(_):
    raise AssertionError("nothing is to be fitted")


def test_nothing_is_weighted_without_overlap():
    rows = 1000
    few = weights_of("given", np.concatenate([np.ones(20), np.zeros(rows - 20)]), {})
    found = flattening(few, never)
    assert found.exponent == 0
    assert found.reason == "the weights leave 2.0% of the source effective: hardly any overlap"
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(rows, 1)), draws.normal(4, 1, size=(rows, 1))
    smooth = weights_of("given", 1 + draws.random(rows), {})
    found = flattening(smooth, never, domains=domain_auc(source, target))
    assert found.exponent == 0
    assert "hardly any overlap" in found.reason
    assert flattening(weights_of("given", np.ones(rows), {}), never).exponent == 0


def test_examples_without_a_loss_take_no_part():
    weights, losses = table()
    known = np.random.default_rng(3).random(len(losses)) < 0.7
    holes = np.where(known[:, None], losses, np.nan)
    part = weights_of("given", weights.sample_weight[known], {})
    whole, cut = flattening(weights, from_table(holes)), flattening(part, from_table(losses[known]))
    assert whole.exponent == cut.exponent
    np.testing.assert_allclose([one.risk for one in whole.tried], [one.risk for one in cut.tried])
    found = flattening(weights, from_table(np.full_like(losses, np.nan)))
    assert found.exponent == 0
    assert found.reason == "no weighted example could be held out under every exponent"


def test_unusable_requests_are_refused():
    weights, losses = table()
    with pytest.raises(DataError, match="one loss for each source example"):
        flattening(weights, lambda _: losses)
    with pytest.raises(RequestError, match="exponents"):
        flattening(weights, from_table(losses), exponents=[])
    with pytest.raises(RequestError, match="confidence"):
        flattening(weights, from_table(losses), confidence=0.2)

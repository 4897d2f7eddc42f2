"""Every loss weighting: the laws they share, their formulas number by number, and two tasks in conflict."""

import doctest
import importlib
import inspect
import math

import numpy as np
import pytest
import torch

import graft.balancing
from graft.balancing import (
    DWA,
    FAMO,
    IMTLL,
    LOSS_WEIGHTINGS,
    RLW,
    STCH,
    EqualWeighting,
    GeometricMean,
    GradNorm,
    ScaleInvariant,
    StaticWeighting,
    UncertaintyWeighting,
)
from graft.errors import RequestError

KINDS = ["regression", "classification", "classification", "regression", "classification"]
GIVEN = [0.5, 1.0, 3.0, 2.0, 0.1]
# Each makes a weighting for the tasks of some places among five.
MAKERS = {
    "equal": lambda places: EqualWeighting(len(places)),
    "static": lambda places: StaticWeighting([GIVEN[place] for place in places]),
    "uncertainty": lambda places: UncertaintyWeighting([KINDS[place] for place in places]),
    "dwa": lambda places: DWA(len(places), period=3),
    "rlw": lambda places: RLW(len(places), seed=5),
    "geometric": lambda places: GeometricMean(len(places)),
    "gradnorm": lambda places: GradNorm(len(places), rate=0.1),
    "imtl-l": lambda places: IMTLL(len(places)),
    "famo": lambda places: FAMO(len(places)),
    "scale-invariant": lambda places: ScaleInvariant(len(places)),
    "stch": lambda places: STCH(len(places), warmup=4, preference=[GIVEN[place] for place in places]),
}
ALL = (0, 1, 2, 3, 4)
EVERY = pytest.mark.parametrize("name", MAKERS)


def train(weighting, draws, steps=10, present=None, first_step=0, places=ALL):
    """Take steps with losses, norms and learned parameters that depend on `draws` alone."""
    parameters = list(weighting.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.1) if parameters else None
    for step in range(first_step, first_step + steps):
        drawn = torch.from_numpy(draws.uniform(0.2, 4.0, (3, 5)))[:, list(places)]
        losses = drawn[0]
        loss = weighting(losses, present=present, step=step)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weighting.update(losses, present=present, losses_after=losses * drawn[1] / 2, gradient_norms=drawn[2])
    return weighting


def sliced(weighting, name, places):
    """The same weighting for some of its tasks alone: its state, cut to their places."""
    alone = MAKERS[name](places)
    state = {}
    for key, values in weighting.state_dict().items():
        if values.ndim:
            state[key] = values[list(places)]
        elif int(key.split(".")[1]) in places:
            state[f"{key.split('.')[0]}.{places.index(int(key.split('.')[1]))}"] = values
    alone.load_state_dict(state)
    return alone


def trained(name, **options):
    return train(MAKERS[name](ALL), np.random.default_rng(1), **options)


def test_every_method_by_name_is_here():
    assert set(LOSS_WEIGHTINGS) == set(MAKERS)
    for name, make in MAKERS.items():
        assert type(make(ALL)).__name__ == LOSS_WEIGHTINGS[name]
        assert getattr(graft.balancing, LOSS_WEIGHTINGS[name]).__doc__


@pytest.mark.parametrize(
    "module", ["loss_weighting", "plain_weighting", "scale_free_weighting", "learned_weighting", "adaptive_weighting"]
)
def test_the_examples_in_the_documentation_are_right(module):
    assert doctest.testmod(importlib.import_module(f"graft.balancing.{module}")).failed == 0


@EVERY
@pytest.mark.parametrize("places", [(0, 1, 2), (0,), (0, 1), (1, 2, 4), (4,), (0, 3)])
def test_absent_tasks_drop_out(name, places):
    if name == "rlw" and places != tuple(range(len(places))):
        pytest.skip("what a task draws follows from its place: only the first tasks alone draw the same")
    weighting = trained(name)
    alone = sliced(weighting, name, places)
    present = torch.zeros(5, dtype=torch.bool)
    present[list(places)] = True
    values = torch.full((5,), torch.nan, dtype=torch.float64)
    values[list(places)] = torch.tensor([0.7, 2.0, 1.1])[: len(places)].double()
    whole, part = values.clone().requires_grad_(), values[list(places)].clone().requires_grad_()
    found, expected = weighting(whole, present=present, step=11), alone(part, step=11)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    found.backward()
    expected.backward()
    torch.testing.assert_close(whole.grad[list(places)], part.grad, rtol=1e-7, atol=1e-7)
    assert (whole.grad[~present] == 0).all()
    # And the same ever after: steps in which they alone are present teach both the same.
    train(weighting, np.random.default_rng(2), present=present, first_step=12)
    train(alone, np.random.default_rng(2), first_step=12, places=places)
    for key, state in sliced(weighting, name, places).state_dict().items():
        torch.testing.assert_close(state, alone.state_dict()[key], rtol=1e-5, atol=1e-6)


@EVERY
def test_the_state_of_an_absent_task_does_not_move(name):
    weighting = trained(name)
    absent = (1, 3)
    before = {key: values.clone() for key, values in sliced(weighting, name, absent).state_dict().items()}
    present = torch.tensor([True, False, True, False, True])
    train(weighting, np.random.default_rng(3), present=present, first_step=12)
    for key, values in sliced(weighting, name, absent).state_dict().items():
        torch.testing.assert_close(values, before[key], rtol=0, atol=0, equal_nan=True)


def test_momentum_does_not_move_the_parameter_of_an_absent_task():
    for weighting in (UncertaintyWeighting(KINDS), IMTLL(5)):
        optimizer = torch.optim.Adam(weighting.parameters(), lr=0.1)
        for present in (torch.ones(5, dtype=torch.bool), torch.tensor([True, False, True, True, True])):
            before = [value.item() for value in weighting.parameters()]
            optimizer.zero_grad()
            weighting(torch.full((5,), 3.0), present=present).backward()
            optimizer.step()
            after = [value.item() for value in weighting.parameters()]
            assert [one != other for one, other in zip(before, after, strict=True)] == present.tolist()


@EVERY
def test_forward_changes_nothing_and_repeats_itself(name):
    weighting = trained(name)
    before = {key: values.clone() for key, values in weighting.state_dict().items()}
    losses = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])
    assert weighting(losses, step=3) == weighting(losses, step=3)
    for key, values in weighting.state_dict().items():
        torch.testing.assert_close(values, before[key], rtol=0, atol=0, equal_nan=True)


@EVERY
def test_a_checkpoint_continues_as_if_nothing_had_happened(name):
    weighting = trained(name)
    restored = MAKERS[name](ALL)
    restored.load_state_dict(weighting.state_dict())
    first = train(weighting, np.random.default_rng(4), first_step=10)
    second = train(restored, np.random.default_rng(4), first_step=10)
    losses = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])
    if not list(weighting.parameters()):
        assert first(losses, step=20) == second(losses, step=20)
    assert set(first.state_dict()) == set(second.state_dict())


@EVERY
def test_task_gradients_are_weighed_by_positive_numbers_of_the_order_of_one(name):
    losses = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(trained(name)(losses, step=3), losses)
    assert (gradient > 0).all()
    assert 0.05 < gradient.sum() < 5


@EVERY
def test_with_no_task_present_the_loss_is_zero_and_nothing_is_learned(name):
    weighting = trained(name)
    before = {key: values.clone() for key, values in weighting.state_dict().items()}
    losses = torch.ones(5, requires_grad=True)
    none = torch.zeros(5, dtype=torch.bool)
    loss = weighting(losses, present=none)
    loss.backward()
    assert loss == 0
    assert (losses.grad == 0).all()
    weighting.update(losses, present=none, losses_after=losses, gradient_norms=losses)
    for key, values in weighting.state_dict().items():
        torch.testing.assert_close(values, before[key], rtol=0, atol=0, equal_nan=True)


@EVERY
def test_a_solved_task_leaves_everything_finite(name):
    weighting = trained(name)
    losses = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0], requires_grad=True)
    loss = weighting(losses, step=3)
    loss.backward()
    assert loss.isfinite()
    assert losses.grad.isfinite().all()
    weighting.update(losses, losses_after=losses, gradient_norms=losses)
    again = torch.tensor([1.0, 1.0, 2.0, 3.0, 4.0], requires_grad=True)
    weighting(again, step=4).backward()
    assert again.grad.isfinite().all()
    if name != "geometric":
        assert losses.grad[1:].min() > 1e-4, "the other tasks go on"


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_and_autocast_changes_nothing(name, dtype):
    weighting = trained(name)
    losses = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])
    plain = weighting(losses, step=3)
    assert weighting(losses.to(dtype), step=3).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(weighting(losses, step=3), plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["geometric", "scale-invariant", "stch", "famo"])
def test_the_direction_does_not_depend_on_the_scale_of_a_loss(name):
    scale = torch.tensor([1e-6, 100.0, 1.0, 1e6, 3.0], dtype=torch.float64)
    directions = []
    for factor in (torch.ones(5, dtype=torch.float64), scale):
        weighting = MAKERS[name](ALL).double()
        draws = np.random.default_rng(6)
        for _ in range(8):
            drawn = torch.from_numpy(draws.uniform(0.2, 4.0, (2, 5)))
            weighting.update(factor * drawn[0], losses_after=factor * drawn[1])
        losses = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(weighting(factor * losses), losses)
        directions.append(gradient / gradient.norm())
    torch.testing.assert_close(*directions)


def test_uncertainty_is_the_formula_and_its_optimum_is_known():
    weighting = UncertaintyWeighting(["regression", "classification"])
    with torch.no_grad():
        weighting.log_variance[0].fill_(0.4)
        weighting.log_variance[1].fill_(-0.3)
    expected = (math.exp(-0.4) * 2 / 2 + 0.4 / 2 + math.exp(0.3) * 3 - 0.3 / 2) / 2
    assert weighting(torch.tensor([2.0, 3.0])).item() == pytest.approx(expected)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        weighting(torch.tensor([2.0, 3.0])).backward()
        optimizer.step()
    found = [value.exp().item() for value in weighting.log_variance]
    assert found == pytest.approx([2.0, 6.0], rel=1e-3)


def test_imtl_l_makes_scaled_losses_one():
    weighting = IMTLL(2)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        weighting(torch.tensor([0.02, 30.0])).backward()
        optimizer.step()
    assert [value.exp().item() for value in weighting.log_scale] == pytest.approx([50.0, 1 / 30], rel=1e-3)


def test_dwa_is_the_formula():
    weighting = DWA(2, period=2, temperature=2.0)
    for first, second in [(4.0, 1.0), (2.0, 1.0), (1.0, 0.9), (2.0, 0.9)]:
        assert weighting(torch.tensor([1.0, 3.0])) == 2.0, "equal weights until there are two periods"
        weighting.update(torch.tensor([first, second]))
    ratios = np.array([1.5 / 3, 0.9])
    weights = np.exp(ratios / 2) / np.exp(ratios / 2).sum()
    assert weighting(torch.tensor([1.0, 3.0])).item() == pytest.approx(weights @ [1, 3])


def test_gradnorm_ends_where_weighted_norms_follow_the_lag():
    weighting = GradNorm(3, asymmetry=0.5, rate=0.2)
    weighting.update(torch.tensor([1.0, 2.0, 4.0]), gradient_norms=torch.tensor([1.0, 1.0, 1.0]))
    losses, norms = torch.tensor([0.5, 2.0, 1.0], requires_grad=True), torch.tensor([0.01, 1.0, 100.0])
    for _ in range(200):
        weighting.update(losses, gradient_norms=norms)
    (weights,) = torch.autograd.grad(weighting(losses), losses)
    lag = torch.tensor([0.5, 1.0, 0.25])
    wanted = (lag / lag.mean()) ** 0.5
    found = weights * norms
    torch.testing.assert_close(found / found.mean(), wanted / wanted.mean(), rtol=1e-4, atol=1e-4)
    assert weights.sum().item() == pytest.approx(1)


def test_famo_weighs_by_inverse_losses_at_first_and_favours_the_task_that_falls_least():
    weighting = FAMO(2)
    losses = torch.tensor([1.0, 4.0], requires_grad=True)
    (weights,) = torch.autograd.grad(weighting(losses), losses)
    torch.testing.assert_close(weights, torch.tensor([0.8, 0.2]))
    for _ in range(20):
        weighting.update(losses, losses_after=torch.tensor([0.5, 3.9]))
    share = torch.softmax(weighting.logits, dim=0)
    assert share[1] > 0.6
    (weights,) = torch.autograd.grad(weighting(losses), losses)
    wanted = share / losses.detach()
    torch.testing.assert_close(weights, wanted / wanted.sum())


def test_famo_moves_as_adam_does_on_its_gradient():
    weighting = FAMO(3, rate=0.025, decay=0.01)
    logits = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([logits], lr=0.025, weight_decay=0.01)
    draws = torch.Generator().manual_seed(0)
    for _ in range(25):
        before, after = torch.rand(2, 3, generator=draws) + 0.1
        optimizer.zero_grad()
        logits.grad = torch.autograd.grad(torch.softmax(logits, 0) @ (before.log() - after.log()), logits)[0]
        optimizer.step()
        weighting.update(before, losses_after=after)
    torch.testing.assert_close(weighting.logits, logits.detach(), rtol=1e-4, atol=1e-5)


def test_stch_lies_between_the_mean_and_the_largest_and_reaches_both():
    losses = torch.tensor([1.0, 2.0, 8.0], dtype=torch.float64)
    logs = losses.log()
    found = []
    for smoothing in (1e-4, 0.3, 1.0, 1e6):
        weighting = STCH(3, warmup=1, smoothing=smoothing).double()
        weighting.update(torch.ones(3, dtype=torch.float64))
        found.append(weighting(losses).item())
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(logs.max().item(), abs=1e-3)
    assert found[-1] == pytest.approx(logs.mean().item(), abs=1e-5)
    assert found[2] == pytest.approx(math.log((1 + 2 + 8) / 3))


def test_rlw_follows_from_seed_and_step_alone_and_is_equal_on_average():
    losses = torch.tensor([1.0, 2.0, 6.0])
    weighting = RLW(3, seed=1)
    drawn = [weighting(losses, step=step).item() for step in range(3000)]
    assert RLW(3, seed=1)(losses, step=7).item() == drawn[7]
    assert len(set(drawn)) > 2900
    assert RLW(3, seed=2)(losses, step=7).item() != drawn[7]
    assert np.mean(drawn) == pytest.approx(3.0, abs=0.1)


def test_static_is_a_weighted_mean():
    assert StaticWeighting([1, 3])(torch.tensor([1.0, 2.0])).item() == pytest.approx(7 / 4)
    only_zero = torch.tensor([True, False])
    assert StaticWeighting([0, 3])(torch.tensor([1.0, 2.0]), present=only_zero).item() == 0


# Two regressions with opposed true weights (cosine -0.2) on one shared weight vector, and as much noise as signal: with
# less, the sum of log losses is least at either task alone. The loss of the first is 100 times that of the second.
def after_training(weighting, steps=600):
    """R² of both tasks."""
    draws = torch.Generator().manual_seed(0)
    truth = torch.zeros(2, 6)
    truth[0, 0] = 1.0
    truth[1, 0], truth[1, 1] = -0.2, math.sqrt(1 - 0.2**2)
    X = torch.randn(400, 6, generator=draws)
    Y = X @ truth.T + torch.randn(400, 2, generator=draws)
    shared = torch.nn.Parameter(torch.zeros(6))
    groups = [{"params": [shared]}, {"params": list(weighting.parameters()), "lr": 0.1}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=0.02, betas=(0.9, 0.99))

    def errors():
        return (Y - (X @ shared)[:, None]).square().mean(dim=0)

    scale = torch.tensor([100.0, 1.0])
    for step in range(steps):
        losses = scale * errors()
        norms = torch.stack([torch.autograd.grad(one, shared, retain_graph=True)[0].norm() for one in losses])
        optimizer.zero_grad()
        weighting(losses, step=step).backward()
        optimizer.step()
        losses_after = (scale * errors()).detach()
        weighting.update(losses.detach(), losses_after=losses_after, gradient_norms=norms)
    return (1 - errors() / Y.var(dim=0)).tolist()


SURVIVORS = ["uncertainty", "geometric", "gradnorm", "imtl-l", "famo", "scale-invariant", "stch"]


def test_with_equal_weights_the_larger_loss_wins_and_the_other_task_ends_below_its_mean():
    first, second = after_training(EqualWeighting(2))
    assert first > 0.4
    assert second < -0.25


@pytest.mark.parametrize("name", SURVIVORS)
def test_both_tasks_survive_a_loss_of_100_times_the_scale(name):
    weighting = UncertaintyWeighting(["regression"] * 2) if name == "uncertainty" else MAKERS[name]((2, 2))
    assert min(after_training(weighting)) > 0.1


def test_shapes_that_do_not_fit_are_refused():
    weighting = EqualWeighting(3)
    with pytest.raises(RequestError, match=r"losses: expected a tensor of shape \(3,\)"):
        weighting(torch.ones(2))
    with pytest.raises(RequestError, match=r"present: expected a tensor of shape \(3,\) of bool"):
        weighting(torch.ones(3), present=torch.ones(3))
    with pytest.raises(RequestError, match="step"):
        weighting(torch.ones(3), step=-1)


def test_what_a_method_needs_is_asked_for():
    with pytest.raises(RequestError, match="losses_after: expected"):
        FAMO(2).update(torch.ones(2))
    with pytest.raises(RequestError, match="gradient_norms: expected"):
        GradNorm(2).update(torch.ones(2))
    assert [name for name, make in MAKERS.items() if make(ALL).needs] == ["gradnorm", "famo"]


@pytest.mark.parametrize("name", ["geometric", "scale-invariant", "stch", "famo"])
def test_negative_losses_are_refused_where_logarithms_are_taken(name):
    with pytest.raises(RequestError, match="no negative loss"):
        MAKERS[name](ALL)(torch.tensor([1.0, 1.0, -0.5, 1.0, 1.0]))


def test_options_out_of_range_are_refused():
    for wrong in (
        lambda: DWA(0),
        lambda: DWA(2, period=0),
        lambda: DWA(2, temperature=0),
        lambda: GradNorm(2, rate=2),
        lambda: STCH(2, smoothing=0),
        lambda: STCH(2, preference=[1.0]),
        lambda: StaticWeighting([0, 0]),
        lambda: StaticWeighting([-1, 1]),
        lambda: UncertaintyWeighting(["ranking"]),
    ):
        with pytest.raises(RequestError):
            wrong()


def test_concrete_classes_are_final_and_override_nothing():
    for name in LOSS_WEIGHTINGS.values():
        concrete = getattr(graft.balancing, name)
        assert concrete.__final__
        assert not inspect.isabstract(concrete)
        assert not {"forward", "update"} & set(vars(concrete))

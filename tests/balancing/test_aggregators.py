"""What every aggregator of gradients must hold, and for each law the methods that do not, by their nature."""

import doctest
import importlib
import re

import pytest
import torch

import graft.balancing
from graft.balancing import AGGREGATORS, Aggregator, CAGrad, FairGrad, GradVac, SDMGrad, WeightedAggregator
from graft.errors import RequestError

METHODS = {name: getattr(graft.balancing, kind)() for name, kind in AGGREGATORS.items()} | {
    "cagrad, c = 1": CAGrad(radius=1.0),
    "sdmgrad, λ = 0": SDMGrad(preference=0.0),
    "fairgrad, α = 2": FairGrad(alpha=2.0),
    "fairgrad, α = 1/2": FairGrad(alpha=0.5),
}
WEIGHTED = {name: method for name, method in METHODS.items() if isinstance(method, WeightedAggregator)}
EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
GOLDEN = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
ALL_POSITIVE = {"mgda", "upgrad", "dualproj", "nash-mtl", "fairgrad", "cagrad, c = 1", "sdmgrad, λ = 0"} | {
    "fairgrad, α = 2",
    "fairgrad, α = 1/2",
}

CONDITIONALLY_POSITIVE = {"pcgrad", "imtl-g", "config", "cagrad", "sdmgrad"}

# Of homogeneity, where it is not 1.
DEGREES = {"nash-mtl": 0.0, "fairgrad": 0.0, "fairgrad, α = 2": -1 / 3, "fairgrad, α = 1/2": 1 / 3}


def named(names):
    return pytest.mark.parametrize("method", [METHODS[name] for name in sorted(names)], ids=sorted(names))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_rank(tasks, dim, rank, seed=0):
    return drawn(tasks, rank, seed=seed) @ drawn(rank, dim, seed=seed + 100) / rank**0.5


def direction(method, matrix, *, present=None, seed=0, state=None):
    return method(
        matrix,
        present=present,
        generator=torch.Generator().manual_seed(seed),
        state=method.initial_state(len(matrix)) if state is None else state,
    )


MATRICES = {
    "golden": GOLDEN,
    "one task": drawn(1, 5),
    "wide": drawn(4, 50),
    "many tasks": drawn(9, 20),
    "tall": drawn(7, 3),
    "rank 1": of_rank(3, 8, 1),
    "rank 2 of 5": of_rank(5, 9, 2, seed=1),
    "duplicates": drawn(2, 6)[[0, 1, 0, 1]],
    "opposite": drawn(1, 6)[[0, 0]] * torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
    "opposite and one more": torch.cat([drawn(1, 6), -drawn(1, 6), drawn(1, 6, seed=1)]),
    "a zero gradient": torch.cat([drawn(2, 6), torch.zeros(1, 6, dtype=torch.float64)]),
    "zero": torch.zeros(3, 4, dtype=torch.float64),
    "orthogonal": torch.eye(3, 5, dtype=torch.float64) * torch.tensor([[1.0], [1e-6], [1e3]], dtype=torch.float64),
    "stationary": torch.cat([drawn(3, 4), -drawn(3, 4).sum(dim=0, keepdim=True)]),
    "uneven": drawn(5, 12, seed=3) * torch.logspace(-6, 6, 5, dtype=torch.float64)[:, None],
}
EVERYWHERE = pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)


# What is to come out for the classical example: from the papers' formulas, worked out by hand.
# Both gradients project on (0, 1, 1): |g1|² = 18, |g2|² = 38, <g1, g2> = -22.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", [2.0, 2.0, 2.0]),
        ("mean", [1.0, 1.0, 1.0]),
        ("mgda", [0.0, 1.0, 1.0]),  # 0.6 g1 + 0.4 g2
        ("dualproj", [5 / 9, 10 / 9, 10 / 9]),  # the mean, less its component along g1: weights 11/18 and 1/2
        ("upgrad", [50 / 171, 325 / 171, 325 / 171]),
        ("pcgrad", [100 / 171, 650 / 171, 650 / 171]),  # twice UPGrad's: g1 + 11/19 g2, g2 + 11/9 g1
        ("gradvac", [100 / 171, 650 / 171, 650 / 171]),
        ("sdmgrad", [0.0, 1.0, 1.0]),  # (t + λ, 1 + λ, 1 + λ) / (1 + λ) for t in [-4, 6] is shortest at t = -λ
        ("cagrad", [1 - 4 * (0.75 / 18) ** 0.5, 1 + (0.75 / 18) ** 0.5, 1 + (0.75 / 18) ** 0.5]),  # g1 alone is worst
        ("cagrad, c = 1", [0.0, 2.0, 2.0]),  # (t, 1, 1) with t + √3 √(t² + 2) least: t = -1
        # Weights proportional to (|g2|, |g1|) after C⁺ 1 with equal entries.
        ("imtl-g", [(6 * 18**0.5 - 4 * 38**0.5) / (18**0.5 + 38**0.5), 1.0, 1.0]),
    ],
)
def test_golden_values(name, expected):
    torch.testing.assert_close(direction(METHODS[name], GOLDEN), torch.tensor(expected, dtype=torch.float64))


def test_golden_values_that_are_conditions():
    gramian = GOLDEN @ GOLDEN.T
    for name, power in [("fairgrad", 1.0), ("fairgrad, α = 2", 0.5), ("fairgrad, α = 1/2", 2.0)]:
        weights = METHODS[name].weights(gramian)
        torch.testing.assert_close(gramian @ weights, weights**-power)
    nash = METHODS["nash-mtl"].weights(gramian)
    torch.testing.assert_close(gramian @ nash, 1 / nash / 2)  # |d|² = 2 before it is cut to 1
    config = direction(METHODS["config"], GOLDEN)
    cosines = (GOLDEN @ config) / GOLDEN.norm(dim=1) / config.norm()
    torch.testing.assert_close(cosines[0], cosines[1])
    torch.testing.assert_close((GOLDEN @ config / config.norm()).sum(), config.norm())
    # B² J Jᵀ = λ I: the aligned gradients are orthogonal, and as long as the shortest principal component.
    values, vectors = torch.linalg.eigh(gramian)
    system = vectors @ torch.diag((values[0] / values).sqrt()) @ vectors.T
    torch.testing.assert_close(METHODS["aligned-mtl"].weights(gramian), system.mean(dim=0))


@EVERY
@EVERYWHERE
def test_directions_are_finite_and_of_the_type_of_the_gradients(method, matrix):
    found = direction(method, matrix)
    assert found.isfinite().all()
    assert found.dtype == matrix.dtype
    assert found.shape == (matrix.shape[1],)
    assert direction(method, matrix.float()).dtype == torch.float32


@EVERY
def test_zero_gradients_give_zero(method):
    assert (direction(method, torch.zeros(3, 4)) == 0).all()


@EVERY
def test_one_task_keeps_its_direction(method):
    gradient = drawn(1, 5)
    found = direction(method, gradient)
    expected = gradient[0] * (found.norm() / gradient.norm())
    torch.testing.assert_close(found, expected)
    assert found.norm() > 0


@named(set(METHODS) - {"nash-mtl", "fairgrad", "fairgrad, α = 2", "fairgrad, α = 1/2", "cagrad", "cagrad, c = 1"})
def test_one_task_keeps_its_gradient(method):
    """Bargains have lengths of their own; CAGrad goes c further along the only gradient."""
    torch.testing.assert_close(direction(method, drawn(1, 5)), drawn(1, 5)[0])


@named(set(WEIGHTED))
@EVERYWHERE
def test_gramian_and_gradients_give_the_same(method, matrix):
    options = {"generator": torch.Generator().manual_seed(0), "state": method.initial_state(len(matrix))}
    weights = method.weights(matrix @ matrix.T, **options)
    assert weights.shape == (len(matrix),)
    torch.testing.assert_close(weights @ matrix, direction(method, matrix), rtol=1e-6, atol=1e-9)


@named(ALL_POSITIVE)
@EVERYWHERE
def test_no_task_gets_worse(method, matrix):
    found = direction(method, matrix)
    name = next(name for name, one in METHODS.items() if one is method)
    reference = found.norm() if name in DEGREES else matrix.norm()
    assert (matrix @ found >= -1e-9 * matrix.norm(dim=1) * reference).all()


@pytest.mark.parametrize("seed", range(20))
@named({"config", "pcgrad", "imtl-g"})
def test_no_task_of_two_gets_worse(method, seed):
    matrix = drawn(2, 5, seed=seed)
    assert (matrix @ direction(method, matrix) >= -1e-12).all()


@pytest.mark.parametrize("seed", range(20))
def test_config_makes_no_task_worse_where_gradients_are_independent(seed):
    matrix = drawn(5, 8, seed=seed)
    assert (matrix @ direction(METHODS["config"], matrix) > 0).all()


@named(set(METHODS) - ALL_POSITIVE - {"config"})
def test_the_methods_said_to_conflict_do(method):
    for seed in range(300):
        matrix = drawn(4, 3, seed=seed) * torch.logspace(0, 2, 4, dtype=torch.float64)[:, None]
        if (matrix @ direction(method, matrix, seed=seed)).min() < -1e-6:
            return
    pytest.fail("no conflict was found: the docstring says too little of it")


@named(set(METHODS) - {"pcgrad", "gradvac"})
@EVERYWHERE
def test_the_order_of_tasks_does_not_matter(method, matrix):
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(1))
    first, second = direction(method, matrix), direction(method, matrix[order])
    if method is METHODS["aligned-mtl"] and matrix is MATRICES["uneven"]:
        return  # the smallest eigenvalues are lost in rounding
    torch.testing.assert_close(second, first, rtol=1e-6, atol=1e-6 * float(first.abs().max()) + 1e-9)


@named({"pcgrad", "gradvac"})
def test_the_order_of_tasks_does_not_matter_on_the_average(method):
    matrix, order = drawn(4, 3), [2, 0, 3, 1]
    means = [
        torch.stack([direction(method, each, seed=seed) for seed in range(1500)]).mean(dim=0)
        for each in (matrix, matrix[order])
    ]
    torch.testing.assert_close(means[0], means[1], rtol=0, atol=0.05 * float(matrix.norm()))
    assert not torch.allclose(direction(method, matrix), direction(method, matrix, seed=1))


LINEAR = {"sum", "mean", "upgrad", "pcgrad", "gradvac", "config"}


@named(LINEAR)
@pytest.mark.parametrize("matrix", [drawn(4, 6), drawn(6, 3, seed=2), of_rank(5, 8, 2)], ids=["wide", "tall", "rank 2"])
def test_linear_under_scaling(method, matrix):
    first, second = drawn(len(matrix), 1, seed=5).exp(), drawn(len(matrix), 1, seed=6).exp()
    parts = 2.0 * direction(method, first * matrix) + 0.5 * direction(method, second * matrix)
    torch.testing.assert_close(direction(method, (2.0 * first + 0.5 * second) * matrix), parts, rtol=1e-6, atol=1e-8)


@named(set(METHODS) - LINEAR)
def test_the_methods_said_not_to_be_linear_are_not(method):
    matrix, first, second = drawn(3, 5, seed=1), drawn(3, 1, seed=5).exp(), drawn(3, 1, seed=6).exp()
    parts = direction(method, first * matrix) + direction(method, second * matrix)
    assert not torch.allclose(direction(method, (first + second) * matrix), parts, rtol=1e-3)


@EVERY
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e9, 1e15])
@pytest.mark.parametrize("kind", ["golden", "wide", "tall", "rank 2 of 5", "duplicates", "a zero gradient"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scales(method, scale, kind, dtype):
    name = next(name for name, one in METHODS.items() if one is method)
    matrix = MATRICES[kind].to(dtype)
    expected = direction(method, matrix) * scale ** DEGREES.get(name, 1.0)
    found = direction(method, matrix * scale)
    assert found.isfinite().all()
    if name == "aligned-mtl" and dtype == torch.float32 and kind in ("rank 2 of 5", "duplicates", "tall"):
        return  # which eigenvalues are zero is then a matter of rounding
    tolerance = 1e-6 if dtype == torch.float64 else 2e-2
    reference = float(expected.abs().max()) if name in DEGREES else float(matrix.abs().max()) * scale
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * reference)


def weakly_stationary(seed):
    """Return gradients of which the first k add up to nothing with positive weights, and two more that are independent.

    Nothing can be gained for the first ones together, and much for the last.
    """
    matrix = drawn(3 + seed % 3, 9, seed=seed)
    shares = drawn(len(matrix) - 3, 1, seed=seed + 50).exp()
    return torch.cat([matrix[:-2], -(shares * matrix[:-3]).sum(dim=0, keepdim=True) - matrix[-3:-2], matrix[-2:]])


# Two opposite gradients and a third one.
WEAK = torch.cat([drawn(1, 6), -2 * drawn(1, 6), drawn(1, 6, seed=1)])
STOPS = {"mgda", "sdmgrad, λ = 0", *DEGREES}


@named(set(METHODS) - STOPS)
@pytest.mark.parametrize("seed", [None, *range(6)])
def test_only_strongly_stationary_points_stop_it(method, seed):
    assert direction(method, WEAK if seed is None else weakly_stationary(seed)).norm() > 1e-3


@named(STOPS)
@pytest.mark.parametrize("seed", [None, *range(6)])
def test_the_methods_said_to_stop_at_weakly_stationary_points_do(method, seed):
    matrix = WEAK if seed is None else weakly_stationary(seed)
    assert direction(method, matrix).norm() < 1e-2 * matrix.norm()


@named(set(METHODS) - {"mgda", "cagrad", "cagrad, c = 1", "sdmgrad", "sdmgrad, λ = 0", "mean", "dualproj"})
def test_a_zero_gradient_does_not_matter(method):
    matrix = torch.cat([drawn(3, 6), torch.zeros(1, 6, dtype=torch.float64)])
    name = next(name for name, one in METHODS.items() if one is method)
    if method.random and name != "graddrop":
        return  # another order is drawn
    share = 3 / 4 if name in ("upgrad", "aligned-mtl") else 1.0  # means over the tasks that are present
    torch.testing.assert_close(direction(method, matrix), share * direction(method, matrix[:3]), rtol=1e-6, atol=1e-9)


@EVERY
@pytest.mark.parametrize("absent", [[0], [3], [1, 2], [0, 2, 3], [0, 1, 2, 3]])
def test_absent_tasks_drop_out(method, absent):
    matrix, state = drawn(4, 6, seed=7), method.initial_state(4)
    if method.stateful:
        state += 0.1 * drawn(4, 4, seed=8)
    before, present = state.clone(), torch.ones(4, dtype=torch.bool)
    present[absent] = False
    spoilt = matrix.clone()
    spoilt[absent] = torch.nan
    found = direction(method, spoilt, present=present, state=state)
    if not present.any():
        assert (found == 0).all()
        assert torch.equal(state, before)
        return
    alone = before[present][:, present].contiguous() if method.stateful else before
    torch.testing.assert_close(found, direction(method, matrix[present], state=alone), rtol=0, atol=0)
    if method.stateful:
        assert torch.equal(state[present][:, present], alone)
        assert torch.equal(state[absent], before[absent])
        assert torch.equal(state[:, absent], before[:, absent])
    if isinstance(method, WeightedAggregator):
        options = {"generator": torch.Generator().manual_seed(0), "state": before.clone()}
        weights = method.weights(spoilt @ spoilt.T, present=present, **options)
        assert (weights[absent] == 0).all()
        torch.testing.assert_close(weights[present] @ matrix[present], found)


@EVERY
def test_nothing_is_drawn_but_from_the_generator(method):
    before = torch.get_rng_state()
    first, second = (direction(method, drawn(4, 6), seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradvac_remembers_cosines():
    method, state = GradVac(rate=0.25), torch.zeros(2, 2, dtype=torch.float64)
    matrix = torch.tensor([[1.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(direction(method, matrix, state=state), matrix.sum(dim=0))
    torch.testing.assert_close(state, torch.tensor([[0.0, 0.15], [0.15, 0.0]], dtype=torch.float64))
    state[:] = torch.tensor([[0.0, 0.8], [0.8, 0.0]])
    found = method(matrix[:, :], generator=torch.Generator(), state=state)
    # Each is turned until its cosine with the other is 0.8: (1, 0) + x (3, 4) and (3, 4) + y (1, 0).
    first, second = found - matrix.sum(dim=0), matrix
    shares = torch.linalg.solve(second.T, first)
    turned = matrix + shares.flip(0)[:, None] * matrix.flip(0)
    cosines = (turned * matrix.flip(0)).sum(dim=1) / turned.norm(dim=1) / matrix.flip(0).norm(dim=1)
    torch.testing.assert_close(cosines, torch.full((2,), 0.8, dtype=torch.float64))


def test_graddrop_draws_signs_by_their_share():
    matrix = torch.tensor([[3.0], [-1.0], [0.0]]).expand(3, 20000).contiguous()
    found = direction(METHODS["graddrop"], matrix)
    assert set(found.tolist()) == {3.0, -1.0}
    assert abs(float((found > 0).double().mean()) - 0.75) < 0.02
    golden = torch.stack([direction(METHODS["graddrop"], GOLDEN, seed=seed) for seed in range(300)])
    assert (golden[:, 1:] == 2).all()
    assert set(golden[:, 0].tolist()) == {-4.0, 6.0}
    assert abs(float((golden[:, 0] > 0).double().mean()) - 0.6) < 0.08


@pytest.mark.parametrize(
    ("call", "subject"),
    [
        (lambda: METHODS["mgda"](torch.zeros(3)), "matrix"),
        (lambda: METHODS["mgda"](torch.tensor([[1.0, torch.nan]])), "gramian"),
        (lambda: METHODS["mgda"].weights(torch.zeros(2, 3)), "gramian"),
        (lambda: METHODS["mgda"].weights(-torch.eye(2)), "gramian"),
        (lambda: METHODS["mgda"](GOLDEN, present=torch.tensor([True])), "present"),
        (lambda: METHODS["mgda"](GOLDEN, present=torch.tensor([1, 0])), "present"),
        (lambda: METHODS["pcgrad"](GOLDEN), "generator"),
        (lambda: METHODS["gradvac"](GOLDEN, generator=torch.Generator()), "state"),
        (lambda: CAGrad(radius=-1.0), "radius"),
        (lambda: FairGrad(alpha=0.0), "alpha"),
        (lambda: SDMGrad(preference=-0.1), "preference"),
        (lambda: GradVac(rate=1.5), "rate"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_remedy(call, subject):
    with pytest.raises(RequestError) as caught:
        call()
    assert caught.value.subject == subject


def test_the_table_of_laws_says_what_the_laws_above_found():
    text = Aggregator.__doc__
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()[:1] and line.split()[0] in AGGREGATORS}
    assert list(rows) == list(AGGREGATORS)
    table = {name: [cell.strip() for cell in re.split(r"  +", line.strip())[1:]] for name, line in rows.items()}
    yes = {law: {name for name in table if table[name][law].startswith("yes")} for law in range(5)}
    assert yes[0] == ALL_POSITIVE & set(AGGREGATORS)
    assert {name for name in table if not table[name][0].startswith(("yes", "no"))} == CONDITIONALLY_POSITIVE
    assert yes[1] == set(AGGREGATORS) - {"pcgrad", "gradvac"}
    assert yes[2] == LINEAR
    assert yes[3] == set(AGGREGATORS) - set(DEGREES)
    assert yes[4] | {"sdmgrad"} == set(AGGREGATORS) - STOPS


def test_every_name_is_a_documented_class():
    for kind in AGGREGATORS.values():
        assert issubclass(getattr(graft.balancing, kind), Aggregator)
        assert "References" in getattr(graft.balancing, kind).__doc__ or "Gradient" in kind


@pytest.mark.parametrize(
    "module",
    [
        "aggregator",
        "backward",
        "bargaining",
        "conditioning",
        "dual_cone",
        "equal_angle",
        "gramian",
        "hull",
        "pairwise",
        "plain_aggregation",
        "quadratic",
        "sign_dropout",
    ],
)
def test_the_examples_in_the_documentation_are_right(module):
    assert doctest.testmod(importlib.import_module(f"graft.balancing.{module}")).failed == 0

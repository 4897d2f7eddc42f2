"""What all end-to-end methods have in common."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import graft.alignment
from graft.alignment import (
    ADAPTATION_LOSSES,
    AFN,
    BSP,
    CDAN,
    DAN,
    DANN,
    MCC,
    MCD,
    MDD,
    AdaptationLoss,
    DeepCORAL,
    DeepJDOT,
    DomainOutputs,
    domain_loss,
    reversal_schedule,
)
from graft.alignment.adversarial import FeaturePrediction
from graft.errors import RequestError

SMALL = (16, 16)
METHODS = {
    **{name: getattr(graft.alignment, of)() for name, of in ADAPTATION_LOSSES.items()},
    "hafn": AFN(kind="hard"),
    "dan unbiased": DAN(estimator="unbiased", outputs=False),
    "dann small": DANN(hidden=SMALL),
    "cdan plain": CDAN(entropy=False, hidden=SMALL),
    "cdan randomized": CDAN(hidden=SMALL, randomized=32),
    "bsp dann": BSP(adversary=DANN(hidden=SMALL), penalty=0.01, count=2),
}
EVERY = pytest.mark.parametrize("name", METHODS)
DEVICES = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))],
)
WIDTH, CLASSES = 5, 3


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(n=8, m=6, *, features=1.0, logits=1.0, seed=0, dtype=torch.float64, device="cpu", **changed):
    """Outputs for random examples, as leaves of a graph."""
    made = {
        "source_features": drawn(n, WIDTH, seed=seed, scale=features),
        "source_logits": drawn(n, CLASSES, seed=seed + 1, scale=logits),
        "target_features": drawn(m, WIDTH, seed=seed + 2, scale=features) + 0.5 * features,
        "target_logits": drawn(m, CLASSES, seed=seed + 3, scale=logits),
    } | changed
    made = {key: values.detach().to(device, dtype).requires_grad_() for key, values in made.items()}
    return DomainOutputs(source_labels=(torch.arange(n) % CLASSES).to(device), **made)


def modules_of(method, dtype=torch.float64, device="cpu", seed=0):
    return method.modules(WIDTH, CLASSES, seed=seed).to(device, dtype)


def leaves(outputs):
    return [outputs.source_features, outputs.source_logits, outputs.target_features, outputs.target_logits]


def loss_of(name, outputs, *, progress=0.5, dtype=torch.float64, device="cpu"):
    method = METHODS[name]
    return method.loss(outputs, modules=modules_of(method, dtype, device), progress=progress)


def gradients(loss, outputs):
    return torch.autograd.grad(loss, leaves(outputs), allow_unused=True, materialize_grads=True)


def test_every_name_is_there_and_documented():
    for name in graft.alignment.__all__:
        found = getattr(graft.alignment, name)
        assert name == "ADAPTATION_LOSSES" or found.__doc__, name
        assert not inspect.ismodule(found), name
    assert set(ADAPTATION_LOSSES.values()) <= set(graft.alignment.__all__)


@EVERY
@DEVICES
def test_one_number_with_gradients_in_full_precision(name, device):
    outputs = batch(dtype=torch.float32, device=device)
    found = loss_of(name, outputs, dtype=torch.float32, device=device)
    assert found.shape == ()
    assert found.dtype == torch.float32
    assert found.device.type == device
    assert sum(float(one.norm()) for one in gradients(found, outputs)) > 0
    torch.testing.assert_close(found.cpu().double(), loss_of(name, batch()), rtol=1e-4, atol=1e-5)


@EVERY
def test_options_alone_and_no_state(name):
    method, outputs = METHODS[name], batch()
    assert isinstance(method, AdaptationLoss)
    assert set(method.tasks) <= {"classification", "multilabel", "regression"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.tasks = ()
    options = dataclasses.asdict(method)
    modules = modules_of(method)
    before = {key: values.clone() for key, values in modules.state_dict().items()}
    state = torch.get_rng_state()
    first = method.loss(outputs, modules=modules, progress=0.3)
    method.loss(batch(seed=9), modules=modules, progress=0.9)
    assert torch.equal(method.loss(outputs, modules=modules, progress=0.3), first)
    assert dataclasses.asdict(method) == options
    assert all(torch.equal(values, before[key]) for key, values in modules.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@EVERY
def test_modules_follow_from_their_seed(name):
    state = torch.get_rng_state()
    first, again, other = (modules_of(METHODS[name], seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not first or any(not torch.equal(first[key], other[key]) for key in first)


@EVERY
def test_the_order_within_a_batch_does_not_matter(name):
    outputs = batch()
    i, j = torch.randperm(8, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = DomainOutputs(
        outputs.source_features[i],
        outputs.source_logits[i],
        outputs.source_labels[i],
        outputs.target_features[j],
        outputs.target_logits[j],
    )
    torch.testing.assert_close(loss_of(name, permuted), loss_of(name, outputs))


@EVERY
@pytest.mark.parametrize("progress", [0.0, 1.0])
@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param(batch(2, 2, dtype=torch.float32), id="two examples"),
        pytest.param(batch(logits=1e4, dtype=torch.float32), id="huge logits"),
        pytest.param(batch(features=1e4, dtype=torch.float32), id="huge features"),
        pytest.param(batch(features=1e-8, logits=1e-8, dtype=torch.float32), id="tiny"),
        pytest.param(
            batch(dtype=torch.float32, source_features=torch.ones(8, WIDTH), target_features=torch.ones(6, WIDTH)),
            id="constant features",
        ),
        pytest.param(
            batch(
                dtype=torch.float32,
                source_features=torch.zeros(8, WIDTH),
                target_features=torch.zeros(6, WIDTH),
                target_logits=torch.zeros(6, CLASSES),
            ),
            id="zeros",
        ),
    ],
)
def test_losses_and_gradients_are_finite(name, progress, outputs):
    found = loss_of(name, outputs, progress=progress, dtype=torch.float32)
    assert found.isfinite()
    assert all(one.isfinite().all() for one in gradients(found, outputs))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "dan unbiased"])
def test_one_example_of_each_domain_is_enough(name):
    outputs = batch(1, 1)
    found = loss_of(name, outputs)
    assert found.isfinite()
    assert all(one.isfinite().all() for one in gradients(found, outputs))


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_computed_with_in_full(name, dtype):
    low = batch(dtype=dtype)
    names = ("source_features", "source_logits", "target_features", "target_logits")
    exact = batch(**{key: getattr(low, key) for key in names})
    found = loss_of(name, low, dtype=torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss_of(name, exact), rtol=1e-4, atol=1e-4)
    assert all(one.isfinite().all() for one in gradients(found, low))


@EVERY
def test_within_autocast(name):
    outputs = batch(dtype=torch.float32)
    plain = loss_of(name, outputs, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        within = loss_of(name, outputs, dtype=torch.float32)
    assert within.dtype == torch.float32
    # A discriminator may be computed in bfloat16, the formulas not.
    small = 0.02 if len(modules_of(METHODS[name])) else 0
    torch.testing.assert_close(within, plain, rtol=small, atol=small)


@EVERY
def test_gradients_of_its_modules_are_those_of_the_loss(name):
    method, outputs = METHODS[name], batch()
    modules = modules_of(method)
    weights = list(modules.parameters())
    if not weights:
        assert not modules
        return
    found = torch.autograd.grad(method.loss(outputs, modules=modules, progress=0.7), weights)
    # Short enough that few of the rectifiers change sides on the way.
    directions = [drawn(*one.shape, seed=place) / one.numel() for place, one in enumerate(weights)]
    values = []
    for step in (1e-5, -1e-5):
        moved = method.modules(WIDTH, CLASSES, seed=0).double()
        with torch.no_grad():
            for weight, direction in zip(moved.parameters(), directions, strict=True):
                weight += step * direction
        values.append(float(method.loss(outputs, modules=moved, progress=0.7).detach()))
    slope = sum(float((one * direction).sum()) for one, direction in zip(found, directions, strict=True))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_features_get_the_gradient_of_the_discriminator_turned_around():
    for method in (DANN(hidden=SMALL), CDAN(hidden=SMALL), CDAN(hidden=SMALL, entropy=False)):
        modules, outputs = modules_of(method), batch()
        found = gradients(method.loss(outputs, modules=modules, progress=0.2), outputs)
        if isinstance(method, DANN):
            domains = [modules["discriminator"](x) for x in (outputs.source_features, outputs.target_features)]
            weights = [None, None]
        else:
            domains, weights = [], []
            for x, z in zip(leaves(outputs)[::2], leaves(outputs)[1::2], strict=True):
                p = z.detach().softmax(dim=1)
                domains.append(modules["discriminator"](torch.einsum("nk,nd->nkd", p, x).flatten(1)))
                weights.append(1 + torch.exp((p * p.log()).sum(dim=1)) if method.entropy else None)
        plain = gradients(domain_loss(*domains, source_weight=weights[0], target_weight=weights[1]), outputs)
        for reversed_, itself in zip(found, plain, strict=True):
            torch.testing.assert_close(reversed_, -reversal_schedule(0.2) * itself)


@pytest.mark.parametrize("method", [MCD(hidden=16), MDD(hidden=16, reversal=1.0)], ids=["mcd", "mdd"])
def test_heads_and_features_want_opposite_things_of_the_target(method):
    """A step of the heads makes the discrepancy larger, one of the features smaller."""
    modules = modules_of(method)
    outputs = batch(64, 64)
    # What both want alike, to be right about the source, is left out: its features get no gradient here.
    target, weights = outputs.target_features, list(modules.parameters())
    progress = 1.0

    def total():
        return method.loss(outputs, modules=modules, progress=progress)

    def discrepancy():
        with torch.no_grad():
            rest = total()
        return -float(rest)

    start = discrepancy()
    (of_target,) = torch.autograd.grad(total(), [target])
    with torch.no_grad():
        target -= 1e-2 * of_target / of_target.norm()
    assert discrepancy() < start
    with torch.no_grad():
        target += 1e-2 * of_target / of_target.norm()
    of_weights = torch.autograd.grad(total(), weights)
    with torch.no_grad():
        for weight, one in zip(weights, of_weights, strict=True):
            weight -= 1e-3 * one
    assert discrepancy() > start


@pytest.mark.parametrize("name", ["deep-coral", "dan", "jan"])
def test_no_shift_no_loss(name):
    outputs = batch(8, 8)
    same = DomainOutputs(outputs.source_features, outputs.source_logits, outputs.source_labels, *leaves(outputs)[:2])
    found = loss_of(name, same, progress=1.0)
    assert float(found.detach()) == pytest.approx(0, abs=1e-12)
    assert all(one.norm() < 1e-9 for one in gradients(found, outputs))
    assert float(loss_of(name, batch(8, 8), progress=1.0).detach()) > 1e-4


def test_no_shift_and_right_predictions_transport_nothing():
    features, labels = drawn(8, WIDTH), torch.arange(8) % CLASSES
    sure = 100 * functional.one_hot(labels, CLASSES).double()
    outputs = DomainOutputs(features, sure, labels, features, sure)
    assert float(DeepJDOT().loss(outputs, modules=nn.ModuleDict(), progress=1.0)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["dann small", "cdan plain", "cdan randomized"])
def test_without_a_shift_no_discriminator_beats_chance(name):
    outputs, method = batch(8, 8), METHODS[name]
    same = DomainOutputs(*leaves(outputs)[:2], outputs.source_labels, *leaves(outputs)[:2])
    modules = modules_of(method)
    optimizer = torch.optim.Adam(modules.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss = method.loss(same, modules=modules, progress=1.0)
        loss.backward()
        optimizer.step()
        assert float(loss.detach()) >= np.log(2) - 1e-12


def test_the_random_product_has_the_inner_products_of_the_whole_one():
    torch.manual_seed(0)
    f, g = drawn(6, WIDTH), drawn(6, CLASSES, seed=1).softmax(dim=1)
    whole = FeaturePrediction(WIDTH, CLASSES, None)(f, g)
    random = FeaturePrediction(WIDTH, CLASSES, 200_000).double()(f, g)
    assert whole.shape == (6, WIDTH * CLASSES)
    torch.testing.assert_close(random @ random.T, whole @ whole.T, rtol=0, atol=0.05)
    assert modules_of(CDAN(randomized=32))["joint"].length == WIDTH * CLASSES
    assert CDAN(randomized=32).modules(2048, 10, seed=0)["joint"].length == 32


@EVERY
def test_labels_of_a_few_target_examples_are_taken(name):
    plain, method = batch(), METHODS[name]
    known = dataclasses.replace(plain, target_labels=torch.tensor([-1, 0, -1, 2, -1, -1]))
    none = dataclasses.replace(plain, target_labels=torch.full((6,), -1))
    assert loss_of(name, known).isfinite()
    torch.testing.assert_close(loss_of(name, none), loss_of(name, plain))
    if isinstance(method, MCD | DeepJDOT):
        assert float(loss_of(name, known).detach()) != pytest.approx(float(loss_of(name, plain).detach()))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "regression" in method.tasks])
def test_methods_for_numbers_need_no_classes(name):
    method = METHODS[name]
    outputs = DomainOutputs(drawn(8, WIDTH), drawn(8, 1, seed=1), None, drawn(6, WIDTH, seed=2), drawn(6, 1, seed=3))
    assert method.loss(outputs, modules=method.modules(WIDTH, 1, seed=0).double(), progress=0.5).isfinite()


def test_methods_that_need_classes_say_so():
    for method in (MCD(), DeepJDOT()):
        with pytest.raises(RequestError, match="source_labels: expected the class of each source example"):
            method.loss(dataclasses.replace(batch(), source_labels=None), modules=modules_of(method), progress=0.5)


@pytest.mark.parametrize(
    ("subject", "changed"),
    [
        ("source_features", {"source_features": drawn(0, WIDTH)}),
        ("source_logits", {"source_logits": drawn(7, CLASSES)}),
        ("target_features", {"target_features": drawn(6, WIDTH + 1)}),
        ("target_logits", {"target_logits": drawn(6, CLASSES + 1)}),
        ("source_labels", {"source_labels": torch.full((8,), CLASSES)}),
        ("source_labels", {"source_labels": torch.full((8,), -1)}),
        ("source_labels", {"source_labels": torch.zeros(8)}),
        ("target_labels", {"target_labels": torch.full((6,), -2)}),
        ("target_labels", {"target_labels": torch.zeros(5, dtype=torch.long)}),
    ],
)
def test_outputs_that_do_not_fit_are_refused(subject, changed):
    with pytest.raises(RequestError, match=subject):
        dataclasses.replace(batch(), **changed)


def test_options_that_cannot_be_used_are_refused():
    for make, subject in (
        (lambda: DeepCORAL(strength=-1), "strength"),
        (lambda: AFN(kind="soft"), "kind"),
        (lambda: DAN(estimator="quick"), "estimator"),
        (lambda: DANN(hidden=1024), "hidden"),
        (lambda: CDAN(hidden=(0,)), "hidden"),
        (lambda: MDD(margin=0), "margin"),
        (lambda: MCC(temperature=0), "temperature"),
        (lambda: BSP(count=0), "count"),
        (lambda: DeepJDOT(feature_weight=-1), "feature_weight"),
    ):
        with pytest.raises(RequestError, match=subject):
            make()

"""The boundary of a training, and the activations that are kept there."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graft.backbones import FeaturePreprocessing, Views, load_backbone, module_backbone
from graft.backbones.text_backbone import TextNetwork
from graft.backbones.torchvision_repair import import_torchvision
from graft.errors import RequestError, UnreadableInputsError
from graft.training import (
    ActivationStore,
    Batch,
    Boundary,
    Examples,
    Network,
    Plan,
    Recipe,
    depth_of,
    set_trained,
    train,
)

SENTENCES = [
    "a fine day",
    "rain again, and no umbrella with me",
    "good",
    "the train was late by an hour and nobody said why",
    "tea or coffee?",
    "bread",
]
NETWORKS = ["test_efficientnet", "test_resnet", "test_vit", "minilm"]


@pytest.fixture(scope="module", params=NETWORKS)
def backbone(request):
    if request.param == "minilm":
        return load_backbone("minilm")
    return load_backbone(request.param, pretrained=False, image_size=64, random_state=0)


@pytest.fixture(scope="module")
def inputs(backbone):
    if backbone.modality == "text":
        return SENTENCES
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (70, 80, 3), dtype=np.uint8) for _ in range(6)]


def last_groups(backbone, trunk, count):
    return [name for group in backbone.layer_groups(trunk)[-count:] for name in group.parameter_names]


def split_at(backbone, inputs, groups=2):
    """A copy of the network, a batch, and the boundary before its last groups, with what is frozen frozen."""
    trunk = backbone.copy_module()
    names = last_groups(backbone, trunk, groups)
    batch = backbone.collate(backbone.read(inputs))
    boundary = Boundary(trunk, names, batch)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_(name in names)
    return trunk, names, batch, boundary


def stored_inputs(boundary, batch):
    rest = batch if isinstance(batch, dict) else {}
    return {**rest, "activations": boundary.activations(batch)}


def examples_of(backbone, inputs):
    return Examples(backbone, inputs, torch.eye(2)[torch.arange(len(inputs)) % 2], views=Views(seed=3))


def test_the_boundary_is_the_last_frozen_block(backbone, inputs):
    expected = {
        "test_efficientnet": "network.blocks.2",
        "test_resnet": "network.layer2",
        "test_vit": "network.blocks.3",
        "minilm": "encoder.encoder.layer.3",
    }
    _, _, _, boundary = split_at(backbone, inputs)
    assert boundary.name.startswith(expected[backbone.name.split("/")[-1]])


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_the_rest_on_activations_is_the_whole_on_the_batch(backbone, inputs, groups):
    trunk, _, batch, boundary = split_at(backbone, inputs, groups)
    with torch.no_grad():
        torch.testing.assert_close(boundary.module(stored_inputs(boundary, batch)), trunk(batch), rtol=1e-6, atol=1e-6)


def test_gradients_of_what_is_trained_are_equal(backbone, inputs):
    trunk, names, batch, boundary = split_at(backbone, inputs)
    gradients = []
    for forward in (lambda: trunk(batch), lambda: boundary.module(stored_inputs(boundary, batch))):
        trunk.zero_grad()
        (forward() * torch.linspace(-1, 1, backbone.feature_dim)).sum().backward()
        found = {name: parameter.grad for name, parameter in trunk.named_parameters() if parameter.grad is not None}
        gradients.append({name: values.clone() for name, values in found.items()})
    assert gradients[0].keys() == gradients[1].keys()
    assert gradients[0].keys() <= set(names)
    assert gradients[0]
    for name, values in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], values, rtol=1e-5, atol=1e-6 * float(values.abs().max()) + 1e-9)


def test_what_is_trained_is_the_trunks_own(backbone, inputs):
    trunk, names, _, boundary = split_at(backbone, inputs)
    whole, rest = dict(trunk.named_parameters()), dict(boundary.module.named_parameters())
    assert set(names) <= rest.keys() <= whole.keys()
    assert all(whole[name] is parameter for name, parameter in rest.items())
    assert sum(values.numel() for values in rest.values()) < sum(values.numel() for values in whole.values())


def test_the_trunk_is_left_as_it_was(backbone, inputs):
    def hooks():
        return [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in trunk.modules()]

    trunk = backbone.copy_module()
    set_trained(trunk, last_groups(backbone, trunk, 2))
    # transformers leaves hooks of its own in an encoder whose hidden states were once asked for.
    modes, hooked = [one.training for one in trunk.modules()], hooks()
    before = copy.deepcopy(trunk.state_dict())
    batch = backbone.collate(backbone.read(inputs))
    boundary = Boundary(trunk, last_groups(backbone, trunk, 2), batch)
    boundary.activations(batch)
    assert [one.training for one in trunk.modules()] == modes
    assert hooks() == hooked
    assert all(torch.equal(before[name], values) for name, values in trunk.state_dict().items())


def test_the_batch_given_is_not_written_to(backbone, inputs):
    _, _, batch, boundary = split_at(backbone, inputs)
    given = stored_inputs(boundary, batch)
    before = given["activations"].clone()
    boundary.module(given)
    assert torch.equal(given["activations"], before)


def test_training_from_stored_activations_gives_the_same_weights(backbone, inputs):
    weights, moved = [], []
    for cached in (False, True):
        trunk, names, _, boundary = split_at(backbone, inputs)
        examples = examples_of(backbone, inputs)
        torch.manual_seed(0)
        head = nn.Linear(backbone.feature_dim, 2)
        network = Network(boundary.module if cached else trunk, {"task": head})
        chosen = frozenset({*(f"trunk.{name}" for name in names), "heads.task.weight", "heads.task.bias"})
        start = {name: values.clone() for name, values in trunk.state_dict().items()}

        def loss(model, part, _step):
            _, outputs = model(part.inputs)
            errors = nn.functional.cross_entropy(outputs["task"], part.targets, reduction="none")
            return (errors * part.weight).sum(), part.weight.sum()

        plan = Plan(
            steps=4,
            trained=lambda _step, chosen=chosen: chosen,
            depth=depth_of(backbone.layer_groups(trunk)),
            recipe=Recipe(learning_rate=1e-3, head_learning_rate=1e-3),
        )
        with ActivationStore(boundary, examples, views=(0, 1)) as store:
            source = store if cached else examples
            rows = np.array([[0, 3, 1, 5], [2, 4, 0, 1]])
            train(
                network, lambda step, *_, source=source, rows=rows: source.batch(rows[step % 2], step // 2), loss, plan
            )
        weights.append({name: values.clone() for name, values in trunk.state_dict().items()})
        moved.append([name for name, values in trunk.state_dict().items() if not torch.equal(start[name], values)])
    assert moved[0] == moved[1]
    assert moved[0]
    # AdamW divides by the size of the gradient: rounding is seen in full where a gradient is next to nothing, and
    # is all there is for the bias of the keys, which shifts every score of a query alike.
    for name, values in weights[0].items():
        if name.endswith("key.bias"):
            continue
        torch.testing.assert_close(weights[1][name], values, rtol=1e-5, atol=1e-5)


def test_nothing_of_the_front_part_is_run(backbone, inputs):
    trunk, _, batch, boundary = split_at(backbone, inputs)
    frozen = backbone.layer_groups(trunk)[:-2]
    owners = {name.rpartition(".")[0] for group in frozen for name in group.parameter_names}
    calls = []
    for name in owners:
        trunk.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    given = stored_inputs(boundary, batch)
    # Parameters next to the root (a class token) belong to no module of the front part.
    front = {name for name in calls if trunk.get_submodule(name) is not trunk and "." in name}
    assert len(front) > 3
    calls.clear()
    boundary.module(given).sum().backward()
    assert calls == []


def test_nothing_behind_the_boundary_is_run_for_activations(backbone, inputs):
    trunk, names, batch, boundary = split_at(backbone, inputs)
    calls = []
    for name in {name.rpartition(".")[0] for name in names}:
        trunk.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    boundary.activations(batch)
    assert calls == []
    trunk(batch)
    assert calls


def test_stored_batches_give_the_outputs_of_the_network(backbone, inputs):
    trunk, _, _, boundary = split_at(backbone, inputs)
    examples = examples_of(backbone, inputs)
    with ActivationStore(boundary, examples, views=(0, 2)) as store:
        assert (store.count, store.sizes) == (examples.count, examples.sizes)
        for view in (0, 2):
            rows = np.array([4, 0, 3])
            plain, stored = examples.batch(rows, view), store.batch(rows, view)
            assert torch.equal(stored.targets, plain.targets)
            assert torch.equal(stored.weight, plain.weight)
            with torch.no_grad():
                torch.testing.assert_close(boundary.module(stored.inputs), trunk(plain.inputs), rtol=1e-4, atol=1e-5)
        # Texts of very different lengths lie side by side, and each is padded anew in every batch.
        with torch.no_grad():
            found = torch.cat([boundary.module(store.batch(np.array([row])).inputs) for row in range(store.count)])
            wanted = trunk(examples.batch(np.arange(store.count)).inputs)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_copy_of_the_rest_stands_on_its_own(backbone, inputs):
    _, _, batch, boundary = split_at(backbone, inputs)
    given = stored_inputs(boundary, batch)
    wanted = boundary.module(given)
    made = copy.deepcopy(boundary.module)
    assert torch.equal(made(given), wanted)
    half = {name: values[:1] for name, values in given.items()}
    made(half)
    assert torch.equal(boundary.module(given), wanted)


def test_chosen_layers_behind_the_boundary(inputs, backbone):
    """Features that are taken from blocks behind the boundary need what those blocks give, and nothing else."""
    chosen = backbone.with_output(layer=-1, pooling="mean" if backbone.modality == "text" else "avg")
    trunk, _, batch, boundary = split_at(chosen, inputs)
    with torch.no_grad():
        torch.testing.assert_close(boundary.module(stored_inputs(boundary, batch)), trunk(batch))


class Skip(nn.Module):
    """A network in which the input of the first layer reaches the end beside the second one."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, batch):
        early = self.first(batch)
        return self.third(self.second(early) + early)


class Around(Skip):
    """A network whose input itself reaches the end."""

    def forward(self, batch):
        return self.third(self.second(self.first(batch))) + batch


class Gated(Skip):
    """A network whose early activations reach the end through a gate that is closed, and may be opened by training."""

    def forward(self, batch):
        early = self.first(batch)
        return self.second(early) + self.third(early) * 0


class Writes(Skip):
    """A network that works in place on what the front part gave, and on what comes after the boundary."""

    def forward(self, batch):
        early = self.first(batch)
        early += 1
        late = self.second(early)
        late *= 2
        return self.third(late)


class Twice(Skip):
    """A network that uses one layer before and after another."""

    def forward(self, batch):
        return self.third(self.first(self.second(self.first(batch))))


def test_networks_that_work_in_place():
    torch.manual_seed(0)
    trunk, batch = Writes(), torch.randn(3, 4)
    boundary = Boundary(trunk, ["third.weight"], batch)
    assert boundary.name == "second"
    given = {"activations": boundary.activations(batch)}
    for _ in range(2):
        assert torch.equal(boundary.module(given), trunk(batch))


def test_a_layer_that_is_used_again_stays():
    torch.manual_seed(0)
    trunk, batch = Twice(), torch.randn(3, 4)
    boundary = Boundary(trunk, ["third.weight"], batch)
    assert boundary.name == "second"
    assert boundary.module.first is trunk.first
    assert torch.equal(boundary.module({"activations": boundary.activations(batch)}), trunk(batch))


def test_encoders_whose_layers_share_what_is_made_before_them():
    """Relative positions and rotations are made once and handed to every block, also those behind the boundary."""
    import_torchvision()
    import transformers

    size = {"num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    marks = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    relative = transformers.MPNetModel(transformers.MPNetConfig(vocab_size=50, **size))
    rotating = transformers.ModernBertModel(transformers.ModernBertConfig(vocab_size=50, **size, **marks))
    for encoder, last in ((relative, "encoder.encoder.layer.2."), (rotating, "encoder.layers.2.")):
        trunk = TextNetwork(encoder.eval(), None, ("mean",), nn.Identity())
        names = [name for name, _ in trunk.named_parameters() if name.startswith(last)]
        boundary = Boundary(trunk, names, words(3, 7))
        for batch in (words(3, 7), words(5, 9), words(1, 2)):
            with torch.no_grad():
                torch.testing.assert_close(boundary.module(stored_inputs(boundary, batch)), trunk(batch))


def words(count, length):
    """Made-up token ids; the last example is shorter than the others."""
    ids = torch.randint(3, 50, (count, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[-1, (length + 1) // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_a_boundary_that_others_pass_is_moved_forward():
    torch.manual_seed(0)
    trunk = Skip()
    boundary = Boundary(trunk, ["third.weight"], torch.randn(3, 4))
    assert boundary.name == "first"


def test_no_boundary_where_the_input_itself_is_needed():
    torch.manual_seed(0)
    with pytest.raises(RequestError, match="boundary"):
        Boundary(Around(), ["third.weight"], torch.randn(3, 4))


def test_equal_outputs_are_not_enough():
    torch.manual_seed(0)
    assert Boundary(Gated(), ["third.weight"], torch.randn(3, 4)).name == "first"


@pytest.mark.parametrize("trained", [["first.weight"], [], ["fourth.weight"]])
def test_requests_that_cannot_be_met(trained):
    with pytest.raises(RequestError):
        Boundary(Skip(), trained, torch.randn(3, 4))


def test_a_parameter_next_to_the_root_is_trained_from_the_start():
    """A class token is used before any block: where it is trained, nothing can be kept."""
    vit = load_backbone("test_vit", pretrained=False, image_size=32, random_state=0)
    trunk = vit.copy_module()
    with pytest.raises(RequestError):
        Boundary(trunk, ["network.cls_token", "network.norm.weight"], vit.collate([vit.example_item()]))


def test_own_networks_of_vectors():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)
    )
    own = module_backbone(module, preprocessing=FeaturePreprocessing())
    trunk = own.copy_module()
    rows = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    batch = own.collate(own.read(list(rows)))
    boundary = Boundary(trunk, ["network.4.weight", "network.4.bias"], batch)
    assert torch.equal(boundary.module({"activations": boundary.activations(batch)}), trunk(batch))


def small_store(tmp_path, **options):
    vit = load_backbone("test_vit", pretrained=False, image_size=32, random_state=0)
    trunk = vit.copy_module()
    images = [np.full((32, 32, 3), 40 * number, dtype=np.uint8) for number in range(5)]
    boundary = Boundary(trunk, last_groups(vit, trunk, 1), vit.collate(vit.read(images)))
    return boundary, ActivationStore(boundary, examples_of(vit, images), folder=tmp_path, **options)


def test_the_file_is_as_large_as_said_and_deleted_when_closed(tmp_path):
    boundary, store = small_store(tmp_path, views=(0, 1, 1))
    (file,) = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert file.stat().st_size == store.nbytes == 2 * 5 * 4 * np.prod(boundary.shape)
    store.close()
    store.close()
    assert not any(Path(tmp_path).iterdir())
    with pytest.raises(RequestError, match="closed"):
        store.batch(np.arange(2))


def test_views_that_are_not_stored_are_refused(tmp_path):
    _, store = small_store(tmp_path, views=(1,))
    with store, pytest.raises(RequestError, match="view"):
        store.batch(np.arange(2), 0)


def test_a_full_disk_is_said_before_it_is_full(tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("graft.training.activation_store.shutil.disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(RequestError, match="free disk"):
        small_store(tmp_path)
    assert not any(Path(tmp_path).iterdir())


def test_an_input_that_cannot_be_read_leaves_no_file(tmp_path):
    vit = load_backbone("test_vit", pretrained=False, image_size=32, random_state=0)
    trunk = vit.copy_module()
    boundary = Boundary(trunk, last_groups(vit, trunk, 1), vit.collate([vit.example_item()]))
    with pytest.raises(UnreadableInputsError, match="missing"):
        ActivationStore(boundary, examples_of(vit, [tmp_path / "missing.png"]), folder=tmp_path)
    assert not any(Path(tmp_path).iterdir())


def test_stored_batches_can_be_cut_and_moved(tmp_path):
    _, store = small_store(tmp_path)
    with store:
        batch = store.batch(np.arange(4))
        parts = [batch.part(number, 2) for number in range(2)]
        assert isinstance(parts[0], Batch)
        joined = torch.cat([part.to(torch.device("cpu")).inputs["activations"] for part in parts])
        assert torch.equal(joined, batch.inputs["activations"])

"""`export_model`: files that run without Graft and answer as the model does; or a reason, and nothing left."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import graft
from graft.backbones import FeaturePreprocessing, ImagePreprocessing, module_backbone
from graft.backbones.pixels import fit_pixels, read_pixels
from graft.data.samples import tickets, write_leaves
from graft.errors import GraftError, MissingDependencyError, RequestError, RunError
from graft.export import Exported, export_model, writing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
ONNX = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript and onnxruntime are not installed",
)
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, 4)).astype(np.float32)


def vectors(**options):
    labels = np.where(X[:, 0] > 0, "up", "down")
    return graft.FeatureExtraction(None, head="discriminant", store=False, **options).fit(X, labels)


@pytest.fixture(scope="module")
def texts():
    messages = tickets("bank").inputs[:40].tolist()
    model = graft.FeatureExtraction("minilm", head="discriminant", precision="float32")
    return model.fit(messages, ["long" if len(one) > 80 else "short" for one in messages])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write_leaves(folder / "leaves", per_class=4, size=96)
    leaves = graft.read_images(folder / "leaves")
    network = graft.load_backbone("efficientnet_lite0", image_size=64)
    model = graft.FeatureExtraction(network, head="discriminant", precision="float32")
    return model.fit(leaves.inputs, leaves.labels), leaves


def shown(place, **names):
    """Run the page's block of code of that number, and return its names."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(blocks[place], "export.md", "exec"), names)
    return names


@ONNX
def test_pictures_by_the_page_alone(photos, tmp_path, monkeypatch, capsys):
    model, leaves = photos
    written = export_model(model, tmp_path / "model.onnx")
    assert written.inputs == {"pixels": ["batch", 3, 64, 64]}
    assert written.outputs == {"probabilities": ["batch", 10]}
    assert written.difference < 1e-3
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(Path(leaves.inputs[0]).read_bytes())
    names = shown(0)
    np.testing.assert_allclose(names["probabilities"], model.predict_proba(["photo.jpg"]), atol=0.02)
    assert capsys.readouterr().out.strip() == model.predict(["photo.jpg"])[0]


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(32, 32), (32, 48), (48, 32)])
@pytest.mark.parametrize("kind", ["tall", "wide", "grey", "palette", "turned"])
def test_pixels_by_the_page_are_those_of_the_network(kind, size, mode, tmp_path):
    from PIL import Image, ImageOps

    rows = np.linspace(0, 255, 90)[:, None, None] * [1, 0, 0.5] + np.linspace(0, 255, 61)[None, :, None] * [0, 1, 0.5]
    picture = Image.fromarray(rows.astype(np.uint8))
    picture = picture if kind == "tall" else picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "turned" else 1
    picture.convert({"grey": "L", "palette": "P"}.get(kind, "RGB")).save(tmp_path / "photo.png", exif=exif)
    plan = ImagePreprocessing(size=size, crop=0.8, crop_mode=mode)
    source = re.search(r"^def pixels.*?(?=^\S*\()", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names = {"plan": plan.to_dict(), "np": np, "Image": Image, "ImageOps": ImageOps}
    exec(source[0], names)
    want = fit_pixels(read_pixels(tmp_path / "photo.png"), plan).numpy().astype(int)
    assert np.abs(names["pixels"](tmp_path / "photo.png") - want).max() <= 3


def test_texts_by_the_page_alone(texts, tmp_path, monkeypatch, capsys):
    written = export_model(texts, tmp_path / "model.pt2")
    assert written.beside == (tmp_path / "model.tokenizer.json",)
    assert written.inputs == {name: ["batch", "length"] for name in ("input_ids", "attention_mask")}
    monkeypatch.chdir(tmp_path)
    names = shown(1)
    asked = ["When does it arrive?", "It broke."]
    np.testing.assert_allclose(names["probabilities"].numpy(), texts.predict_proba(asked), atol=1e-4)
    assert capsys.readouterr().out.strip() == str(texts.predict(asked).tolist())


@ONNX
def test_texts_of_any_length_and_number(texts, tmp_path):
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    export_model(texts, tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx")
    tokenizer = Tokenizer.from_file(str(tmp_path / "model.tokenizer.json"))
    for asked in (["one"], ["a b c", "much longer " * 300, ""]):
        tokens = tokenizer.encode_batch(asked)
        assert max(len(one.ids) for one in tokens) <= texts.backbone_.preprocessing.max_tokens
        given = {
            "input_ids": np.array([one.ids for one in tokens]),
            "attention_mask": np.array([one.attention_mask for one in tokens]),
        }
        np.testing.assert_allclose(session.run(None, given)[0], texts.predict_proba(asked), atol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "lasttoken"])
def test_tokens_are_picked_of_any_number_of_texts(texts, pooling, tmp_path):
    network = texts.backbone_.with_output(layer=[1, -1], pooling=pooling)
    messages = tickets("bank").inputs[:12].tolist()
    model = graft.FeatureExtraction(network, head="prototype", store=False, precision="float32")
    model.fit(messages, [len(one) > 80 for one in messages])
    export_model(model, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    batch = network.collate(network.read(["one", "two words more"]))
    np.testing.assert_allclose(
        program(*batch.values())[0].numpy(), model.predict_proba(["one", "two words more"]), atol=1e-4
    )


def test_the_tokenizer_file_does_all_that_is_done_to_a_text(texts):
    """A prompt, lower case and cutting belong to the preprocessing, not to the tokenizer."""
    from dataclasses import replace

    from tokenizers import Tokenizer

    own = texts.backbone_
    plan = replace(own.preprocessing, prompt="Query: ", lower_case=True, max_tokens=9)
    changed = type(own)("other", own._encoder, own._tokenizer, plan)
    asked = ["When Does It ARRIVE, and how much is it?", "No", " "]
    batch = changed.collate(changed.read(asked))
    tokens = Tokenizer.from_str(changed.tokenizer_json()).encode_batch(asked)
    assert [one.ids for one in tokens] == batch["input_ids"].tolist()
    assert [one.attention_mask for one in tokens] == batch["attention_mask"].tolist()


@pytest.mark.parametrize("name", [pytest.param("model.onnx", marks=ONNX), "model.pt2"])
def test_several_tasks_have_an_output_each_and_the_file_says_which(name, tmp_path):
    table = {"up": np.where(X[:, 0] > 0, "yes", "no"), "size": X[:, 1] * 2 + 1}
    model = graft.MultiTask(None, sharing="stacked", compare=False, store=False).fit(X, pd.DataFrame(table))
    file = tmp_path / name
    written = export_model(model, file)
    assert written.difference < 1e-3
    names = ["probabilities.up", "values.size"]
    new = DRAW.normal(size=(5, 4)).astype(np.float32)
    if file.suffix == ".onnx":
        from onnxruntime import InferenceSession

        session = InferenceSession(file)
        facts = json.loads(session.get_modelmeta().custom_metadata_map["graft.json"])
        answers = session.run(names, {"features": new})
    else:
        extra = {"graft.json": ""}
        program = torch.export.load(file, extra_files=extra).module()
        facts, answers = json.loads(extra["graft.json"]), [one.numpy() for one in program(torch.from_numpy(new))]
    assert [one["name"] for one in facts["outputs"]] == names
    assert facts["outputs"][0]["classes"] == ["no", "yes"]
    assert "classes" not in facts["outputs"][1]
    np.testing.assert_allclose(answers[0], model.predict_proba(new)["up"], atol=1e-4)
    np.testing.assert_allclose(answers[1][:, 0], model.predict(new)[:, 1].astype(float), rtol=1e-3, atol=1e-4)


def test_numbers_that_are_adapted_to_a_target_are_exported(tmp_path):
    target = graft.Domain((X + 1).astype(np.float32))
    numbers = np.stack([X[:, 0], 100 * X[:, 1]], axis=1)
    model = graft.DomainAdaptation(None, method="coral", task="regression", store=False)
    written = export_model(model.fit(X, numbers, target=target), tmp_path / "model.pt2")
    assert written.outputs == {"values": ["batch", 2]}
    assert written.difference < 1e-4


def test_a_run_that_was_saved_is_exported_as_it_was(tmp_path):
    model = vectors()
    model.save(tmp_path / "run")
    export_model(graft.load(tmp_path / "run"), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    np.testing.assert_allclose(program(torch.from_numpy(X))[0].numpy(), model.predict_proba(X), atol=1e-5)


def test_a_network_of_ones_own_and_one_example_at_a_time(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    own = module_backbone(network, preprocessing=ImagePreprocessing(size=(12, 16)))
    pictures = [DRAW.integers(256, size=(20, 24, 3), dtype=np.uint8) for _ in range(12)]
    model = graft.FeatureExtraction(own, head="ridge", task="regression", store=False, precision="float32")
    model.fit(pictures, np.arange(12.0))
    written = export_model(model, tmp_path / "model.pt2")
    assert written.inputs == {"pixels": ["batch", 3, 12, 16]}
    program = torch.export.load(tmp_path / "model.pt2").module()
    pixels = own.collate(own.read(pictures[:1]))
    assert program(pixels)[0].item() == pytest.approx(float(model.predict(pictures[:1])[0]), rel=1e-3, abs=1e-3)


class Own(torch.nn.Module):
    """A network that does something of its own to four numbers."""

    def __init__(self, step):
        super().__init__()
        self.first, self.step = torch.nn.Linear(4, 4), step

    def forward(self, x):
        return self.step(self.first(x))


REFUSED = {
    "fickle": (
        lambda x: x if float(x.sum()) > 0 else 2 * x,
        "model.pt2",
        "found a step that depends on the values of the inputs.",
    ),
    "one size": (
        lambda x: torch.stack([row.tanh() for row in x]),
        "model.pt2",
        "found a step that takes one size of the axis batch alone.",
    ),
    "error": (
        lambda x: {"eager": x}["traced" if torch.compiler.is_exporting() else "eager"],
        "model.pt2",
        "found KeyError: 'traced'.",
    ),
    "operator": (
        lambda x: torch.special.i0e(x),
        "model.onnx",
        "found prims.bessel_i0e, for which ONNX has no operator. Nothing was written. Name it model.pt2.",
    ),
}


@pytest.mark.parametrize(("step", "name", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_written_is_refused_in_plain_words_and_leaves_nothing(step, name, said, tmp_path):
    if name.endswith(".onnx"):
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    own = module_backbone(Own(step), preprocessing=FeaturePreprocessing(), feature_dim=4)
    model = graft.FeatureExtraction(own, head="discriminant", store=False)
    model.fit(X, np.where(X[:, 0] > 0, "up", "down"))
    with pytest.raises(RunError, match="expected a network of operations that this format can hold") as caught:
        export_model(model, tmp_path / name)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@ONNX
def test_a_file_that_onnxruntime_cannot_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.writing._write_onnx", lambda *given: given[-1].write_bytes(b"no model"))
    with pytest.raises(RunError, match=r"INVALID_PROTOBUF.*Nothing was written. Name it model.pt2"):
        export_model(vectors(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@ONNX
def test_weights_stand_within_the_one_file_whatever_their_size(tmp_path, monkeypatch):
    """Torch moves the weights of large models to a second file, which would be lost on the way to its place."""
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
    export_model(vectors(), tmp_path / "model.onnx")
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("size", "place"), [(1e-6, 0), (1, 1000), (1e9, 0)])
def test_numbers_of_any_size_are_compared_in_units_of_what_they_vary_by(size, place, tmp_path, monkeypatch):
    model = graft.FeatureExtraction(None, head="ridge", task="regression", store=False).fit(X, size * X[:, 0] + place)
    assert export_model(model, tmp_path / "model.pt2").difference < 1e-3
    write = writing._write_torch
    monkeypatch.setattr(writing, "_write_torch", lambda *given: [one + 0.01 * size for one in write(*given)])
    with pytest.raises(RunError, match="values that differ"):
        export_model(model, tmp_path / "other.pt2")
    assert [one.name for one in tmp_path.iterdir()] == ["model.pt2"]


def test_a_tokenizer_that_cannot_be_written_leaves_no_model(texts, tmp_path):
    (tmp_path / "model.tokenizer.json").mkdir()
    with pytest.raises(GraftError, match=r"model.tokenizer.json: expected a disk"):
        export_model(texts, tmp_path / "model.pt2")
    assert [one.name for one in tmp_path.iterdir()] == ["model.tokenizer.json"]


def test_a_file_that_answers_otherwise_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.writing._CLOSE", 1e-12)
    with pytest.raises(RunError, match=r"expected probabilities that differ.*Nothing was written"):
        export_model(vectors(), tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "model.bin",
            r"model.bin: expected a file that ends with .onnx or .pt2, found another name. Name it model.onnx",
        ),
        ("folder.pt2", "expected a file, found a folder"),
    ],
)
def test_places_that_cannot_be_written(name, said, tmp_path):
    (tmp_path / "folder.pt2").mkdir()
    with pytest.raises(RequestError, match=said):
        export_model(vectors(), tmp_path / name)
    assert [one.name for one in tmp_path.rglob("*")] == ["folder.pt2"]


def test_without_onnx_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'graft-learn\[export\]'"):
        export_model(vectors(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_more_than_protobuf_holds_is_refused_for_onnx(tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.writing._ONNX_BYTES", 4)
    monkeypatch.setattr("graft.export.writing.find_spec", lambda name: True)
    with pytest.raises(RequestError, match=r"Name it model.pt2"):
        export_model(vectors(), tmp_path / "model.onnx")


@ONNX
def test_where_nothing_can_run_the_file_that_is_said(tmp_path, monkeypatch):
    known = find_spec
    monkeypatch.setattr("graft.export.writing.find_spec", lambda name: None if name == "onnxruntime" else known(name))
    written = export_model(vectors(), tmp_path / "model.onnx")
    assert isinstance(written, Exported)
    assert written.difference is None
    assert written.to_dict()["difference"] is None

"""The data doctor finds what was planted, invents nothing, and survives anything."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from graft.data import CheckReport, Domain, check
from graft.errors import DataError, RequestError


def picture(seed, size=(12, 9)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def folder(root, classes=("cat", "dog"), count=3, prefix=""):
    for position, name in enumerate(classes):
        (root / prefix / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(1000 * position + number).save(root / prefix / name / f"{number}.png")
    return root


def kinds(report):
    return {found.kind: found for found in report.problems}


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_sound_data_have_no_problem(tmp_path):
    report = check(folder(tmp_path / "pets"))
    assert isinstance(report, CheckReport)
    assert (report.problems, report.examples, report.harmful, report.modality) == ((), 6, False, "image")
    assert str(report) == "pets: 6 images, no problem found"
    assert check(Domain(objects("one", "two", "three", "four"), np.array(list("abab")))).problems == ()
    rng = np.random.default_rng(0)
    assert check(Domain(rng.normal(size=(20, 3)), rng.integers(0, 2, 20))).problems == ()
    assert check(Domain(rng.normal(size=(20, 3)), rng.normal(size=20))).problems == ()


def test_broken_files_are_told_apart(tmp_path):
    root = folder(tmp_path)
    whole = (root / "cat" / "0.png").read_bytes()
    (root / "cat" / "empty.jpg").touch()
    (root / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "cat" / "words.jpg").write_text("words")
    (root / "cat" / "huge.png").write_bytes(whole[:16] + (10**6).to_bytes(4, "big") * 2 + whole[24:])
    (root / "cat" / "folder.png").symlink_to("/nowhere/at/all.png")
    found = kinds(check(root))
    for kind, name in (("empty file", "empty.jpg"), ("truncated image", "cut.png"), ("unreadable image", "words.jpg"),
                       ("oversized image", "huge.png"), ("missing file", "folder.png")):  # fmt: skip
        assert found[kind].count == 1
        assert name in found[kind].where[0]
        assert found[kind].harmful
        assert found[kind].remedy
    assert len(found) == 5


def test_names_that_promise_another_format(tmp_path):
    root = folder(tmp_path)
    picture(7).save(root / "cat" / "really.jpg", "PNG")
    picture(8).save(root / "cat" / "fine.jpeg", "JPEG")
    report = check(root)
    assert kinds(report)["wrong suffix"].where == (f"{root}/cat/really.jpg (PNG)",)
    assert len(report.problems) == 1
    assert not report.harmful


def test_duplicates_are_found_by_their_decoded_content(tmp_path):
    root = folder(tmp_path)
    original = Image.open(root / "cat" / "0.png")
    original.save(root / "cat" / "again.png", compress_level=0)
    original.save(root / "cat" / "again.bmp")
    original.save(root / "cat" / "again.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    original.rotate(180).save(root / "cat" / "turned.png", exif=exif)
    assert (root / "cat" / "again.png").read_bytes() != (root / "cat" / "0.png").read_bytes()
    (found,) = check(root).problems
    assert (found.kind, found.count, found.harmful) == ("duplicate image", 1, False)
    assert found.where[0].endswith("and 3 more")


def test_duplicates_across_splits_and_with_other_labels_are_harmful(tmp_path):
    folder(tmp_path, prefix="train")
    folder(tmp_path, prefix="test", count=0)
    for number in range(2):
        for label in ("cat", "dog"):
            picture(5000 + number + 10 * (label == "cat")).save(tmp_path / "test" / label / f"{number}.png")
    assert check(tmp_path).problems == ()
    picture(0).save(tmp_path / "test" / "dog" / "leaked.png")
    found = kinds(check(tmp_path))
    assert set(found) == {"duplicate image across splits", "duplicate image, labels differ"}
    assert all(problem.harmful for problem in found.values())
    assert "leaked.png" in found["duplicate image across splits"].where[0]
    assert "'dog'" in found["duplicate image, labels differ"].where[0]


def test_files_that_are_no_images_are_counted(tmp_path):
    root = folder(tmp_path)
    for number in range(7):
        (root / f"{number}.txt").touch()
    (found,) = check(root).problems
    assert (found.kind, found.count, len(found.where), found.harmful) == ("skipped file", 7, 5, False)
    assert "and 2 more" in str(check(root))


def test_texts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('text,label\nhello,a\n" HELLO ",b\n,a\n"  ",b\nx,a\ny y,a\ny  Y,a\nz,b\n')
    found = kinds(check(path))
    assert {kind: problem.count for kind, problem in found.items()} == {
        "empty text": 2, "duplicate text": 1, "duplicate text, labels differ": 1,
    }  # fmt: skip
    assert found["empty text"].where == ("row 2", "row 3")
    assert found["duplicate text"].where == ("row 5 = row 6: 'y y'",)
    assert found["duplicate text, labels differ"].where == ("row 0 ('a') = row 1 ('b'): 'hello'",)


@pytest.mark.parametrize("sparse", [False, True])
def test_features(sparse):
    import scipy.sparse

    X = np.random.default_rng(0).normal(size=(5000, 4))  # more than one block of rows
    X[:, 2] = 3.0
    X[4500, 0], X[1, 1] = np.inf, np.nan
    X[7] = 3.0
    X[4999] = X[0]
    y = np.random.default_rng(1).integers(0, 2, 5000)
    y[4999] = y[0]
    report = check(Domain(scipy.sparse.csr_matrix(X) if sparse else X, y))
    found = kinds(report)
    assert found["non-finite features"].where == ("column 0", "column 1", "row 1", "row 4500")
    assert found["constant column"].where == ("column 2",)
    assert found["constant row"].where == ("row 7",)
    assert found["duplicate row"].where == ("row 0 = row 4999",)
    assert [problem.harmful for problem in report.problems] == [True, False, False, False]


@pytest.mark.parametrize(
    ("labels", "kind", "place", "harmful"),
    [
        (["a", "a", "b", "b", "c", "a"], "class with 1 example", "'c'", True),
        (["a", "a", "A ", "A ", "b", "b"], "label spelled in several ways", "'A ' / 'a'", True),
        (["a"] * 6, "one class", "'a'", True),
        (["a", "a", "b", "b", None, "a"], "missing label", "row 4: 'e'", False),
        ([None] * 6, "empty label column", "labels", True),
        ([1, 1, "b", "b", 1, "b"], "mixed label types", "labels", True),
        ([0.5, 1, 2, 3, np.inf, 2.5], "infinite label", "row 4: 'e'", True),
        ([7] * 6, "one class", "7", True),
    ],
)
def test_labels(labels, kind, place, harmful):
    report = check(Domain(objects(*"abcdef"), objects(*labels)))
    (found,) = report.problems
    assert (found.kind, found.harmful, report.harmful) == (kind, harmful, harmful)
    assert place in found.where[0]


def test_label_tables_name_their_column():
    table = np.array([["x", 0.5], ["x", 1.0], ["y", None], ["X", 2.5]], dtype=object)
    found = kinds(check(Domain(objects(*"abcd"), table, tasks=("kind", "degree"))))
    assert found["label spelled in several ways"].where == ("kind: 'X' / 'x'",)
    assert found["class with 1 example"].where == ("kind: 'X'", "kind: 'y'")
    assert found["missing label"].where == ("degree: row 2: 'c'",)
    indicators = np.array([[1, 1, np.nan, 0], [0, 1, np.nan, 0], [1, 1, np.nan, 0], [0, 1, np.nan, 1]])
    found = kinds(check(Domain(objects(*"abcd"), indicators, tasks=("fine", "always", "empty", "rare"))))
    assert {kind: problem.where for kind, problem in found.items()} == {
        "constant label": ("always",), "empty label column": ("empty",), "class with 1 example": ("rare",),
    }  # fmt: skip


def test_classes_that_a_split_lacks():
    labels = objects(*"aabbccaabbdd")
    splits = objects(*["train"] * 6 + ["test"] * 6)
    found = kinds(check(Domain(objects(*"abcdefghijkl"), labels, splits=splits)))
    assert found["class not in train"].where == ("'d' in test",)
    assert found["class not in train"].harmful
    assert found["class not in test"].where == ("'c'",)
    assert not found["class not in test"].harmful


def test_an_empty_label_column_and_a_guessed_encoding_are_reported_and_not_raised(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("text,label\nein Gruß,\nnoch einer,\n".encode("cp1252"))
    found = kinds(check(path))
    assert set(found) == {"empty label column", "guessed encoding"}
    assert "t.csv" in found["guessed encoding"].where[0]


def test_what_cannot_be_looked_at_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nothing there"):
        check(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="labels"):
        check(Domain(objects("a")), labels="x")
    with pytest.raises(RequestError, match="max_pixels"):
        check(Domain(objects("a")), max_pixels=0)


def test_the_report_is_plain_json_and_fits_eighty_columns(tmp_path):
    root = folder(tmp_path / ("very_long_name_" * 8), classes=("cat" * 20, "dog" * 20))
    (root / ("cat" * 20) / ("long" * 20 + ".jpg")).touch()
    picture(0).save(root / ("dog" * 20) / "copy.png")
    report = check(root)
    held = json.loads(json.dumps(report.to_dict()))
    assert held["examples"] == 8
    assert held["harmful"] is True
    assert {"kind", "where", "count", "remedy", "harmful"} == set(held["problems"][0])
    assert len(held["problems"]) == len(report.problems) == 2
    lines = str(report).split("\n")
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("!") for line in lines) == 2


def test_the_report_names_a_faulty_file_whatever_the_length_of_its_fault(tmp_path):
    root = folder(tmp_path / "pictures")
    stream = io.BytesIO()
    picture(1, (200, 200)).save(stream, "JPEG")
    for name in ("cut.jpg", "cut (1).jpg"):
        (root / "cat" / name).write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    lines = str(check(root)).split("\n")
    assert {line.rsplit("/", 1)[-1] for line in lines if "cut" in line} == {"cut.jpg", "cut (1).jpg"}
    assert sum(line.strip().startswith("(") and "truncated" in line for line in lines) == 2


def test_the_report_says_plainly_where_nothing_is_harmful(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("text,label\nred,a\nblue,b\ngreen,a\nwhite,b\nblack,\n")
    assert str(check(table)).split("\n")[0] == "t: 5 texts, 1 kind of problem, none harmful"


def test_control_characters_do_not_reach_the_terminal():
    report = check(Domain(objects("\x1b[31mred\x07", "\x1b[31mred\x07"), objects("a", "b")))
    assert "\x1b" not in str(report)


def test_an_image_is_never_fatal(tmp_path):
    """Random bytes, cut files, files with bytes turned over, impossible headers: each is a finding or an image."""
    rng = np.random.default_rng(0)
    (tmp_path / "x").mkdir()
    seeds = []
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        stream = io.BytesIO()
        picture(1, (40, 30)).save(stream, kind)
        seeds.append((kind.lower(), stream.getvalue()))
    total = 0
    for trial in range(240):
        kind, data = seeds[trial % len(seeds)]
        spoiled = bytearray(data)
        if trial % 4 == 0:
            spoiled = spoiled[: int(rng.integers(0, len(data)))]
        elif trial % 4 == 1:
            spoiled = bytearray(rng.bytes(int(rng.integers(1, 300))))
        else:
            for _ in range(int(rng.integers(1, 30))):
                spoiled[int(rng.integers(0, min(len(data), 200)))] = int(rng.integers(0, 256))
        (tmp_path / "x" / f"{trial}.{kind}").write_bytes(bytes(spoiled))
        total += 1
    report = check(tmp_path, max_pixels=10_000_000)
    assert report.examples == total
    broken = sum(problem.count for problem in report.problems if "image" in problem.kind or "file" in problem.kind)
    assert broken > 100
    assert str(report)


def test_inputs_that_lie_in_memory():
    arrays = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    arrays[5] = arrays[0]
    labels = np.array(list("aabbba"))
    for inputs in (arrays, objects(*arrays), objects(*(Image.fromarray(pixels) for pixels in arrays))):
        (found,) = check(Domain(inputs, labels)).problems
        assert (found.kind, found.where) == ("duplicate image", ("row 0 = row 5",))
    report = check(Domain(objects(arrays[0], b"no image", "")))
    assert {problem.kind for problem in report.problems} == {"unreadable image", "missing file"}

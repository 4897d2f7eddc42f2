"""Readers of tables and arrays: one table, however it is stored, is one domain."""

import json
import warnings

import numpy as np
import pytest

from graft.data import read, read_features, read_images, read_texts
from graft.errors import DataError, RequestError

TEXTS = [
    "Where, please, is it?",
    'He said "no"',
    "two\nlines",
    "",
    "NA",
    "null",
    " spaces ",
    "naïve café ✓",
    "007",
    "1.5",
]
LABELS = ["None", "nan", "b", None, "NA", "null", "a ", "é", "true", "b"]
NUMBERS = [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]
DEGREES = [0.5, None, 1.0, 2.0, 3.0, -1.5, 1e-3, 4.0, 5.0, 6.25]
SPLITS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
COLUMNS = {
    "body": TEXTS,
    "intent": LABELS,
    "stars": NUMBERS,
    "degree": DEGREES,
    "split": SPLITS,
    "group": list("aabbccddee"),
}
KINDS = [
    "csv",
    "semicolon",
    "tsv",
    "jsonl",
    "parquet",
    "pandas",
    "pandas-arrow",
    "polars",
    "polars-csv",
    "datasets",
    "datasets-shuffled",
    "pyarrow",
]


def stored(kind, columns, folder):
    """Store a table in one of the ways in which users have it."""
    import pandas
    import polars
    import pyarrow

    frame = pandas.DataFrame(columns)
    path = folder / f"table.{ {'semicolon': 'csv', 'polars-csv': 'csv'}.get(kind, kind) }"
    if kind in ("csv", "semicolon", "tsv"):
        frame.to_csv(path, index=False, sep={"csv": ",", "semicolon": ";", "tsv": "\t"}[kind])
    elif kind == "polars-csv":
        polars.DataFrame(columns).write_csv(path)
    elif kind == "jsonl":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    elif kind == "parquet":
        polars.DataFrame(columns).write_parquet(path)
    elif kind == "pandas":
        return frame
    elif kind == "pandas-arrow":
        return frame.convert_dtypes(dtype_backend="pyarrow")
    elif kind == "polars":
        return polars.DataFrame(columns)
    elif kind == "pyarrow":
        return pyarrow.table(columns)
    else:
        import datasets

        if kind == "datasets":
            return datasets.Dataset.from_dict(columns)
        reverse = {name: values[::-1] for name, values in columns.items()}
        return datasets.Dataset.from_dict(reverse).select(range(len(reverse[next(iter(reverse))]) - 1, -1, -1))
    return path


def cells(values):
    return [None if value is None or value != value else value for value in np.asarray(values).tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_one_table_is_one_domain_however_it_is_stored(kind, tmp_path):
    source = stored(kind, COLUMNS, tmp_path)
    domain = read_texts(source, text="body", labels="intent")
    assert domain.inputs.tolist() == TEXTS
    assert cells(domain.labels) == LABELS
    assert domain.splits.tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    assert domain.groups.tolist() == list("aabbccddee")
    for column, expected, types in (("stars", NUMBERS, "i"), ("degree", DEGREES, "f")):
        labels = read_texts(source, text="body", labels=column).labels
        assert cells(labels) == expected
        assert labels.dtype.kind == types
    table = read_texts(source, text="body", labels=["intent", "degree"])
    assert table.tasks == ("intent", "degree")
    assert table.labels.shape == (len(TEXTS), 2)
    assert table.labels[:, 0].tolist() == LABELS
    assert table.labels[:, 1].tolist() == DEGREES
    assert read_texts(source, text="body", labels=["stars"]).labels.shape == (len(TEXTS), 1)
    assert read_texts(source, text="body", labels=[]).labels is None
    assert read(source, text="body", labels="stars")[0] == "text"


@pytest.mark.parametrize("kind", KINDS)
def test_features_agree_however_they_are_stored(kind, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(len(TEXTS), 3)).round(6)
    columns = (
        {f"f{column}": X[:, column].tolist() for column in range(3)}
        | {"count": list(range(len(TEXTS)))}
        | {"species": list("abcabcabca")}
    )
    columns["f1"][2] = None
    expected = np.column_stack([X, np.arange(len(TEXTS))])
    expected[2, 1] = np.nan
    modality, domain = read(stored(kind, columns, tmp_path))
    assert modality == "features"
    np.testing.assert_array_equal(domain.inputs, expected)
    assert domain.inputs.dtype == np.float64
    assert domain.labels.tolist() == list("abcabcabca")
    with_name = read_features(stored(kind, columns, tmp_path), labels="species")
    np.testing.assert_array_equal(with_name.inputs, expected)
    regression = read_features(stored(kind, columns | {"species": [0.5] * len(TEXTS)}, tmp_path), labels="f0")
    np.testing.assert_array_equal(regression.labels, X[:, 0])
    assert regression.inputs.shape == (len(TEXTS), 4)


@pytest.mark.parametrize("kind", KINDS)
def test_image_columns_agree_however_they_are_stored(kind, tmp_path, monkeypatch):
    for name in ("a.jpg", "b.png"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / name).touch()
    columns = {"id": [1, 2, 3], "file": ["pictures/a.jpg", "pictures/b.png", None], "label": ["x", "y", "x"]}
    source = stored(kind, columns, tmp_path)
    monkeypatch.chdir(tmp_path)  # data frames are relative to the current folder, files to themselves
    modality, domain = read(source)
    assert modality == "image"
    folder = f"{tmp_path}/" if kind.split("-")[-1] in ("csv", "semicolon", "tsv", "jsonl", "parquet") else ""
    assert domain.inputs.tolist() == [f"{folder}pictures/a.jpg", f"{folder}pictures/b.png", ""]
    assert domain.labels.tolist() == ["x", "y", "x"]


def test_a_data_set_of_images_stays_encoded_and_its_class_names_are_the_labels(tmp_path):
    import datasets
    from PIL import Image

    from graft.data import decode_image

    pictures = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cold", "warm"])})
    source = datasets.Dataset.from_dict({"image": pictures, "label": [1, 0]}, features=features)
    source.to_parquet(tmp_path / "x.parquet")
    for each in (source, tmp_path / "x.parquet"):
        modality, domain = read(each)
        assert modality == "image"
        assert all(isinstance(image, bytes) for image in domain.inputs)
        assert decode_image(domain.inputs[0]).getpixel((0, 0)) == (255, 0, 0)
        assert domain.labels.tolist() == ["warm", "cold"]
    both = datasets.DatasetDict({"train": source, "test": source})
    domain = read_images(both)
    assert domain.splits.tolist() == ["train", "train", "test", "test"]
    assert domain.labels.tolist() == ["warm", "cold"] * 2


def test_tables_called_train_and_test_are_given_splits(tmp_path):
    (tmp_path / "train.csv").write_text("text,category\nhello there,a\nNA,b\n")
    (tmp_path / "test.jsonl").write_text('{"category": "c", "text": "good bye"}\n')
    (tmp_path / "README.md").touch()
    modality, domain = read(tmp_path)
    assert (modality, domain.inputs.tolist()) == ("text", ["hello there", "NA", "good bye"])
    assert (domain.labels.tolist(), domain.splits.tolist()) == (["a", "b", "c"], ["train", "train", "test"])
    (tmp_path / "val.csv").write_text("text,kind\nx,y\n")
    with pytest.raises(DataError, match="the columns 'text', 'category'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("header", "row", "modality", "labels"),
    [
        ("Text,Label", "a short one,x", "text", ["x"]),
        ("id,message,category,date", "1,where is it,lost,2020", "text", ["lost"]),
        ("sentence,intent", "where is it,lost", "text", ["lost"]),
        ("id,words,other", "1,a sentence that is long enough to be prose,5", "text", None),
        ("words,kind", "a sentence that is long enough to be prose,5", "text", [5]),
        ("FILE,species", "a.jpg,oak", "image", ["oak"]),
        ("photo,species", "a.jpg,oak", "image", ["oak"]),
        ("photo,species,weight", "a.jpg,oak,5", "image", None),
        ("a,b,y", "1,2,3", "features", [3]),
        ("a,b,kind", "1,2,x", "features", ["x"]),
        ("a,b", "1,2", "features", None),
    ],
)
def test_the_obvious_columns_are_taken(header, row, modality, labels, tmp_path):
    path = tmp_path / "t.csv"
    (tmp_path / "a.jpg").touch()
    path.write_text(f"{header}\n{row}\n")
    found, domain = read(path)
    assert found == modality
    assert (None if domain.labels is None else domain.labels.tolist()) == labels


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("q,a", "a question that is long enough to be one,an answer that is just as long as that"),
        ("image,text", "a.jpg,a caption"),
        ("code,kind", "x1,y2"),
        ("before,after", "a.jpg,b.jpg"),
    ],
)
def test_what_is_not_obvious_is_asked_for(header, row, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(DataError) as caught:
        read(path)
    for column in header.split(","):
        assert repr(column) in caught.value.found


def write(path, data):
    path.write_bytes(data)
    return path


def test_csv_in_every_encoding(tmp_path):
    text = "text,label\nnaïve “café”,é\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        domain = read_texts(write(tmp_path / "t.csv", text.encode(encoding)))
        assert (domain.inputs.tolist(), domain.labels.tolist()) == (["naïve “café”"], ["é"])
    with pytest.warns(UserWarning, match="Windows-1252"):
        domain = read_texts(write(tmp_path / "t.csv", text.encode("cp1252")))
    assert domain.inputs.tolist() == ["naïve “café”"]
    with pytest.raises(DataError, match=r"the byte 0x81 in line 3"):
        read_texts(write(tmp_path / "t.csv", b"text,label\na,b\nc\x81,d\n"))
    with pytest.raises(DataError, match="UTF-8"):
        read_texts(write(tmp_path / "t.jsonl", '{"text": "é"}'.encode("latin-1")))


def test_line_ends_and_blank_lines(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        data = end.join(["text,label", "a,x", "", '"b', 'c",y', ""])
        domain = read_texts(write(tmp_path / "t.csv", data.encode()))
        assert domain.inputs.tolist() == ["a", f"b{end}c"]
        assert domain.labels.tolist() == ["x", "y"]


def test_a_stray_quotation_mark_in_a_tsv_swallows_nothing(tmp_path):
    data = 'text\tlabel\n"five o\'clock\tx\nplain\ty\nends with "\tz\n'
    domain = read_texts(write(tmp_path / "t.tsv", data.encode()))
    assert domain.inputs.tolist() == ["\"five o'clock", "plain", 'ends with "']


@pytest.mark.parametrize(
    ("name", "data", "fragment"),
    [
        ("t.csv", b"", "empty file"),
        ("t.csv", b"\n \n", "empty file"),
        ("t.csv", b"text,label\n", "at least one row"),
        ("t.csv", b"text,text\na,b\n", "'text' twice"),
        ("t.csv", b"text,label\na,b\nc,d,e\nf,g\nh\n", "3 in row 3 and 1 more"),
        ("t.csv", b"text,label\na,\0\n", "binary"),
        ("t.csv", b'text,label\na,b\n"c,d\n', "expected"),
        ("t.jsonl", b'{"text": "a"}\n[1]\n', "line 2: a JSON list"),
        ("t.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
        ("t.jsonl", b"\n", "at least one row"),
        ("t.parquet", b"PAR1 and nothing more", "Parquet"),
        ("t.parquet", b"", "Parquet"),
        ("t.xlsx", b"PK", "the suffix '.xlsx'"),
        ("t", b"a", "no suffix"),
        ("t.npz", b"PK\x03\x04", "savez"),
        ("t.npz", b"", "savez"),
        ("t.npy", b"\x93NUMPY", "savez"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_a_remedy(name, data, fragment, tmp_path):
    with pytest.raises(DataError, match=fragment) as caught:
        read(write(tmp_path / name, data))
    assert caught.value.remedy
    assert str(tmp_path) in caught.value.subject


def test_columns_that_are_not_there_are_suggested(tmp_path):
    path = write(tmp_path / "t.csv", b"body,stars\nfine,1\n")
    with pytest.raises(DataError, match=r"Did you mean 'body'\?"):
        read_texts(path, text="bdy")
    with pytest.raises(DataError, match=r"'stars'.*Did you mean 'stars'\?"):
        read_texts(path, text="body", labels="star")
    with pytest.raises(DataError, match="'nothing'"):
        read_texts(path, text="body", labels=["stars", "nothing"])
    with pytest.raises(DataError, match="images or texts"):
        read(path, text="body", image="stars")


def test_an_empty_label_column_is_named(tmp_path):
    path = write(tmp_path / "t.csv", b"text,kind,other\nfine,,1\nbad, ,2\n")
    with pytest.raises(DataError, match=r"'kind' of .*t\.csv"):
        read_texts(path, labels="kind")
    with pytest.raises(DataError, match="'kind'"):
        read_texts(path, labels=["other", "kind"])
    assert read_texts(path, labels=[]).size == 2


def test_unknown_splits_are_named(tmp_path):
    path = write(tmp_path / "t.csv", b"text,label,fold\nfine,a,train\nbad,b,tset\n")
    with pytest.raises(DataError, match=r"'tset'.*Did you mean 'test'"):
        read_texts(path, split="fold")


def test_paths_that_lead_nowhere_are_refused_unless_some_lead_somewhere(tmp_path):
    path = write(tmp_path / "t.csv", b"file,label\na.jpg,x\nb.jpg,y\n")
    with pytest.raises(DataError, match=r"none of the first 2.*a\.jpg"):
        read_images(path)
    (tmp_path / "a.jpg").touch()
    assert read_images(path).size == 2


def test_words_among_features_are_named(tmp_path):
    path = write(tmp_path / "t.csv", b"a,b,c,y\n1,x,u,0\n2,z,v,1\n")
    with pytest.raises(DataError, match="'b', 'c'"):
        read_features(path, labels="y")


def test_array_files(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.array(list("aabbcc"))
    np.savez(tmp_path / "x.npz", X=X, y=y, groups=np.arange(6))
    modality, domain = read(tmp_path / "x.npz")
    assert (modality, domain.name) == ("features", "x")
    np.testing.assert_array_equal(domain.inputs, X)
    assert (domain.labels.tolist(), domain.groups.tolist()) == (list("aabbcc"), list(range(6)))
    assert read_features(tmp_path / "x.npz", labels="groups").labels.tolist() == list(range(6))
    assert read_features(tmp_path / "x.npz", labels=[]).labels is None
    with pytest.raises(DataError, match="Did you mean 'groups'"):
        read_features(tmp_path / "x.npz", labels="group")
    np.save(tmp_path / "x.npy", X)
    assert isinstance(read_features(tmp_path / "x.npy").inputs, np.memmap)
    np.savez(tmp_path / "pictures.npz", X=np.zeros((2, 5, 4, 3), dtype=np.uint8))
    assert read(tmp_path / "pictures.npz")[0] == "image"
    np.savez(tmp_path / "other.npz", a=X)
    with pytest.raises(DataError, match="the arrays 'a'"):
        read(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", X=X, y=np.array(["a", None, 1, 2, 3, 4], dtype=object))
    with pytest.raises(DataError, match="pickled"):
        read(tmp_path / "pickled.npz")
    with pytest.raises(DataError):
        read_texts(tmp_path / "x.npy")


def test_arrays_and_lists_are_taken_as_they_are():
    import scipy.sparse
    import torch
    from PIL import Image

    X = np.arange(6.0).reshape(3, 2)
    for source in (X, X.tolist(), torch.from_numpy(X), list(X)):
        modality, domain = read(source, labels=["a", None, "b"])
        assert modality == "features"
        np.testing.assert_array_equal(domain.inputs, X)
        assert domain.labels.tolist() == ["a", None, "b"]
    assert read_features(X).inputs is X
    sparse = read_features(scipy.sparse.coo_matrix(X), labels=[1, 2, 3])
    assert sparse.take([2]).inputs.toarray().tolist() == [[4.0, 5.0]]
    assert read(["a.jpg", "b.png"])[0] == "image"
    assert read(["a text", "another"], labels=["x", "y"])[0] == "text"
    assert read([Image.new("L", (3, 3))] * 2)[0] == "image"
    assert read_images([X, X[:2]]).inputs.shape == (2,)
    assert read_images([X, X]).inputs.shape == (2,)
    assert read_texts(np.array(["a", "b"]), group=[1, 1], split=["train", "valid"]).splits.tolist() == ["train", "val"]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ([], {}),
        (np.zeros((0, 3)), {}),
        (5, {}),
        (np.zeros(3), {}),
        ([[1, 2], [3]], {}),
        ([object()], {}),
        (["a"], {"labels": ["x", "y"]}),
        (["a", "b"], {"labels": [None, ""]}),
        ([["a", "b"]], {}),
    ],
)
def test_arrays_that_are_no_data_are_refused(source, options):
    with pytest.raises(DataError):
        read(source, **options)


def test_requests_that_do_not_fit_the_source_are_refused():
    import pandas
    import polars

    with pytest.raises(RequestError, match="labels"):
        read_texts(["a"], labels="kind")
    with pytest.raises(RequestError, match="labels"):
        read_texts(pandas.DataFrame({"text": ["a"]}), labels=[1])
    with pytest.raises(DataError, match="strings"):
        read_texts(["a", 5])
    with pytest.raises(DataError, match="not loaded"):
        read_texts(polars.LazyFrame({"text": ["a"]}))


def test_reading_well_formed_data_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("csv", "tsv", "jsonl", "parquet"):
            read_texts(stored(kind, COLUMNS, tmp_path), text="body", labels="intent")


@pytest.mark.filterwarnings("ignore")
def test_no_file_can_raise_anything_but_a_graft_error(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"text": ["a, b", 'c "q"', "x\ny", "é"] * 3, "label": ["u", "v", None, "w"] * 3, "n": list(range(12))}
    seeds = {kind: stored(kind, columns, tmp_path).read_bytes() for kind in ("csv", "tsv", "jsonl", "parquet")}
    np.savez(tmp_path / "s.npz", X=np.eye(4), y=np.arange(4))
    np.save(tmp_path / "s.npy", np.eye(4))
    seeds |= {kind: (tmp_path / f"s.{kind}").read_bytes() for kind in ("npz", "npy")}
    outcomes = {"read": 0, "refused": 0}
    for trial in range(480):
        kind = list(seeds)[trial % len(seeds)]
        data = bytearray(seeds[kind])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(0, len(data)))] = int(
                rng.choice([10, 34, 44, 9, 13, 123, 91, int(rng.integers(256))])
            )
        if trial % 7 == 0:
            data = data[: int(rng.integers(0, len(data)))]
        try:
            read(write(tmp_path / f"spoiled.{kind}", bytes(data)))
            outcomes["read"] += 1
        except (DataError, RequestError):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 40


def test_ignored_columns_are_no_inputs_and_need_not_be_there(tmp_path):
    lines = ["id,a,b,label", *(f"{900 + row},{row},{row % 3},{'xy'[row % 2]}" for row in range(8))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    plain = read_features(tmp_path / "t.csv", ignore=["id", "nowhere"])
    assert np.array_equal(plain.inputs, [[row, row % 3] for row in range(8)])
    assert plain.labels.tolist() == list("xy" * 4)
    unlabelled = read(tmp_path / "t.csv", ignore=["id", "label"])[1]
    assert unlabelled.labels is None
    assert np.array_equal(unlabelled.inputs, plain.inputs)
    (tmp_path / "splits").mkdir()
    for split in ("train", "test"):
        (tmp_path / "splits" / f"{split}.csv").write_text("\n".join(lines))
    both = read(tmp_path / "splits", ignore=["id"])[1]
    assert np.array_equal(both.inputs, np.tile(plain.inputs, (2, 1)))


def test_a_table_with_two_columns_of_images_asks_for_the_option_as_both_python_and_the_command_call_it(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("left,right,label\na.png,c.png,x\nb.png,d.png,y\n")
    with pytest.raises(DataError, match=r"option image or text \(--image, --text\)"):
        read(table, labels="label")

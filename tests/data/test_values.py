"""Values as users write them: missing cells, types of columns, labels as arrays."""

import datetime
import decimal

import numpy as np
import pytest

from graft.data import label_array, missing
from graft.data.values import is_missing, parse, tidy
from graft.errors import DataError


def test_what_is_missing():
    import pandas

    cells = [
        None,
        float("nan"),
        np.float32("nan"),
        "",
        "  ",
        "\t\n",
        pandas.NA,
        pandas.NaT,
        "nan",
        "None",
        "NA",
        0,
        False,
        "x",
    ]
    assert missing(tidy_objects(cells)).tolist() == [True] * 8 + [False] * 6
    assert missing(np.array([[1.0, np.nan], [np.inf, 0.0]])).tolist() == [[False, True], [False, False]]
    assert missing(np.array([0, 1])).tolist() == [False, False]
    assert missing(np.array(["a", "", " "])).tolist() == [False, True, True]


def tidy_objects(cells):
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        ([1, 2], "i", [1, 2]),
        ([1, None], "f", [1.0, None]),
        ([1, 2.5], "f", [1.0, 2.5]),
        ([True, False], "b", [True, False]),
        ([True, None], "O", [True, None]),
        (["a", None, float("nan"), ""], "O", ["a", None, None, None]),
        ([1, "a"], "O", [1, "a"]),
        ([None, None], "O", [None, None]),
        ([np.int8(3), np.int64(4)], "i", [3, 4]),
        ([np.str_("a")], "O", ["a"]),
        ([decimal.Decimal("1.5")], "f", [1.5]),
        ([datetime.date(2020, 1, 2)], "O", ["2020-01-02"]),
        ([2**70], "O", [2**70]),
        ([2**60, None], "O", [2**60, None]),
        ([b"caf\xc3\xa9"], "O", ["café"]),
    ],
)
def test_types_of_typed_cells(cells, kind, expected):
    column = tidy(cells)
    assert column.dtype.kind == kind
    assert [None if gap else value for value, gap in zip(column.tolist(), missing(column), strict=True)] == expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2", "-3"], [1, 2, -3]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1e3", ".5"], [1000.0, 0.5]),
        (["1", "", "2"], [1.0, None, 2.0]),
        (["1", "nan"], [1.0, None]),
        (["007", "8"], ["007", "8"]),
        (["1", "x"], ["1", "x"]),
        (["1_000", "2"], ["1_000", "2"]),
        (["١", "2"], ["١", "2"]),
        (["None", "null"], ["None", "null"]),
        (["nan", "nan"], ["nan", "nan"]),
        (["1", "-inf", "2.5"], [1.0, float("-inf"), 2.5]),
        (["inf", "inf"], ["inf", "inf"]),
        (["NA", "1"], ["NA", "1"]),
        (["inf", "1"], [float("inf"), 1.0]),
        (["True", "False"], [True, False]),
        (["true", "TRUE"], ["true", "TRUE"]),
        ([" cat", "cat"], [" cat", "cat"]),
        (["", " "], [None, None]),
        ([str(2**70)], [2**70]),
    ],
)
def test_types_of_cells_without_types(cells, expected):
    column = parse(cells)
    found = [None if gap else value for value, gap in zip(column.tolist(), missing(column), strict=True)]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_every_library_gives_the_same_labels():
    import pandas
    import polars
    import pyarrow
    import torch

    words = ["b", None, "a"]
    for source in (
        words,
        tuple(words),
        tidy_objects(words),
        pandas.Series(words),
        pandas.Series(words, dtype="category"),
        pandas.Series(words, dtype=object),
        polars.Series(words),
        pyarrow.array(words),
        pyarrow.chunked_array([words]),
    ):
        assert label_array(source).tolist() == words, source
    for source in (
        [1, 2],
        np.array([1, 2], dtype=np.int8),
        pandas.Series([1, 2]),
        pandas.Series([1, 2], dtype="Int64"),
        polars.Series([1, 2]),
        torch.tensor([1, 2]),
    ):
        assert label_array(source).tolist() == [1, 2]
        assert label_array(source).dtype.kind == "i"
    np.testing.assert_array_equal(label_array(pandas.Series([1, None], dtype="Int64")), [1.0, np.nan])


def test_tables_keep_the_type_of_each_column():
    import pandas
    import polars

    columns = {"species": ["oak", None], "damage": [0.5, float("nan")]}
    for source in (pandas.DataFrame(columns), polars.DataFrame(columns), [["oak", 0.5], [None, None]]):
        table = label_array(source)
        assert table.shape == (2, 2)
        assert table.tolist() == [["oak", 0.5], [None, None]]
    numbers = label_array([[0, 1], [None, 1]])
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, [[0, 1], [np.nan, 1]])
    assert label_array([[0, 1], [1, 0]]).dtype.kind == "i"


@pytest.mark.parametrize("bad", [None, 3, [[1], [1, 2]], [{"a": 1}], [["a", ["b"]]]])
def test_what_is_no_label_is_refused(bad):
    with pytest.raises(DataError):
        label_array(bad)


def test_gaps_of_a_string_array_are_those_of_its_cells():
    cells = ["", " ", "a", "\u3000", "\x1c", "\u200b", "a b", "\t\n", "\x85", "NaN"]
    assert missing(np.array(cells)).tolist() == [is_missing(cell) for cell in cells]
    assert missing(np.array(cells).reshape(2, 5)).shape == (2, 5)

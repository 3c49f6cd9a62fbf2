"""Tables and arrays as text; pandas and polars are stood in for by classes that offer the same, NumPy is real."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.notebook.frames import MOST_LETTERS, write_frame


class RangeIndex:
    """The plain count of the rows, as pandas has it."""

    start, step, name = 0, 1, None
    names = (None,)

    def __init__(self, count: int) -> None:
        self.labels: Sequence[Any] = range(count)


class Index:
    """Labels of rows; with several names each label is a tuple."""

    def __init__(self, labels: Sequence[Any], *names: str | None) -> None:
        self.labels, self.names = labels, names


class Rows:
    """A table by places: `iloc[[rows], [columns]]`."""

    def __init__(self, table: DataFrame) -> None:
        self._table = table

    def __getitem__(self, places: tuple[list[int], list[int]]) -> DataFrame:
        table = self._table
        data = {table.columns[at]: [list(table.data.values())[at][row] for row in places[0]] for at in places[1]}
        return DataFrame(data, Index([table.index.labels[row] for row in places[0]], *table.index.names))


class DataFrame:
    """What is used of pandas' DataFrame."""

    def __init__(self, data: dict[Any, list[Any]], index: Any = None) -> None:
        self.data, self.columns = data, list(data)
        count = len(next(iter(data.values()), []))
        self.index = index or RangeIndex(count)
        self.shape = count, len(data)
        self.dtypes = [type(values[0]).__name__ if values else "object" for values in data.values()]
        self.iloc = Rows(self)

    def itertuples(self, *, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
        assert index
        assert name is None
        return zip(self.index.labels, *self.data.values(), strict=True)


class Series:
    """What is used of pandas' Series."""

    dtype = "int"
    iloc = ()

    def __init__(self, name: str, values: list[Any]) -> None:
        self._table = DataFrame({name: values})

    def to_frame(self) -> DataFrame:
        return self._table


class Polars:
    """What is used of a DataFrame of polars."""

    def __init__(self, data: dict[str, list[Any]]) -> None:
        self._data, self.columns = data, list(data)
        self.height = len(next(iter(data.values()), []))
        self.schema = dict.fromkeys(data, "Int64")

    def __getitem__(self, part: slice) -> Polars:
        return Polars({name: values[part] for name, values in self._data.items()})

    def rows(self) -> list[tuple[Any, ...]]:
        return list(zip(*self._data.values(), strict=True))

    def slice(self) -> None:
        """Be recognised."""


class Lazy:
    """A table that has no rows yet, and warns when it is asked for its columns."""

    def collect(self) -> None:
        """Make it a table."""

    @property
    def columns(self) -> None:
        raise RuntimeError("expensive")


def lines_of(value: Any, **options: Any) -> list[str]:
    return (write_frame(value, **options) or "").replace("test_frames", "HERE").splitlines()


# ---------------------------------------------------------------- tables


def test_a_small_table_is_written_whole() -> None:
    table = DataFrame({"city": ["Paris", "Ro,me"], "temp": [1.23456789, 20.0], "when": [None, "now\nor then"]})
    text = write_frame(table) or ""
    assert text.partition(" ")[2].splitlines() == [
        "DataFrame, 2 rows × 3 columns: city (str), temp (float), when (NoneType)",
        "",
        "city,temp,when",
        "Paris,1.23457,",
        '"Ro,me",20.0,now or then',
    ]


def test_of_a_long_table_both_ends_are_shown_and_the_rest_is_counted() -> None:
    table = DataFrame({"number": list(range(1_234_567))})
    assert lines_of(table, rows=5)[1:] == [
        "",
        "number",
        "0",
        "1",
        "2",
        "…",
        "1234565",
        "1234566",
        "(a sample: 5 of 1,234,567 rows)",
    ]


def test_of_a_wide_table_both_sides_are_shown() -> None:
    table = DataFrame({f"c{at}": [at] for at in range(100)})
    head, _, header, row, note = lines_of(table)
    assert head.endswith(
        "1 row × 100 columns: "
        + ", ".join([f"c{at} (int)" for at in range(15)] + ["…"] + [f"c{at} (int)" for at in range(85, 100)])
    )
    assert header.split(",") == [*(f"c{at}" for at in range(15)), "…", *(f"c{at}" for at in range(85, 100))]
    assert row.split(",") == [*map(str, range(15)), "…", *map(str, range(85, 100))]
    assert note == "(a sample: 30 of 100 columns)"


def test_labels_of_rows_are_shown_unless_they_only_count() -> None:
    assert lines_of(DataFrame({"n": [1]}, Index(["x"], None)))[2:] == ["index,n", "x,1"]
    assert lines_of(DataFrame({"n": [1]}, Index(["x"], "name")))[2:] == ["name,n", "x,1"]
    assert lines_of(DataFrame({"n": [1]}, Index([("x", 2)], "name", None)))[2:] == ["name,index 1,n", "x,2,1"]


def test_labels_of_columns_with_several_levels_are_joined() -> None:
    assert lines_of(DataFrame({("a", "b"): [1], ("a", 2): [2]}))[2:] == ["a / b,a / 2", "1,2"]


def test_long_cells_are_cut_and_it_is_said() -> None:
    assert lines_of(DataFrame({"text": ["x" * 200]}))[2:] == [
        "text",
        "x" * 79 + "…",
        "(a sample: cells of at most 80 characters)",
    ]


def test_a_table_without_columns_is_its_size() -> None:
    assert lines_of(DataFrame({}))[0].endswith("DataFrame, 0 rows × 0 columns")


def test_a_series_is_a_table_of_one_column_under_its_own_name() -> None:
    head, *rest = lines_of(Series("n", [1, 2]))
    assert head.endswith("Series, 2 rows × 1 column: n (int)")
    assert rest == ["", "n", "1", "2"]


def test_a_table_of_polars_is_written_alike() -> None:
    head, *rest = lines_of(Polars({"a": list(range(50)), "b": [None, 1] * 25}), rows=4)
    assert head.endswith("Polars, 50 rows × 2 columns: a (Int64), b (Int64)")
    assert rest == ["", "a,b", "0,", "1,1", "…", "48,", "49,1", "(a sample: 4 of 50 rows)"]
    wide = Polars({f"c{at}": [at] for at in range(40)})
    assert lines_of(wide)[3].split(",") == [*map(str, range(15)), "…", *map(str, range(25, 40))]


def test_everything_is_every_row_every_column_and_every_letter() -> None:
    table = DataFrame({f"c{at}": [f"{at}" * 200] * 100 for at in range(50)} | {"exact": [1 / 3] * 100})
    text = write_frame(table, everything=True) or ""
    rows = list(csv.reader(io.StringIO(text.partition("\n\n")[2])))
    assert (
        rows
        == [[f"c{at}" for at in range(50)] + ["exact"]]
        + [[f"{at}" * 200 for at in range(50)] + ["0.3333333333333333"]] * 100
    )


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.333333"),
        (-12345.678912, "-12345.7"),
        (1234567.891234, "1234567.9"),
        (123456789.0, "123456789.0"),
        (1.23456789e-7, "1.23457e-07"),
        (1.5e300, "1.5e+300"),
        (float("inf"), "inf"),
        (float("nan"), ""),
        (numpy.float64(2.5), "2.5"),
        (12345678901234567890, "12345678901234567890"),
    ],
)
def test_numbers_are_readable(number: Any, written: str) -> None:
    assert lines_of(DataFrame({"a": [0], "b": [number]}))[3] == f"0,{written}"


class Unwritable:
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_a_cell_that_cannot_be_written_is_said_to_be_so() -> None:
    assert lines_of(DataFrame({"a": [Unwritable()]}))[3] == "(ZeroDivisionError)"


@given(st.integers(1, 60), st.integers(1, 200), st.integers(1, 300))
def test_the_text_is_within_its_bound(width: int, height: int, letters: int) -> None:
    table = DataFrame({f"{at:x>{letters}}": ["y" * letters] * height for at in range(width)})
    assert len(write_frame(table) or "") <= MOST_LETTERS


# ---------------------------------------------------------------- arrays


def test_arrays_are_written_by_their_shape() -> None:
    assert [
        write_frame(numpy.arange(3)),
        write_frame(numpy.array([[1.0, numpy.nan], [1 / 3, -2.0]])),
        write_frame(numpy.array(3)),
        write_frame(numpy.zeros((0, 3))),
        write_frame(numpy.array(["a", None], dtype=object)),
        write_frame(numpy.arange(12).reshape(2, 2, 3)),
        write_frame(numpy.arange(4).reshape(1, 2, 2)),
    ] == [
        "numpy ndarray, shape (3,), int64\n\n0,1,2",
        "numpy ndarray, shape (2, 2), float64\n\n1.0,\n0.333333,-2.0",
        "numpy ndarray, shape (), int64: 3",
        "numpy ndarray, shape (0, 3), float64, empty",
        "numpy ndarray, shape (2,), object\n\na,",
        "numpy ndarray, shape (2, 2, 3), int64; [0] of it:\n\n0,1,2\n3,4,5\n(a sample: the first matrix only)",
        "numpy ndarray, shape (1, 2, 2), int64; [0] of it:\n\n0,1\n2,3",
    ]


def test_of_a_large_array_the_ends_are_shown() -> None:
    _, _, row, note = lines_of(numpy.arange(1_000), rows=2)
    assert (row, note) == ("0,1,2,3,4,…,995,996,997,998,999", "(a sample: 10 of 1,000 values)")
    lines = lines_of(numpy.arange(10_000).reshape(100, 100), rows=2)
    assert [line.split(",")[13:17] for line in lines[2:-1]] == [
        ["13", "14", "…", "85"],
        ["…"][1:],
        ["9913", "9914", "…", "9985"],
    ]
    assert lines[-1] == "(a sample: 2 of 100 rows, 30 of 100 columns)"


def test_everything_of_an_array_is_all_of_it() -> None:
    assert write_frame(numpy.arange(500), everything=True) == (
        "numpy ndarray, shape (500,), int64\n\n" + ",".join(map(str, range(500)))
    )
    assert write_frame(numpy.arange(8).reshape(2, 2, 2), everything=True) == (
        "numpy ndarray, shape (2, 2, 2), int64\n\n[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]"
    )


# ---------------------------------------------------------------- others


@pytest.mark.parametrize(
    "value", [5, "text", None, [1, 2], {"a": 1}, DataFrame, numpy.ndarray, Lazy(), numpy, print], ids=repr
)
def test_what_is_no_table_gives_nothing(value: Any) -> None:
    assert write_frame(value) is None


def test_a_broken_table_gives_nothing() -> None:
    table = DataFrame({"a": [1]})
    table.shape = None  # type: ignore[assignment]
    assert write_frame(table) is None


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; from kimi_magics.notebook.frames import write_frame; write_frame(object());"
        "print([name for name in ('numpy', 'pandas', 'polars') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"

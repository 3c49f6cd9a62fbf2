"""Places in a prompt that ask for a whole value, tables, and the history of cells; others are in `test_prompt.py`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.interpolate import interpolate
from kimi_magics.errors import VariableError


class Table:
    """Something that `write` knows."""


TABLE = Table()
VARIABLES = {"table": TABLE, "holder": SimpleNamespace(table=TABLE), "rows": [TABLE], "a": "text", "number": 3}


def write(value: Any, everything: bool) -> str | None:
    if not isinstance(value, Table):
        return None
    return "whole" if everything else "sample"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{table}} {{table:all}}", "sample whole"),
        ("{{ table:all }} {{holder.table:all}} {{rows[0]:all}} {{rows[-1]}}", "whole whole whole sample"),
        # a value without a sample is the same either way
        ("{{a}} {{a:all}} {{number:all}}", "text text 3"),
        # every other colon is text
        (
            "{{a:b}} {{a:}} {{:all}} {{a :all}} {{a: all}} {{a:ALL}}",
            "{{a:b}} {{a:}} {{:all}} {{a :all}} {{a: all}} {{a:ALL}}",
        ),
        ("{{rows[0:1]}} {{rows[0:1]:all}} {{a + b:all}}", "{{rows[0:1]}} {{rows[0:1]:all}} {{a + b:all}}"),
        ("{{a:b:all}} {{a:all:all}} {{f():all}}", "{{a:b:all}} {{a:all:all}} {{f():all}}"),
    ],
)
def test_all_after_a_path_asks_for_the_whole_value_and_other_colons_are_text(text: str, expected: str) -> None:
    assert interpolate(text, VARIABLES, write=write) == expected


def test_without_a_way_to_write_tables_they_are_written_by_str() -> None:
    values = {"table": type("Table", (), {"__str__": lambda self: "by str"})()}
    assert interpolate("{{table}} {{table:all}}", values) == "by str by str"


def test_a_missing_variable_is_missing_also_as_a_whole() -> None:
    with pytest.raises(VariableError, match="no variable 'tabel'") as caught:
        interpolate("{{tabel:all}}", VARIABLES, write=write)
    assert "did you mean 'table'?" in caught.value.remedy


def test_a_table_that_cannot_be_written_is_an_error_that_names_the_place() -> None:
    def fail(value: Any, everything: bool) -> str | None:
        raise ZeroDivisionError("no")

    with pytest.raises(VariableError, match=r"\{\{table:all\}\} cannot be written as text: ZeroDivisionError: no"):
        interpolate("{{table:all}}", VARIABLES, write=fail)


@given(st.text(alphabet="abl :[]0.", max_size=6).filter(lambda rest: rest.rstrip() != "all"))
def test_only_all_means_the_whole_value(rest: str) -> None:
    assert interpolate(f"{{{{table:{rest}}}}}", VARIABLES, write=write) == f"{{{{table:{rest}}}}}"


# ---------------------------------------------------------------- In and Out

HISTORY = {"In": ["", "x = 1", "x", "%%kimi\nHi"], "Out": {2: 1, 30: TABLE}}


def test_cells_and_results_are_filled_in_by_their_number() -> None:
    text = "{{In[1]}} {{In[-1]}} {{Out[2]}} {{Out[30]}} {{Out[30]:all}}"
    assert interpolate(text, HISTORY, write=write) == "x = 1 %%kimi\nHi 1 sample whole"


@pytest.mark.parametrize(
    ("text", "says", "advises"),
    [
        ("{{In[9]}}", "{{In[9]}}: no cell with the number 9 was run", "those that are there: 1, 2, 3"),
        ("{{Out[1]}}", "{{Out[1]}}: the cell with the number 1 left no result", "those that are there: 2, 30"),
        ("{{Out[-1]:all}}", "the number -1 left no result", "run the cell first"),
        ("{{Out['x']}}", "KeyError for ['x'] of dict", "--raw"),
        ("{{Out[2][0]}}", "TypeError for [0] of int", "--raw"),
    ],
)
def test_a_cell_or_a_result_that_is_not_there_is_said(text: str, says: str, advises: str) -> None:
    with pytest.raises(VariableError) as caught:
        interpolate(text, HISTORY)
    assert says in caught.value.message
    assert advises in caught.value.remedy


def test_an_empty_history_says_so_and_a_long_one_names_its_end() -> None:
    with pytest.raises(VariableError) as caught:
        interpolate("{{Out[1]}}", {"Out": {}})
    assert caught.value.remedy == "run the cell first; Out is empty"
    with pytest.raises(VariableError) as caught:
        interpolate("{{Out[99]}}", {"Out": {number: number for number in range(20)}})
    assert caught.value.remedy == "run the cell first; those that are there: … 15, 16, 17, 18, 19"


def test_other_lists_keep_their_own_words() -> None:
    with pytest.raises(VariableError, match=r"IndexError for \[9\] of list"):
        interpolate("{{values[9]}}", {"values": [1]})

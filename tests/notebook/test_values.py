"""What `{{name}}` stands for: tables and arrays as a sample that says so, the cells as they were typed."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from kimi_magics.core.interpolate import interpolate
from kimi_magics.errors import VariableError
from kimi_magics.notebook.values import user_variables, write_value


class Polars:
    """What is used of a DataFrame of polars, which is not installed."""

    def __init__(self, **data: list[Any]) -> None:
        self.data = data
        self.columns = list(data)
        self.height = len(next(iter(data.values())))
        self.schema = {name: type(values[0]).__name__ for name, values in data.items()}

    def __getitem__(self, rows: slice) -> Polars:
        return Polars(**{name: values[rows] for name, values in self.data.items()})

    def rows(self) -> list[tuple[Any, ...]]:
        return list(zip(*self.data.values(), strict=True))

    def slice(self) -> None: ...


SMALL = Polars(city=["Ulm", "Bonn"], people=[126, 336])
LONG = Polars(number=list(range(1_000)))


def test_a_table_is_its_shape_its_types_and_its_rows() -> None:
    name = Polars.__module__.partition(".")[0]
    text = f"{name} Polars, 2 rows × 2 columns: city (str), people (int)\n\ncity,people\nUlm,126\nBonn,336"
    assert interpolate("{{table}}", {"table": SMALL}, write=write_value) == text


def test_a_long_table_is_a_sample_that_says_so_and_whole_when_asked() -> None:
    sample, whole = (interpolate(text, {"table": LONG}, write=write_value) for text in ("{{table}}", "{{table:all}}"))
    assert sample.endswith("(a sample: 20 of 1,000 rows)")
    assert sample.count("\n") < 30
    assert whole.endswith("\n997\n998\n999")
    assert whole.count("\n") == 1_002


def test_an_array_is_a_sample_and_a_small_one_as_numpy_writes_it() -> None:
    large = numpy.arange(1_000)
    assert interpolate("{{a}}", {"a": large}, write=write_value).endswith("(a sample: 100 of 1,000 values)")
    assert interpolate("{{a:all}}", {"a": large}, write=write_value).endswith(",997,998,999")
    assert interpolate("{{a}}", {"a": numpy.array([[1, 2], [3, 4]])}, write=write_value) == "[[1 2]\n [3 4]]"
    third = numpy.array([1 / 3])
    assert interpolate("{{a}}", {"a": third}, write=write_value) == "[0.33333333]"
    assert "0.3333333333333333" in interpolate("{{a:all}}", {"a": third}, write=write_value)


@pytest.mark.parametrize(
    "value",
    [
        "text",
        3,
        0.1,
        None,
        [1, 2],
        {"a": 1},
        numpy.float64(0.1),
        numpy.int8(3),
        numpy.array(5),
        numpy.zeros(20),
        Polars,
    ],
    ids=str,
)
def test_what_str_writes_well_is_left_to_it(value: Any) -> None:
    assert write_value(value, False) is None


def test_a_value_whose_attributes_fail_is_left_to_str() -> None:
    class Odd:
        dtype = "x"
        shape = property(lambda self: 1 / 0)

    assert write_value(Odd(), True) is None


# ---------------------------------------------------------------- the variables of a shell


def test_a_cell_is_what_was_typed_also_when_it_is_a_magic(shell: Any) -> None:
    shell.run_cell("%%capture\n6 * 7", store_history=True)
    shell.run_cell("%pwd\n'five'", store_history=True)
    variables = user_variables(shell)
    assert interpolate("{{In[1]}} | {{In[2]}} | {{Out[2]}}", variables) == "%%capture\n6 * 7 | %pwd\n'five' | five"
    assert "run_cell_magic" in shell.user_ns["In"][1]
    with pytest.raises(VariableError, match="the number 1 left no result"):
        interpolate("{{Out[1]}}", variables)
    with pytest.raises(VariableError, match="no cell with the number 3"):
        interpolate("{{In[3]}}", variables)


def test_a_variable_of_the_user_called_in_is_his_own(shell: Any) -> None:
    shell.run_cell("In = ['mine']", store_history=True)
    assert interpolate("{{In[0]}}", user_variables(shell)) == "mine"


def test_the_variables_of_a_function_go_before_those_of_the_notebook(shell: Any) -> None:
    shell.run_cell("a = 1\nb = 2", store_history=True)
    assert interpolate("{{a}} {{b}}", user_variables(shell, {"a": "local"})) == "local 2"

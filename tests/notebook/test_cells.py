"""Another cell of the notebook: from the page that shows it, else the saved file, else what the kernel ran."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from kimi_magics.core.messages import Message
from kimi_magics.errors import RefusedError
from kimi_magics.notebook.cell_outputs import MOST_LETTERS, fence, write_outputs
from kimi_magics.notebook.cells import Cell, NotebookCells, cell_message

KEY = "sk-" + "a" * 30


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def code(cell: str, source: str, number: int | None = None, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "id": cell, "source": source, "execution_count": number, "outputs": list(outputs)}


CELLS = [
    {"cell_type": "markdown", "id": "intro-1", "source": ["# Title\n", "text"]},
    code("aa11", "x = 1", 2),
    code("aa22", "print(x)", 3, stream("1\n")),
    code("12345", "y", 7, {"output_type": "execute_result", "data": {"text/plain": ["a", "b"]}}),
    code("empty", " ", None),
    code("run", "%%kimi --cell -1\nWhy?"),
    code("below", "z", 3, stream("old\n")),
]


class Page:
    """A page that shows the cells; answers as the page's script does."""

    def __init__(self, cells: list[dict[str, Any]]) -> None:
        self.cells = cells
        self.asked: list[dict[str, Any]] = []

    def __call__(self, question: dict[str, Any]) -> Any:
        self.asked.append(question)
        name = question["name"]
        if question["what"] == "cell":
            return [cell for cell in self.cells if cell["id"] == name]
        if name and all(cell["id"] != name for cell in self.cells):
            return []
        keys = ("id", "cell_type", "execution_count")
        return [{key: cell.get(key) for key in keys} for cell in self.cells]


def nobody(question: dict[str, Any]) -> None:
    """Be a kernel without a page."""


def make(shell: Any, *, page: Callable[[dict[str, Any]], Any] = nobody, path: Path | None = None) -> NotebookCells:
    return NotebookCells(page, lambda: path, shell)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved.ipynb"
    path.write_text(json.dumps({"cells": CELLS, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}), "utf-8")
    return path


ABOVE = Cell("aa11", "code", "x = 1", "", "the cell [2] with the id aa11")
FOUND = {
    "the cell above": ("-4", ABOVE),
    "a text cell above": ("-5", Cell("intro-1", "markdown", "# Title\ntext", "", "the cell with the id intro-1")),
    "an id": ("aa11", ABOVE),
    "the beginning of an id": ("aa1", ABOVE),
    "a number": ("2", ABOVE),
    "an id before a number": ("12345", Cell("12345", "code", "y", "ab", "the cell [7] with the id 12345")),
    "the beginning of an id that is a number": (
        "123",
        Cell("12345", "code", "y", "ab", "the cell [7] with the id 12345"),
    ),
    "with its output": ("aa22", Cell("aa22", "code", "print(x)", "1", "the cell [3] with the id aa22")),
    "below": ("below", Cell("below", "code", "z", "old", "the cell [3] with the id below")),
}
REFUSED = {
    "above the first": ("-6", "--cell -6: there are 5 cells above", "name its id"),
    "unknown": ("empt1", "--cell empt1: there is no such cell", "did you mean empty?"),
    "unlike any": ("zzzz", "--cell zzzz: there is no such cell", "the cells that were run are 2, 3, 7; name its id"),
    "a number that nothing has": ("99", "--cell 99: there is no such cell", "the cells that were run are 2, 3, 7"),
    "an ambiguous beginning": ("aa", "--cell aa fits 2 cells", "name the one that is meant: aa11, aa22"),
    "an ambiguous number": ("3", "--cell 3 fits 2 cells", "name the one that is meant: aa22, below"),
    "the cell that asks": ("run", "--cell run is the cell that asks", "name another one"),
    "an empty cell": ("-1", "the cell with the id empty is empty", "name another cell"),
    "nothing": ("", "--cell  names no cell", "name its id"),
    "zero": ("0", "--cell 0 names no cell", "-1 for the cell above"),
    "minus zero": ("-0", "--cell -0 names no cell", "-1 for the cell above"),
}


@pytest.mark.parametrize("place", ["page", "file"])
@pytest.mark.parametrize("name", FOUND)
def test_a_cell_is_found_on_the_page_and_in_the_file_alike(shell: Any, saved: Path, name: str, place: str) -> None:
    wanted, cell = FOUND[name]
    cells = make(shell, page=Page(CELLS)) if place == "page" else make(shell, path=saved)
    assert cells.find(wanted, running="run") == cell


@pytest.mark.parametrize("place", ["page", "file"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_other_cell_is_refused_in_the_same_words(shell: Any, saved: Path, name: str, place: str) -> None:
    wanted, message, remedy = REFUSED[name]
    cells = make(shell, page=Page(CELLS)) if place == "page" else make(shell, path=saved)
    with pytest.raises(RefusedError) as caught:
        cells.find(wanted, running="run")
    assert caught.value.message == message
    assert remedy in caught.value.remedy


def test_the_page_is_believed_before_the_file(shell: Any, saved: Path) -> None:
    page = Page([code("aa11", "unsaved", 2, stream("new")), code("run", "%%kimi")])
    found = make(shell, page=page, path=saved).find("-1", running="run")
    assert (found.source, found.outputs_text) == ("unsaved", "new")
    assert page.asked == [
        {"op": "pictures", "what": "cells", "name": "run"},
        {"op": "pictures", "what": "cell", "name": "aa11"},
    ]


def test_what_asks_may_be_no_cell_and_then_nothing_is_above_it(shell: Any) -> None:
    cells = make(shell, page=Page(CELLS))
    assert cells.find("aa11", running="composer").source == "x = 1"
    with pytest.raises(RefusedError, match="--cell -1: it is not known which cell asks"):
        cells.find("-1", running="composer")


def test_a_cell_that_is_deleted_meanwhile_is_no_longer_there(shell: Any) -> None:
    page = Page(CELLS)
    cells = make(shell, page=lambda question: [] if question["what"] == "cell" else page(question))
    with pytest.raises(RefusedError, match=r"the cell \[2\] with the id aa11 is no longer there"):
        cells.find("aa11", running="run")


def test_an_odd_answer_of_a_page_is_no_answer(shell: Any, saved: Path) -> None:
    assert make(shell, page=lambda question: ["x", {"id": 3}, None], path=saved).find("aa11", running="run") == ABOVE


# ---------------------------------------------------------------- what the kernel ran


def run(shell: InteractiveShell, *sources: str) -> None:
    for source in sources:
        shell.run_cell(source, store_history=True)


def test_of_two_cells_with_a_number_the_one_is_meant_that_this_kernel_ran(shell: Any) -> None:
    run(shell, "1", "2", "print(x)", "%pwd")
    assert make(shell, page=Page(CELLS)).find("3", running="run").id == "aa22"


def test_a_file_that_is_older_than_what_was_run_is_not_believed_for_a_number(shell: Any, saved: Path) -> None:
    run(shell, "1", "'new'", "%pwd")
    assert make(shell, path=saved).find("2", running="run").source == "'new'"
    run(shell, *(["1"] * 8))
    assert make(shell, path=saved).find("aa11", running="run") == ABOVE


def test_where_the_file_has_other_ids_the_text_tells_which_cell_asks(shell: Any, saved: Path) -> None:
    shell.history_manager.input_hist_raw.append("%%kimi --cell -1\nWhy?")
    assert make(shell, path=saved).find("-4", running="vscode-notebook-cell:x") == ABOVE


class Running:
    """A shell in the middle of its third cell."""

    def __init__(self, shell: InteractiveShell) -> None:
        run(shell, "21 * 2", "%%capture\nprint('lost')")
        shell.history_manager.input_hist_raw.append("%kimi --cell -1 Why?")
        self.cells = make(shell)


NOTE = "(what the cell printed is not known, only its result)"


def test_without_page_and_file_the_kernel_tells_source_and_result(shell: Any) -> None:
    cells = Running(shell).cells
    assert cells.find("-2", running=None) == Cell("", "code", "21 * 2", f"42\n{NOTE}", "the cell [1]")
    assert cells.find("2", running=None) == Cell("", "code", "%%capture\nprint('lost')", NOTE, "the cell [2]")


@pytest.mark.parametrize(
    ("wanted", "message", "remedy"),
    [
        ("-3", "--cell -3: there is no such cell in this kernel", "cells 1 to 2 were run"),
        ("3", "--cell 3: there is no such cell in this kernel", "cells 1 to 2 were run"),
        ("abc", "--cell abc: no page shows the notebook, and no saved one is known", "by its number"),
    ],
)
def test_what_the_kernel_did_not_run_is_refused(shell: Any, wanted: str, message: str, remedy: str) -> None:
    with pytest.raises(RefusedError) as caught:
        Running(shell).cells.find(wanted, running=None)
    assert caught.value.message == message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"cells": [3]}'])
def test_a_file_that_is_no_notebook_is_none(shell: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.ipynb"
    path.write_text(text, "utf-8")
    with pytest.raises(RefusedError, match="no saved one is known"):
        make(shell, path=path).find("abc", running=None)


def test_a_draft_knows_what_a_terminal_ran_and_asks_nobody(shell: Any) -> None:
    cells = make(shell, page=lambda question: 1 / 0)
    with pytest.raises(RefusedError, match="no such cell"):
        cells.peek("-1")
    run(shell, "21 * 2")
    assert cells.peek("-1") == cells.peek("1") == Cell("", "code", "21 * 2", f"42\n{NOTE}", "the cell [1]")
    shell.kernel = object()
    try:
        assert cells.peek("-1") is None
    finally:
        del shell.kernel


# ---------------------------------------------------------------- what is sent


def test_the_message_names_the_cell_and_holds_source_and_output() -> None:
    cell = Cell("aa22", "code", "print(1)", "1", "the cell [3] with the id aa22")
    assert cell_message(cell) == Message(
        "system",
        "This is the cell [3] with the id aa22 of the notebook, of the kind code.\n\n"
        "```\nprint(1)\n```\n\nIts output:\n\n```\n1\n```",
    )
    text = cell_message(Cell("m", "markdown", "# Title", "", "the cell with the id m")).text
    assert text == "This is the cell with the id m of the notebook, of the kind markdown.\n\n```\n# Title\n```"


def test_no_key_and_no_half_of_a_character_is_sent() -> None:
    text = cell_message(Cell("a", "code", f"key = '{KEY}' # \ud83d", "", "the cell")).text
    assert text.endswith("```\nkey = 'sk-[redacted]' # \ufffd\n```")


def test_a_fence_is_longer_than_those_within() -> None:
    assert fence("a\n````\nb `````", "md") == "`````md\na\n````\nb `````\n`````"


OUTPUTS = {
    "nothing": ([], ""),
    "lines": ([stream("a\n"), {"output_type": "stream", "text": ["b\n", "c"]}], "a\nb\nc"),
    "colours": ([stream("\x1b[31mred\x1b[0m \x1b]8;;http://a\x1b\\link\x1b]8;;\x07")], "red link"),
    "a progress bar": ([stream("10%\r50%\r100%\ndone\r\nend\r")], "100%\ndone\nend"),
    "an error": (
        [{"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mTraceback\x1b[0m", "E: v"]}],
        "Traceback\nE: v",
    ),
    "a picture": (
        [{"output_type": "display_data", "data": {"text/plain": "<Figure>", "image/png": "AAAA"}}],
        "(a picture, image/png, which is not part of this text)",
    ),
    "Markdown": (
        [
            {
                "output_type": "display_data",
                "data": {"text/markdown": "# a", "text/plain": "<IPython.core.display.Markdown object>"},
            }
        ],
        "# a",
    ),
    "Markdown with a plain form": (
        [{"output_type": "display_data", "data": {"text/markdown": "&#42;", "text/plain": "*"}}],
        "*",
    ),
    "HTML": (
        [
            {
                "output_type": "display_data",
                "data": {"text/html": "<b>", "text/plain": "<IPython.core.display.HTML object>"},
            }
        ],
        "(an output of the kind text/html, which is no text)",
    ),
    "a table": ([{"output_type": "execute_result", "data": {"text/html": "<table>", "text/plain": "a b"}}], "a b"),
    "as a page tells a picture": (
        [{"output_type": "display_data", "kinds": ["image/jpeg"], "text": "", "size": 0}],
        "(a picture, image/jpeg, which is not part of this text)",
    ),
    "as a page tells an error": ([{"output_type": "error", "text": "\x1b[31mE: v", "size": 9}], "E: v"),
    "a key": ([stream(f"key {KEY}")], "key sk-[redacted]"),
    "odd": ([{"output_type": "display_data", "data": 3}, {"output_type": "stream", "text": None}, {}], ""),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_become_text(name: str) -> None:
    outputs, text = OUTPUTS[name]
    assert write_outputs(outputs) == text


def test_of_a_long_output_both_ends_are_kept_and_the_rest_is_counted() -> None:
    half = MOST_LETTERS // 2
    whole = write_outputs([stream("a" * 50_000), stream("b" * 50_000)])
    assert whole == f"{'a' * half}\n… 80,001 characters left out …\n{'b' * half}"
    assert write_outputs([stream("a" * MOST_LETTERS)]) == "a" * MOST_LETTERS


def test_what_the_page_left_out_of_a_long_output_is_counted_too() -> None:
    half = MOST_LETTERS // 2
    told = {"output_type": "stream", "text": "a" * 20_000 + "b" * 20_000, "size": 1_000_000}
    assert write_outputs([told]) == f"{'a' * half}\n… 980,000 characters left out …\n{'b' * half}"

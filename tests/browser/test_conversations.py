"""Conversations, cells and proposed code in a real front end, which knows how the cells stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from driver import NotebookPage

    from kimi_magics.sandbox import Sandbox

    from .conftest import OpenFrontend

CELLS = [
    "%load_ext kimi_magics",
    "%%kimi -c paper --thinking off --max-tokens 30\nfirst",
    "%%kimi -c paper --thinking off --max-tokens 30\nthird",
    "print('from the cell', 'above')",
    "%kimi --cell -1 --thinking off --max-tokens 30 what does it print?",
    "%%kimi --code --thinking off\nShow it in Python",
    "1 / 0",
    "%kimi_fix --thinking off",
]
FIRST, THIRD, ABOVE, ASKING, CODE, FAILING, FIXING = range(1, 8)


@pytest.fixture(params=["lab", "notebook7"])
def notebook(open_frontend: OpenFrontend, request: pytest.FixtureRequest) -> Iterator[NotebookPage]:
    """`CELLS` in a front end, with the extension loaded."""
    with open_frontend(request.param) as frontend:
        opened = frontend.open(CELLS)
        run(opened, 0)
        yield opened
        assert opened.complaints == []


def run(notebook: NotebookPage, index: int) -> None:
    notebook.run(index)
    notebook.wait_until_done(index)
    notebook.wait_until_idle()


def last_texts(sandbox: Sandbox, role: str = "user") -> list[str]:
    """Return the texts of one role in the last request for an answer."""
    sent = [request.body for request in sandbox.requests if request.path.endswith("chat/completions")]
    return [message["content"] for message in sent[-1]["messages"] if message["role"] == role]


def test_a_cell_that_is_inserted_between_two_turns_takes_its_place_there(
    notebook: NotebookPage, sandbox: Sandbox
) -> None:
    run(notebook, FIRST)
    run(notebook, THIRD)
    assert last_texts(sandbox) == ["first", "third"]
    notebook.cell(FIRST).locator(".jp-InputPrompt").click()
    notebook.page.keyboard.press("b")
    inserted = FIRST + 1
    notebook.type_at_once(inserted, "%%kimi -c paper --thinking off --max-tokens 30\nsecond")
    notebook.page.keyboard.press("Shift+Enter")  # at once: nobody waits for the page to tell
    notebook.wait_until_done(inserted)
    notebook.wait_until_idle()
    assert last_texts(sandbox) == ["first", "second"]
    run(notebook, THIRD + 1)
    notebook.screenshot("conversation")

    assert last_texts(sandbox) == ["first", "second", "third"]


def test_the_gauge_counts_the_conversation_before_the_cell(notebook: NotebookPage, sandbox: Sandbox) -> None:
    run(notebook, FIRST)
    notebook.type(THIRD, "?")
    notebook.wait_for_gauge(THIRD, "counted")
    shown = notebook.gauge_tokens(THIRD)
    run(notebook, THIRD)
    billed = notebook.wait_for_gauge(THIRD, "billed")

    assert last_texts(sandbox) == ["first", "third?"]
    assert f"est. {shown} → billed {shown}" in billed


def test_another_cell_goes_with_its_source_and_its_output(notebook: NotebookPage, sandbox: Sandbox) -> None:
    run(notebook, ABOVE)
    run(notebook, ASKING)
    told = last_texts(sandbox, "system")[0]

    assert "print('from the cell', 'above')" in told
    assert "from the cell above" in told


def test_code_of_an_answer_goes_into_a_cell_below_which_is_not_run(notebook: NotebookPage) -> None:
    run(notebook, CODE)
    notebook.wait_for_output(CODE, "new cell below")
    notebook.screenshot("code")

    assert notebook.source(CODE + 1).startswith("prompt = ")
    assert notebook.prompt(CODE + 1) == "[ ]:"
    assert notebook.source(CODE + 2) == "1 / 0"


def test_a_corrected_cell_is_proposed_below(notebook: NotebookPage, sandbox: Sandbox) -> None:
    run(notebook, FAILING)
    run(notebook, FIXING)
    notebook.wait_for_output(FIXING, "new cell below")
    notebook.screenshot("fix")

    assert "ZeroDivisionError: division by zero" in last_texts(sandbox)[0]
    assert "1 / 0" in last_texts(sandbox)[0]
    assert notebook.prompt(FIXING + 1) == "[ ]:"


def test_a_call_is_made_once_the_user_allows_it(open_frontend: OpenFrontend, sandbox: Sandbox) -> None:
    define = "%load_ext kimi_magics\ndef weather(city: str) -> str:\n    'Tell the weather.'\n    return '21 °C'"
    ask = "%%kimi --tool weather --ask --thinking off\nWhat is the weather in Paris?"
    with open_frontend("lab") as lab:
        notebook = lab.open([define, ask, ask])
        run(notebook, 0)
        for index, (word, told) in enumerate((("y", "21 °C"), ("n", "the user did not allow this call")), start=1):
            notebook.run(index)
            question = notebook.cell(index).locator(".jp-Stdin-input")
            question.wait_for()
            notebook.screenshot(f"tool-asks-{word}")
            question.fill(word)
            question.press("Enter")
            notebook.wait_until_done(index)
            notebook.wait_until_idle()
            notebook.wait_for_output(index, "2 steps")
            assert last_texts(sandbox, "tool") == [told]
        notebook.screenshot("tool-allowed")
        assert 'weather(city="Paris") → 21 °C' in notebook.output_text(1)
        assert "failed: the user did not allow this call" in notebook.output_text(2)
        assert notebook.complaints == []

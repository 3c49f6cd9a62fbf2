"""What a user sees of the first line of a magic: completion, a mistake in it, a question mark at its end."""

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
    # The kernel drops what is queued when a cell fails; one that fails within milliseconds fails before the front end
    # has sent the rest, as a plain 1/0 does.
    "import time; time.sleep(1)\n%kimi --mdel x Tell me more.",
    "print('this cell was run')",
    "",
    "",
    "%kimi what is a token?",
]
MISTAKE, AFTER_MISTAKE, MODEL, FLAG, QUESTION = range(1, 6)


@pytest.fixture(scope="module")
def notebook(open_frontend: OpenFrontend) -> Iterator[NotebookPage]:
    """`CELLS` in JupyterLab, with the extension loaded; each test has its own."""
    with open_frontend("lab") as lab:
        opened = lab.open(CELLS)
        opened.run(0)
        opened.wait_until_done(0)
        yield opened


def test_mistake_in_the_line_fails_the_cell_with_a_suggestion_and_stops_run_all(notebook: NotebookPage) -> None:
    notebook.run_all()
    error = notebook.wait_for_output(MISTAKE, "MagicLineError").strip()
    notebook.wait_until_idle()
    notebook.screenshot("mistake-in-the-line")

    assert "did you mean --model" in error
    assert len(error.splitlines()) < 6
    assert notebook.prompt(AFTER_MISTAKE) == "[ ]:"
    assert notebook.output_text(AFTER_MISTAKE) == ""


def test_tab_after_the_model_flag_offers_model_names(notebook: NotebookPage) -> None:
    notebook.type(MODEL, "%%kimi -m kimi-k2")
    offered = notebook.complete()
    notebook.screenshot("completion-models")

    assert "kimi-k2.6" in offered
    assert all(name.startswith("kimi-k2") for name in offered)


def test_tab_offers_the_flag_and_enter_takes_it(notebook: NotebookPage) -> None:
    notebook.type(FLAG, "%%kimi --max-t")
    offered = notebook.complete()
    notebook.page.keyboard.press("Enter")

    assert offered == ["--max-tokens"]
    assert notebook.source(FLAG) == "%%kimi --max-tokens"


def test_line_that_ends_with_a_question_mark_is_sent(notebook: NotebookPage, sandbox: Sandbox) -> None:
    notebook.run(QUESTION)
    notebook.wait_for_output(QUESTION, " out · ")
    notebook.screenshot("question-mark")

    [request] = [request for request in sandbox.requests if request.path == "/v1/chat/completions"]
    assert request.body["messages"] == [{"role": "user", "content": "what is a token?"}]

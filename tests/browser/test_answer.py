"""What a user sees of an answer: it grows, ends as a page with its footer, and stays when the notebook is saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kimi_magics.sandbox import Fault

if TYPE_CHECKING:
    from driver import NotebookPage

    from kimi_magics.sandbox import Sandbox

    from .conftest import OpenFrontend, WaitFor

LOAD = "%load_ext kimi_magics"
BEGINNING = "Sandbox answer: no model was called"
FOOTER = r"\d+\.\d s · .* in / .* out · \$0\.\d+"


class Answered(NamedTuple):
    """A notebook whose cell 1 was answered: what its output area showed on the way, and the file as saved then."""

    notebook: NotebookPage
    seen: list[str]
    saved: dict[str, Any]


@pytest.fixture(scope="module", params=["lab", "notebook7"])
def answered(request: pytest.FixtureRequest, open_frontend: OpenFrontend) -> Iterator[Answered]:
    """One answer in each front end, for the tests that only look at it."""
    with open_frontend(request.param) as frontend:
        notebook = frontend.open([LOAD, ""])
        notebook.run(0)
        notebook.wait_until_done(0)
        notebook.type(1, "%%kimi\nWhat is a token, and why does it cost money?")
        read_seen = notebook.watch_output(1)
        notebook.run(1)
        notebook.wait_for_output(1, "The prompt in figures")
        notebook.screenshot("answer-growing")
        notebook.wait_for_output(1, FOOTER)
        notebook.wait_until_done(1)
        notebook.screenshot("answer-done")
        yield Answered(notebook, read_seen(), notebook.save())


def test_answer_grows_in_place_before_the_footer_comes(answered: Answered) -> None:
    growing = [text for text in answered.seen if BEGINNING in text and not re.search(FOOTER, text)]
    lengths = [len(text) for text in growing]

    steps = [length for position, length in enumerate(lengths) if length > max(lengths[:position], default=0)]
    assert len(steps) >= 3, lengths


def test_answer_ends_as_rendered_markdown(answered: Answered) -> None:
    outputs = answered.notebook.outputs(1)
    outputs.locator("mjx-math").nth(2).wait_for()

    found = {tag: outputs.locator(tag).count() for tag in ("h2", "h3", "table", "ul", "pre code", "strong", "mjx-math")}
    assert found == {"h2": 1, "h3": 1, "table": 1, "ul": 1, "pre code": 1, "strong": 2, "mjx-math": 3}


def test_footer_is_an_output_of_its_own_after_the_answer(answered: Answered) -> None:
    texts = answered.notebook.outputs(1).all_inner_texts()

    assert len(texts) == 2
    assert BEGINNING in texts[0]
    assert not re.search(FOOTER, texts[0])
    assert re.fullmatch(FOOTER, texts[1].strip())


def test_saved_answer_holds_markdown_and_plain_text_and_no_widget(answered: Answered) -> None:
    reply, footer = (output["data"] for output in answered.saved["cells"][1]["outputs"])

    assert set(reply) == {"text/markdown", "text/plain"}
    assert "".join(reply["text/plain"]).startswith(f"## {BEGINNING}")
    assert re.fullmatch(FOOTER, "".join(footer["text/plain"]))
    assert "widgets" not in answered.saved["metadata"]


def test_answer_and_footer_are_still_there_after_the_page_is_loaded_again(answered: Answered) -> None:
    notebook = answered.notebook
    before = notebook.output_text(1)
    notebook.reload()
    notebook.wait_for_output(1, FOOTER)
    notebook.outputs(1).locator("mjx-math").nth(2).wait_for()
    notebook.screenshot("answer-reloaded")

    assert notebook.output_text(1) == before


@pytest.fixture(scope="module")
def interrupted(open_frontend: OpenFrontend, shared_sandbox: Sandbox) -> Iterator[NotebookPage]:
    """A notebook whose cell 1 was interrupted by the toolbar's button in the middle of the answer."""
    shared_sandbox.clear()
    shared_sandbox.fault(Fault(chunk_delay_seconds=0.1))
    with open_frontend("lab") as lab:
        notebook = lab.open([LOAD, "%%kimi --thinking off\nTell me about rivers."])
        notebook.run(0)
        notebook.run(1)
        notebook.wait_for_output(1, "It was written by")
        notebook.interrupt()
        notebook.wait_until_done(1)
        notebook.screenshot("answer-interrupted")
        yield notebook


def test_interrupt_keeps_the_text_so_far(interrupted: NotebookPage) -> None:
    answer = interrupted.outputs(1).first.inner_text()

    assert BEGINNING in answer
    assert "The prompt in figures" not in answer


def test_interrupt_fails_the_cell_in_a_few_lines(interrupted: NotebookPage) -> None:
    error = interrupted.outputs(1).last.inner_text().strip()

    assert error.startswith("InterruptedReplyError: ")
    assert len(error.splitlines()) < 6


def test_interrupt_ends_the_call_at_the_host(
    interrupted: NotebookPage, shared_sandbox: Sandbox, wait_for: WaitFor
) -> None:
    wait_for(lambda: shared_sandbox.disconnects == 1, what="the sandbox sees the client go")

"""The gauge below a terminal's prompt: prompt_toolkit's own prompt, drawn without a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pexpect
import pytest
from prompt_toolkit import PromptSession
from prompt_toolkit.document import Document
from prompt_toolkit.input import DummyInput
from prompt_toolkit.output import DummyOutput

from kimi_magics.notebook.magics import KimiMagics
from kimi_magics.notebook.toolbar import Toolbar, install
from kimi_magics.sandbox import Sandbox

SECONDS = 30


class Prompt:
    """The prompt of a shell, and what is drawn below it."""

    def __init__(self, magics: KimiMagics) -> None:
        self.session: PromptSession = PromptSession(input=DummyInput(), output=DummyOutput())
        self.magics = magics
        self.shell = SimpleNamespace(pt_app=self.session, execution_count=1)
        self.drafts: Callable[[], Any] = lambda: magics.drafts

    def install(self) -> Toolbar:
        toolbar = install(self.shell, lambda: self.drafts())
        assert toolbar is not None
        return toolbar

    def draw(self, text: str | None = None) -> Any:
        """Type `text`, and return what prompt_toolkit would draw now; None is no toolbar."""
        if text is not None:
            # to set its text would start what completes and checks it, which needs a running application
            self.session.default_buffer.reset(Document(text))
        self.session.app.before_render.fire()
        toolbar = self.session.bottom_toolbar
        return toolbar() if callable(toolbar) else toolbar

    def draw_counted(self, text: str | None = None) -> Any:
        """Draw, and again when the count is done."""
        self.draw(text)
        for thread in threading.enumerate():
            if thread.name == "kimi-toolbar":
                thread.join(SECONDS)
        return self.draw()


@pytest.fixture
def prompt(cells: Any, sandbox: Sandbox) -> Iterator[Prompt]:
    yield Prompt(cells.shell.magics_manager.registry["KimiMagics"])
    assert sandbox.requests == []


def test_a_draft_has_its_line_and_everything_else_has_none(prompt: Prompt) -> None:
    prompt.install()
    assert prompt.draw("") is None
    assert prompt.draw_counted("print(1)") is None
    [(style, text)] = prompt.draw_counted("%%kimi\nWhat is a token?")
    assert (style, text[:3], " tokens · ≈ $0.0000" in text) == ("", " ≈ ", True)
    [(style, text)] = prompt.draw_counted("%kimi -m kimi-k3 why?")
    assert text.endswith(" of 1.05M ")
    assert prompt.draw_counted("%kimi_models") is None
    assert prompt.draw("") is None


def test_the_line_is_what_the_magic_would_say(prompt: Prompt) -> None:
    prompt.install()
    [(style, text)] = prompt.draw_counted("%%kimi --mdel x\nhi")
    assert style == "fg:ansired"
    assert text.startswith(" %%kimi: unknown flag --mdel")
    assert text.endswith("did you mean --model? %%kimi? shows the flags ")
    # a narrow terminal cuts the end off
    [(style, text)] = prompt.draw_counted("%kimi --max-tokens 300000 hi")
    assert style == "fg:ansired bold"
    assert text.startswith(" 300,0")
    prompt.magics.shell.user_ns["topic"] = "cats"
    assert "≈" in prompt.draw_counted("%%kimi\nabout {{topic}}")[0][1]


def test_typing_does_not_wait_for_a_count_and_keeps_the_line_meanwhile(prompt: Prompt) -> None:
    has_begun, may_count = threading.Event(), threading.Event()
    counted: list[str] = []
    drafts = prompt.magics.drafts

    def report(text: str, *, may_ask: bool) -> Any:
        assert threading.current_thread().name == "kimi-toolbar"
        has_begun.set()
        assert may_count.wait(SECONDS)
        counted.append(text)
        return drafts.report(text, may_ask=may_ask)

    prompt.drafts = lambda: SimpleNamespace(report=report)
    prompt.install()
    assert prompt.draw("%%kimi\na") is None
    assert has_begun.wait(SECONDS)
    for text in ("%%kimi\nab", "%%kimi\nabc"):
        assert prompt.draw(text) is None
    may_count.set()
    [first] = prompt.draw_counted()
    # A line that is drawn again at the moment at which its count ends may be counted once more.
    assert list(dict.fromkeys(counted)) == ["%%kimi\na", "%%kimi\nabc"]
    assert prompt.draw() == prompt.draw() == [first]
    may_count.clear()
    assert prompt.draw("%%kimi\nabc" + " and more" * 50) == [first]
    may_count.set()
    assert prompt.draw_counted() != [first]
    assert len(set(counted)) == 3


def test_after_a_cell_the_same_text_is_counted_anew(prompt: Prompt) -> None:
    prompt.install()
    prompt.magics.shell.user_ns["topic"] = "cats"
    before = prompt.draw_counted("%%kimi\n{{topic}}")
    prompt.magics.shell.user_ns["topic"] = "cats and dogs " * 9
    assert prompt.draw_counted() == before
    prompt.shell.execution_count += 1
    assert prompt.draw() is None
    assert prompt.draw_counted() not in (None, before)


def test_the_gauge_can_be_switched_off(prompt: Prompt) -> None:
    prompt.magics.session.config.set("gauge", "off")
    prompt.install()
    assert prompt.draw_counted("%%kimi\nhi") is None


def test_the_user_s_own_toolbar_is_shown_when_there_is_no_draft_and_stays_after_the_end(prompt: Prompt) -> None:
    prompt.session.bottom_toolbar = "mine"
    toolbar = prompt.install()
    assert prompt.draw("x = 1") == "mine"
    assert prompt.draw_counted("%kimi hi") != "mine"
    assert prompt.draw("x = 1") == "mine"
    prompt.draw_counted("%kimi hi")
    prompt.session.bottom_toolbar = "newer"
    assert prompt.draw()[0][1].startswith(" ≈ ")
    toolbar.close()
    assert prompt.draw() == "newer"


def test_without_a_toolbar_before_there_is_none_after(prompt: Prompt) -> None:
    toolbar = prompt.install()
    assert prompt.draw_counted("%kimi hi") is not None
    toolbar.close()
    assert prompt.session.bottom_toolbar is None
    assert prompt.draw_counted("%kimi ho") is None


def test_a_fault_leaves_the_prompt_alone(prompt: Prompt) -> None:
    prompt.session.bottom_toolbar = "mine"
    prompt.drafts = lambda: 1 / 0
    prompt.install()
    assert prompt.draw_counted("%kimi hi") == "mine"
    prompt.shell.execution_count = property()
    del prompt.shell.execution_count
    assert prompt.draw_counted("%kimi ho") == "mine"


def test_what_steers_a_terminal_is_left_out(prompt: Prompt) -> None:
    prompt.install()
    [(_style, text)] = prompt.draw_counted("%%kimi\n{{a\x1b[31m\u202eb\x00}}")
    assert text.isprintable()
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_shell_without_such_a_prompt_has_no_toolbar(cells: Any) -> None:
    assert install(cells.shell, lambda: None) is None
    assert install(SimpleNamespace(pt_app=None), lambda: None) is None


# ---------------------------------------------------------------- a terminal


def await_prompt(child: pexpect.spawn, number: int) -> None:
    """Wait for a prompt, and answer as a terminal does where its cursor is: before that no toolbar is drawn."""
    child.expect(r"\x1b\[6n")
    child.send("\x1b[1;1R")
    child.expect(rf"In \[{number}\]:")


@pytest.fixture
def terminal(sandbox: Sandbox) -> Iterator[pexpect.spawn]:
    """IPython with its own prompt in a pseudo terminal, with the extension loaded."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--no-banner", "--no-confirm-exit", "--HistoryManager.enabled=False", "--colors=NoColor"],
        env={**os.environ, "TERM": "xterm"},
        encoding="utf-8",
        timeout=SECONDS,
        dimensions=(40, 160),
    )
    await_prompt(child, 1)
    child.send("%load_ext kimi_magics\r")
    await_prompt(child, 2)
    yield child
    child.close(force=True)


def read_for(child: pexpect.spawn, seconds: float) -> str:
    end, seen = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        with contextlib.suppress(pexpect.TIMEOUT):
            seen += child.read_nonblocking(10_000, timeout=0.1)
    return seen


def test_in_a_terminal_the_line_is_there_while_one_types_and_gone_after(
    terminal: pexpect.spawn, sandbox: Sandbox
) -> None:
    terminal.send("%%kimi")
    terminal.expect("the prompt is empty")
    terminal.send("\rWhat is a token?")
    # what changes on the screen is drawn, and no more: the end of the line is new
    terminal.expect(r"of 262\.1K")
    terminal.send("\x03")  # leaves an empty prompt
    read_for(terminal, 0.3)
    terminal.send("1 + 1")
    assert "of 262" not in read_for(terminal, 0.5)
    terminal.send("\x03%unload_ext kimi_magics\r")
    await_prompt(terminal, 3)
    terminal.send("%kimi hello")
    assert "of 262" not in read_for(terminal, 0.5)
    assert sandbox.requests == []

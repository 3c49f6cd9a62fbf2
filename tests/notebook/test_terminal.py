"""Terminal IPython, typed into as by a person."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator

import pexpect
import pytest

from kimi_magics.sandbox import Sandbox, SandboxOptions

SECONDS = 60


@pytest.fixture
def slow_sandbox() -> Iterator[Sandbox]:
    """A sandbox that one can interrupt in the midst of an answer."""
    with Sandbox(options=SandboxOptions(tokens_per_second=30)) as server:
        yield server


@pytest.fixture
def terminal(slow_sandbox: Sandbox) -> Iterator[pexpect.spawn]:
    """IPython in a pseudo terminal, with the extension loaded."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--HistoryManager.enabled=False"],
        env={**os.environ, "MOONSHOT_BASE_URL": slow_sandbox.base_url, "MOONSHOT_API_KEY": "sandbox", "TERM": "xterm"},
        encoding="utf-8",
        timeout=SECONDS,
        dimensions=(40, 160),
    )
    child.expect(r"In \[1\]: ")
    child.sendline("%load_ext kimi_magics")
    child.expect(r"In \[2\]: ")
    yield child
    child.close(force=True)


def test_an_answer_streams_between_dim_reasoning_and_a_footer(terminal: pexpect.spawn) -> None:
    terminal.sendline("%kimi In one sentence, what is a token?")
    # pexpect's dot matches line ends too: a greedy one would swallow a footer that came in the same read
    terminal.expect(r"\x1b\[2m[^\x1b]+\x1b\[0m\r\n\r\n")
    terminal.expect(r"Sandbox answer: [^\r\n]*\r\n")
    terminal.expect(r"\x1b\[2m\d+\.\d s · \d+ in / \d+ out · \$0\.\d+\x1b\[0m\r\n")


def test_ctrl_c_stops_the_request_and_keeps_the_text(terminal: pexpect.spawn, slow_sandbox: Sandbox) -> None:
    terminal.sendline("%kimi --thinking off Tell me about tokens")
    terminal.expect("Sandbox answer")
    terminal.sendintr()
    terminal.expect(r"partial · [^\r\n]* in / [^\r\n]* out")
    terminal.expect("InterruptedReplyError: interrupted; the answer so far is kept")
    terminal.expect(r"In \[3\]: ")
    terminal.sendline("print(_kimi.is_partial, len(_kimi.text) > 0)")
    terminal.expect("True True")
    deadline = time.monotonic() + SECONDS
    while not slow_sandbox.disconnects and time.monotonic() < deadline:
        time.sleep(0.01)
    assert slow_sandbox.disconnects == 1


def test_an_error_is_one_line_and_a_remedy(terminal: pexpect.spawn) -> None:
    terminal.sendline("%kimi --mdel x")
    terminal.expect(r"In \[3\]: ")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.before).strip().splitlines()[1:]
    assert [line.strip() for line in shown if line.strip()] == [
        "MagicLineError: %%kimi: unknown flag --mdel",
        "→ did you mean --model? %%kimi? shows the flags",
    ]


def test_help_has_the_flags(terminal: pexpect.spawn) -> None:
    terminal.sendline("%kimi --help")
    terminal.expect("--max-tokens N")

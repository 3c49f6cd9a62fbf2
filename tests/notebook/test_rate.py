"""The limits of an account in a notebook: a call waits its turn in sight, can be interrupted, and is not refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kimi_magics.core.rates import RateLimits
from kimi_magics.errors import ConfigError, DailyLimitError, InterruptedReplyError, MagicLineError
from kimi_magics.sandbox import PRESETS, Sandbox, SandboxOptions

CHAT = "chat/completions"
SECONDS = 60
Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A host that answers one request at a time, twenty tokens a second."""
    with Sandbox(options=SandboxOptions(concurrency=1, tokens_per_second=20)) as server:
        monkeypatch.setenv("MOONSHOT_BASE_URL", server.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        yield server


@pytest.fixture
def start(one_at_a_time: Sandbox) -> Iterator[Start]:
    """What runs a cell in another process of the same user, and returns when its request has come."""
    started: list[subprocess.Popen[str]] = []

    def run(cell: str) -> subprocess.Popen[str]:
        code = (
            "from IPython.core.interactiveshell import InteractiveShell\n"
            "shell = InteractiveShell.instance()\n"
            "shell.run_line_magic('load_ext', 'kimi_magics')\n"
            f"shell.run_cell({cell!r}).raise_error()\n"
        )
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
        started.append(process)
        wait_until(lambda: count_sent(one_at_a_time) == len(started))
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def count_sent(sandbox: Sandbox) -> int:
    return sum(one.path.endswith(CHAT) for one in sandbox.requests)


def look(cells: Any, line: str) -> Any:
    ran = cells.run(line)
    assert ran.error is None, ran.shown_error
    return json.loads(ran.stdout)


def test_a_call_waits_for_that_of_another_kernel_and_is_not_refused(
    cells: Any, start: Start, one_at_a_time: Sandbox
) -> None:
    cells.run("%kimi_config rate=1 concurrent")
    other = start("%%kimi --max-tokens 60\nTell me a story")
    ran = cells.run("%%kimi --max-tokens 5\nHello")
    assert ran.error is None, ran.shown_error
    assert other.wait(SECONDS) == 0, other.communicate()
    assert count_sent(one_at_a_time) == 2
    assert len(look(cells, "%kimi_usage all --json")) == 2


def test_a_limit_is_learnt_from_a_refusal_and_shown(cells: Any, start: Start, one_at_a_time: Sandbox) -> None:
    other = start("%%kimi --max-tokens 60\nTell me a story")
    ran = cells.run("%%kimi --max-tokens 5\nHello")
    assert ran.error is None, ran.shown_error
    assert other.wait(SECONDS) == 0, other.communicate()
    # Refused once, and then it waited for the other to end.
    assert count_sent(one_at_a_time) == 3
    limits = look(cells, "%kimi_usage --limits --json")
    assert limits["learned"] == {"concurrency": 1, "rpm": None, "tpm": None, "tpd": None}
    assert limits["used"]["rpm"] == 2
    assert limits["used"]["concurrency"] == limits["waiting"] == 0


@pytest.mark.usefixtures("interrupts")
def test_interrupted_while_it_waits_a_call_was_not_billed(cells: Any, start: Start, one_at_a_time: Sandbox) -> None:
    cells.run("%kimi_config rate=1 concurrent")
    other = start("%%kimi --max-tokens 200\nTell me a story")
    gate = cells.shell.find_cell_magic("kimi").__self__.session.rate_gate

    def interrupt() -> None:
        wait_until(lambda: gate.look().waiting == 1)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    ran = cells.run("%%kimi --max-tokens 5\nHello")
    thread.join()
    assert isinstance(ran.error, InterruptedReplyError)
    assert "nothing was billed" in ran.error.message
    assert gate.look().waiting == 0
    other.kill()
    other.wait(SECONDS)
    # That of the other kernel alone.
    assert len(look(cells, "%kimi_usage all --json")) == 1
    assert count_sent(one_at_a_time) == 1


def test_what_the_day_does_not_allow_is_refused_unsent_with_the_ways_out(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config rate=1k tpd")
    ran = cells.run("%%kimi --max-tokens 2000\nHello")
    assert isinstance(ran.error, DailyLimitError)
    assert "0 of 1,000 tokens a day are used, and this request counts 2,0" in ran.error.message
    assert "rate=off" in ran.error.remedy
    assert count_sent(sandbox) == 0
    assert look(cells, "%kimi_usage all --json") == []
    assert cells.run("%%kimi --max-tokens 100\nHello").error is None
    cells.run("%kimi_config rate=off")
    assert cells.run("%%kimi --max-tokens 2000\nHello").error is None


def test_switched_off_each_call_goes_at_once_and_comes_back_by_itself(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config rate=off")
    sandbox.fault(PRESETS["rate_limit"])
    assert cells.run("%%kimi --max-tokens 5\nHello").error is None
    assert look(cells, "%kimi_usage --limits --json") == {
        "stated": None,
        "learned": {"concurrency": None, "rpm": None, "tpm": None, "tpd": None},
        "learned_at": {},
        "used": {"concurrency": 0, "rpm": 0, "tpm": 0, "tpd": 0},
        "waiting": 0,
    }


def test_the_limits_are_shown_with_who_said_them(cells: Any, sandbox: Sandbox) -> None:
    sandbox.fault(PRESETS["rate_limit"])
    cells.run("%kimi_config rate=500k tpm")
    assert cells.run("%%kimi --max-tokens 5\nHello").error is None
    shown = cells.run("%kimi_usage --limits").bundles[0]["text/plain"]
    lines = {" ".join(line.split()[:3]): line for line in shown.splitlines()}
    assert "3" in lines["requests a minute"].split()
    assert "the host, at" in lines["requests a minute"]
    assert "500,000" in lines["tokens a minute"]
    assert "the setting rate" in lines["tokens a minute"]
    assert "nobody yet" in lines["tokens a day"]


@pytest.mark.parametrize("value", ["3 rps", "3", "-1 rpm", "lots"])
def test_a_limit_that_is_none_is_refused_and_changes_nothing(cells: Any, value: str) -> None:
    ran = cells.run(f"%kimi_config rate={value}")
    assert isinstance(ran.error, ConfigError)
    assert "500k tpm" in ran.shown_error
    assert cells.shell.find_cell_magic("kimi").__self__.session.limits() == RateLimits()


@pytest.mark.parametrize("line", ["today --limits", "--limits --by model", "--limits --csv"])
def test_limits_go_with_nothing_else(cells: Any, sandbox: Sandbox, line: str) -> None:
    ran = cells.run(f"%kimi_usage {line}")
    assert isinstance(ran.error, MagicLineError)

"""Several kernels of one account against a host that counts: nobody is refused who can wait, nobody starves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kimi_magics.sandbox import Sandbox, SandboxOptions

WORKER = Path(__file__).with_name("rate_worker.py")
PROCESSES = 4
CALLS = 6
SECONDS = 300
#: Of the sandbox's window and the gate's.
MINUTE = 2.0


def run(home: Path, url: str, *, stated: str) -> list[list[dict[str, Any]]]:
    """Have the processes send their calls at the same time; return what each told of its calls."""
    command = [sys.executable, str(WORKER), str(home), url, str(CALLS), stated, str(MINUTE)]
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "KIMI_MAGICS_HOME": str(home)},
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        told = []
        for process in running:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            output, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors
            told.append([json.loads(line) for line in output.splitlines()])
        return told
    finally:
        for process in running:
            process.kill()


@pytest.mark.parametrize(
    ("options", "stated"),
    [
        (SandboxOptions(rpm=8, rpm_window_seconds=MINUTE), "8 rpm"),
        (SandboxOptions(concurrency=1, tokens_per_second=200), "1 concurrent"),
    ],
    ids=["rpm", "concurrency"],
)
def test_by_stated_limits_no_request_is_refused_and_everybody_has_a_turn(
    tmp_path: Path, options: SandboxOptions, stated: str
) -> None:
    with Sandbox(options=options) as sandbox:
        told = run(tmp_path, sandbox.base_url, stated=stated)
        answered = [one for one in sandbox.requests if one.path.endswith("chat/completions")]
    calls = [call for calls in told for call in calls]
    assert [call["refused"] for call in calls] == [0] * PROCESSES * CALLS
    assert len(answered) == PROCESSES * CALLS
    assert any(call["turns"] for call in calls), "nobody had to wait: the limit was never reached"
    for calls_of_one in told:
        others = [call for calls in told if calls is not calls_of_one for call in calls]
        for call in calls_of_one:
            passed = sum(call["came"] < other["went"] < call["went"] for other in others)
            # Those before it, and as many that went while it came.
            assert passed <= 2 * PROCESSES


def test_limits_that_nobody_stated_are_learnt_by_all_from_the_refusal_of_one(tmp_path: Path) -> None:
    with Sandbox(options=SandboxOptions(rpm=4, rpm_window_seconds=MINUTE)) as sandbox:
        told = run(tmp_path, sandbox.base_url, stated="")
    calls = [call for calls in told for call in calls]
    assert len(calls) == PROCESSES * CALLS
    refused = sum(call["refused"] for call in calls)
    # Those that went before the first refusal came back; without a memory each minute would see some.
    assert 1 <= refused <= PROCESSES
    assert any(call["turns"] for call in calls)

"""Kernels that are killed in the middle of an answer: the call's row stays, counts in full, and nobody waits for it."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kernels import SECONDS, start_kernel

from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.config import find_home

PROMPT = "Tell me about tokens"
#: An IPython without a kernel, which prints an answer as it comes.
IPYTHON = f"""
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.run_line_magic("load_ext", "kimi_magics")
shell.run_cell("%kimi_config view=plain")
print("ready", flush=True)
shell.run_cell("%%kimi --thinking off --max-tokens 2000\\n{PROMPT}")
"""
PRICE = Decimal(4) / 10**6


@contextmanager
def start_ipython() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-u", "-c", IPYTHON], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            wait_for(process, "ready\n")
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[bytes], text: str) -> None:
    """Wait until a process has printed this, but for blanks and ends of lines."""
    assert process.stdout is not None
    wanted, printed, end = "".join(text.split()), b"", time.monotonic() + SECONDS
    while wanted not in "".join(printed.decode("utf-8", "ignore").split()):
        assert time.monotonic() < end, printed
        printed += process.stdout.read() or b""
        time.sleep(0.002)


def ask_for_answer(sandbox: Sandbox) -> str:
    """Return what the host answers to the prompt of the process, asked past the product."""
    body = {"model": "kimi-k2.6", "messages": [{"role": "user", "content": PROMPT}], "thinking": {"type": "disabled"}}
    headers = {"Authorization": "Bearer sandbox", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{sandbox.base_url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        text: str = json.load(response)["choices"][0]["message"]["content"]
    sandbox.clear()
    return text


def wait_for_request(sandbox: Sandbox) -> None:
    end = time.monotonic() + SECONDS
    while not any(request.path.endswith("chat/completions") for request in sandbox.requests):
        assert time.monotonic() < end
        time.sleep(0.01)


def rows() -> list[tuple[Any, ...]]:
    """Return what stands in the file, without the product's help."""
    with closing(sqlite3.connect(find_home() / "ledger.sqlite")) as database:
        return database.execute(
            "SELECT state, completion_tokens, cost, estimated FROM kimi_calls ORDER BY id"
        ).fetchall()


def let_leases_end() -> None:
    """Put the file into the state of two minutes later."""
    with closing(sqlite3.connect(find_home() / "ledger.sqlite")) as database:
        database.execute("UPDATE kimi_calls SET lease = 0 WHERE state = 'reserved'")
        database.commit()


def told(cells: Any, line: str) -> Any:
    ran = cells.run(line)
    assert ran.error is None, ran.shown_error
    return json.loads(ran.stdout)


@pytest.mark.parametrize("point", ["before the first chunk", "middle 1", "middle 2", "middle 3", "before the end"])
def test_a_killed_session_leaves_its_row_which_counts_in_full(cells: Any, sandbox: Sandbox, point: str) -> None:
    answer = ask_for_answer(sandbox)
    cells.run("%kimi_budget --save 1 USD per day")
    if point.startswith("before the first"):
        sandbox.fault(Fault(delay_seconds=5))
    elif point.startswith("middle"):
        sandbox.fault(Fault(chunk_delay_seconds=0.02))
    else:
        sandbox.fault(Fault(stall_after=10**6))  # just before the chunk that says how it ended
    with start_ipython() as process:
        wait_for_request(sandbox)
        if point.startswith("middle"):
            wait_for(process, answer[: random.Random(point).randint(1, len(answer) * 9 // 10)])
        elif point == "before the end":
            wait_for(process, answer)
        process.kill()
        assert process.wait() == -signal.SIGKILL

    [(state, completion_tokens, cost, estimated)] = rows()
    assert (state, completion_tokens, estimated) == ("reserved", 2000, 1)
    assert Decimal(cost) / 10**12 > 2000 * PRICE
    (row,) = told(cells, "%kimi_usage --json")
    (budget,) = told(cells, "%kimi_budget --json")["budgets"]
    assert (row["estimated"], row["completion_tokens"], row["finish_reason"]) == (True, 2000, None)
    assert (budget["spent"], budget["under_way"]) == ("0", row["cost"])

    let_leases_end()
    assert told(cells, "%kimi_usage --json") == [row]
    (budget,) = told(cells, "%kimi_budget --json")["budgets"]
    assert (budget["spent"], budget["under_way"]) == (row["cost"], "0")
    assert rows() == [("unknown", completion_tokens, cost, estimated)]

    ran = cells.run("%%kimi --max-tokens 300\nHello")
    assert ran.error is None, ran.shown_error
    assert [state for state, *_ in rows()] == ["unknown", "settled"]
    left = Decimal(told(cells, "%kimi_budget --json")["budgets"][0]["left"])
    assert left == 1 - Decimal(row["cost"]) - cells["_kimi"].cost


def test_a_session_goes_on_beside_a_killed_one_within_the_same_budget(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_budget --save 0.010 USD per day")
    sandbox.fault(Fault(delay_seconds=5))
    with start_ipython() as process:
        wait_for_request(sandbox)
        process.kill()
    ran = cells.run("%%kimi --max-tokens 2000\nHello")
    # What the dead one may have spent is not given away again, neither before its lease ends nor after.
    assert "answer limited to" in ran.stdout
    let_leases_end()
    cells.run("%%kimi --over-budget --max-tokens 300\nHello")
    spent = sum(Decimal(row["cost"]) for row in told(cells, "%kimi_usage --json"))
    (budget,) = told(cells, "%kimi_budget --json")["budgets"]
    assert Decimal(budget["spent"]) == spent > 2000 * PRICE


def test_rows_of_a_kernel_name_notebook_and_cell_also_of_the_one_that_was_killed(
    cells: Any, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = tmp_path / "Häufigkeit 1.ipynb"
    notebook.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "utf-8")
    with monkeypatch.context() as patch:
        patch.setenv("JPY_SESSION_NAME", str(notebook))
        with start_kernel() as front_end:
            front_end.run("%load_ext kimi_magics\n%kimi_config view=plain\nimport os", cell="first")
            front_end.run("%kimi --max-tokens 50 Hello", cell="second")
            front_end.run("%kimi -m kimi-k3 --max-tokens 50 Hello", cell="third")
            (printed,) = (m for m in front_end.run("print(os.getpid())") if m["msg_type"] == "stream")
            sandbox.fault(Fault(chunk_delay_seconds=0.02))
            front_end.start("%kimi --thinking off --max-tokens 2000 Tell me about tokens", cell="fourth")
            front_end.listen(lambda message: message["msg_type"] == "stream")
            os.kill(int(printed["content"]["text"]), signal.SIGKILL)
    let_leases_end()
    cells.run("%%kimi --max-tokens 40\nHello")

    calls = told(cells, "%kimi_usage --json")
    path = str(notebook.resolve())
    assert [(call["notebook"], call["cell_id"]) for call in calls] == [
        (path, "second"),
        (path, "third"),
        (path, "fourth"),
        (None, None),
    ]
    assert [call["estimated"] for call in calls] == [False, False, True, False]
    assert all(call["cost"] is not None for call in calls)
    for by, groups in (("notebook", 2), ("cell", 4), ("model", 2), ("day", 1)):
        sums = told(cells, f"%kimi_usage --json --by {by}")
        assert len(sums) == groups
        assert sum(one["calls"] for one in sums) == len(calls)
        assert sum(Decimal(one["cost"]) for one in sums) == sum(Decimal(call["cost"]) for call in calls)
        for figure in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            assert sum(one[figure] for one in sums) == sum(call[figure] for call in calls)
    by_cell = told(cells, "%kimi_usage --json --by cell")
    assert {(one["notebook"], one["cell"]) for one in by_cell} == {(c["notebook"], c["cell_id"]) for c in calls}

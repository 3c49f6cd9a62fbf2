"""Several kernels at one ledger: no row is lost, no budget passed, nobody is told that the database is locked."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from kimi_magics.core.usage import Price, Usage
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_reports import read_calls, read_sums

WORKER = Path(__file__).with_name("ledger_worker.py")
PRICE = Price(Decimal("0.95"), Decimal(4))
SECONDS = 300


@contextmanager
def start(home: Path, count: int, budget: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start a process that writes calls; end it when it has not ended by itself."""
    command = [sys.executable, str(WORKER), str(home), str(count), budget]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(home: Path, processes: int, count: int, budget: str = "") -> list[list[str]]:
    """Have so many processes write at once; return what each said."""
    command = [sys.executable, str(WORKER), str(home), str(count), budget]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * processes, [error for _, error in outputs]
    return [said.splitlines() for said, _ in outputs]


def check(home: Path) -> None:
    """Assert that the file is whole, and that the sums are those of the rows."""
    with closing(sqlite3.connect(home / "ledger.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    ledger = Ledger(home=home, user="ada")
    calls = read_calls(ledger)
    (total,) = read_sums(ledger, ())
    assert total.calls == len(calls)
    assert total.prompt_tokens == sum(call.usage.prompt_tokens for call in calls)
    assert total.completion_tokens == sum(call.usage.completion_tokens for call in calls)
    assert total.cost == sum(call.cost or 0 for call in calls)
    ledger.close()


@pytest.mark.parametrize("processes", [2, 8])
def test_ten_thousand_rows_of_several_processes_are_all_there(tmp_path: Path, processes: int) -> None:
    said = run(tmp_path, processes, 10_000 // processes)
    lines = [line for one in said for line in one]

    assert not [line for line in lines if line.startswith("trouble")]
    settled = dict(line.split()[1:] for line in lines if line.startswith("settled"))
    assert len(settled) == 10_000
    ledger = Ledger(home=tmp_path, user="ada")
    calls = read_calls(ledger)
    assert len(calls) == 10_000
    assert sum(call.usage.completion_tokens for call in calls) == sum(map(int, settled.values()))
    assert all(call.state == "settled" for call in calls)
    ledger.close()
    check(tmp_path)


def test_several_processes_cannot_pass_a_budget_together(tmp_path: Path) -> None:
    said = run(tmp_path, 6, 10_000, "0.05 USD per day")
    assert all(one[-1] == "refused " for one in said)
    ledger = Ledger(home=tmp_path, user="ada")
    spent = sum(call.cost or 0 for call in read_calls(ledger))
    # What is left is less than one more call.
    assert Decimal("0.05") - PRICE.cost_of(Usage(100, 50)) < spent <= Decimal("0.05")
    ledger.close()
    check(tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_a_process_that_is_killed_at_any_point_leaves_every_row(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    lines: list[str] = []
    with start(tmp_path, 100_000) as process:
        assert process.stdout is not None
        lines += [process.stdout.readline() for _ in range(chance.randint(1, 200))]
        time.sleep(chance.random() / 100)
        process.kill()
        lines += process.stdout.readlines()
    whole = [line.split() for line in lines if line.endswith("\n")]
    reserved = {words[1] for words in whole if words[0] == "reserved"}
    settled = {words[1]: int(words[2]) for words in whole if words[0] == "settled"}

    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        rows = {
            key: (state, tokens)
            for key, state, tokens in database.execute("SELECT key, state, completion_tokens FROM kimi_calls")
        }
    assert reserved <= rows.keys()
    assert all(rows[key] == ("settled", tokens) for key, tokens in settled.items())
    # What was under way counts with all that was put aside for it.
    assert {rows[key] for key in rows.keys() - settled.keys()} <= {("reserved", 50)} | {
        one for one in rows.values() if one[0] == "settled"
    }
    check(tmp_path)

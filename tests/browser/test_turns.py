"""What a user sees of the account's limits: a call that waits its turn says so, counts down, and can be interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kimi_magics.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from driver import Frontend, NotebookPage

    from kimi_magics.sandbox import Sandbox

LONG = "%%kimi --thinking off --max-tokens 1500\nA book on rivers"


def begin(home: Path, limits: str) -> str:
    """Return a first cell; the settings and the ledger lie in a folder that no other test has."""
    return f"%env KIMI_MAGICS_HOME={home}\n%load_ext kimi_magics\n%kimi_config rate={limits}"


def run(notebook: NotebookPage, index: int) -> str:
    notebook.run(index)
    notebook.wait_until_done(index)
    return notebook.output_text(index)


def count_sent(sandbox: Sandbox) -> int:
    return sum(one.path.endswith("chat/completions") for one in sandbox.requests)


def test_a_call_waits_for_that_of_another_notebook_in_sight(
    frontend: Frontend, sandbox: Sandbox, tmp_path: Path
) -> None:
    first = frontend.open([begin(tmp_path, "1 concurrent"), LONG])
    second = frontend.open([begin(tmp_path, "1 concurrent"), "%%kimi --thinking off --max-tokens 20\nHello"])
    run(second, 0)
    first.page.bring_to_front()
    run(first, 0)
    sandbox.fault(Fault(path="chat/completions", chunk_delay_seconds=1.0))
    first.run(1)
    first.wait_for_output(1, "Sandbox")

    second.page.bring_to_front()
    second.run(1)
    second.wait_for_output(1, "waiting for a turn: 1 request at a time")
    second.screenshot("turn-waiting")
    assert count_sent(sandbox) == 1

    first.page.bring_to_front()
    first.interrupt()
    first.wait_until_done(1)
    second.page.bring_to_front()
    second.wait_until_done(1)
    answer = second.output_text(1)
    second.screenshot("turn-answered")
    assert "waiting for a turn" not in answer
    assert "20 out" in answer
    assert count_sent(sandbox) == 2
    assert second.complaints == []


def test_the_wait_counts_down_and_is_interrupted_without_a_bill(
    lab: Frontend, sandbox: Sandbox, tmp_path: Path
) -> None:
    call = "%%kimi --thinking off --max-tokens 20\nHello"
    notebook = lab.open([begin(tmp_path, "1 rpm"), call, call, "%kimi_usage --limits", "%kimi_usage today"])
    run(notebook, 0)
    run(notebook, 1)
    notebook.run(2)
    notebook.wait_for_output(2, r"waiting for a turn: 1 request a minute; about (5\d|60) s")
    notebook.wait_for_output(2, r"waiting for a turn: 1 request a minute; about [1-4]?\d s")
    notebook.screenshot("turn-countdown")
    notebook.interrupt()
    notebook.wait_until_done(2)
    assert "interrupted while the request waited; nothing was billed" in notebook.output_text(2)
    limits_shown, usage = run(notebook, 3), run(notebook, 4)
    notebook.screenshot("turn-limits")
    assert "the setting rate" in limits_shown
    assert notebook.outputs(4).locator("table tbody tr").first.locator("td").nth(1).inner_text() == "1", usage
    assert count_sent(sandbox) == 1

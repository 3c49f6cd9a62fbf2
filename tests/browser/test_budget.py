"""What a user sees of a budget: what is left, a draft that cannot be paid, the refused run and the ways out."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from driver import Frontend, NotebookPage
    from playwright.sync_api import Locator

    from kimi_magics.sandbox import Sandbox

    from .conftest import WaitFor

DRAFT = "Tell me about rivers"
#: Of kimi-k2.6 this pays for less than 256 tokens, which is the shortest useful answer where nothing tells more.
TIGHT = "0.001 per session"
FIGURE = r"\$(\d+\.\d+)"
# A theme's colour as a property of the page, and as what is painted of it.
PAINTED = """(element, token) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${token})`;
    element.append(probe);
    const wanted = getComputedStyle(probe).color;
    probe.remove();
    return [getComputedStyle(element).color, wanted];
}"""


def begin(home: Path) -> str:
    """Return a first cell; the settings and the ledger lie in a folder that no other test has."""
    return f"%env KIMI_MAGICS_HOME={home}\n%load_ext kimi_magics\n%kimi_config gauge=live"


def run(notebook: NotebookPage, index: int) -> str:
    """Run the cell to its end; return what it shows then."""
    notebook.run(index)
    notebook.wait_until_done(index)
    notebook.wait_until_idle()
    return notebook.output_text(index)


def write(notebook: NotebookPage, index: int, text: str) -> None:
    """Put `text` in the place of what stands in the cell."""
    notebook.cell(index).locator(".cm-content").click()
    notebook.page.keyboard.press("Control+A")
    notebook.page.keyboard.insert_text(text)


def shown(notebook: NotebookPage, index: int) -> str:
    return " · ".join(notebook.gauge(index).locator(".kimi-gauge-row > span:visible").all_inner_texts())


def completions(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Return the bodies of the requests for an answer, oldest first."""
    return [request.body for request in sandbox.requests if request.path.endswith("chat/completions")]


def is_painted(piece: Locator, token: str) -> bool:
    painted, wanted = piece.evaluate(PAINTED, token)
    return bool(painted == wanted)


def warning(notebook: NotebookPage, index: int) -> str | None:
    return notebook.gauge(index).get_attribute("data-warning")


def test_a_draft_over_the_budget_is_told_before_the_run_refused_and_sent_by_its_remedies(
    frontend: Frontend, sandbox: Sandbox, tmp_path: Path
) -> None:
    notebook = frontend.open([begin(tmp_path), f"%kimi_budget {TIGHT}", f"%%kimi\n{DRAFT}"])
    run(notebook, 0)
    assert "$0.001 per session" in run(notebook, 1)

    # Before the run: words and colour.
    notebook.type(2, ".")
    notebook.wait_for_gauge(2, "over-budget")
    notebook.page.locator(".kimi-gauge-note", has_text="--max-tokens").wait_for()
    note = notebook.gauge(2).locator(".kimi-gauge-note")
    assert "$0.0010 left of $0.001" in shown(notebook, 2)
    offered = re.fullmatch(
        r"over the budget of \$0\.001 per session: the cell would not be sent → --max-tokens (\d+), or --over-budget",
        note.inner_text(),
    )
    assert offered is not None, note.inner_text()
    assert is_painted(note, "--jp-error-color1")
    notebook.screenshot("budget-over")

    # The run: refused with figures and ways out, and nothing sent.
    error = run(notebook, 2)
    notebook.screenshot("budget-refused")
    figures = re.search(
        rf"useful answer \(256 tokens\) would bring the call to {FIGURE}, and of the budget of \$0\.001 per\s+session"
        rf" only {FIGURE} is left",
        error,
    )
    assert figures is not None, error
    assert Decimal(figures[1]) > Decimal(figures[2]) == Decimal("0.001")
    assert re.search(
        rf"raise it with %kimi_budget 0\.003 USD per session, .*--max-tokens {offered[1]}\b.*--over-budget sends it",
        error,
        re.DOTALL,
    )
    assert completions(sandbox) == []

    # The first way out: a shorter answer.
    write(notebook, 2, f"%%kimi --max-tokens {offered[1]}\n{DRAFT}.")
    notebook.wait_for_gauge(2, "counted")
    assert warning(notebook, 2) == "near-budget"
    assert note.inner_text() == "near the end of the budget of $0.001 per session"
    assert is_painted(note, "--jp-warn-color0")
    notebook.screenshot("budget-near")
    answer = run(notebook, 2)
    assert re.search(rf"/ {offered[1]} out · {FIGURE}$", answer.strip()), answer
    billed = notebook.wait_for_gauge(2, "billed")
    left = re.fullmatch(rf"est\. \d+ → billed \d+ · {FIGURE} · {FIGURE} left of \$0\.001", billed)
    assert left is not None, billed
    assert Decimal(left[2]) < Decimal("0.00001")
    assert [body["max_completion_tokens"] for body in completions(sandbox)] == [int(offered[1])]
    notebook.screenshot("budget-billed")

    # The second, once there is nothing left: the budget does not count for this once.
    write(notebook, 2, f"%%kimi --max-tokens {offered[1]}\n{DRAFT} and lakes.")
    notebook.wait_for_gauge(2, "over-budget")
    assert "is left" in run(notebook, 2)
    assert len(completions(sandbox)) == 1
    write(notebook, 2, f"%%kimi --max-tokens {offered[1]} --over-budget\n{DRAFT} and lakes.")
    notebook.wait_for_gauge(2, "counted")
    assert warning(notebook, 2) == "near-budget"
    assert note.inner_text() == "sent for this once, whatever the budget of $0.001 per session says"
    notebook.screenshot("budget-once")
    answer = run(notebook, 2)
    assert "BudgetError" not in answer
    assert re.search(rf"/ {offered[1]} out · {FIGURE}$", answer.strip()), answer
    assert notebook.wait_for_gauge(2, "billed").endswith(" · $0 left of $0.001")
    assert len(completions(sandbox)) == 2
    assert notebook.complaints == []


def test_an_answer_that_a_budget_shortens_says_so_before_and_after(
    lab: Frontend, sandbox: Sandbox, tmp_path: Path
) -> None:
    budget = "%kimi_budget 0.05 per day\n%kimi_budget 300 tokens per call"
    notebook = lab.open([begin(tmp_path), budget, f"%%kimi\n{DRAFT}", "%kimi_budget"])
    run(notebook, 0)
    run(notebook, 1)
    notebook.type(2, ".")
    text = notebook.wait_for_gauge(2, "counted")
    limit = 300 - notebook.gauge_tokens(2)
    notebook.screenshot("budget-limited")

    assert warning(notebook, 2) == "near-budget"
    assert text.endswith(f" · answer up to {limit} tokens · the budget of 300 tokens per call limits the answer")
    answer = run(notebook, 2)
    notebook.screenshot("budget-cut")
    assert [body["max_completion_tokens"] for body in completions(sandbox)] == [limit]
    words = f"answer limited to {limit} tokens by the budget of 300 tokens per call"
    assert "The answer was cut at the limit of a budget: %kimi_budget raises it, --over-budget passes it" in answer
    assert re.search(rf"/ {limit} out · {FIGURE} · {words}$", answer.strip())
    # What a budget for each call leaves says nothing once the call is over.
    assert re.search(r" left of \$0\.05 per day$", notebook.wait_for_gauge(2, "billed"))
    listed = run(notebook, 3)
    assert re.search(rf"\$0\.05 per day\s+{FIGURE}\s+\$0\s+\$0\.04\d+\s+this session", listed)
    assert notebook.outputs(3).locator("table tbody tr").count() == 2
    notebook.screenshot("budget-list")


def test_what_another_notebook_spends_is_known_at_the_next_count(
    lab: Frontend, sandbox: Sandbox, tmp_path: Path
) -> None:
    first = lab.open([begin(tmp_path), "%kimi_budget --save 0.0015 per day", f"%%kimi --max-tokens 200\n{DRAFT}"])
    run(first, 0)
    run(first, 1)
    first.type(2, ".")
    assert "$0.0015 left of $0.0015 per day" in first.wait_for_gauge(2, "counted")
    first.screenshot("budget-first")

    second = lab.open([begin(tmp_path), "%%kimi --max-tokens 200\nTell me about seas"])
    run(second, 0)
    assert "200 out" in run(second, 1)
    left = re.search(rf"{FIGURE} left of \$0\.0015 per day$", second.wait_for_gauge(1, "billed"))
    assert left is not None
    assert Decimal(left[1]) < Decimal("0.0007")

    asked = len(completions(sandbox))
    first.page.bring_to_front()
    first.type(2, " And lakes.")
    text = first.wait_for_gauge(2, "over-budget")
    first.screenshot("budget-spent-elsewhere")
    assert f"${left[1]} left of $0.0015 per day" in text
    assert "over the budget of $0.0015 per day" in text
    assert f"only ${left[1]} is left" in re.sub(r"\s+", " ", run(first, 2))
    assert len(completions(sandbox)) == asked


# ---------------------------------------------------------------- reports

CALLS = [
    "%%kimi --thinking off --chat trip\nIn one sentence: rivers",
    "%%kimi --thinking off --chat trip\nIn one sentence: lakes",
    "%%kimi -m kimi-k3 --max-tokens 400\nA page on seas",
]
HIDE = "import sys\nfor name in ('matplotlib', 'plotly', 'altair'): sys.modules[name] = None"
REPORTS = [
    *("%kimi_usage", "%kimi_usage today", "%kimi_usage today --by cell", "%kimi_usage today --plot"),
    f"{HIDE}\n%kimi_usage today --plot",
]


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_the_reports_are_drawn_as_tables_and_a_picture(
    lab: Frontend, sandbox: Sandbox, tmp_path: Path, wait_for: WaitFor, theme: str
) -> None:
    notebook = lab.open([begin(tmp_path), *CALLS, *REPORTS])
    if theme == "Dark":
        notebook.page.locator(".lm-MenuBar-item", has_text=re.compile("^Settings$")).click()
        notebook.page.locator(".lm-Menu-item", has_text=re.compile("^Theme$")).click()
        notebook.page.locator(".lm-Menu-item", has_text=re.compile("^JupyterLab Dark$")).click()
        notebook.page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    for index in range(len(CALLS) + 1):
        run(notebook, index)
    overview, by_model, by_cell, plot, text = range(len(CALLS) + 1, len(CALLS) + 1 + len(REPORTS))
    for index in (overview, by_model, by_cell, plot, text):
        run(notebook, index)
        notebook.screenshot(f"usage-{theme.lower()}-{index - overview + 1}")
    rows = {index: notebook.outputs(index).locator("table tbody tr") for index in (overview, by_model, by_cell)}
    picture = notebook.outputs(plot).locator("img")
    picture.wait_for()

    assert {index: found.count() for index, found in rows.items()} == {overview: 5, by_model: 3, by_cell: 4}
    # Several prices in a row are no formula.
    assert [notebook.outputs(index).locator("mjx-container").count() for index in rows] == [0, 0, 0]
    kimi_k26, kimi_k3, together = (
        Decimal(found.locator("td").last.inner_text().removeprefix("$")) for found in rows[by_model].all()
    )
    assert abs(kimi_k26 + kimi_k3 - together) < Decimal("0.0001")
    wait_for(lambda: picture.evaluate("image => image.complete && image.naturalWidth > 600"), what="the plot is drawn")
    chart = notebook.output_text(text)
    assert re.search(rf"\d{{4}}-\d\d-\d\d +█+ +{FIGURE}\nkimi-k2\.6 {FIGURE} · kimi-k3 {FIGURE}", chart), chart

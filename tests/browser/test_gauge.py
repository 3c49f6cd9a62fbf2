"""What a user sees beside a prompt that is being written: tokens and cost, at once and then exactly."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import gauge_golden
import pytest

from kimi_magics.sandbox import Fault

if TYPE_CHECKING:
    from driver import Frontend, NotebookPage

    from kimi_magics.sandbox import Sandbox

    from .conftest import OpenFrontend, WaitFor

LOAD = "%load_ext kimi_magics\n%kimi_config gauge=live\ntopic = 'rivers'"
#: A cell of its own for each test that shares the notebook.
CELLS = {
    "typed": "%%kimi\nTell me about {{topic}}",
    "billed": "%%kimi --thinking off\nIn one word: token",
    "error": "%%kimi",
    "slow": "%%kimi\nA prompt for a host that takes its time",
    "offline": "%%kimi\nA prompt for a host that fails",
    "unpriced": "%%kimi -m kimi-k9\nA prompt for a model that nobody knows",
    "budget": "%%kimi\nA prompt that costs something",
    "context": "%%kimi --max-tokens 262140\nA prompt with a very long answer",
    "spoken": "%%kimi\nA prompt that is read aloud",
    "line": "x = 1\n%kimi what is a token\ny = 2",
    "python": "print('%%kimi is a magic')",
    "busy": "print('a cell that runs')\n",
    "menu": "%%kimi\nA prompt that stays here",
    "kept": "%%kimi --cache --thinking off\nA prompt whose answer is kept",
}
INDEX = {name: index for index, name in enumerate(CELLS, start=1)}


def questions(sandbox: Sandbox) -> int:
    """Return how often the host was asked to count."""
    return sum(request.path.endswith("estimate-token-count") for request in sandbox.requests)


@pytest.fixture(scope="module", params=["lab", "notebook7"])
def shared(
    request: pytest.FixtureRequest, open_frontend: OpenFrontend, shared_sandbox: Sandbox
) -> Iterator[NotebookPage]:
    """One notebook in each front end; its extension is loaded."""
    shared_sandbox.clear()
    with open_frontend(request.param) as frontend:
        notebook = frontend.open([LOAD, *CELLS.values()])
        notebook.wait_for_gauge(INDEX["typed"], "unloaded")
        notebook.screenshot("gauge-unloaded")
        notebook.run(0)
        notebook.wait_until_done(0)
        notebook.wait_for_gauge(INDEX["typed"], "local")
        yield notebook


@pytest.fixture
def notebook(shared: NotebookPage, sandbox: Sandbox) -> NotebookPage:
    """The shared notebook, after the sandbox has forgotten the tests before."""
    return shared


def test_a_notebook_opens_and_loads_without_a_question(shared: NotebookPage, shared_sandbox: Sandbox) -> None:
    assert shared_sandbox.requests == []
    assert shared.gauge(INDEX["python"]).count() == 0


def test_typing_changes_the_number_at_once_and_a_pause_makes_it_exact(notebook: NotebookPage, sandbox: Sandbox) -> None:
    index = INDEX["typed"]
    sandbox.fault(Fault(path="tokenizers", delay_seconds=1.0))
    before = notebook.gauge_tokens(index)
    notebook.type_at_once(index, " and about everything that swims in them")
    text = notebook.wait_for_gauge(index, "counting")
    typed = notebook.gauge_tokens(index)
    counted = notebook.wait_for_gauge(index, "counted")

    assert typed >= before + 3
    assert text.startswith("≈ ")
    assert re.fullmatch(r"\d+ tokens · \$0\.0000\d+ · < 0\.1% of 262\.1K", counted)
    assert questions(sandbox) == 1
    notebook.screenshot("gauge-counted")


def test_what_was_counted_is_what_is_billed(notebook: NotebookPage, sandbox: Sandbox) -> None:
    index = INDEX["billed"]
    notebook.type(index, ", please")
    notebook.wait_for_gauge(index, "counted")
    counted = notebook.gauge_tokens(index)
    notebook.run(index)
    notebook.wait_until_done(index)
    billed = notebook.wait_for_gauge(index, "billed")

    assert re.fullmatch(rf"est\. {counted} → billed {counted} · \$0\.\d+", billed)
    notebook.screenshot("gauge-billed")
    notebook.type(index, " again")
    notebook.wait_for_gauge(index, "counted")


def test_an_answer_that_is_kept_is_told_before_its_run_and_costs_nothing(
    notebook: NotebookPage, sandbox: Sandbox
) -> None:
    index = INDEX["kept"]
    notebook.type(index, "!")
    notebook.wait_for_gauge(index, "counted")
    notebook.run(index)
    notebook.wait_until_done(index)
    notebook.wait_for_gauge(index, "billed")
    notebook.type(index, "!")
    notebook.wait_for_gauge(index, "counted")
    notebook.page.keyboard.press("Backspace")
    before = notebook.wait_for_gauge(index, "kept")
    notebook.screenshot("gauge-kept")
    notebook.run(index)
    notebook.wait_until_done(index)
    after = notebook.wait_for_gauge(index, "billed")
    # Two amounts in a line are no formula, which would have another text.
    notebook.wait_for_output(index, r"replayed · \$0 · first \$0\.\d+ on ")
    notebook.screenshot("gauge-replayed")

    assert re.fullmatch(r"≈? ?\d+ tokens · replayed · \$0 · first \$0\.\d+ on \d{4}-\d\d-\d\d", before)
    assert re.fullmatch(r"replayed · \$0 · first \$0\.\d+ on \d{4}-\d\d-\d\d", after)
    assert sum(request.path.endswith("chat/completions") for request in sandbox.requests) == 1


def test_the_bill_is_shown_for_what_was_sent_and_not_over_what_was_typed_since(
    notebook: NotebookPage, sandbox: Sandbox
) -> None:
    index = INDEX["billed"]
    notebook.type_at_once(index, " and now")
    notebook.page.keyboard.press("Shift+Enter")  # at once: nobody waits for the count
    notebook.wait_until_done(index)
    assert notebook.wait_for_gauge(index, "billed").startswith("est. ")
    sandbox.fault(Fault(path="chat", delay_seconds=1.5))
    notebook.run(index)
    notebook.wait_until_running(index)
    notebook.type(index, " more")
    notebook.wait_until_done(index)
    notebook.wait_until_idle()

    assert notebook.wait_for_gauge(index, "counted").startswith(str(notebook.gauge_tokens(index)))


def test_a_mistake_in_the_first_line_is_said_before_the_run(notebook: NotebookPage, sandbox: Sandbox) -> None:
    index = INDEX["error"]
    notebook.type(index, " --modle x")
    text = notebook.wait_for_gauge(index, "error")
    notebook.screenshot("gauge-error")
    for _ in " --modle x":
        notebook.page.keyboard.press("Backspace")
    empty = notebook.wait_for_gauge(index, "empty")
    notebook.page.keyboard.type("\nhi {{nobody}}")
    unknown = notebook.wait_for_gauge(index, "error")

    assert text.startswith("%%kimi: unknown flag --modle → did you mean --model?")
    assert empty == "the prompt is empty"
    assert "there is no variable 'nobody'" in unknown
    assert questions(sandbox) == 0


def test_a_host_that_fails_leaves_the_local_number_and_the_reason(notebook: NotebookPage, sandbox: Sandbox) -> None:
    index = INDEX["offline"]
    sandbox.fault(Fault(status=500, type="server_error", path="tokenizers", times=None))
    notebook.type(index, " today")
    text = notebook.wait_for_gauge(index, "offline")

    assert re.match(r"≈ \d+ tokens · ≈ \$.* failed \(500", text)
    assert notebook.gauge_tokens(index) > 5
    notebook.screenshot("gauge-offline")
    sandbox.clear()
    run_command(notebook, "Kimi: estimate this cell")
    notebook.wait_for_gauge(index, "counted")


def run_command(notebook: NotebookPage, label: str) -> None:
    """Choose a command in the palette, as a user does who knows its name."""
    notebook.page.keyboard.press("Control+Shift+C")
    notebook.page.locator(".lm-CommandPalette-input:visible").fill(label)
    notebook.page.locator(".lm-CommandPalette-item:visible", has_text=label).first.click()


def test_an_unknown_price_is_said_and_never_nothing(notebook: NotebookPage) -> None:
    index = INDEX["unpriced"]
    notebook.type(index, "!")
    text = notebook.wait_for_gauge(index, "offline")

    assert "unknown price" in text
    assert "$" not in text


def test_the_budget_and_the_context_are_near_or_passed_in_colour_and_words(notebook: NotebookPage) -> None:
    index = INDEX["budget"]
    notebook.type(index, ".")
    notebook.wait_for_gauge(index, "counted")
    colour = "element => getComputedStyle(element.querySelector('.kimi-gauge-tokens')).color"
    calm = notebook.gauge(index).evaluate(colour)
    set_budget(notebook, "0.0000001")
    over = notebook.wait_for_gauge(index, "over-budget")
    notebook.screenshot("gauge-over-budget")
    alarmed = notebook.gauge(index).evaluate(colour)
    set_budget(notebook, "off")
    notebook.wait_for_gauge(index, "counted")
    notebook.type(INDEX["context"], ".")
    context = notebook.wait_for_gauge(INDEX["context"], "over-context")

    assert "left of $0.0000001" in over
    assert "over the budget of $0.0000001 per session: the cell would not be sent" in over
    assert calm != alarmed
    assert "do not fit the context of 262,144" in context


def set_budget(notebook: NotebookPage, amount: str) -> None:
    notebook.cell(0).locator(".cm-content").click()
    notebook.page.keyboard.press("Control+A")
    notebook.page.keyboard.type(f"%kimi_budget {amount}")
    notebook.run(0)
    notebook.wait_until_done(0)


def test_only_what_is_sure_is_read_aloud(notebook: NotebookPage) -> None:
    index = INDEX["spoken"]
    notebook.type(index, ".")
    notebook.wait_for_gauge(index, "counted")
    status = notebook.gauge(index).locator("[role=status][aria-live=polite]")
    changes = status.evaluate_handle(
        """node => {
            const said = [];
            new MutationObserver(() => said.push(node.textContent)).observe(node, {childList: true});
            return said;
        }"""
    )
    notebook.type(index, " It is a prompt of some length, typed key by key.")
    notebook.wait_for_gauge(index, "counted")
    said = changes.json_value()

    assert len(said) <= 2
    assert re.fullmatch(r"\d+ tokens, \$0\.\d+", said[-1])


def test_a_line_has_its_gauge_while_the_cursor_is_on_it(notebook: NotebookPage, wait_for: WaitFor) -> None:
    index = INDEX["line"]
    notebook.cell(index).locator(".cm-line").nth(1).click()
    notebook.wait_for_gauge(index, "counted")
    notebook.screenshot("gauge-line")
    notebook.cell(index).locator(".cm-line").nth(0).click()
    wait_for(lambda: notebook.gauge(index).count() == 0, what="the gauge goes with the cursor")


def test_it_counts_while_a_cell_runs(notebook: NotebookPage) -> None:
    notebook.type(INDEX["busy"], notebook.held)
    notebook.run(INDEX["busy"])
    notebook.wait_until_running(INDEX["busy"])
    notebook.type(INDEX["typed"], " while a cell runs")
    notebook.wait_for_gauge(INDEX["typed"], "counted")

    assert notebook.prompt(INDEX["busy"]) == "[*]:"
    notebook.screenshot("gauge-busy")
    notebook.let_go()
    notebook.wait_until_done(INDEX["busy"])


def test_the_menu_says_where_a_draft_goes_and_changes_it(notebook: NotebookPage, sandbox: Sandbox) -> None:
    index = INDEX["menu"]
    choose(notebook, index, "local")
    notebook.type(index, ", whatever is typed")
    time.sleep(1)
    notebook.wait_for_gauge(index, "local")
    assert questions(sandbox) == 0
    choose(notebook, index, "off")
    off = notebook.wait_for_gauge(index, "off")
    choose(notebook, index, "live")
    notebook.type(index, ".")
    notebook.wait_for_gauge(index, "counted")

    assert off == "the gauge is off"


def choose(notebook: NotebookPage, index: int, mode: str) -> None:
    notebook.gauge(index).locator(".kimi-gauge-menu-button").click()
    if mode == "local":
        notebook.screenshot("gauge-menu")
    notebook.page.locator(f".kimi-gauge-menu [data-mode={mode}]").click()


CHECK_GOLDEN = """async golden => {
    const script = [...document.scripts].find(one => one.src.includes("kimi-magics/static/remoteEntry"));
    const load = name => import(new URL(name, script.src).href);
    const text = {...await load("./gauge_text.js"), ...await load("./gauge_classes.js")};
    const source = expression => String(new RegExp(expression, "gu"));
    const wrong = [];
    const check = (what, is, wanted) =>
        JSON.stringify(is) === JSON.stringify(wanted) || wrong.push({what, is, wanted});
    const classes = Object.entries(text.CLASSES).map(([name, expression]) => [name, String(expression)]);
    check("classes", classes, Object.entries(golden.classes).map(([name, one]) => [name, source(one)]));
    check("rates", text.RATES, golden.rates);
    for (const {name, message, shown} of golden.reports) check(name, text.describe(message), shown);
    for (const {message, shown} of golden.runs) check("run", text.describeRun(message), shown);
    for (const {message, shown} of golden.totals) check("totals", text.describeTotals(message), shown);
    for (const [amount, currency, shown] of golden.money)
        check("money", text.formatMoney(Number(amount), currency), shown);
    for (const [count, shown] of golden.tokens) check("tokens", text.formatTokens(count), shown);
    for (const [draft, is] of golden.drafts) check(draft, text.kindOf(draft) !== "", is);
    for (const [draft, counts] of golden.characters) check("characters", text.countCharacters(draft), counts);
    return wrong;
}"""


def test_the_page_has_the_words_and_classes_of_the_golden_file(notebook: NotebookPage) -> None:
    golden = json.loads(gauge_golden.PATH.read_text("utf-8"))

    assert notebook.page.evaluate(CHECK_GOLDEN, golden) == []


def test_the_page_has_nothing_to_complain_of(notebook: NotebookPage) -> None:
    assert notebook.complaints == []


# ---------------------------------------------------------------- a notebook of its own


@pytest.fixture
def own(open_frontend: OpenFrontend, sandbox: Sandbox) -> Iterator[NotebookPage]:
    """A notebook with a counted draft in cell 1."""
    with open_frontend("lab") as frontend:
        notebook = frontend.open([LOAD, "%%kimi\nTell me about {{topic}}", "print(1)"])
        notebook.run(0)
        notebook.wait_until_done(0)
        notebook.type(1, ".")
        notebook.wait_for_gauge(1, "counted")
        yield notebook


def test_another_value_of_a_variable_is_another_prompt(own: NotebookPage, sandbox: Sandbox) -> None:
    before = own.gauge_tokens(1)
    own.type(2, "; topic = 'rivers and lakes and seas'")
    own.run(2)
    own.wait_until_done(2)
    own.wait_for_gauge(1, "local")
    asked = questions(sandbox)
    own.type(1, "")
    own.wait_for_gauge(1, "counted")

    assert own.gauge_tokens(1) > before
    assert questions(sandbox) == asked + 1


def test_a_reloaded_page_goes_on_without_a_question(own: NotebookPage, sandbox: Sandbox) -> None:
    asked, tokens = questions(sandbox), own.gauge_tokens(1)
    own.save()
    own.reload()
    own.wait_for_gauge(1, "counted")

    assert own.gauge_tokens(1) == tokens
    assert questions(sandbox) == asked
    own.type_at_once(1, " And lakes")
    own.wait_for_gauge(1, "counted")
    assert questions(sandbox) == asked + 1


def test_after_a_restart_one_click_loads_it_again(own: NotebookPage) -> None:
    own.page.locator('[data-command="notebook:restart-kernel"], [data-command="kernelmenu:restart"]').first.click()
    own.page.locator(".jp-Dialog .jp-mod-accept").click()
    own.wait_for_gauge(1, "unloaded")
    own.gauge(1).locator(".kimi-gauge-action").click()
    own.wait_for_gauge(1, "error")
    own.run(0)
    own.wait_until_done(0)
    own.type(1, " Again.")
    own.wait_for_gauge(1, "counted")


def test_a_figure_that_is_being_drawn_outlives_typing(own: NotebookPage) -> None:
    own.type(2, f"\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('drawn')\n{own.held}")
    own.run(2)
    own.wait_for_output(2, "drawn")
    own.type(1, " And lakes, and seas")
    own.wait_for_gauge(1, "counted")
    assert own.prompt(2) == "[*]:"
    own.let_go()
    own.wait_until_done(2)
    own.outputs(2).locator("img").first.wait_for()

    assert own.outputs(2).locator("img").count() == 1


def test_the_gauge_goes_where_its_cell_goes(own: NotebookPage, wait_for: WaitFor) -> None:
    own.cell(1).locator(".jp-InputPrompt").click()
    own.page.keyboard.press("Control+Shift+ArrowDown")
    wait_for(lambda: own.gauge(2).count() == 1 and own.gauge(1).count() == 0, what="the moved cell has its gauge")
    own.page.keyboard.press("c")
    own.page.keyboard.press("v")
    wait_for(lambda: own.gauge(3).count() == 1, what="the copy has one of its own")
    own.type(3, " And lakes")
    own.wait_for_gauge(3, "counted")
    assert own.gauge_tokens(3) > own.gauge_tokens(2)
    own.page.keyboard.press("Escape")
    own.page.keyboard.press("m")
    wait_for(lambda: own.gauge(3).count() == 0, what="a cell of Markdown has none")
    own.page.keyboard.press("y")
    wait_for(lambda: own.gauge(3).count() == 1, what="a cell of code has one again")


# ---------------------------------------------------------------- JupyterLab alone


def test_two_windows_show_the_same_notebook(lab: Frontend, sandbox: Sandbox) -> None:
    first = lab.open([LOAD, "%%kimi\nTell me about {{topic}}"])
    first.run(0)
    first.wait_until_done(0)
    first.save()
    second = lab.open_again(first)
    second.wait_for_gauge(1, "local")
    for notebook in (first, second):
        notebook.type_at_once(1, " and lakes")
        notebook.wait_for_gauge(1, "counted")

    assert first.gauge_tokens(1) == second.gauge_tokens(1)
    assert questions(sandbox) == 1


def test_the_status_bar_sums_up_and_tells_the_balance_on_a_click(lab: Frontend, sandbox: Sandbox) -> None:
    notebook = lab.open([LOAD, "%%kimi --thinking off\nIn one word: token"])
    notebook.run(0)
    notebook.run(1)
    notebook.wait_until_done(1)
    totals = notebook.page.locator(".kimi-gauge-totals", has_text=re.compile(r"^Kimi: 1 call · \d+ tokens · \$0\.\d+$"))
    totals.wait_for()
    assert not [request for request in sandbox.requests if request.path.endswith("balance")]
    totals.click()
    notebook.page.locator(".kimi-gauge-totals", has_text=re.compile(r"balance \$\d")).wait_for()
    notebook.screenshot("gauge-totals")
    notebook.page.locator(".kimi-gauge-totals").click()
    notebook.page.locator(".kimi-gauge-totals", has_text=re.compile(r"balance \$\d")).wait_for()

    assert len([request for request in sandbox.requests if request.path.endswith("balance")]) == 1


def test_the_gauge_is_at_home_in_the_dark_theme_and_obeys_its_settings(
    lab: Frontend, sandbox: Sandbox, wait_for: WaitFor
) -> None:
    notebook = lab.open([LOAD, "%%kimi\nTell me about {{topic}}"])
    notebook.run(0)
    notebook.wait_until_done(0)
    notebook.type(1, " in the dark")
    notebook.wait_for_gauge(1, "counted")
    run_command(notebook, "Theme: JupyterLab Dark")
    notebook.page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    notebook.page.locator("#jupyterlab-splash").wait_for(state="hidden")
    shade = notebook.gauge(1).evaluate(
        "element => getComputedStyle(element).color.match(/[\\d.]+/g).slice(0, 3).map(Number)"
    )
    notebook.screenshot("gauge-dark")
    run_command(notebook, "Theme: JupyterLab Light")
    assert min(shade) > 100
    try:
        lab.server.set_setting("kimi-magics:gauge", {"enabled": False})
        notebook.reload()
        wait_for(lambda: notebook.gauge(1).is_hidden(), what="the gauge is switched off")
        asked = questions(sandbox)
        notebook.type(1, " and where nobody counts")
        time.sleep(1)
        assert questions(sandbox) == asked
    finally:
        lab.server.set_setting("kimi-magics:gauge", {})

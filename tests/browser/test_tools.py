"""What a user sees of the tools that a model calls: each call in a row, to unfold, while it runs and afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from driver import Frontend, NotebookPage
    from playwright.sync_api import Locator

    from .conftest import WaitFor

EVIL = "<img src=x onerror=\"document.title='run'\"> costs $1 and $2"
THOUGHTS = "The reader wants to know where it is warm, so I ask for both cities. "
#: Shows a reply by scripted events; each `hold` waits until the test makes a file of that name after `stem`.
SCRIPT = f"""
import pathlib, time
from kimi_magics.core.events import *
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Usage
from kimi_magics.notebook.cell_runs import cell_id
from kimi_magics.notebook.reply_widget import WidgetView

def hold(name, *, thinking=""):
    while not pathlib.Path(f"{{stem}}-{{name}}").exists():
        time.sleep(0.1)
        if thinking:
            add(ThinkingDelta(thinking))

paris = ToolCall("weather:0", "weather", '{{"city": "Paris", "days": 3}}')
rome = ToolCall("weather:1", "weather", '{{"city": "Rome"}}')
more = [ToolCall(f"add:{{number}}", "add", f'{{{{"a": {{number}}}}}}') for number in range(24)]
prompt = Prompt(Model("kimi-k2.6"), (Message("user", "hi"),))
view = WidgetView(get_ipython(), prompt, cell=cell_id(get_ipython()), has_footer=True)
reply = Reply("kimi-k2.6")

def add(*events):
    for event in events:
        reply.add(event)
        view.show(reply, event)

view.begin(reply)
add(ThinkingDelta({THOUGHTS!r}), TextDelta("Let me look at **both** cities."))
add(ToolCallDelta(0, paris.id, paris.name, paris.arguments), ToolCallDelta(1, rome.id, rome.name, rome.arguments))
add(UsageReported(Usage(472, 100)), Completed(), ToolCalled(paris), ToolCalled(rome))
hold("returned")
add(ToolReturned(paris, "21 °C, sunny\\n" + {EVIL!r}, False, 0.31), ToolReturned(rome, {EVIL!r}, True, 0.02))
hold("step")
add(NextStep((Message("assistant", reply.step_text, calls=(paris, rome)),)), ThinkingDelta("Paris it is."))
hold("answer", thinking=" Sun!")
add(TextDelta("## Paris\\n\\nIt is *sunny* there, 21 °C."))
hold("more")
for call in more:
    add(ToolCalled(call), ToolReturned(call, "x", False, 0.0))
hold("end")
add(NextStep((Message("assistant", "", calls=tuple(more)),), "asked again: nobody needs so many sums"))
add(TextDelta("Paris is warm."), UsageReported(Usage(764, 312)), Finished("stop"), Completed())
reply.seconds = 2.13
view.end(reply, None)
"""


class Shown:
    """A notebook whose cell shows the scripted reply; the test says when it goes on."""

    def __init__(self, notebook: NotebookPage) -> None:
        self.notebook = notebook
        self.live = notebook.outputs(0).locator(".kimi-reply")
        self.rows = self.live.locator(".kimi-call")

    def go_on(self, *names: str) -> None:
        for name in names:
            Path(f"{self.notebook.path.with_suffix('')}-{name}").touch()

    def summary(self, index: int) -> Locator:
        return self.rows.nth(index).locator("summary")


@pytest.fixture
def shown(frontend: Frontend) -> Iterator[Shown]:
    """The reply as it is while both tools run."""
    yield from _show(frontend)


@pytest.fixture
def shown_in_lab(lab: Frontend) -> Iterator[Shown]:
    """The same in JupyterLab alone."""
    yield from _show(lab)


def _show(frontend: Frontend) -> Iterator[Shown]:
    (frontend.server.folder / "tools.txt").write_text(SCRIPT, "utf-8")
    notebook = frontend.open(["exec(open('tools.txt', encoding='utf-8').read()"])
    notebook.type_at_once(0, f", globals() | {{'stem': {notebook.path.stem!r}}})")
    notebook.run(0)
    shown = Shown(notebook)
    expect(shown.rows).to_have_count(2)
    yield shown
    shown.go_on("returned", "step", "answer", "more", "end")


def test_calls_are_seen_while_they_run_and_what_was_opened_stays_open(shown: Shown) -> None:
    notebook, live = shown.notebook, shown.live
    expect(shown.summary(0)).to_have_text('weather(city="Paris", days=3) …')
    expect(shown.summary(1)).to_have_text('weather(city="Rome") …')
    expect(live.locator("[role=status]")).to_have_text("Kimi is using tools")
    expect(live.locator(".kimi-earlier")).to_have_text("Let me look at **both** cities.")
    expect(live.locator(".kimi-answer .kimi-block")).to_have_count(0)
    assert [row.get_attribute("open") for row in shown.rows.all()] == [None, None]
    shown.summary(0).click()
    expect(shown.rows.nth(0).locator(".kimi-arguments")).to_have_text('{\n  "city": "Paris",\n  "days": 3\n}')
    expect(shown.rows.nth(0).locator(".kimi-result")).to_be_hidden()
    notebook.screenshot("tools-running")

    shown.go_on("returned")
    expect(shown.summary(0)).to_have_text('weather(city="Paris", days=3) → 21 °C, sunny … · 0.3 s')
    expect(shown.rows.nth(0)).to_have_attribute("open", "")
    expect(shown.rows.nth(0).locator(".kimi-result")).to_have_text(f"21 °C, sunny\n{EVIL}")
    expect(shown.rows.nth(1)).to_have_class("kimi-call kimi-failed")
    expect(shown.summary(1)).to_have_text(re.compile(r'^weather\(city="Rome"\) failed: <img src=x .*$'))
    notebook.screenshot("tools-returned")

    shown.go_on("step")
    expect(live.locator(".kimi-thoughts")).to_contain_text("Paris it is.")
    expect(live.locator(".kimi-thoughts p")).to_have_count(2)
    shown.go_on("answer")
    expect(live.locator(".kimi-answer h2")).to_contain_text("Paris")
    expect(shown.rows.nth(0)).to_have_attribute("open", "")
    order = live.evaluate("live => [...live.querySelectorAll('.kimi-tools > *')].map(row => row.className)")
    assert order == ["kimi-remark", "kimi-earlier", "kimi-call kimi-done", "kimi-call kimi-failed"]
    expect(live.locator("[role=status]")).to_have_text("Kimi is answering")
    notebook.screenshot("tools-answering")


def test_of_many_calls_the_latest_are_seen_and_the_others_counted(shown_in_lab: Shown) -> None:
    shown_in_lab.go_on("returned", "step", "answer", "more")
    expect(shown_in_lab.rows).to_have_count(20)
    expect(shown_in_lab.summary(19)).to_have_text("add(a=23) → x")
    expect(shown_in_lab.summary(0)).to_have_text("add(a=4) → x")
    expect(shown_in_lab.live.locator(".kimi-remark")).to_have_text("… 8 before these")
    shown_in_lab.notebook.screenshot("tools-many")


def test_page_that_is_loaded_again_has_the_calls_and_goes_on(shown_in_lab: Shown) -> None:
    notebook = shown_in_lab.notebook
    shown_in_lab.go_on("returned", "step")
    expect(shown_in_lab.rows.nth(1)).to_have_class("kimi-call kimi-failed")
    notebook.save()
    # The page learns of the reply by its next message: the model goes on thinking meanwhile.
    notebook.reload(is_busy=True)
    expect(shown_in_lab.rows).to_have_count(2)
    expect(shown_in_lab.summary(0)).to_contain_text("→ 21 °C, sunny")
    shown_in_lab.go_on("answer")
    expect(shown_in_lab.live.locator(".kimi-answer")).to_contain_text("It is sunny there")
    expect(shown_in_lab.live.locator(".kimi-earlier")).to_have_count(1)


def test_afterwards_the_calls_are_below_the_answer_and_nothing_in_them_runs(shown: Shown, wait_for: WaitFor) -> None:
    notebook = shown.notebook
    shown.go_on("returned", "step", "answer", "more", "end")
    notebook.wait_until_done(0)
    expect(shown.live).to_have_count(0)
    answer, footer = notebook.outputs(0).first, notebook.outputs(0).last
    expect(answer).to_have_text("Paris is warm.")
    calls = footer.locator("details")
    expect(calls).to_have_count(19)
    expect(calls.first.locator("summary")).to_have_text('weather(city="Paris", days=3) → 21 °C, sunny … · 0.3 s')
    calls.first.locator("summary").click()
    expect(calls.first.locator("pre").last).to_have_text(f"21 °C, sunny\n{EVIL}")
    expect(footer).to_contain_text("… and 7 more")
    expect(footer).to_contain_text("2.1 s · 3 steps · 1.2K in / 412 out")
    notebook.screenshot("tools-footer")
    for bad in ("img", "mjx-container"):
        expect(footer.locator(bad)).to_have_count(0)
    assert notebook.page.title() != "run"

    outputs = notebook.save()["cells"][0]["outputs"]
    assert [set(output["data"]) for output in outputs] == [
        {"text/markdown", "text/plain"},
        {"text/html", "text/plain"},
    ]


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_every_row_can_be_read_in_light_and_dark(lab: Frontend, theme: str) -> None:
    plugin = "@jupyterlab/apputils-extension:themes"
    lab.server.set_setting(plugin, {"theme": theme})
    try:
        for shown in _show(lab):
            name = theme.split()[1].lower()
            shown.go_on("returned", "step")
            expect(shown.rows.nth(1)).to_have_class("kimi-call kimi-failed")
            for index in range(2):
                shown.summary(index).click()
            shown.notebook.screenshot(f"tools-{name}")
            shown.go_on("answer", "more", "end")
            shown.notebook.wait_until_done(0)
            shown.notebook.outputs(0).last.locator("summary").nth(1).click()
            shown.notebook.screenshot(f"tools-footer-{name}")
            is_light = shown.notebook.page.locator("body").get_attribute("data-jp-theme-light")
            assert is_light == str(name == "light").lower()
    finally:
        lab.server.set_setting(plugin, {})

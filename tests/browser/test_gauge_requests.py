"""How often the gauge asks the host: never for cells that are only looked at, and seldom while someone types."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driver import Frontend

    from kimi_magics.sandbox import Sandbox

    from .conftest import WaitFor

LOAD = "%load_ext kimi_magics\n%kimi_config gauge=live"
PROMPTS = 50
#: Longer than the pause after which the gauge asks, and than what the kernel needs to answer.
PAUSE_MS = 300
SETTLE_MS = 2_000


def count_questions(sandbox: Sandbox) -> int:
    return sum(request.path.endswith("estimate-token-count") for request in sandbox.requests)


def test_a_notebook_of_fifty_prompts_opens_without_a_request(
    lab: Frontend, sandbox: Sandbox, wait_for: WaitFor
) -> None:
    notebook = lab.open([LOAD, *(f"%%kimi\nSay what {number} is." for number in range(PROMPTS))])
    notebook.run(0)
    notebook.wait_until_done(0)
    gauges = notebook.page.locator("[data-kimi-gauge]")
    wait_for(lambda: gauges.count() == PROMPTS, what="each prompt has its gauge")
    for number in range(0, PROMPTS, 7):
        gauges.nth(number).scroll_into_view_if_needed()
    # The kernel says what it knows by itself.
    notebook.wait_for_gauge(PROMPTS, "local")
    notebook.gauge(PROMPTS).locator(".kimi-gauge-cost", has_text="$").wait_for()
    notebook.page.wait_for_timeout(SETTLE_MS)
    notebook.screenshot("gauge-fifty")

    assert sandbox.requests == []


def test_a_hundred_characters_with_pauses_are_at_most_twelve_questions(lab: Frontend, sandbox: Sandbox) -> None:
    notebook = lab.open([LOAD, "%%kimi\nTell me"])
    notebook.run(0)
    notebook.wait_until_done(0)
    notebook.wait_for_gauge(1, "local")
    notebook.type(1, " ")
    for number in range(33):
        notebook.page.keyboard.type(f"{number:03}")
        notebook.page.wait_for_timeout(PAUSE_MS)
    notebook.wait_for_gauge(1, "counted")

    assert 3 <= count_questions(sandbox) <= 12
    assert sandbox.requests[-1].body["messages"][-1]["content"].endswith("031032")

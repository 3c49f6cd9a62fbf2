"""What a user sees and can do while an answer comes, in JupyterLab and Notebook 7, and that nothing of it stays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from kimi_magics.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from driver import Frontend, NotebookPage
    from playwright.sync_api import Locator

    from .conftest import Answer, Answering, OpenFrontend, WaitFor

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
THOUGHTS = "The reader asks for a list of rivers. " * 12
ALL_RIVERS = [f"## River {number}\n\nIts **water** flows to the `sea`.\n\n" for number in range(180)]
RIVERS, MANY_RIVERS = "".join(ALL_RIVERS[:60]), "".join(ALL_RIVERS)
FOOTER = r"\d+\.\d s · .* in / .* out"


def live(notebook: NotebookPage) -> Locator:
    """Return the growing answer's element."""
    return notebook.outputs(1).locator(".kimi-reply")


def saved_outputs(notebook: NotebookPage) -> list[dict[str, Any]]:
    """Return the answer's outputs as the file keeps them, when all have come."""
    notebook.wait_until_idle()
    return notebook.save()["cells"][1]["outputs"]


def count_rivers(notebook: NotebookPage) -> int:
    return live(notebook).locator("h2").count()


# ---------------------------------------------------------------- what is seen


def test_reasoning_is_open_while_the_model_thinks_and_folds_when_the_answer_begins(
    answer: Answer, wait_for: WaitFor
) -> None:
    notebook = answer(RIVERS, thinking=THOUGHTS, is_held=True)
    thinking = live(notebook).locator("details")
    expect(thinking.locator(".kimi-thoughts")).to_contain_text("a list of rivers")
    expect(thinking).to_have_attribute("open", "")
    expect(thinking.locator("summary")).to_have_text("Thinking…")
    notebook.screenshot("live-thinking")

    notebook.stream.go_on()
    wait_for(lambda: count_rivers(notebook) > 1, what="the answer begins")
    assert thinking.get_attribute("open") is None
    notebook.screenshot("live-answering")
    thinking.locator("summary").click()
    before = count_rivers(notebook)
    wait_for(lambda: count_rivers(notebook) > before + 1, what="the answer goes on")
    assert thinking.get_attribute("open") is not None, "what the reader chose stays"
    assert thinking.locator(".kimi-thoughts").inner_text().count("rivers") == 12


def test_blocks_are_drawn_once_by_the_front_end_s_own_renderer(answer: Answer, wait_for: WaitFor) -> None:
    text = "| a | b |\n|--|--|\n| 1 | 2 |\n\n```python\nx = 1  # one\n```\n\nThe sum $x^2$ is.\n\n" + RIVERS
    notebook = answer(text)
    wait_for(lambda: count_rivers(notebook) > 3, what="the first blocks are done")
    first = live(notebook).locator(".kimi-block").first
    first.evaluate("block => block.firstElementChild.dataset.mark = 'kept'")

    for tag in ("table", "mjx-math"):
        expect(live(notebook).locator(tag)).to_have_count(1)
    wait_for(lambda: live(notebook).locator("pre code span").count() > 1, what="the code is highlighted")
    before = count_rivers(notebook)
    wait_for(lambda: count_rivers(notebook) > before, what="the answer goes on")
    assert first.locator("[data-mark=kept]").count() == 1


def test_status_line_tells_time_tokens_rate_and_cost(answer: Answer, wait_for: WaitFor) -> None:
    notebook = answer(RIVERS)
    figures = live(notebook).locator(".kimi-figures")
    expect(figures).to_have_text(re.compile(r"^\d+ s · ≈ [\d.]+K? tokens · \d+ tok/s · ≈ \$0\.\d+$"))
    before = figures.inner_text()
    wait_for(lambda: figures.inner_text() != before, what="the figures change")


def test_waiting_for_the_host_shows_a_countdown_that_gives_way_to_the_answer(
    lab: Frontend, sandbox: Sandbox, wait_for: WaitFor
) -> None:
    busy = Fault(429, "engine_overloaded_error", "The engine is currently overloaded", {"retry-after": "3"})
    sandbox.fault(busy)
    notebook = lab.open(["%load_ext kimi_magics", "%%kimi\nHello"])
    notebook.run(0)
    notebook.wait_until_done(0)
    notebook.run(1)
    note = live(notebook).locator(".kimi-note")
    wait_for(lambda: "trying again in" in "".join(note.all_inner_texts()), what="the countdown is seen")
    notebook.screenshot("live-countdown")
    wait_for(lambda: live(notebook).locator(".kimi-block").count() > 0, what="the answer begins")
    expect(note).to_be_hidden()
    notebook.wait_until_done(1)


def contrast(element: Locator) -> float:
    """Return the contrast of an element's text to what is behind it, as WCAG defines it."""
    return element.evaluate(
        """element => {
            const parse = color => color.match(/[\\d.]+/g).map(Number);
            const light = rgb => rgb.slice(0, 3).map(part => part / 255)
                .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
            let behind = element, back = [0, 0, 0, 0];
            while (behind && back[3] === 0) {
                const color = parse(getComputedStyle(behind).backgroundColor);
                back = color.length === 3 ? [...color, 1] : color;
                behind = behind.parentElement;
            }
            const both = [light(parse(getComputedStyle(element).color)), light(back)].sort((a, b) => b - a);
            return (both[0] + 0.05) / (both[1] + 0.05);
        }"""
    )


# The theme stays for the tests after this one: light comes last.
@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_every_part_can_be_read_in_light_and_dark(answer_in_lab: Answer, wait_for: WaitFor, theme: str) -> None:
    notebook = answer_in_lab(RIVERS, thinking=THOUGHTS)
    notebook.page.locator(".lm-MenuBar-item", has_text=re.compile("^Settings$")).click()
    notebook.page.get_by_text("Theme", exact=True).hover()
    notebook.page.get_by_text(theme, exact=True).click()
    is_light = "true" if theme.endswith("Light") else "false"
    notebook.page.locator(f"body[data-jp-theme-light={is_light}]").wait_for(state="attached")
    wait_for(lambda: count_rivers(notebook) > 1, what="the answer begins")
    live(notebook).locator("summary").click()
    notebook.screenshot(f"live-{theme.split()[1].lower()}")
    for part in (".kimi-answer p", ".kimi-thoughts p", "summary", ".kimi-figures", ".kimi-stop"):
        assert contrast(live(notebook).locator(part).first) >= 4.5, part


def test_nothing_moves_for_those_who_asked_for_less_motion(answer_in_lab: Answer) -> None:
    notebook = answer_in_lab(RIVERS)
    dot = live(notebook).locator(".kimi-dot")
    expect(dot).to_have_css("animation-name", "kimi-pulse")
    notebook.page.emulate_media(reduced_motion="reduce")
    try:
        expect(dot).to_have_css("animation-name", "none")
    finally:
        notebook.page.emulate_media(reduced_motion="no-preference")


def test_a_screen_reader_hears_what_goes_on_and_not_each_piece(answer_in_lab: Answer, wait_for: WaitFor) -> None:
    notebook = answer_in_lab(RIVERS, thinking=THOUGHTS, is_held=True)
    said = live(notebook).locator("[role=status]")
    expect(said).to_have_text("Kimi is thinking")
    heard = said.evaluate_handle(
        """node => {
            const heard = [node.textContent];
            new MutationObserver(() => heard.push(node.textContent)).observe(node, {childList: true});
            return heard;
        }"""
    )
    notebook.stream.go_on()
    wait_for(lambda: count_rivers(notebook) > 5, what="the answer goes on")
    assert heard.json_value() == ["Kimi is thinking", "Kimi is answering"]
    assert live(notebook).locator("[aria-live]").count() == 0


def test_page_follows_the_answer_only_while_the_reader_is_at_its_end(answer: Answer, wait_for: WaitFor) -> None:
    notebook = answer(MANY_RIVERS)
    bar = live(notebook).locator(".kimi-bar")
    wait_for(lambda: count_rivers(notebook) > 20, what="the answer is longer than the window")
    height = notebook.page.viewport_size["height"]
    assert 0 < bar.bounding_box()["y"] < height, "the end is followed"

    first = live(notebook).locator("h2").first
    first.scroll_into_view_if_needed()
    place, before = first.bounding_box()["y"], count_rivers(notebook)
    wait_for(lambda: count_rivers(notebook) > before + 5, what="the answer goes on")
    assert abs(first.bounding_box()["y"] - place) < 2, "a reader elsewhere is left alone"


# ---------------------------------------------------------------- stop


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_stop_ends_the_answer_and_keeps_what_has_arrived(answer: Answer, wait_for: WaitFor, by: str) -> None:
    notebook = answer(MANY_RIVERS)
    wait_for(lambda: count_rivers(notebook) > 3, what="the answer has begun")
    stop = live(notebook).get_by_role("button", name="Stop")
    if by == "mouse":
        stop.click()
    else:
        stop.focus()
        notebook.page.keyboard.press("Enter")
    notebook.wait_until_done(1)
    expect(live(notebook)).to_have_count(0)
    notebook.screenshot(f"live-stopped-by-{by}")

    given, footer, error = saved_outputs(notebook)
    assert "".join(given["data"]["text/plain"]).startswith("## River 0\n")
    assert "River 179" not in "".join(given["data"]["text/plain"])
    assert "".join(footer["data"]["text/plain"]).startswith("partial · ")
    assert error["ename"] == "InterruptedReplyError"


def test_interrupted_reasoning_stays(answer_in_lab: Answer) -> None:
    notebook = answer_in_lab(RIVERS, thinking=THOUGHTS * 3)
    expect(live(notebook)).to_contain_text("a list of rivers")
    live(notebook).get_by_role("button", name="Stop").click()
    notebook.wait_until_done(1)
    expect(live(notebook)).to_have_count(0)
    expect(notebook.outputs(1).first).to_contain_text("a list of rivers")
    notebook.screenshot("live-stopped-thinking")


# ---------------------------------------------------------------- what may go wrong on the way


@pytest.mark.parametrize(("name", "is_saved"), [("lab", True), ("lab", False), ("notebook7", True)])
def test_page_that_is_loaded_again_goes_on_where_the_answer_is_and_ends_as_a_page(
    open_frontend: OpenFrontend, answering: Answering, wait_for: WaitFor, name: str, is_saved: bool
) -> None:
    with open_frontend(name) as frontend, answering(frontend, MANY_RIVERS, delay_seconds=0.03) as notebook:
        wait_for(lambda: count_rivers(notebook) > 2, what="the answer has begun")
        if is_saved:
            notebook.save()
        notebook.page.on("dialog", lambda dialog: dialog.accept())
        notebook.reload(is_busy=True)
        wait_for(lambda: count_rivers(notebook) > 2, what="the text so far is there again")
        assert "River 0" in live(notebook).inner_text()
        before = count_rivers(notebook)
        wait_for(lambda: count_rivers(notebook) > before, what="the answer goes on")
        notebook.screenshot("live-reloaded")

        notebook.stream.hurry()
        notebook.wait_for_output(1, FOOTER)
        answer, footer = saved_outputs(notebook)
        assert "".join(answer["data"]["text/plain"]) == MANY_RIVERS
        assert set(answer["data"]) == {"text/markdown", "text/plain"}
        assert answer["metadata"]["kimi_magics"]["finish_reason"] == "stop"
        assert re.fullmatch(FOOTER + ".*", "".join(footer["data"]["text/plain"]))


def test_stop_works_after_the_page_was_loaded_again(lab: Frontend, answering: Answering, wait_for: WaitFor) -> None:
    with answering(lab, MANY_RIVERS, delay_seconds=0.03) as notebook:
        wait_for(lambda: count_rivers(notebook) > 2, what="the answer has begun")
        notebook.save()
        notebook.reload(is_busy=True)
        live(notebook).get_by_role("button", name="Stop").click()
        notebook.wait_for_output(1, "InterruptedReplyError")
        assert "River 179" not in notebook.output_text(1)


def test_second_view_of_the_output_shows_the_text_so_far_and_goes_on(
    lab: Frontend, answering: Answering, wait_for: WaitFor
) -> None:
    with answering(lab, MANY_RIVERS) as notebook:
        wait_for(lambda: count_rivers(notebook) > 2, what="the answer has begun")
        notebook.outputs(1).first.click(button="right", position={"x": 5, "y": 5})
        notebook.page.get_by_text("Create New View for Cell Output", exact=True).click()
        second = notebook.page.locator(".jp-LinkedOutputView .kimi-reply h2")
        wait_for(lambda: second.count() > 2, what="the second view shows the text so far")
        before = second.count()
        wait_for(lambda: second.count() > before, what="the second view goes on")
        notebook.screenshot("live-second-view")


def test_lost_message_is_made_up_for(lab: Frontend, answering: Answering, wait_for: WaitFor) -> None:
    lab.context.add_init_script(
        """
        window.lost = [];
        window.WebSocket = class extends WebSocket {
            set onmessage(take) {
                super.onmessage = event => {
                    const data = event.data;
                    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
                    const number = Number(/"number": ?(\\d+), ?"patches"/.exec(text)?.[1]);
                    if (number >= 30 && number < 33) window.lost.push(number);
                    else take.call(this, event);
                };
            }
        };
        """
    )
    with answering(lab, MANY_RIVERS) as notebook:
        wait_for(lambda: notebook.page.evaluate("lost.length") > 0, what="a message was lost")
        before = count_rivers(notebook)
        wait_for(lambda: count_rivers(notebook) > before + 5, what="the answer goes on")
        *titles, _ = live(notebook).locator("h2").all_inner_texts()  # the last may be half there
        assert titles == [f"River {number}" for number in range(len(titles))]


def test_without_our_extension_the_text_grows_as_it_came(
    lab: Frontend, answering: Answering, wait_for: WaitFor
) -> None:
    lab.context.route(re.compile("labextensions/kimi-magics|extensions/kimi-magics"), lambda route: route.abort())
    with answering(lab, "Is `1 < 2` & *true*?\n\n" + RIVERS) as notebook:
        expect(live(notebook)).to_contain_text("## River 2")
        expect(live(notebook)).to_contain_text("Is `1 < 2` & *true*?")
        notebook.screenshot("live-without-extension")
        notebook.stream.hurry()
        notebook.wait_until_done(1)
        expect(notebook.outputs(1).locator("h2")).to_have_count(60)


def test_answer_of_5000_pieces_arrives_whole(answer_in_lab: Answer) -> None:
    text = "".join(f"Line {number:04} of many.\n\n" for number in range(2500))
    notebook = answer_in_lab(text, delay_seconds=0.001, size=10)
    notebook.wait_until_done(1)
    expect(notebook.outputs(1).first.locator("p")).to_have_count(2500)
    given, _ = saved_outputs(notebook)
    assert "".join(given["data"]["text/plain"]) == text

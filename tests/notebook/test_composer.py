"""The composer, used as a page uses it: fields are set, buttons pressed."""

from __future__ import annotations

import gc
import html
import json
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ipywidgets
import pytest

from kimi_magics.core.ask import LineParser
from kimi_magics.errors import ImageError, MagicLineError, RefusedError
from kimi_magics.notebook.composer import Composer
from kimi_magics.notebook.composer_parts import Fields, write_cell, write_flags
from kimi_magics.notebook.composers import Composers
from kimi_magics.notebook.magics import KimiMagics
from kimi_magics.notebook.parsers import PARSERS
from kimi_magics.sandbox import Fault, Sandbox

SECONDS = 30
ESTIMATE, CHAT = "/v1/tokenizers/estimate-token-count", "/v1/chat/completions"
#: A prompt that the API has to count: the count of another one says nothing about it.
PROMPT = "Which of the two is the larger one, 9.11 or 9.9, and why?"


@pytest.fixture
def magics(cells: Any, sandbox: Sandbox) -> KimiMagics:
    return cells.shell.magics_manager.registry["KimiMagics"]


@pytest.fixture
def composers(magics: KimiMagics) -> Iterator[Composers]:
    """The composers of a shell whose cells have the id `abc`."""
    magics.shell.get_parent = lambda: {"metadata": {"cellId": "abc"}}
    composers = magics._make_composers()
    yield composers
    composers.close()
    wait_for(lambda: not our_threads())


def open_composer(composers: Composers, line: str = "") -> Composer:
    return composers.open(PARSERS["kimi_draft"].parse_line(line), typed=line)


def wait_for(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kimi-composer")]


def shown(composer: Composer) -> str:
    """Return the gauge's line as one reads it."""
    return html.unescape(re.sub("<[^>]*>", "", composer.gauge.value))


def texts(sandbox: Sandbox, path: str) -> list[str]:
    """Return the prompts that were sent there."""
    return [request.body["messages"][-1]["content"] for request in sandbox.requests if request.path == path]


def send(composer: Composer) -> None:
    composer.send.click()
    wait_for(lambda: not composer.send.disabled)


def printed(composer: Composer) -> str:
    return "".join(output.get("text", "") for output in composer.output.outputs)


# ---------------------------------------------------------------- the cell


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "-m kimi-k3 --effort low -o answer What's {{it}}?",
        "-m 'a model' -s 'Be \"brief\", it\\'s late' -- -dash",
        '-s "Answer in French." --max-tokens 50 --stop END --stop "a b" --thinking off --no-stream --raw hi',
        "--stop=--raw --stop=-1 --dry-run -i a.png -i 'b c.png' hi",
        "-s '' hi",
    ],
)
def test_what_the_line_says_is_in_the_fields_and_in_the_cell_that_they_make(line: str) -> None:
    ask = PARSERS["kimi_draft"].parse_line(line)
    cell = write_cell(Fields(ask.text, ask.model or "", write_flags(ask)))
    first, _, body = cell.partition("\n")
    assert first.startswith("%%kimi")
    assert PARSERS["kimi"].parse_cell(first.removeprefix("%%kimi"), body) == ask


def test_a_field_cannot_become_a_part_of_the_prompt() -> None:
    assert write_cell(Fields("text", "kimi-k3\nmodel", "-o a\n-s b")) == "%%kimi -m 'kimi-k3 model' -o a -s b\ntext"


def test_the_line_is_read_like_any_other(cells: Any) -> None:
    assert isinstance(cells.run("%kimi_draft --mdel x").error, MagicLineError)
    assert "--effort" in cells.run("%kimi_draft --help").stdout
    assert isinstance(PARSERS["kimi_draft"], LineParser)


def test_a_terminal_is_told_what_to_do_instead(cells: Any, sandbox: Sandbox) -> None:
    ran = cells.run("%kimi_draft why?")
    assert type(ran.error) is RefusedError
    assert ran.shown_error == (
        "RefusedError: a terminal has no composer\n  → type %%kimi: the line below it shows the same gauge"
    )
    assert "ipywidgets" not in ran.stdout
    assert sandbox.requests == []


# ---------------------------------------------------------------- the gauge


def test_to_open_one_asks_nothing_of_the_host(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers, f"-m kimi-k3 --effort low {PROMPT}")
    assert composer.fields == Fields(PROMPT, "kimi-k3", "--effort low")
    assert shown(composer).startswith("estimated · ≈ ")
    assert "kimi-k3" in composer.gauge.value
    assert (our_threads(), sandbox.requests) == ([], [])


def test_an_edit_is_counted_here_at_once_and_then_by_the_api(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers)
    assert shown(composer) == "the prompt is empty"
    composer.text.value = PROMPT
    assert shown(composer).startswith("estimated · ≈ ")
    wait_for(lambda: shown(composer).startswith("counted · "))
    assert "≈" not in shown(composer).split(" · answer")[0]
    assert texts(sandbox, ESTIMATE) == [PROMPT]


def test_of_fast_typing_only_the_end_is_counted_and_nothing_twice(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers)
    for length in range(1, len(PROMPT) + 1):
        composer.text.value = PROMPT[:length]
    wait_for(lambda: shown(composer).startswith("counted"))
    composer.text.value = f"{PROMPT}!"
    composer.text.value = PROMPT
    assert shown(composer).startswith("counted")
    wait_for(lambda: not our_threads())
    assert texts(sandbox, ESTIMATE) == [PROMPT]


def test_one_question_is_under_way_and_its_answer_is_dropped_when_the_text_is_another(
    composers: Composers, sandbox: Sandbox
) -> None:
    sandbox.fault(Fault(delay_seconds=0.8, path="tokenizers"))
    composer = open_composer(composers)
    composer.text.value = "first"
    wait_for(lambda: texts(sandbox, ESTIMATE))
    composer.text.value = "second " * 50
    composer.text.value = PROMPT
    seen = set()
    while our_threads():
        seen.add(shown(composer).split(" · ")[1].lstrip("≈ "))
        assert our_threads() in (["kimi-composer"], [])
        time.sleep(0.01)
    assert texts(sandbox, ESTIMATE) == ["first", PROMPT]
    assert shown(composer).startswith("counted")
    assert len(seen) <= 2, seen


def test_a_host_that_cannot_be_asked_leaves_the_local_count_and_says_why(
    composers: Composers, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    composer = open_composer(composers)
    composer.text.value = PROMPT
    wait_for(lambda: "there is no API key" in shown(composer))
    assert shown(composer).startswith("estimated · ≈ ")
    assert sandbox.requests == []


def test_what_is_wrong_is_said_in_words_and_colour(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers)
    composer.text.value = "hi {{nobody}}"
    assert shown(composer).startswith("error · {{nobody}}: there is no variable")
    assert "--jp-error-color1" in composer.gauge.value
    composer.text.value, composer.flags.value = "hi", "--max-tokens 300000"
    assert shown(composer).startswith("too long · ")
    composer.flags.value = "--nonsense"
    assert shown(composer).startswith("error · %%kimi: unknown flag --nonsense")
    wait_for(lambda: not our_threads())
    assert sandbox.requests == []


def test_nothing_of_a_draft_is_markup(composers: Composers, sandbox: Sandbox) -> None:
    attack = "<img src=x onerror=alert(1)>\"'><script>"
    composer = open_composer(composers)
    composer.text.value = f"{{{{{attack}}}}}"
    composer.model.value = attack
    composer.flags.value = f"{attack} --x"
    composer.flags.value = ""
    composer.text.value = "hi"
    wait_for(lambda: not our_threads())
    assert "no model" in composer.gauge.value
    assert re.findall("<[a-z/]*", composer.gauge.value) == ["<span", "<b", "</b", "</span"]


def test_a_cell_that_changed_a_variable_has_the_draft_counted_again(
    composers: Composers, cells: Any, sandbox: Sandbox
) -> None:
    cells.run("topic = 'cats'")
    composer = open_composer(composers)
    composer.text.value = "About {{topic}}"
    wait_for(lambda: shown(composer).startswith("counted"))
    cells.run("topic = 'cats and dogs and birds'")
    wait_for(lambda: len(texts(sandbox, ESTIMATE)) == 2)
    wait_for(lambda: not our_threads())
    cells.run("other = 1")
    wait_for(lambda: not our_threads())
    assert texts(sandbox, ESTIMATE) == ["About cats", "About cats and dogs and birds"]


def test_a_gauge_that_is_off_or_local_asks_nothing(composers: Composers, cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config gauge=off")
    composer = open_composer(composers)
    composer.text.value = PROMPT
    assert shown(composer).startswith("the gauge is off")
    cells.run("%kimi_config gauge=local")
    wait_for(lambda: shown(composer).startswith("estimated · ≈ "))
    wait_for(lambda: not our_threads())
    assert sandbox.requests == []


# ---------------------------------------------------------------- Send


def test_what_is_counted_is_sent_and_the_line_tells_what_it_took(
    composers: Composers, cells: Any, sandbox: Sandbox
) -> None:
    composer = open_composer(composers, "-m kimi-k3 --effort low -o answer")
    composer.text.value = PROMPT
    wait_for(lambda: shown(composer).startswith("counted"))
    counted = int(shown(composer).split(" · ")[1].split()[0])
    send(composer)
    reply = cells["answer"]
    assert reply is cells["_kimi"]
    assert texts(sandbox, CHAT) == texts(sandbox, ESTIMATE) == [PROMPT]
    assert sandbox.requests[-1].body["reasoning_effort"] == "low"
    assert f"last run: est. {counted} → billed {reply.usage.prompt_tokens}" in shown(composer)
    assert counted == reply.usage.prompt_tokens
    answer, footer = composer.output.outputs
    assert answer["data"]["text/plain"] == reply.text
    assert answer["metadata"]["kimi_magics"] == reply.receipt()
    assert " in / " in footer["data"]["text/plain"]
    assert (composer.live.value, composer.stop.disabled) == ("", True)
    composer.text.value = "another"
    assert "last run" not in shown(composer)


def test_while_it_runs_the_text_grows_as_text_and_another_press_does_nothing(
    composers: Composers, cells: Any, sandbox: Sandbox
) -> None:
    sandbox.fault(Fault(chunk_delay_seconds=0.05))
    composer = open_composer(composers, "--thinking off Tell me about tokens <b>")
    lives: list[str] = []
    composer.live.observe(lambda change: lives.append(change["new"]), "value")
    composer.send.click()
    assert composer.send.disabled
    composer.send.click()
    wait_for(lambda: len(lives) > 3)
    composer.send.click()
    composer.stop.click()
    wait_for(lambda: not composer.send.disabled)
    assert len(texts(sandbox, CHAT)) == 1
    assert "waiting" in lives[0]
    assert "Sandbox" in lives[2]
    assert not [live for live in lives if re.findall("<(?!div|/div)", live)]


def test_stop_ends_the_answer_with_its_next_piece_and_keeps_what_came(
    composers: Composers, cells: Any, sandbox: Sandbox
) -> None:
    sandbox.fault(Fault(chunk_delay_seconds=0.05))
    composer = open_composer(composers, "--thinking off -o r Tell me about tokens")
    composer.send.click()
    wait_for(lambda: "Sandbox" in composer.live.value)
    composer.stop.click()
    wait_for(lambda: not composer.send.disabled)
    assert cells["r"].is_partial
    answer, footer, error = composer.output.outputs
    assert answer["data"]["text/plain"] == cells["r"].text
    assert footer["data"]["text/plain"].startswith("partial · ")
    assert error["text"].startswith("InterruptedReplyError: interrupted; the answer so far is kept")
    assert "press Send again" in error["text"]
    assert "last run: est." in shown(composer)


def test_stop_ends_an_upload_too_and_nothing_is_asked(composers: Composers, cells: Any, sandbox: Sandbox) -> None:
    cells.shell.user_ns["clip"] = b"\x00\x00\x00\x20ftypisom" + bytes(5000)
    sandbox.fault(Fault(429, "rate_limit_reached_error", "please try again after 500 seconds", path="files"))
    composer = open_composer(composers, "--video clip --upload What is this?")
    composer.send.click()
    wait_for(lambda: "trying again in" in composer.live.value)
    composer.stop.click()
    wait_for(lambda: not composer.send.disabled)
    [error] = composer.output.outputs
    assert error["text"] == (
        "InterruptedReplyError: interrupted while clip was being uploaded; nothing was asked\n  → press Send again\n"
    )
    assert texts(sandbox, "/v1/chat/completions") == []


def test_an_error_is_shown_in_its_lines_and_the_draft_stays(
    composers: Composers, cells: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONSHOT_API_KEY", "wrong-key")
    composer = open_composer(composers, f"--effort low -m kimi-k3 {PROMPT}")
    before = composer.fields
    send(composer)
    [error] = composer.output.outputs
    assert error["text"].startswith("AuthenticationError: ")
    assert error["text"].count("\n") in (2, 3)
    assert composer.fields == before
    assert "_kimi" not in cells.shell.user_ns
    monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
    send(composer)
    assert "_kimi" in cells.shell.user_ns


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("hi {{nobody}}", "VariableError: {{nobody}}: there is no variable"),
        ("", "PromptError: the prompt is empty"),
        ("-i nothing.png hi", "ImageError: nothing.png is neither"),
        ("-m kimi-k3 --thinking off hi", "PromptError: "),
    ],
)
def test_what_cannot_be_sent_is_refused_and_sends_nothing(
    composers: Composers, sandbox: Sandbox, line: str, says: str
) -> None:
    composer = open_composer(composers, line)
    send(composer)
    assert printed(composer).startswith(says)
    assert sandbox.requests == []


def test_a_flag_that_is_wrong_is_refused_as_in_a_cell(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers, "hi")
    composer.flags.value = "--mdel x"
    send(composer)
    assert printed(composer).startswith("MagicLineError: %%kimi: unknown flag --mdel\n  → did you mean --model?")
    assert sandbox.requests == []


def test_a_dry_run_shows_the_body_and_help_shows_the_flags(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers, "--dry-run hi")
    send(composer)
    assert json.loads(printed(composer))["messages"] == [{"role": "user", "content": "hi"}]
    composer.flags.value = "--help"
    send(composer)
    assert "--max-tokens N" in printed(composer)
    wait_for(lambda: not our_threads())
    assert texts(sandbox, CHAT) == []


def test_no_picture_is_drawn_while_a_cell_runs(magics: KimiMagics, cells: Any, sandbox: Sandbox) -> None:
    cells.shell.user_ns["build"] = magics._build_source
    assert isinstance(cells.run("build('%%kimi -i x.png\\nhi', 'composer')").error, ImageError)
    assert cells.run("print(build('%%kimi\\nhi', 'composer')[0].text)").stdout == "hi\n"


def test_a_fault_of_ours_is_shown_and_the_button_comes_back(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers, "hi")
    composer._services = replace(composer._services, call=lambda prompt, **options: 1 / 0)
    send(composer)
    assert "ZeroDivisionError" in printed(composer)


# ---------------------------------------------------------------- Insert


def test_a_page_inserts_the_cell_that_was_counted(composers: Composers) -> None:
    composer = open_composer(composers, f"-m kimi-k3 -o r {PROMPT}")
    inserted: list[str] = []
    composer._services = replace(composer._services, insert=lambda source: not inserted.append(source))
    composer.insert.click()
    assert inserted == [f"%%kimi -m kimi-k3 --out r\n{PROMPT}"] == [composer.source]
    assert printed(composer) == "The cell stands below the active one.\n"


def test_without_a_page_the_cell_is_there_to_be_copied_below_the_answer(composers: Composers, sandbox: Sandbox) -> None:
    composer = open_composer(composers, "-o r hi")
    send(composer)
    for _ in range(2):
        composer.insert.click()
        answer, _footer, note = composer.output.outputs
        assert answer["output_type"] == "display_data"
        assert note["text"] == ("No page here can insert a cell; copy this into a new one:\n\n%%kimi --out r\nhi\n")


@pytest.mark.parametrize("works", [True, False])
def test_in_colab_its_own_interface_is_used_while_it_is_there(
    composers: Composers, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    offered: list[str] = []
    frontend = types.ModuleType("google.colab._frontend")
    if works:
        frontend.create_scratch_cell = lambda content, bottom_pane: offered.append(content)
    for name, module in (("google.colab", types.ModuleType("google.colab")), ("google.colab._frontend", frontend)):
        monkeypatch.setitem(sys.modules, name, module)
    composer = open_composer(composers, "hi")
    composer.insert.click()
    assert offered == (["%%kimi\nhi"] if works else [])
    assert printed(composer).startswith("Colab offered" if works else "No page here")


# ---------------------------------------------------------------- life


def count_widgets() -> int:
    gc.collect()
    return sum(issubclass(type(thing), ipywidgets.Widget) and thing.comm is not None for thing in gc.get_objects())


def test_the_same_cell_run_again_goes_on_with_the_draft_and_leaves_nothing_of_the_old_one(
    composers: Composers, sandbox: Sandbox
) -> None:
    before = count_widgets()
    first = open_composer(composers, "-m kimi-k3 hi")
    of_one = count_widgets() - before
    first.text.value = "hi, and much more"
    second = open_composer(composers, "-m kimi-k3 hi")
    assert second.fields == Fields("hi, and much more", "kimi-k3", "")
    third = open_composer(composers, "something else")
    assert third.fields == Fields("something else", "", "")
    assert count_widgets() - before == of_one
    first.send.click()
    wait_for(lambda: not our_threads())
    assert texts(sandbox, CHAT) == []
    composers.close()
    assert count_widgets() == before


def test_composers_of_cells_without_a_name_stay_open_but_not_for_ever(composers: Composers) -> None:
    composers._shell.get_parent = dict
    opened = [open_composer(composers, "hi") for _ in range(18)]
    assert [composer.box.comm is None for composer in opened] == [True, True, *[False] * 16]


def test_to_unload_takes_the_composers_away_and_ends_an_answer(
    cells: Any, magics: KimiMagics, sandbox: Sandbox
) -> None:
    before = count_widgets()
    sandbox.fault(Fault(chunk_delay_seconds=0.05))
    magics._composers = magics._make_composers()
    composer = open_composer(magics._composers, "--thinking off Tell me about tokens")
    composer.send.click()
    wait_for(lambda: "Sandbox" in composer.live.value)
    cells.shell.run_line_magic("unload_ext", "kimi_magics")
    wait_for(lambda: not our_threads())
    assert count_widgets() == before
    assert cells["_kimi"].is_partial


def test_the_same_prompt_is_replayed_and_the_line_says_so(composers: Composers, cells: Any, sandbox: Sandbox) -> None:
    composer = open_composer(composers, f"--cache --thinking off {PROMPT}")
    send(composer)
    first = composer.output.outputs
    asked = len(sandbox.requests)
    assert "kept · ≈ " in shown(composer)
    send(composer)
    assert composer.output.outputs[0]["data"] == first[0]["data"]
    assert "last run: replayed · $0 · first $0.0" in shown(composer)
    assert "replayed · $0" in composer.output.outputs[1]["data"]["text/plain"]
    assert len(sandbox.requests) == asked


def test_an_answer_that_was_stopped_is_not_kept(composers: Composers, cells: Any, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(chunk_delay_seconds=0.05))
    composer = open_composer(composers, "--cache --thinking off Tell me about tokens")
    composer.send.click()
    wait_for(lambda: "Sandbox" in composer.live.value)
    composer.stop.click()
    wait_for(lambda: not composer.send.disabled)
    assert json.loads(cells.run("%kimi_config --json cache clear").stdout)["answers"] == 0

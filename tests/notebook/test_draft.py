"""What is said of a draft: the figures of the request that its run would send, or why it would not be sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import gauge_golden
import pytest
from PIL import Image

from kimi_magics.core.budget import Budget
from kimi_magics.notebook import gauge_text
from kimi_magics.notebook.cell_runs import CellRuns
from kimi_magics.notebook.chats import Chats
from kimi_magics.notebook.draft import Drafts, Report, report_message
from kimi_magics.notebook.lookup import Lookup
from kimi_magics.notebook.parsers import PARSERS
from kimi_magics.notebook.requests import RequestBuilder
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.sources import Sources
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.config import find_hub_file
from kimi_magics.store.weights import WeightsStore

SENTENCE = (
    "быстрая рыжая лиса перепрыгивает через ленивую собаку пока остальные смотрят из-за забора на всё происходящее"
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Reports on drafts as one kernel does, with variables of its own."""

    def __init__(self, shell: Any) -> None:
        self.session = Session()
        self.variables: dict[str, Any] = {}
        self.clock = Clock()
        self.runs = CellRuns(shell)
        lookup = Lookup(self.runs, Sources())
        self.chats = Chats(self.runs)
        requests = RequestBuilder(self.session, self.chats, find_media=lookup.find, peek_media=lookup.peek)
        self.drafts = Drafts(
            self.session,
            PARSERS,
            variables=lambda: self.variables,
            requests=requests,
            clock=self.clock,
        )

    def __call__(self, source: str, **options: Any) -> Report:
        return self.drafts.report(source, **options)


@pytest.fixture
def bench(sandbox: Sandbox, shell: Any) -> Iterator[Bench]:
    bench = Bench(shell)
    yield bench
    bench.session.close()


def questions(sandbox: Sandbox) -> int:
    """Return how often the sandbox was asked to count."""
    return sum(request.path.endswith("estimate-token-count") for request in sandbox.requests)


def tokens(report: Report) -> int:
    assert report.estimate is not None, report
    return report.estimate.prompt_tokens


def input_cost(report: Report) -> Decimal:
    cost = report.estimate and report.estimate.input_cost
    assert cost is not None
    return cost


def test_nothing_is_asked_unless_it_may_be(bench: Bench, sandbox: Sandbox) -> None:
    report = bench("%%kimi\nWhat is a token?", may_ask=False)

    assert (report.state, report.is_final, questions(sandbox)) == ("local", False, 0)
    assert tokens(report) > 5


def test_what_is_counted_is_what_the_run_is_billed_for(cells: Any, sandbox: Sandbox) -> None:
    cells.run("topic = 'rivers ' * 40")
    source = "%%kimi -s 'Answer in {{topic}}' --thinking off\nTell me about {{topic}}, {and} this."
    report = cells.shell.magics_manager.registry["KimiMagics"].drafts.report(source)
    cells.run(source)

    assert report.state == "counted"
    assert tokens(report) == cells["_kimi"].usage.prompt_tokens


def test_the_same_content_is_asked_for_once_whatever_the_cell(bench: Bench, sandbox: Sandbox) -> None:
    bench.variables["name"] = "you"
    first = bench("%%kimi\nHello you", cell="a")
    second = bench("%%kimi -o answer --max-tokens 50\nHello {{name}}", cell="b")
    third = bench("%kimi Hello you", cell="c", may_ask=False)

    assert [report.state for report in (first, second, third)] == ["counted"] * 3
    assert questions(sandbox) == 1


def test_another_host_counts_for_itself(bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    bench("%%kimi\nHello")
    with Sandbox() as other:
        monkeypatch.setenv("MOONSHOT_BASE_URL", other.base_url.replace("127.0.0.1", "localhost"))
        assert bench("%%kimi\nHello", may_ask=False).state == "local"
        assert bench("%%kimi\nHello").state == "counted"
        assert (questions(sandbox), questions(other)) == (1, 1)


def test_a_key_that_is_set_after_a_refusal_is_used_at_once(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONSHOT_API_KEY", "wrong-key")
    assert bench("%%kimi\nHello").state == "offline"
    monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
    assert bench("%%kimi\nHello").state == "counted"


def test_what_is_counted_makes_the_local_number_better(bench: Bench, sandbox: Sandbox) -> None:
    def doubt(text: str) -> float:
        local = tokens(bench(f"%%kimi\n{text}", may_ask=False))
        return abs(local / tokens(bench(f"%%kimi\n{text}")) - 1)

    words = SENTENCE.split()
    texts = [" ".join(words[(at * step) % len(words)] for at in range(90)) for step in range(1, 16)]
    doubts = [doubt(text) for text in texts]

    assert doubts[0] > 0.1  # the sandbox has another vocabulary
    assert max(doubts[-3:]) < 0.1
    bench.session.close()
    assert b"kimi-k2.6 at 127.0.0.1" in WeightsStore().path.read_bytes()
    assert "лиса".encode() not in WeightsStore().path.read_bytes()


def test_parts_sum_up_to_the_whole(bench: Bench) -> None:
    report = bench("%%kimi -s 'Be brief, and kind.'\nWhat is a token, and why is it one?")

    assert set(report.parts) == {"draft", "system", "template"}
    assert sum(report.parts.values()) == tokens(report)


def test_an_image_is_sent_for_counting_once(bench: Bench, sandbox: Sandbox) -> None:
    bench.variables["picture"] = Image.new("RGB", (300, 200), "red")
    first = bench("%%kimi -i picture\nWhat is this?")
    second = bench("%%kimi -i picture\nWhat is this, and why?")
    with_picture = [request for request in sandbox.requests if b"image_url" in json.dumps(request.body).encode()]

    assert [first.state, second.state] == ["counted", "counted"]
    assert len(with_picture) == 1
    assert first.parts["images"] == second.parts["images"] > 50


@pytest.mark.parametrize("source", ["%%kimi -i picture -i picture\nWhat is this?", "%kimi -i picture -s short"])
def test_an_image_counts_as_the_run_is_billed(cells: Any, sandbox: Sandbox, source: str) -> None:
    cells.run("from PIL import Image; picture = Image.new('RGB', (300, 200), 'red')")
    report = cells.shell.magics_manager.registry["KimiMagics"].drafts.report(source)
    cells.run(source)

    assert report.state == "counted"
    assert tokens(report) == cells["_kimi"].usage.prompt_tokens


def test_blank_text_beside_an_image_is_no_text(bench: Bench) -> None:
    bench.variables["picture"] = Image.new("RGB", (300, 200), "red")
    blank, none = bench("%%kimi -i picture\n  \n"), bench("%kimi -i picture")

    assert (blank.state, none.state) == ("counted", "counted")
    assert tokens(blank) == tokens(none)


def test_the_same_content_is_asked_for_once_also_at_the_same_time(bench: Bench, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(path="tokenizers", delay_seconds=0.3, times=None))
    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(bench, ["%%kimi\nThe same, from many cells"] * 6))

    assert {(report.state, tokens(report)) for report in reports} == {("counted", tokens(reports[0]))}
    assert questions(sandbox) == 1


def test_a_figure_is_not_drawn_while_a_cell_may_draw_on_it(bench: Bench) -> None:
    bench.variables["picture"] = Image.new("RGB", (30, 20), "red")
    bench.runs.is_busy = True
    report = bench("%%kimi -i picture\nWhat is this?")

    assert (report.state, report.message) == ("error", "picture is counted when the cell that runs is done")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("%%kimi --modle x\nhi", "unknown flag --modle"),
        ("%%kimi\nhi {{nobody}}", "there is no variable 'nobody'"),
        ("%%kimi -s 'open\nhi", "a quote on the line is not closed"),
        ("%%kimi --effort max\nhi", "kimi-k2.6 has no --effort"),
        ("%%kimi -i nothing.png\nhi", "nothing.png is neither a variable nor a file"),
        ("%kimi --max-tokens none hi", "not a whole number above 0"),
        ("%%kimi -o x sk-abcdefghijklmnopqrstuvwxyz\nhi", "looks like an API key"),
    ],
)
def test_what_would_fail_the_cell_is_said_before_it_is_run(
    bench: Bench, sandbox: Sandbox, source: str, message: str
) -> None:
    report = bench(source)

    assert report.state == "error"
    assert message in report.message
    assert "abcdefghijklmnop" not in report.message + report.remedy
    assert questions(sandbox) == 0


@pytest.mark.parametrize("source", ["%%kimi", "%%kimi -m kimi-k3\n  \n", "%kimi", "%%kimi --help\nhi"])
def test_a_prompt_without_text_is_no_error_yet(bench: Bench, source: str) -> None:
    assert bench(source).state == "empty"


def test_a_host_that_fails_is_left_alone_for_a_while(bench: Bench, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(503, times=None, path="tokenizers"))
    reports = [bench(f"%%kimi\nHello {number}") for number in range(3)]
    asked = questions(sandbox)

    assert [report.state for report in reports] == ["offline"] * 3
    assert "503" in reports[2].message
    assert all(tokens(report) > 5 for report in reports)

    bench.clock.now += 6
    sandbox.clear()
    assert asked <= 2
    assert bench("%%kimi\nHello again").state == "counted"


def test_a_model_that_the_host_refuses_says_nothing_of_others(bench: Bench, sandbox: Sandbox) -> None:
    states = [bench(f"%%kimi -m {model}\nHello").state for model in ("kimi-k9", "kimi-k9", "kimi-k2.6")]

    assert states == ["offline", "offline", "counted"]
    assert questions(sandbox) == 2


def test_a_description_is_counted_with_its_picture(bench: Bench, sandbox: Sandbox) -> None:
    bench.variables["plot"] = Image.new("RGB", (280, 280), "white")
    report = bench("%kimi_describe --short plot")

    assert report.state == "counted"
    assert report.parts["images"] > 90
    assert report.parts["draft"] > 40
    assert bench("%kimi_describe --short --long plot").state == "error"
    assert "neither a variable nor a file" in bench("%kimi_describe plt").message


@pytest.mark.parametrize("name", ["clipboard", "attachment:plot.png", "https://127.0.0.1:1/"])
def test_what_only_a_run_finds_is_left_out_and_named(bench: Bench, sandbox: Sandbox, name: str) -> None:
    report = bench(f"%%kimi -i {name}\nWhat is this?")

    assert (report.state, report.is_final, report.depends) == ("local", True, True)
    assert report.message == f"{'127.0.0.1' if '//' in name else name} is counted when the cell runs"
    assert bench(f"%%kimi -i {name}\n").state == "empty"


def test_without_a_key_the_local_number_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    report = bench("%%kimi\nHello")

    assert (report.state, report.is_final) == ("offline", True)
    assert "no API key" in report.message


@pytest.mark.parametrize(("mode", "state"), [("local", "local"), ("off", "off"), ("live", "counted")])
def test_the_setting_says_where_a_draft_may_go(bench: Bench, sandbox: Sandbox, mode: str, state: str) -> None:
    bench.session.config.set("gauge", mode)

    assert bench("%%kimi\nHello").state == state
    assert questions(sandbox) == (mode == "live")


def test_limits_are_near_and_passed_before_the_run(bench: Bench) -> None:
    assert bench("%%kimi --max-tokens 262140\nHello").state == "over-context"
    assert bench("%%kimi --max-tokens 220000\nHello").warning == "near-context"
    cost = input_cost(bench("%%kimi\nHello"))
    bench.session.spending.set(Budget(300 * cost), save=False)
    assert bench("%%kimi\nHello").warning == "near-budget"
    bench.session.spending.set(Budget(cost / 2), save=False)
    assert bench("%%kimi\nHello").state == "over-budget"
    bench.session.spending.set(Budget(Decimal(1)), save=False)
    assert (bench("%%kimi\nHello").state, bench("%%kimi\nHello").warning) == ("counted", "")


def test_a_budget_says_what_it_does_to_the_draft_and_the_way_out(bench: Bench) -> None:
    cost = input_cost(bench("%%kimi\nHello"))
    bench.session.spending.set(Budget(300 * cost, scope="day"), save=False)
    limited, unlimited = bench("%%kimi\nHello"), bench("%%kimi --over-budget\nHello")
    bench.session.spending.set(Budget(200 * Decimal("0.000004"), scope="day"), save=False)
    over = bench("%%kimi\nHello")
    fitting = bench(f"%%kimi {over.remedy.partition(',')[0]}\nHello")
    allowed = bench("%%kimi --over-budget\nHello")

    assert limited.message == f"the budget of ${300 * cost:f} per day limits the answer"
    assert limited.limit is not None
    assert unlimited.message == f"sent for this once, whatever the budget of ${300 * cost:f} per day says"
    assert over.message == "over the budget of $0.000800 per day: the cell would not be sent"
    assert re.fullmatch(r"--max-tokens \d+, or --over-budget", over.remedy)
    assert (fitting.state, fitting.warning) == ("counted", "near-budget")
    assert (allowed.state, allowed.warning, allowed.limit) == ("counted", "near-budget", None)
    assert allowed.message == "sent for this once, whatever the budget of $0.000800 per day says"


def test_of_a_hubs_budget_the_user_is_offered_no_way_past_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    path = find_hub_file()
    if not path.is_relative_to(tmp_path):
        pytest.skip("the folder of a hub cannot be moved on this platform")
    path.parent.mkdir(parents=True)
    path.write_text('budget = "300 tokens per call"', "utf-8")
    bench.session.spending.set(Budget(Decimal("0.0001")), save=False)
    text = "Tell me about rivers. " * 20
    own, allowed = bench("%%kimi\nHello"), bench("%%kimi --over-budget\nHello")
    long, forced = bench(f"%%kimi\n{text}"), bench(f"%%kimi --over-budget\n{text}")

    assert own.state == "over-budget"
    # What is the hub's limits the answer all the same.
    assert (allowed.state, allowed.message) == ("counted", "the budget of 300 tokens per call limits the answer")
    assert allowed.limit == 300 - tokens(allowed)
    assert long.state == forced.state == "over-budget"
    assert forced.message == "over the budget of 300 tokens per call: the cell would not be sent"
    assert forced.remedy == f"--max-tokens {300 - tokens(forced)}"


def test_an_unknown_price_under_a_budget_is_over_it(bench: Bench) -> None:
    bench.session.spending.set(Budget(Decimal(1)), save=False)
    report = bench("%%kimi -m kimi-k9\nHello")

    assert report.state == "over-budget"
    assert "price is unknown" in report.message


def test_a_run_tells_what_to_expect_of_the_next(cells: Any, sandbox: Sandbox) -> None:
    drafts = cells.shell.magics_manager.registry["KimiMagics"].drafts
    assert drafts.report("%%kimi --max-tokens 300\nHello").outlook.low is None
    for _ in range(3):
        cells.run("%%kimi\nHello")
    outlook = drafts.report("%%kimi\nHello").outlook

    assert outlook.basis == "3 earlier runs of kimi-k2.6"
    assert outlook.low <= cells["_kimi"].usage.completion_tokens <= outlook.high


def test_the_messages_and_their_words_are_those_of_the_golden_file() -> None:
    golden = json.loads(gauge_golden.PATH.read_text("utf-8"))

    assert json.loads(json.dumps(gauge_golden.build())) == golden
    assert gauge_golden.CLASSES_PATH.read_text("utf-8") == gauge_golden.write_classes(golden)


# ---------------------------------------------------------------- the whole request


def test_the_conversation_before_it_counts_as_the_run_is_billed(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%%kimi -c paper -s 'Be brief.'\nOne")
    source = "%%kimi -c paper --thinking off\nTwo"
    report = cells.shell.magics_manager.registry["KimiMagics"].drafts.report(source)
    cells.run(source)

    assert report.state == "counted"
    assert set(report.parts) == {"draft", "system", "history", "template"}
    assert tokens(report) == cells["_kimi"].usage.prompt_tokens
    assert report.depends


def test_tools_and_schema_are_added_here_and_said(bench: Bench, sandbox: Sandbox) -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return city

    bench.variables["weather"] = weather
    bare = bench("%%kimi\nhi")
    full = bench("%%kimi --tool weather --schema 'name, age int'\nhi")

    assert full.state == "counted"
    assert full.estimate is not None
    assert full.estimate.added_tokens == full.parts["tools"] + full.parts["schema"]
    assert tokens(full) == tokens(bare) + full.estimate.added_tokens
    assert "tokens of tools and schema are counted here" in full.message
    assert report_message(full)["added"] == full.estimate.added_tokens
    assert sum(full.parts.values()) == tokens(full)
    assert questions(sandbox) == 1  # the endpoint counts messages, and these are the same


def test_a_draft_makes_no_turn_and_begins_no_conversation(bench: Bench) -> None:
    for _ in range(2):
        assert bench("%%kimi -c paper\nOne", cell="a").state == "counted"
    assert bench.chats.names() == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("%%kimi --tool nowhere\nhi", "--tool nowhere"),
        ("%%kimi --schema nowhere\nhi", "--schema nowhere"),
        ("%%kimi --json --prefill x\nhi", "--prefill does not go with --json"),
        ("%%kimi -t nowhere\nhi", "there is no template"),
    ],
)
def test_what_would_fail_the_cell_is_said_while_it_is_written(bench: Bench, source: str, says: str) -> None:
    report = bench(source)
    assert (report.state, says in report.message) == ("error", True)


def test_a_template_alone_is_a_prompt(bench: Bench) -> None:
    bench.session.config.set("template.greet", "Say hello.")
    assert bench("%%kimi -t greet\n").state == "counted"


def test_the_report_of_an_estimate_may_be_json_without_asking_for_json(bench: Bench) -> None:
    assert tokens(bench("%kimi_estimate --json hi")) == tokens(bench("%kimi hi"))


# ---------------------------------------------------------------- answers that are kept


def test_a_draft_whose_answer_is_kept_says_that_it_costs_nothing_and_is_not_counted(
    cells: Any, sandbox: Sandbox
) -> None:
    cells.run("%kimi_config cache=on")
    drafts = cells.shell.magics_manager.registry["KimiMagics"].drafts
    assert drafts.report("%%kimi\nHello", may_ask=False).state == "local"
    cells.run("%%kimi\nHello")
    cells.run("%kimi_budget 0.0000001")
    asked = len(sandbox.requests)
    report = drafts.report("%%kimi\nHello")
    shown = gauge_text.describe(report_message(report))

    assert (report.state, report.is_final, report.depends, report.warning) == ("kept", True, True, "")
    assert report.kept is not None
    assert report.kept.cost == cells["_kimi"].cost
    assert shown["cost"] == f"replayed · $0 · first ${report.kept.cost:.4f} on {report.kept.date.isoformat()}"
    assert len(sandbox.requests) == asked
    for source in ("%%kimi --fresh\nHello", "%%kimi\nHello!"):
        assert drafts.report(source, may_ask=False).state == "over-budget"
    cells.run("%kimi_config cache=off")
    assert drafts.report("%%kimi\nHello", may_ask=False).state == "over-budget"
    assert drafts.report("%%kimi --cache\nHello", may_ask=False).state == "kept"


def test_to_look_at_drafts_makes_no_file_where_nothing_is_kept(environment: Path, cells: Any, sandbox: Sandbox) -> None:
    drafts = cells.shell.magics_manager.registry["KimiMagics"].drafts
    assert drafts.report("%%kimi --cache\nHello", may_ask=False).state == "local"
    assert not list(environment.rglob("replays.sqlite*"))
    cells.run("%%kimi --cache\nHello")
    assert list(environment.rglob("replays.sqlite"))

"""Answers that are kept: the same request is answered at $0 without being sent, and everything else is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from kimi_magics.core.events import Completed, Event, NextStep, TextDelta, UsageReported
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Price, Usage
from kimi_magics.core.wire import replay_key
from kimi_magics.errors import BudgetError, ConfigError, InterruptedReplyError, MissingKeyError
from kimi_magics.notebook.footer import format_first
from kimi_magics.notebook.replaying import Recall, Replayer
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.config import find_home
from kimi_magics.store.replays import Replays

CHAT = "/v1/chat/completions"
PROMPT = "Tell me of tokens"
UNKNOWN = Usage(estimated=True)
TOOLS = """
def weather(city: str, days: int = 1) -> str:
    "Tell the weather."
    return told
told = "21 °C"
"""


def sent(sandbox: Sandbox) -> int:
    """Return how many requests were sent in all, also for counting."""
    return len(sandbox.requests)


def chats(sandbox: Sandbox) -> int:
    return sum(request.path == CHAT for request in sandbox.requests)


def usage(cells: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(cells.run("%kimi_usage --json").stdout)
    return rows


def footer(ran: Any) -> str:
    return ran.bundles[-1]["text/plain"]


@pytest.fixture
def kept(cells: Any, sandbox: Sandbox) -> Any:
    """The shell with `cache=on` and plain outputs."""
    cells.run("%kimi_config cache=on\n%kimi_config view=once")
    return cells


# ---------------------------------------------------------------- the same request


def test_the_second_run_sends_nothing_and_shows_the_same(kept: Any, sandbox: Sandbox) -> None:
    first = kept.run(f"%%kimi -o first\n{PROMPT}")
    requests = sent(sandbox)
    second = kept.run(f"%%kimi -o second\n{PROMPT}")
    before, now = kept["first"], kept["second"]

    assert second.error is None
    assert sent(sandbox) == requests
    assert second.bundles[:-1] == first.bundles[:-1]
    assert (now.text, now.thinking, now.finish_reason) == (before.text, before.thinking, before.finish_reason)
    assert (now.model, now.request_id, now.is_partial, now.steps) == (before.model, before.request_id, False, 1)
    assert (now.cost, now.currency, now.usage.total_tokens, now.usage.estimated) == (Decimal(0), "USD", 0, False)
    assert (now.replayed.usage, now.replayed.cost, now.replayed.date) == (before.usage, before.cost, date.today())
    assert footer(second) == f"replayed · $0 · first ${before.cost:.4f} on {date.today().isoformat()}"
    assert "replayed" not in footer(first)
    assert before.replayed is None


def test_the_receipt_tells_what_the_answer_cost_once(kept: Any, sandbox: Sandbox) -> None:
    first, second = (kept.run(f"%%kimi\n{PROMPT}").metadata[0]["kimi_magics"] for _ in range(2))
    assert first["replayed"] is None
    assert second == {
        **first,
        "usage": dict.fromkeys(first["usage"], 0) | {"estimated": False},
        "cost": "0",
        "price_date": None,
        "price_source": None,
        "replayed": {
            "usage": first["usage"],
            "cost": first["cost"],
            "currency": "USD",
            "date": date.today().isoformat(),
            "steps": 1,
        },
    }


@pytest.mark.parametrize("view", ["once", "markdown", "plain"])
@pytest.mark.parametrize("flags", ["", "--no-stream", "--thinking off", "-m kimi-k3 --effort low"])
def test_every_view_shows_it_as_the_first_time(cells: Any, sandbox: Sandbox, view: str, flags: str) -> None:
    cells.run(f"%kimi_config view={view}")
    first, second = (cells.run(f"%%kimi --cache {flags}\n{PROMPT}") for _ in range(2))
    assert second.error is None
    assert chats(sandbox) == 1
    # What grew was taken by the whole in its place.
    assert [bundle for bundle in first.bundles if "text/markdown" in bundle][-1:] == [
        bundle for bundle in second.bundles if "text/markdown" in bundle
    ][-1:]
    if view == "plain":
        assert first.stdout.splitlines()[:-1] == second.stdout.splitlines()[:-1]
        assert second.stdout.splitlines()[-1].startswith("replayed · $0 · first $0.0")


def test_it_lasts_longer_than_the_kernel(kept: Any, sandbox: Sandbox, shell: InteractiveShell) -> None:
    kept.run(f"%%kimi -o first\n{PROMPT}")
    shell.run_line_magic("unload_ext", "kimi_magics")
    shell.run_line_magic("load_ext", "kimi_magics")
    requests = sent(sandbox)
    assert "replayed" in footer(kept.run(f"%kimi_config view=once\n%kimi --cache {PROMPT}"))
    assert sent(sandbox) == requests


def test_neither_a_key_nor_a_host_is_needed(kept: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.run(f"%%kimi\n{PROMPT}")
    requests = sent(sandbox)
    monkeypatch.delenv("MOONSHOT_API_KEY")
    ran = kept.run(f"%%kimi\n{PROMPT}")
    assert (ran.error, sent(sandbox)) == (None, requests)
    assert isinstance(kept.run("%%kimi\nAnother prompt").error, MissingKeyError)


def test_the_ledger_has_no_row_and_no_sum_for_it(kept: Any, sandbox: Sandbox) -> None:
    kept.run(f"%%kimi\n{PROMPT}")
    before, table = usage(kept), kept.run("%kimi_usage").bundles
    kept.run(f"%%kimi\n{PROMPT}")
    assert usage(kept) == before
    assert len(before) == 1
    assert kept.run("%kimi_usage").bundles == table


def test_no_budget_and_no_question_about_costs_forbids_what_costs_nothing(kept: Any, sandbox: Sandbox) -> None:
    kept.run(f"%%kimi\n{PROMPT}")
    kept.run("%kimi_budget 0.0000001\n%kimi_config confirm=0.0000001")
    ran = kept.run(f"%%kimi\n{PROMPT}")
    assert ran.error is None
    assert "replayed" in footer(ran)
    assert isinstance(kept.run("%%kimi\nAnother prompt").error, BudgetError)


# ---------------------------------------------------------------- another request


@pytest.mark.parametrize(
    "cell",
    [
        "%%kimi\nTell me of tokens!",
        "%%kimi -m kimi-k3\nTell me of tokens",
        "%%kimi -s Brief.\nTell me of tokens",
        "%%kimi --max-tokens 50\nTell me of tokens",  # its answer is reasoning alone
        "%%kimi --thinking off\nTell me of tokens",
        "%%kimi --stop END\nTell me of tokens",
        "%%kimi --json\nTell me of tokens",
        "%%kimi --prefill Well\nTell me of tokens",
        "%%kimi -i red\nTell me of tokens",
        "%%kimi -c trip\nTell me of tokens",
        "%%kimi --fresh\nTell me of tokens",
    ],
)
def test_another_request_is_sent_and_kept_for_itself(kept: Any, sandbox: Sandbox, cell: str) -> None:
    kept.shell.user_ns["red"] = Image.new("RGB", (30, 20), "red")
    kept.run("%%kimi -c trip\nHello")
    kept.run(f"%%kimi\n{PROMPT}")
    before = chats(sandbox)
    ran = kept.run(cell)
    assert ran.error is None, ran.shown_error
    assert chats(sandbox) == before + 1
    if "-c" not in cell:
        kept.run(cell.replace("--fresh", ""))
        assert chats(sandbox) == before + 1


def test_another_host_is_asked_itself(kept: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.run(f"%%kimi\n{PROMPT}")
    with Sandbox() as other:
        monkeypatch.setenv("MOONSHOT_BASE_URL", other.base_url)
        kept.run(f"%%kimi\n{PROMPT}")
        assert chats(other) == 1


def test_a_picture_is_known_by_its_content(kept: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
    kept.run(f"%kimi -i {tmp_path / 'a.png'} What is it?")
    kept.run(f"%kimi -i {tmp_path / 'b.png'} What is it?")
    kept.run(f"%kimi --upload -i {tmp_path / 'a.png'} What is it?")
    assert chats(sandbox) == 1
    kept.run(f"%kimi -i {tmp_path / 'c.png'} What is it?")
    assert chats(sandbox) == 2


def test_who_asks_makes_no_difference(kept: Any, sandbox: Sandbox) -> None:
    kept.run(f"%%kimi\n{PROMPT}")
    kept.run("%kimi_config safety_identifier=ada")
    kept.run(f"%%kimi\n{PROMPT}")
    assert chats(sandbox) == 1


def test_a_conversation_is_replayed_turn_by_turn(kept: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        kept.run("%kimi_chat trip --reset")
        replies = [kept.run(f"%%kimi -c trip -o r\n{text}") and kept["r"] for text in ("Where to?", "And then?")]
    assert chats(sandbox) == 2
    assert all(reply.is_replayed for reply in replies)
    assert kept.run("%kimi_chat trip").error is None


# ---------------------------------------------------------------- several steps


def test_a_loop_of_tools_is_replayed_step_by_step(kept: Any, sandbox: Sandbox) -> None:
    kept.run(TOOLS)
    first, second = (kept.run("%%kimi --tool weather -o r\nWhat is the weather in Paris?") for _ in range(2))
    reply = kept["r"]
    assert (chats(sandbox), second.error) == (2, None)
    assert second.bundles[0] == first.bundles[0]
    assert (reply.steps, reply.replayed.steps, reply.is_replayed, reply.cost) == (2, 2, True, 0)
    assert [done.text for done in reply.calls] == ["21 °C"]
    assert re.search(r"replayed · 2 steps · \$0 · first \$0\.\d+ on ", footer(second))


def test_a_tool_that_returns_something_else_makes_another_request(kept: Any, sandbox: Sandbox) -> None:
    kept.run(TOOLS)
    kept.run("%%kimi --tool weather -o first\nWhat is the weather in Paris?")
    kept.run("told = '5 °C'")
    ran = kept.run("%%kimi --tool weather -o second\nWhat is the weather in Paris?")
    first, second = kept["first"], kept["second"]
    assert (chats(sandbox), ran.error) == (3, None)
    assert "5 °C" in second.text
    assert (second.steps, second.replayed.steps, second.is_replayed) == (2, 1, False)
    # What is billed is the second step alone, and the ledger has nothing else.
    assert 0 < second.cost < first.cost
    assert second.whole_usage.prompt_tokens == first.usage.prompt_tokens
    assert Decimal(usage(kept)[-1]["cost"]) == second.cost
    assert usage(kept)[-1]["prompt_tokens"] == second.usage.prompt_tokens
    assert "2 steps (1 replayed, first $0.0" in footer(ran)


def test_a_later_step_is_held_against_the_budget_like_a_first(kept: Any, sandbox: Sandbox) -> None:
    kept.run(TOOLS)
    kept.run("%%kimi --tool weather\nWhat is the weather in Paris?")
    kept.run("told = '5 °C'\n%kimi_budget 0.0000001")
    ran = kept.run("%%kimi --tool weather\nWhat is the weather in Paris?")
    assert isinstance(ran.error, BudgetError)
    assert (chats(sandbox), len(usage(kept))) == (2, 1)


def test_a_search_of_the_web_is_replayed_without_its_fee(kept: Any, sandbox: Sandbox) -> None:
    kept.run("%%kimi --web -o first\nWhat is new?")
    kept.run("%%kimi --web -o second\nWhat is new?")
    first, second = kept["first"], kept["second"]
    assert chats(sandbox) == 2
    assert (second.cost, second.usage.web_searches) == (0, 0)
    assert (second.replayed.cost, second.replayed.usage) == (first.cost, first.usage)


def test_json_and_schemas_are_replayed_as_objects(kept: Any, sandbox: Sandbox) -> None:
    for name in ("first", "second"):
        ran = kept.run(f"%%kimi --schema 'name, age int' -o {name}\nAda is 36")
        assert ran.error is None, ran.shown_error
    assert chats(sandbox) == 1
    assert kept["second"].data == kept["first"].data is not None


SECOND = """
import pydantic
tries = []
class Second(pydantic.BaseModel):
    n: int
    @pydantic.field_validator("n")
    @classmethod
    def refuse_first(cls, n):
        tries.append(n)
        if len(tries) % 2:
            raise ValueError("not yet")
        return n
"""


def test_a_second_attempt_is_replayed_after_the_first(kept: Any, sandbox: Sandbox) -> None:
    kept.run(SECOND)
    for _ in range(2):
        ran = kept.run("%%kimi --schema Second --retries 1 -o r\nGive a number")
        assert ran.error is None, ran.shown_error
    assert (chats(sandbox), kept["tries"], kept["r"].data.n) == (2, [1] * 4, 1)
    assert (kept["r"].steps, kept["r"].replayed.steps) == (2, 2)


def test_an_answer_that_does_not_fit_is_not_kept(kept: Any, sandbox: Sandbox) -> None:
    # The answer is cut, so that it is no JSON; to ask again may help.
    for _ in range(2):
        assert kept.run("%%kimi --json --thinking off --max-tokens 2\nAda is 36").error is not None
    assert chats(sandbox) == 2


# ---------------------------------------------------------------- what is not kept


@pytest.mark.parametrize("fault", [Fault(drop_after=5), Fault(no_done=True), Fault(status=400)])
def test_an_answer_that_is_not_whole_is_not_kept(kept: Any, sandbox: Sandbox, fault: Fault) -> None:
    sandbox.fault(fault)
    assert kept.run(f"%%kimi -o cut\n{PROMPT}").error is not None
    whole = kept.run(f"%%kimi -o whole\n{PROMPT}")
    assert whole.error is None
    assert (kept["whole"].replayed, chats(sandbox)) == (None, 2)


def test_an_interrupted_answer_is_not_kept(kept: Any, sandbox: Sandbox) -> None:
    kept.run("def wait():\n    'Wait.'\n    raise KeyboardInterrupt")
    for _ in range(2):
        assert isinstance(kept.run("%%kimi --tool wait -o r\nwait now").error, InterruptedReplyError)
        assert kept["r"].replayed is None
    assert chats(sandbox) == 2


def test_an_answer_that_a_budget_cut_is_not_kept_for_who_asked_without_it(kept: Any, sandbox: Sandbox) -> None:
    kept.run("%kimi_budget 0.00115 per call")
    kept.run(f"%%kimi -o cut\n{PROMPT}")
    reply = kept["cut"]
    assert (reply.finish_reason, bool(reply.limit_note)) == ("length", True)
    kept.run("%kimi_budget off")
    kept.run(f"%%kimi -o whole\n{PROMPT}")
    assert (kept["whole"].finish_reason, kept["whole"].replayed, chats(sandbox)) == ("stop", None, 2)


def test_a_whole_answer_under_a_budget_is_kept(kept: Any, sandbox: Sandbox) -> None:
    kept.run("%kimi_budget 0.01 per call")
    kept.run(f"%%kimi -o first\n{PROMPT}")
    assert kept["first"].limit_note
    kept.run("%kimi_budget off")
    kept.run(f"%%kimi\n{PROMPT}")
    assert chats(sandbox) == 1


# ---------------------------------------------------------------- modes


def test_without_a_word_nothing_is_kept(cells: Any, sandbox: Sandbox) -> None:
    for _ in range(2):
        cells.run(f"%%kimi\n{PROMPT}")
    assert chats(sandbox) == 2
    assert not (find_home() / "replays.sqlite").exists()


def test_the_flag_is_for_one_call(cells: Any, sandbox: Sandbox) -> None:
    cells.run(f"%%kimi --cache\n{PROMPT}")
    cells.run(f"%%kimi\n{PROMPT}")
    assert chats(sandbox) == 2
    cells.run(f"%%kimi --cache\n{PROMPT}")
    assert chats(sandbox) == 2


def test_read_replays_and_keeps_nothing(cells: Any, sandbox: Sandbox) -> None:
    cells.run(f"%%kimi --cache\n{PROMPT}")
    cells.run("%kimi_config cache=read")
    cells.run(f"%%kimi\n{PROMPT}")
    assert chats(sandbox) == 1
    for _ in range(2):
        cells.run("%%kimi\nAnother prompt")
    assert chats(sandbox) == 3


def test_a_fresh_answer_takes_the_place_of_the_old(kept: Any, sandbox: Sandbox) -> None:
    kept.run(f"%%kimi\n{PROMPT}")
    kept.run("%kimi_config price.kimi-k2.6=10/20 USD")
    kept.run(f"%%kimi --fresh -o fresh\n{PROMPT}")
    kept.run(f"%%kimi -o again\n{PROMPT}")
    assert chats(sandbox) == 2
    assert kept["again"].replayed.cost == kept["fresh"].cost


@pytest.mark.parametrize("typed", ["cache clear", "cache=clear", "--save cache=clear"])
def test_clear_forgets_all_and_says_how_much(kept: Any, sandbox: Sandbox, typed: str) -> None:
    kept.run(f"%%kimi\n{PROMPT}")
    assert re.fullmatch(r"cache: 1 answer forgotten \(\d\.\d kB\)\n", kept.run(f"%kimi_config {typed}").stdout)
    assert b"Sandbox answer" not in (find_home() / "replays.sqlite").read_bytes()
    assert kept.run("%kimi_config cache clear").stdout == "cache: 0 answers forgotten (0 B)\n"
    assert json.loads(kept.run("%kimi_config --json cache clear").stdout) == {"name": "cache", "answers": 0, "bytes": 0}
    # The setting itself stays.
    assert kept.run("%kimi_config cache").stdout == "cache = on (session)\n"
    kept.run(f"%%kimi\n{PROMPT}")
    assert chats(sandbox) == 2


def test_another_word_is_refused_with_those_that_there_are(cells: Any) -> None:
    ran = cells.run("%kimi_config cache=maybe")
    assert isinstance(ran.error, ConfigError)
    assert "off, on, read" in ran.shown_error
    assert "cache clear" in ran.shown_error


def test_a_dry_run_says_whether_it_would_be_replayed(kept: Any, sandbox: Sandbox) -> None:
    assert footer(kept.run(f"%%kimi --dry-run\n{PROMPT}")) == "a run would be sent"
    kept.run(f"%%kimi\n{PROMPT}")
    ran = kept.run(f"%%kimi --dry-run\n{PROMPT}")
    assert re.fullmatch(r"a run would be replayed · \$0 · first \$0\.\d+ on \d{4}-\d\d-\d\d", footer(ran))
    assert json.loads(ran.stdout)["messages"][0]["content"] == PROMPT
    assert footer(kept.run(f"%%kimi --dry-run --fresh\n{PROMPT}")) == "a run would be sent"
    kept.run("%kimi_config cache=off")
    assert kept.run(f"%%kimi --dry-run\n{PROMPT}").bundles == []


# ---------------------------------------------------------------- other magics


def test_a_description_is_replayed_and_an_alt_text_has_its_own_way(kept: Any, sandbox: Sandbox) -> None:
    kept.shell.user_ns["red"] = Image.new("RGB", (30, 20), "red")
    for _ in range(2):
        assert kept.run("%kimi_describe red").error is None
    assert chats(sandbox) == 1
    for _ in range(2):
        assert kept.run("%kimi_describe --alt red").error is None
    assert chats(sandbox) == 2
    assert json.loads(kept.run("%kimi_config --json cache clear").stdout)["answers"] == 1


def test_the_reply_shows_itself_as_what_it_is(kept: Any, sandbox: Sandbox) -> None:
    for _ in range(2):
        kept.run(f"%%kimi -o r\n{PROMPT}")
    assert repr(kept["r"]).endswith(f"stop, {kept['r'].replayed.usage.total_tokens} tokens, replayed)")


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"no database" * 1000), lambda path: path.mkdir()])
def test_a_file_that_cannot_be_used_is_told_once_and_costs_no_answer(
    kept: Any, sandbox: Sandbox, spoil: Callable[[Path], object]
) -> None:
    find_home().mkdir(parents=True, exist_ok=True)
    spoil(find_home() / "replays.sqlite")
    first, second = kept.run(f"%%kimi\n{PROMPT}"), kept.run(f"%%kimi\n{PROMPT}")
    assert (first.error, second.error, chats(sandbox)) == (None, None, 2)
    assert sum("this kernel neither replays nor keeps any" in bundle["text/plain"] for bundle in first.bundles) == 1
    assert "neither replays" not in str(second.bundles)
    assert isinstance(kept.run("%kimi_config cache clear").error, ConfigError)


def test_what_holds_a_key_is_not_kept(kept: Any, sandbox: Sandbox) -> None:
    # The sandbox repeats the beginning of the prompt.
    for _ in range(2):
        kept.run("%%kimi\nsk-" + "q" * 30)
    held = b"".join(path.read_bytes() for path in find_home().glob("replays*"))
    assert b"q" * 30 not in held


# ---------------------------------------------------------------- a host that tells no usage


class Script:
    """A transport that plays events."""

    def __init__(self, *events: Event) -> None:
        self.events = events

    def send(self, _prompt: Prompt) -> Generator[Event, None, None]:
        yield from self.events


@pytest.mark.parametrize("steps", [1, 2])
def test_what_a_host_did_not_tell_is_kept_as_our_estimate_or_as_unknown(tmp_path: Path, steps: int) -> None:
    replays = Replays(limit_bytes=lambda: 10**6, home=tmp_path)
    prompt, price = Prompt(Model("m"), (Message("user", "hello"),)), Price(Decimal(1), Decimal(2))
    replayer = Replayer(replays, Recall(replays=True, keeps=True), site="h")
    assert not replayer.find(prompt)
    reply = Reply("m", find_price=lambda: price)
    for event in [NextStep(())] * (steps - 1):
        reply.add(event)
    for event in replayer.send(prompt, Script(TextDelta("hi"), Completed()), is_limited=lambda: False):
        reply.add(event)
    estimated = Usage(10, 20, estimated=True)
    reply.add(UsageReported(estimated))
    replayer.keep(reply)
    kept = replays.find_facts(replay_key(prompt, site="h"))
    replays.close()

    assert kept is not None
    assert (kept.usage, kept.cost) == ((estimated, price.cost_of(estimated)) if steps == 1 else (UNKNOWN, None))
    assert format_first(kept).startswith("first ≈ $0.000050 on " if steps == 1 else "first on ")

"""How an answer is shown: growing, at once, printed; and what is said of one that is not whole."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from kimi_magics.core.events import (
    Completed,
    Event,
    Finished,
    NextStep,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    Uploading,
    UsageReported,
    Waiting,
)
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Price, Usage
from kimi_magics.errors import ReplyBrokenError
from kimi_magics.notebook.bundles import (
    answer_bundle,
    describe_upload,
    footer_bundle,
    small_bundle,
    thinking_bundle,
)
from kimi_magics.notebook.footer import explain_finish, format_footer
from kimi_magics.notebook.views import MarkdownView, PlainView, choose_view

PROMPT = Prompt(Model("kimi-k2.6"), (Message("user", "hi"),))
PRICE = Price(Decimal("0.95"), Decimal("4.00"))
ANSWER: list[Event] = [
    ThinkingDelta("Hm. "),
    TextDelta("# Hi\n\n"),
    TextDelta("<b>x</b> `y`"),
    Finished("stop"),
    UsageReported(Usage(1236, 412, 1024)),
    Completed(),
]

PARIS = ToolCall("weather:0", "weather", '{"city": "Paris"}')
SUNNY = ToolReturned(PARIS, "21 °C, sunny", is_error=False, seconds=0.31)
#: The model thinks, says something, calls a tool, and answers in a second step.
TOOLS: list[Event] = [
    ThinkingDelta("Hm."),
    TextDelta("Let me look."),
    ToolCallDelta(0, "weather:0", "weather", ""),
    ToolCallDelta(0, "", "", '{"city": "Paris"}'),
    Finished("tool_calls"),
    UsageReported(Usage(472, 100)),
    Completed(),
    ToolCalled(PARIS),
    SUNNY,
    NextStep((Message("assistant", "Let me look.", calls=(PARIS,)),)),
    ThinkingDelta("So."),
    TextDelta("Sunny."),
    Completed(),
]


def reply_of(events: list[Event], *, seconds: float | None = 2.13) -> Reply:
    reply = Reply("kimi-k2.6", find_price=lambda: PRICE)
    for event in events:
        reply.add(event)
    reply.seconds = seconds
    return reply


# ---------------------------------------------------------------- footer


def test_the_footer_has_time_tokens_and_cost() -> None:
    assert format_footer(reply_of(ANSWER)) == "2.1 s · 1.2K in (1.0K cached) / 412 out · $0.0028"


@pytest.mark.parametrize(
    ("events", "footer"),
    [
        ([Completed()], "2.1 s"),
        ([TextDelta("x"), UsageReported(Usage(10, 2)), Completed()], "2.1 s · 10 in / 2 out · $0.000018"),
        (
            [TextDelta("x"), UsageReported(Usage(10, 2, estimated=True))],
            "partial · 2.1 s · ≈ 10 in / 2 out · ≈ $0.000018",
        ),
    ],
)
def test_what_is_not_known_is_left_out_and_what_is_ours_is_marked(events: list[Event], footer: str) -> None:
    assert format_footer(reply_of(events)) == footer


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([TextDelta("x"), Finished("stop"), Completed()], ""),
        ([TextDelta("x"), Finished("length"), Completed()], "cut at the token limit"),
        ([ThinkingDelta("x"), Finished("length"), Completed()], "the reasoning used up the token limit"),
        ([Finished("stop"), Completed()], "The answer is empty"),
        ([TextDelta("x"), Finished("weather"), Completed()], "for the reason: weather"),
        ([TextDelta("x"), Finished("length")], ""),
        ([TextDelta("x")], ""),
        ([Finished("tool_calls"), Completed()], "the model ended to call a tool, but named none"),
        ([TextDelta("x"), Finished("tool_calls"), Completed()], ""),
        (
            [ToolCallDelta(0, "1", "weather", "{}"), Finished("tool_calls"), Completed()],
            "called weather, which was not",
        ),
        ([ToolCallDelta(0, "1", "weather", "{}"), Finished("stop"), Completed()], "called weather, which was not"),
        ([ToolCallDelta(0, "1", "weather", "{}")], ""),
    ],
)
def test_an_answer_that_is_not_done_is_explained(events: list[Event], says: str) -> None:
    found = explain_finish(reply_of(events))
    assert says in found
    assert bool(found) is bool(says)


def test_steps_and_searches_of_the_web_are_counted_in_the_footer() -> None:
    events = [*TOOLS[:-3], TextDelta("Sunny."), UsageReported(Usage(764, 312)), Completed()]
    assert format_footer(reply_of(events)) == "2.1 s · 2 steps · 1.2K in / 412 out · $0.0028"
    search = ToolCall("s", "$web_search", "{}", "builtin_function")
    found = ToolReturned(search, "{}", is_error=False, seconds=0.0)
    assert format_footer(reply_of([found, Completed()])) == "2.1 s · 1 web search"
    assert format_footer(reply_of([found, found, Completed()])) == "2.1 s · 2 web searches"


# ---------------------------------------------------------------- views


def play(view: Any, events: list[Event], error: ReplyBrokenError | None = None) -> Reply:
    reply = reply_of([])
    for event in events:
        reply.add(event)
        view.show(reply, event)
    reply.seconds = 2.13
    view.end(reply, error)
    return reply


class Published(list):
    """Stands at the border of the front end: what is published, in order."""

    def __call__(
        self, data: dict, metadata: dict | None = None, *, transient: dict | None = None, update: bool = False, **_: Any
    ) -> None:
        self.append((data, metadata or {}, update, (transient or {}).get("display_id")))


@pytest.fixture
def published(shell: Any, monkeypatch: pytest.MonkeyPatch) -> Published:
    seen = Published()
    monkeypatch.setattr(shell.display_pub, "publish", seen)
    return seen


def test_once_shows_the_answer_and_then_the_footer(published: Published) -> None:
    reply = play(MarkdownView(has_footer=True, is_live=False), ANSWER)
    [(answer, metadata, *_), (footer, *_rest)] = published
    assert answer["text/plain"] == reply.text == "# Hi\n\n<b>x</b> `y`"
    assert set(answer) == {"text/markdown", "text/plain"}
    assert answer["text/markdown"].startswith("# Hi\n")
    assert "<b>" not in answer["text/markdown"]
    assert metadata["kimi_magics"] == reply.receipt()
    assert footer["text/plain"] == format_footer(reply)


def test_live_grows_in_one_place_and_ends_with_the_receipt(published: Published) -> None:
    view = MarkdownView(has_footer=True, is_live=True)
    view._pause = 0.0
    play(view, ANSWER)
    (first, *_, last), footer = published[:-1], published[-1]
    assert len({display_id for *_, display_id in published[:-1]}) == 1
    assert [update for _, _, update, _ in published[:-1]] == [False] + [True] * (len(published) - 2)
    assert "thinking" in first[0]["text/plain"]
    assert last[0]["text/plain"] == "# Hi\n\n<b>x</b> `y`"
    assert last[1]["kimi_magics"]["usage"]["prompt_tokens"] == 1236
    assert footer[3] is None


def test_live_sends_at_most_ten_updates_a_second(published: Published) -> None:
    play(MarkdownView(has_footer=False, is_live=True), [TextDelta("x")] * 10_000 + [Completed()])
    assert len(published) <= 12


def test_a_wait_is_shown_and_then_gives_way_to_the_answer(published: Published) -> None:
    play(MarkdownView(has_footer=False, is_live=True), [Waiting(3.0, 1, "busy"), *ANSWER])
    assert published[0][0]["text/plain"] == "busy; trying again in 3 s (try 2)"
    assert published[-1][0]["text/plain"] == "# Hi\n\n<b>x</b> `y`"


UPLOAD = [Uploading("a <clip>.mp4", sent, 12_000_000) for sent in (3_000_000, 12_000_000)]


def test_an_upload_is_shown_and_then_gives_way_to_the_answer(published: Published) -> None:
    play(MarkdownView(has_footer=False, is_live=True), [*UPLOAD, *ANSWER])
    assert [bundle["text/plain"] for bundle, *_ in published[:2]] == [
        "uploading a <clip>.mp4 ████░░░░░░░░░░░░ 3.0 MB of 12.0 MB",
        "a <clip>.mp4 is uploaded (12.0 MB)",
    ]
    assert "a &lt;clip&gt;.mp4" in published[0][0]["text/html"]
    assert len({display_id for *_, display_id in published}) == 1
    assert published[-1][0]["text/plain"] == "# Hi\n\n<b>x</b> `y`"


def test_an_upload_that_ends_in_an_error_leaves_no_bar(published: Published) -> None:
    play(MarkdownView(has_footer=True, is_live=True), UPLOAD[:1], ReplyBrokenError("x"))
    assert published[-1][0]["text/plain"] == ""


def test_a_wait_that_ends_in_an_error_leaves_no_countdown(published: Published) -> None:
    play(MarkdownView(has_footer=True, is_live=True), [Waiting(3.0, 1, "busy")], ReplyBrokenError("x"))
    assert published[-1][0]["text/plain"] == ""


def test_reasoning_that_was_interrupted_stays(published: Published) -> None:
    play(
        MarkdownView(has_footer=False, is_live=True),
        [ThinkingDelta("Let me "), ThinkingDelta("see")],
        ReplyBrokenError("x"),
    )
    bundle = published[-1][0]
    assert bundle["text/plain"] == "thinking …\nLet me see"
    assert "<summary>Thinking</summary>" in bundle["text/html"]
    assert "Let me see" in bundle["text/html"]


def test_the_countdown_does_not_repeat_what_the_host_said_of_the_wait(published: Published) -> None:
    wait = Waiting(3.0, 1, "limit reached (429: max RPM: 3, please try again after 3 seconds)")
    play(MarkdownView(has_footer=False, is_live=True), [wait, Waiting(2.0, 1, wait.reason)], ReplyBrokenError("x"))
    assert [bundle["text/plain"] for bundle, *_ in published[:2]] == [
        f"limit reached (429: max RPM: 3); trying again in {seconds} s (try 2)" for seconds in (3, 2)
    ]


def test_a_failed_call_without_an_answer_shows_nothing_but_its_error(published: Published) -> None:
    play(MarkdownView(has_footer=True, is_live=True), [], ReplyBrokenError("x"))
    play(MarkdownView(has_footer=True, is_live=False), [Waiting(1.0, 1, "busy")], ReplyBrokenError("x"))
    assert published == []


def printed(
    events: list[Event], *, is_terminal: bool, error: ReplyBrokenError | None = None, has_footer: bool = True
) -> str:
    pieces: list[str] = []
    play(PlainView(has_footer=has_footer, shows_thinking=is_terminal, write=pieces.append), events, error)
    return "".join(pieces)


def test_a_terminal_sees_the_reasoning_dim_and_then_the_answer() -> None:
    assert printed(ANSWER, is_terminal=True) == (
        "\x1b[2mHm. \x1b[0m\n\n# Hi\n\n<b>x</b> `y`\n\x1b[2m2.1 s · 1.2K in (1.0K cached) / 412 out · $0.0028\x1b[0m\n"
    )


def test_a_pipe_gets_the_answer_and_the_footer_only() -> None:
    events = [Waiting(1.0, 1, "busy"), *ANSWER]
    assert (
        printed(events, is_terminal=False)
        == "# Hi\n\n<b>x</b> `y`\n2.1 s · 1.2K in (1.0K cached) / 412 out · $0.0028\n"
    )
    assert printed(events, is_terminal=False, has_footer=False) == "# Hi\n\n<b>x</b> `y`\n"


def test_a_terminal_clears_the_line_of_an_upload_and_a_pipe_gets_none() -> None:
    assert printed([*UPLOAD, TextDelta("Hi")], is_terminal=True, has_footer=False) == (
        "\ruploading a <clip>.mp4 ████░░░░░░░░░░░░ 3.0 MB of 12.0 MB\x1b[K"
        "\ra <clip>.mp4 is uploaded (12.0 MB)\x1b[K\r\x1b[KHi\n"
    )
    assert printed([*UPLOAD, TextDelta("Hi")], is_terminal=False, has_footer=False) == "Hi\n"
    assert printed(UPLOAD, is_terminal=True, error=ReplyBrokenError("x")).endswith("\r\x1b[K")


def test_the_line_of_an_upload_fits_a_terminal() -> None:
    line = describe_upload(Uploading("x\x1b[2J" * 100, 99_900_000, 100_000_000))
    assert len(line) < 80


def test_a_model_cannot_write_to_the_terminal_what_is_not_text() -> None:
    assert printed([TextDelta("a\x1b[31m\x07\x9bb\tc\n")], is_terminal=False, has_footer=False) == "a[31mb\tc\n\n"


def test_a_failed_call_without_an_answer_prints_nothing() -> None:
    assert printed([], is_terminal=False, error=ReplyBrokenError("x")) == ""


# ---------------------------------------------------------------- tools


def test_after_the_answer_the_footer_has_the_calls_to_unfold(published: Published) -> None:
    play(MarkdownView(has_footer=True, is_live=False), TOOLS)
    [(answer, *_), (footer, *_rest)] = published
    assert answer == {"text/markdown": "Sunny.", "text/plain": "Sunny."}
    assert footer["text/plain"] == (
        'weather(city="Paris") → 21 °C, sunny · 0.3 s\n2.1 s · 2 steps · 472 in / 100 out · $0.00085'
    )
    found = footer["text/html"]
    assert found.count("<details") == found.count("</details>") == 1
    assert '<details class="kimi-call kimi-done ' in found
    assert ">weather(city=&quot;Paris&quot;)</code> → 21 °C, sunny · 0.3 s</summary>" in found
    assert ">{\n  &quot;city&quot;: &quot;Paris&quot;\n}</pre>" in found
    assert ">21 °C, sunny</pre></details>" in found
    assert found.index(">Let me look.</p>") < found.index("<details")
    assert found.index("</details>") < found.index("2 steps")


def test_calls_are_shown_also_without_a_footer(published: Published) -> None:
    play(MarkdownView(has_footer=False, is_live=False), TOOLS)
    assert [bundle["text/plain"] for bundle, *_ in published] == [
        "Sunny.",
        'weather(city="Paris") → 21 °C, sunny · 0.3 s',
    ]


def test_a_failed_call_is_marked_and_said_in_words() -> None:
    failed = ToolReturned(PARIS, "ValueError: no such city", is_error=True, seconds=0.0)
    bundle = footer_bundle(reply_of([failed]), None, has_footer=False)
    assert bundle is not None
    assert bundle["text/plain"] == 'weather(city="Paris") failed: ValueError: no such city'
    assert 'class="kimi-call kimi-failed ' in bundle["text/html"]


def test_what_tools_and_models_say_is_never_html() -> None:
    evil = "</pre><img src=x onerror=alert(1)>&amp;"
    call = ToolCall("1", f"f{evil}", evil)
    said = NextStep((Message("assistant", evil, calls=(call,)),))
    events = [ToolReturned(call, evil, is_error=True, seconds=0.0), said, TextDelta("x")]
    bundle = footer_bundle(reply_of(events), None, has_footer=False)
    assert bundle is not None
    found = bundle["text/html"]
    assert "<img" not in found
    assert found.count("&lt;img src=x onerror=alert(1)&gt;&amp;amp;") == 6
    assert found.count("</pre>") == found.count("<pre ") == 2


def test_of_many_calls_twenty_are_shown_and_the_others_counted() -> None:
    calls = [ToolCall(str(number), "add", f'{{"a": {number}}}') for number in range(25)]
    events: list[Event] = [ToolReturned(call, "x", is_error=False, seconds=0.0) for call in calls]
    bundle = footer_bundle(reply_of(events), None, has_footer=False)
    assert bundle is not None
    assert bundle["text/plain"].split("\n") == [
        *(f"add(a={number}) → x" for number in range(20)),
        "… and 5 more",
    ]
    assert bundle["text/html"].count("<details") == 20
    assert "… and 5 more" in bundle["text/html"]


def test_live_shows_the_calls_until_the_model_goes_on(published: Published) -> None:
    play(MarkdownView(has_footer=False, is_live=True), TOOLS)
    texts = iter([bundle["text/plain"] for bundle, *_ in published])
    for shown in (
        "thinking … Hm.",
        'weather(city="Paris") …',
        'weather(city="Paris") → 21 °C, sunny · 0.3 s',
        "Sunny.",
        'weather(city="Paris") → 21 °C, sunny · 0.3 s',
    ):
        assert shown in texts
    assert len({display_id for *_, display_id in published[:-1]}) == 1


def test_live_shows_the_thoughts_of_a_step_and_not_what_was_said_before(published: Published) -> None:
    view, reply = MarkdownView(has_footer=False, is_live=True), reply_of(TOOLS[:11])
    view.show(reply, TOOLS[10])
    assert published[-1][0]["text/plain"] == "thinking … Hm.\n\nSo."


def test_live_sends_few_updates_for_many_quick_calls(published: Published) -> None:
    returned = [ToolReturned(PARIS, "x", is_error=False, seconds=0.0)] * 1_000
    play(MarkdownView(has_footer=False, is_live=True), [*returned, TextDelta("x"), Completed()])
    assert len(published) <= 20


def test_a_terminal_sees_calls_and_results_between_the_texts_of_the_steps() -> None:
    assert printed(TOOLS, is_terminal=True, has_footer=False) == (
        "\x1b[2mHm.\x1b[0m\n\nLet me look.\n"
        '\x1b[2m→ weather(city="Paris")\x1b[0m\n'
        "\x1b[2m← 21 °C, sunny (0.3 s)\x1b[0m\n"
        "\x1b[2mSo.\x1b[0m\n\nSunny.\n"
    )


def test_a_pipe_gets_calls_and_results_without_colours() -> None:
    assert printed(TOOLS, is_terminal=False) == (
        'Let me look.\n→ weather(city="Paris")\n← 21 °C, sunny (0.3 s)\nSunny.\n'
        "2.1 s · 2 steps · 472 in / 100 out · $0.00085\n"
    )


@pytest.mark.parametrize("number", range(2, 10))
def test_from_the_first_piece_of_a_call_on_every_line_is_whole(number: int) -> None:
    pieces: list[str] = []
    view, reply = PlainView(has_footer=False, shows_thinking=True, write=pieces.append), reply_of([])
    for event in TOOLS[: number + 1]:
        reply.add(event)
        view.show(reply, event)
    assert pieces[-1].endswith("\n")


def test_the_reason_of_another_step_has_a_line_of_its_own() -> None:
    again = NextStep((Message("assistant", "{"),), "asked again: the JSON ends early")
    assert printed([TextDelta("{"), Completed(), again, TextDelta("{}")], is_terminal=False, has_footer=False) == (
        "{\nasked again: the JSON ends early\n{}\n"
    )


def test_a_result_cannot_write_to_the_terminal_what_is_not_text() -> None:
    call = ToolCall("1", "f\x1b[2J", '{"a": "\x9b"}')
    events = [ToolCalled(call), ToolReturned(call, "\x1b]0;x\x07", is_error=True, seconds=0.0)]
    assert printed(events, is_terminal=False, has_footer=False) == ('→ f[2J(a="")\n← failed: ]0;x\n')


@pytest.mark.parametrize(
    ("chosen", "view", "is_live"),
    [
        ("auto", PlainView, None),
        ("plain", PlainView, None),
        ("widget", PlainView, None),
        ("markdown", MarkdownView, True),
        ("once", MarkdownView, False),
    ],
)
def test_a_shell_without_a_kernel_prints_unless_told_otherwise(
    shell: Any, chosen: str, view: type, is_live: bool | None
) -> None:
    found = choose_view(shell, PROMPT, chosen=chosen, has_footer=True)
    assert type(found) is view
    assert getattr(getattr(found, "_outlet", None), "is_live", None) is is_live


def test_why_an_answer_was_asked_for_again_stays_below_it() -> None:
    reply = Reply("m")
    for event in (NextStep((), "asked again: no JSON"), TextDelta("{}"), Finished("stop"), Completed()):
        reply.add(event)
    bundle = footer_bundle(reply, None, has_footer=True)
    assert bundle is not None
    assert bundle["text/plain"].startswith("asked again: no JSON\n")


def test_amounts_in_small_print_are_no_formulas() -> None:
    reply = Reply("m")
    reply.add(ThinkingDelta("from $1 to $2"))
    for bundle in (answer_bundle(reply), thinking_bundle(reply.thinking), small_bundle("$0 · first $0.0021")):
        assert re.search(r'<div class="mathjax_ignore tex2jax_ignore"[^>]*>[^<]*\$[^<]*\$', bundle["text/html"])

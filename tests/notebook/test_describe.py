"""`%kimi_describe` as a user types it, against the sandbox."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from kimi_magics.core.describing import DESCRIBE_TEMPLATE
from kimi_magics.errors import BudgetError, ImageError, MagicLineError, PromptError, ReplyBrokenError
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.alts import AltStore, AltText

CHAT = "/v1/chat/completions"


def bodies(sandbox: Sandbox) -> list[Any]:
    return [request.body for request in sandbox.requests if request.path == CHAT]


def text_of(body: Any) -> str:
    parts = body["messages"][-1]["content"]
    return next(part["text"] for part in parts if part["type"] == "text")


def pictures_of(body: Any) -> list[tuple[int, int]]:
    urls = [part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
    return [PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in urls]


def png(width: int = 30, height: int = 20, colour: str = "white") -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()


class Page(HTMLParser):
    """The elements of a page, with their attributes, as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.fixture
def drawn(cells: Any) -> Any:
    """A shell with two pictures in variables."""
    cells.shell.user_ns.update(white=png(), black=png(40, 10, "black"))
    return cells


# ---------------------------------------------------------------- descriptions


def test_a_named_picture_is_described_and_the_reply_bound(drawn: Any, sandbox: Sandbox) -> None:
    ran = drawn.run("%kimi_describe -o seen white")
    assert ran.error is None
    assert "30 × 20 pixels" in drawn["seen"].text
    assert drawn["_kimi"] is drawn["seen"]
    (body,) = bodies(sandbox)
    assert pictures_of(body) == [(30, 20)]
    asked = text_of(body)
    assert asked == DESCRIBE_TEMPLATE.replace("{{lang}}", "English").replace("{{length}}", "in one to three paragraphs")
    assert all(word in asked for word in ("axes", "units", "trends", "figures", "cannot be read"))


def test_without_a_name_the_picture_displayed_last_is_meant(cells: Any, sandbox: Sandbox) -> None:
    cells.run("from IPython.display import Image, display")
    cells.shell.user_ns["data"] = png(33, 22)
    cells.shell.run_cell("display(Image(data))")  # not captured
    assert cells.run("%kimi_describe").error is None
    assert pictures_of(bodies(sandbox)[0]) == [(33, 22)]


def test_several_pictures_go_in_one_request_with_flags_before_and_after(drawn: Any, sandbox: Sandbox) -> None:
    ran = drawn.run("%kimi_describe --short white black --lang 'Swiss German' -i white")
    assert ran.error is None
    (body,) = bodies(sandbox)
    assert sorted(pictures_of(body)) == [(30, 20), (30, 20), (40, 10)]
    assert "in Swiss German, in two or three sentences" in text_of(body)
    assert "number them" in text_of(body)


def test_a_file_with_a_blank_in_its_name_is_quoted(
    cells: Any, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my plot.png").write_bytes(png(11, 12))
    assert cells.run("%kimi_describe 'my plot.png'").error is None
    assert pictures_of(bodies(sandbox)[0]) == [(11, 12)]


def test_the_flags_of_kimi_reach_the_request(drawn: Any, sandbox: Sandbox) -> None:
    drawn.run("who = 'Ada'")
    ran = drawn.run('%kimi_describe --long -m kimi-k3 --effort low -s "For {{who}}" --max-tokens 900 white')
    assert ran.error is None
    (body,) = bodies(sandbox)
    assert (body["model"], body["reasoning_effort"], body["max_completion_tokens"]) == ("kimi-k3", "low", 900)
    assert body["messages"][0] == {"role": "system", "content": "For Ada"}
    assert "every figure that can be read off" in text_of(body)


def test_the_template_and_the_language_are_the_user_s(drawn: Any, sandbox: Sandbox) -> None:
    drawn.run('%kimi_config describe_template="Say {{who}} {x} in {{lang}}: {{ length }}"')
    drawn.run("%kimi_config language=Français")
    assert drawn.run("%kimi_describe --short white").error is None
    assert drawn.run("%kimi_describe --lang German white").error is None
    assert [text_of(body) for body in bodies(sandbox)] == [
        "Say {{who}} {x} in Français: in two or three sentences",
        "Say {{who}} {x} in German: in one to three paragraphs",
    ]


def test_a_dry_run_shows_the_body_and_sends_nothing(drawn: Any, sandbox: Sandbox) -> None:
    for line in ("%kimi_describe --dry-run white", "%kimi_describe --alt --dry-run white"):
        ran = drawn.run(line)
        assert ran.error is None
        assert "Write" in ran.stdout
        assert '"kimi-k2.6"' in ran.stdout
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("--short --long white", MagicLineError, "--short and --long exclude each other"),
        ("--alt --long white", MagicLineError, "--long and --alt exclude each other"),
        ("--alt --tool len white", MagicLineError, "--tool does not go with --alt"),
        ("--alt -c paper white", MagicLineError, "--chat does not go with --alt"),
        ("--lang '' white", MagicLineError, "not the name of a language"),
        ("white --langue German", MagicLineError, "did you mean --lang?"),
        ("'white", MagicLineError, "a quote on the line is not closed"),
        ("whit", ImageError, "neither a variable nor a file"),
        ("--alt whit", ImageError, "neither a variable nor a file"),
        ("", ImageError, "no picture was displayed"),
        ("-m moonshot-v1-8k white", PromptError, "does not read images"),
        ("--alt -m moonshot-v1-8k white", PromptError, "-m kimi-k2.6"),
    ],
)
def test_what_cannot_be_described_fails_the_cell_and_sends_nothing(
    drawn: Any, sandbox: Sandbox, line: str, error: type, says: str
) -> None:
    ran = drawn.run(f"%kimi_describe {line}")
    assert type(ran.error) is error
    assert says in ran.shown_error
    assert ran.shown_error.count("\n") in (1, 2)
    assert (sandbox.requests, ran.bundles) == ([], [])


def test_the_budget_holds_for_descriptions_and_alt_texts(drawn: Any, sandbox: Sandbox) -> None:
    drawn.run("%kimi_budget 0.0000001")
    for line in ("%kimi_describe white", "%kimi_describe --alt white"):
        assert isinstance(drawn.run(line).error, BudgetError)
    assert bodies(sandbox) == []


# ---------------------------------------------------------------- alt text


def test_a_picture_is_shown_again_with_its_alt_text_and_nothing_else(drawn: Any, sandbox: Sandbox) -> None:
    ran = drawn.run("%kimi_describe --alt -o alt white")
    assert ran.error is None
    bundle, footer = ran.bundles
    alt = bundle["text/plain"]
    assert "PNG of 30×20 pixels" in alt
    assert drawn["alt"].text == alt
    source = "data:image/png;base64," + base64.b64encode(png()).decode()
    assert Page(bundle["text/html"]).elements == [
        ("figure", {"style": "margin: 0"}),
        ("img", {"src": source, "alt": alt}),
    ]
    assert base64.b64decode(bundle["image/png"]) == png()
    assert set(bundle) == {"text/html", "text/plain", "image/png"}
    assert ran.metadata[0]["image/png"] == {"alt": alt}
    assert ran.metadata[0]["kimi_magics"]["model"] == "kimi-k2.6"
    assert re.search(r"in / \d+ out · \$", footer["text/plain"])
    (body,) = bodies(sandbox)
    assert body["thinking"] == {"type": "disabled"}
    assert "alt text" in text_of(body)
    assert "in English, in one sentence" in text_of(body)


def test_the_same_picture_is_not_sent_again_unless_it_shall_be(drawn: Any, sandbox: Sandbox) -> None:
    first = drawn.run("%kimi_describe --alt white").bundles[0]
    sandbox.clear()
    ran = drawn.run("%kimi_describe --alt -o again white")
    assert ran.bundles[0] == first
    assert "nothing was sent" in ran.bundles[1]["text/plain"]
    assert (drawn["again"].text, drawn["again"].cost, drawn["again"].is_partial) == (first["text/plain"], None, False)
    assert sandbox.requests == []
    drawn.run("%kimi_describe --alt --lang German white")
    drawn.run("%kimi_describe --alt --fresh white")
    assert len(bodies(sandbox)) == 2


def test_several_pictures_get_their_alt_texts_one_after_the_other(drawn: Any, sandbox: Sandbox) -> None:
    ran = drawn.run("%kimi_describe --alt white black")
    assert ran.error is None
    shown = [bundle["text/plain"] for bundle in ran.bundles if "image/png" in bundle]
    assert ["30×20" in shown[0], "40×10" in shown[1], len(shown)] == [True, True, 2]
    assert [pictures_of(body) for body in bodies(sandbox)] == [[(30, 20)], [(40, 10)]]


def test_a_hostile_alt_text_stays_text(drawn: Any, sandbox: Sandbox) -> None:
    attack = '"><script>alert(1)</script><img src=x onerror=alert(1) alt="x'
    AltStore().put(hashlib.sha256(png()).hexdigest(), "English", AltText(attack, "kimi-k2.6", "2026-01-01"))
    bundle = drawn.run("%kimi_describe --alt white").bundles[0]
    (figure, picture) = Page(bundle["text/html"]).elements
    assert (figure[0], picture[0], set(picture[1]), picture[1]["alt"]) == ("figure", "img", {"src", "alt"}, attack)


def test_an_answer_that_is_cut_is_no_alt_text(drawn: Any, sandbox: Sandbox) -> None:
    ran = drawn.run("%kimi_describe --alt --max-tokens 5 -o cut white")
    assert isinstance(ran.error, ReplyBrokenError)
    assert "raise --max-tokens" in ran.shown_error
    assert not any("image/png" in bundle for bundle in ran.bundles)
    assert drawn["cut"].finish_reason == "length"
    assert AltStore().get(hashlib.sha256(png()).hexdigest(), "English") is None


def test_a_broken_call_shows_no_picture_and_keeps_nothing(drawn: Any, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(drop_after=3, times=None))
    ran = drawn.run("%kimi_describe --alt white")
    assert isinstance(ran.error, ReplyBrokenError)
    assert not any("image/png" in bundle for bundle in ran.bundles)
    assert AltStore().get(hashlib.sha256(png()).hexdigest(), "English") is None


def test_a_picture_can_be_uploaded_for_its_alt_text(drawn: Any, sandbox: Sandbox) -> None:
    assert drawn.run("%kimi_describe --alt --upload white").error is None
    (body,) = bodies(sandbox)
    assert body["messages"][-1]["content"][0]["image_url"]["url"].startswith("ms://")


def test_other_formats_are_shown_as_they_are(drawn: Any, sandbox: Sandbox) -> None:
    out = io.BytesIO()
    PIL.Image.new("L", (9, 8)).save(out, "GIF")
    drawn.shell.user_ns["moving"] = out.getvalue()
    ran = drawn.run("%kimi_describe --alt moving")
    assert base64.b64decode(ran.bundles[0]["image/gif"]) == out.getvalue()
    assert set(ran.metadata[0]["image/gif"]) == {"alt"}


def test_the_footer_can_be_off(drawn: Any, sandbox: Sandbox) -> None:
    drawn.run("%kimi_config footer=off")
    assert len(drawn.run("%kimi_describe --alt white").bundles) == 1
    assert len(drawn.run("%kimi_describe --alt white").bundles) == 1


def test_help_and_completion_know_the_flags(cells: Any) -> None:
    assert "--lang LANGUAGE" in cells.run("%kimi_describe --help").stdout
    assert "%kimi_describe --alt last:3" in cells.shell.find_line_magic("kimi_describe").__doc__

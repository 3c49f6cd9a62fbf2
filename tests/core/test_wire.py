"""Kimi's JSON, both ways."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from kimi_magics.core.events import Completed, Finished, Started, TextDelta, ThinkingDelta, UsageReported
from kimi_magics.core.media import Image, Upload, Video
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.usage import Usage
from kimi_magics.core.wire import (
    WireError,
    estimate_body,
    is_file_id,
    measure_media,
    preview_body,
    prompt_hash,
    read_balance,
    read_chunk,
    read_completion,
    read_count,
    read_error,
    read_file,
    read_files,
    read_models,
    replay_key,
    request_body,
)
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()
HI = (Message("user", "Hi"),)
PICTURE = Image(b"\x89PNG", "image/png", 10, 20, "plot")


def prompt(name: str = "kimi-k2.6", **fields: object) -> Prompt:
    return Prompt(CATALOG.get(name), **({"messages": HI} | fields))


def test_the_smallest_request_holds_nothing_that_was_not_asked_for() -> None:
    assert request_body(prompt(is_streamed=False)) == {
        "model": "kimi-k2.6",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_full_request() -> None:
    messages = (Message("system", "S"), Message("user", "What is it?", (PICTURE,)))
    assert request_body(prompt(messages=messages, max_tokens=9, stop=("a",), thinking="off")) == {
        "model": "kimi-k2.6",
        "messages": [
            {"role": "system", "content": "S"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                    {"type": "text", "text": "What is it?"},
                ],
            },
        ],
        "max_completion_tokens": 9,
        "stop": ["a"],
        "thinking": {"type": "disabled"},
        "stream": True,
    }


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("kimi-k2.6", {"thinking": "off"}, {"thinking": {"type": "disabled"}}),
        ("kimi-k2.6", {"thinking": "on"}, {"thinking": {"type": "enabled"}}),
        ("kimi-k2.6", {"thinking": "keep"}, {"thinking": {"type": "enabled", "keep": "all"}}),
        ("kimi-k2.7-code", {"thinking": "on"}, {"thinking": {"type": "enabled"}}),
        ("kimi-k2.7-code", {"thinking": "keep"}, {"thinking": {"type": "enabled"}}),
        ("kimi-k3", {"effort": "high"}, {"reasoning_effort": "high"}),
        ("kimi-k3", {"thinking": "on"}, {}),
        (
            "kimi-k9",
            {"thinking": "off", "effort": "low"},
            {"thinking": {"type": "disabled"}, "reasoning_effort": "low"},
        ),
    ],
)
def test_each_model_gets_the_thinking_field_that_it_has(name: str, fields: dict, expected: dict) -> None:
    body = request_body(prompt(name, is_streamed=False, **fields))
    assert {key: body[key] for key in body if key not in ("model", "messages")} == expected


@pytest.mark.parametrize("name", [model.name for model in CATALOG])
def test_no_model_is_sent_sampling_parameters(name: str) -> None:
    refused = {"temperature", "top_p", "n", "presence_penalty", "frequency_penalty", "max_tokens"}
    assert not refused & request_body(prompt(name, max_tokens=5)).keys()


def test_the_estimate_counts_the_same_messages() -> None:
    asked = prompt(messages=(Message("system", "S"), *HI))
    assert estimate_body(asked) == {"model": "kimi-k2.6", "messages": request_body(asked)["messages"]}


def test_a_preview_is_the_body_with_the_picture_counted() -> None:
    shown = preview_body(prompt(messages=(Message("user", "x", (PICTURE,)),)))
    assert shown["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,… (8 characters)"
    assert preview_body(prompt()) == request_body(prompt())


def test_the_hash_follows_the_request() -> None:
    assert prompt_hash(prompt()) == prompt_hash(prompt())
    assert prompt_hash(prompt()) != prompt_hash(prompt(max_tokens=1))


def test_the_hash_of_a_conversation_is_the_same_in_every_kernel() -> None:
    assert prompt_hash(prompt(cache_key="a")) == prompt_hash(prompt(cache_key="b")) == prompt_hash(prompt())


def test_the_hash_looks_at_the_content_of_media_and_not_at_how_they_go() -> None:
    clip = Video(b"video", "video/mp4", "clip")

    def name(*videos: Video, picture: Image = PICTURE) -> str:
        return prompt_hash(prompt(messages=(Message("user", "x", (picture,), videos),)))

    assert name(clip) == name(replace(clip, file_id="f1"), picture=replace(PICTURE, file_id="f2"))
    assert len({name(clip), name(), name(Video(b"other", "video/mp4")), name(clip, clip)}) == 4


def test_an_answer_is_kept_under_what_decides_it_and_nothing_else() -> None:
    def key(site: str = "api.moonshot.ai", name: str = "kimi-k2.6", **fields: object) -> str:
        return replay_key(prompt(name, **fields), site=site)

    same = [{"cache_key": "c"}, {"safety_identifier": "ada"}, {"is_streamed": False}]
    other = [
        {"site": "api.moonshot.cn"},
        {"name": "kimi-k3"},
        {"name": "kimi-k9"},
        {"messages": (Message("system", "S"), *HI)},
        {"messages": (Message("user", "Hi", (PICTURE,)),)},
        {"max_tokens": 9},
        {"stop": ("a",)},
        {"thinking": "off"},
    ]
    assert {key(**fields) for fields in same} == {key()}
    assert len({key(), *(key(**fields) for fields in other)}) == 1 + len(other)
    # Of a model that nobody knows the usage is asked for where the answer is streamed.
    assert key(name="kimi-k9") == key(name="kimi-k9", is_streamed=False)


def test_media_are_measured_as_they_go() -> None:
    clips = [Video(bytes(size), "video/mp4") for size in (1, 2, 3, 4, 3000)]
    asked = prompt(messages=(Message("user", "x", (PICTURE,), tuple(clips)),))
    bare = prompt(messages=(Message("user", "x", (), (replace(clips[-1], file_id="f1"),)),))
    assert measure_media(asked) == 4 + 4 + 4 + 8 + 4000 + len(base64.b64encode(PICTURE.data))
    assert measure_media(bare) == 0
    assert request_body(bare)["messages"][0]["content"][0] == {
        "type": "video_url",
        "video_url": {"url": "ms://f1"},
    }


def test_files_are_read_and_an_id_that_leads_elsewhere_is_not() -> None:
    row = {"id": "f1", "filename": "a.mp4", "purpose": "video", "bytes": 5, "created_at": 1_700_000_000, "status": "ok"}
    file = Upload("f1", "a.mp4", "video", 5, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))
    assert read_file(json.dumps(row).encode()) == file
    assert read_files(json.dumps({"data": [row, {"id": "f2"}]}).encode()) == [file, Upload("f2")]
    for bad in ({}, {"id": "../x"}, {"id": ""}, {"id": 5}, [row]):
        with pytest.raises(WireError):
            read_file(json.dumps(bad).encode())
    assert [is_file_id(text) for text in ("d41-n8.k_1", "..", "a/b", "", "é")] == [True, False, False, False, False]


def chunk(**fields: object) -> bytes:
    return json.dumps({"id": "cmpl-1", "model": "kimi-k2.6"} | fields).encode()


def delta(finish: str | None = None, *, usage: object = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return chunk(choices=[choice | ({"usage": usage} if usage else {})])


USAGE = {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32}
REPORTED = UsageReported(Usage(19, 13))


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (delta(content="Hi"), [TextDelta("Hi")]),
        (delta(reasoning_content="Hm"), [ThinkingDelta("Hm")]),
        (delta(reasoning_content="Hm", content="Hi"), [ThinkingDelta("Hm"), TextDelta("Hi")]),
        (delta(content="", role="assistant"), []),
        (delta(content=None, reasoning_content=None), []),
        (delta("stop"), [Finished("stop")]),
        (delta("length", content="x"), [TextDelta("x"), Finished("length")]),
        (delta("a_new_reason"), [Finished("a_new_reason")]),
        (chunk(choices=[]), []),
        (chunk(), []),
        (b"[DONE]", [Completed()]),
        # usage in its three places
        (delta("stop", usage=USAGE), [Finished("stop"), REPORTED]),
        (
            chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE),
            [Finished("stop"), REPORTED],
        ),
        (chunk(choices=[], usage=USAGE), [REPORTED]),
        (chunk(choices=None, usage=USAGE), [REPORTED]),
        # cached tokens in their two places, cache writes beside them
        (chunk(choices=[], usage=USAGE | {"cached_tokens": 10}), [UsageReported(Usage(19, 13, 10))]),
        (
            chunk(choices=[], usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4}}),
            [UsageReported(Usage(19, 13, 8, 4))],
        ),
        (chunk(choices=[], usage={"prompt_tokens": None}), [UsageReported(Usage())]),
    ],
)
def test_a_chunk_becomes_events(data: bytes, events: list) -> None:
    assert list(read_chunk(data)) == events


def test_the_first_chunk_starts_the_reply() -> None:
    assert list(read_chunk(delta(content="Hi"), is_first=True)) == [Started("cmpl-1", "kimi-k2.6"), TextDelta("Hi")]


def test_a_whole_reply_becomes_the_same_events() -> None:
    body = chunk(
        choices=[{"index": 0, "message": {"content": "Hi", "reasoning_content": "Hm"}, "finish_reason": "stop"}],
        usage=USAGE,
    )
    assert list(read_completion(body)) == [
        Started("cmpl-1", "kimi-k2.6"),
        ThinkingDelta("Hm"),
        TextDelta("Hi"),
        Finished("stop"),
        REPORTED,
        Completed(),
    ]


@pytest.mark.parametrize("data", [b"", b"{", b"<html>", b"[]", b'{"choices": 3}', b"\xff"])
def test_what_is_not_a_reply_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        list(read_chunk(data))
    with pytest.raises(WireError):
        list(read_completion(data))


def test_a_reply_without_choices_is_an_error() -> None:
    with pytest.raises(WireError, match="no choices"):
        list(read_completion(b"{}"))


@pytest.mark.parametrize(
    ("error", "message", "kind"),
    [
        ({"message": "m", "type": "t"}, "m", "t"),
        ("text", "text", "server_error"),
        ({}, "the host reports an error", "server_error"),
    ],
)
def test_an_error_inside_a_stream_keeps_its_kind(error: object, message: str, kind: str) -> None:
    with pytest.raises(WireError) as caught:
        list(read_chunk(chunk(error=error)))
    assert (caught.value.message, caught.value.kind) == (message, kind)


def test_counts_models_and_balances_are_read() -> None:
    assert read_count(b'{"data": {"total_tokens": 80}}') == 80
    assert read_balance(b'{"data": {"available_balance": 49.58894, "voucher_balance": 1}}') == Decimal("49.58894")
    [model] = read_models(b'{"data": [{"id": "k", "context_length": 9, "supports_image_in": true, "new": 1}]}')
    assert (model.name, model.context_tokens, model.supports_images, model.supports_video) == ("k", 9, True, None)


@pytest.mark.parametrize(
    "data", [b'{"data": {"total_tokens": 0}}', b'{"data": {}}', b'{"data": {"total_tokens": null}}', b"nothing"]
)
def test_a_count_is_never_zero(data: bytes) -> None:
    with pytest.raises(WireError):
        read_count(data)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "m", "type": "t", "code": 1}}', ("m", "t")),
        (b'{"error": {"message": "m"}}', ("m", "")),
        (b'{"error": "m"}', ("m", "")),
        (b"<html>504</html>", None),
        (b"", None),
        (b"{}", None),
    ],
)
def test_an_error_body_is_read_in_every_form(body: bytes, expected: tuple[str, str] | None) -> None:
    assert read_error(body) == expected

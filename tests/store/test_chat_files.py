"""Conversations as files: what is written comes back whole, and nothing else is ever overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kimi_magics.core.conversation import Conversation, Spot, Turn
from kimi_magics.core.media import Image, Origin, Video
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.errors import ChatError
from kimi_magics.store.chat_files import ChatFiles

IMAGE = Image(b"\x89PNG", "image/png", 60, 40, "the plot", Origin("PNG", 600, 400, 1234), ("scaled down",))
VIDEO = Video(b"ftyp", "video/mp4", "the clip")
CHAT = Conversation(
    "trip",
    (
        Turn(
            Spot("cell-1", 0),
            (
                Message("user", "Wie ist das Wetter? 你好", (IMAGE,), (VIDEO,)),
                Message("assistant", "", thinking="ask", calls=(ToolCall("c1", "weather", '{"city": "Bern"}'),)),
                Message("tool", "sunny", (IMAGE,), call_id="c1", name="weather"),
                Message("assistant", "Sunny.", thinking="easy"),
            ),
            "Be short.",
            "kimi-k2.6",
            120,
            12,
            ended=1_800_000_000.5,
        ),
        Turn(Spot("cell-1", 1), (Message("user", "And then?"), Message("assistant", "Rain.")), estimated=True),
        Turn(Spot("cell-2", 0), (), state="vacant"),
        Turn(Spot(None, 0), (Message("user", "x"), Message("assistant", "y")), state="forgotten"),
    ),
    "kimi-magics-ab12",
    "draft",
)


@pytest.fixture
def files(tmp_path: Path) -> ChatFiles:
    return ChatFiles(tmp_path / "home")


def test_what_was_saved_is_what_is_loaded(files: ChatFiles, tmp_path: Path) -> None:
    for path in (files.save(CHAT), files.save(CHAT, tmp_path / "deep" / "er" / "trip.json")):
        assert files.load(path) == CHAT
    assert files.path_of("trip") == tmp_path / "home" / "chats" / "trip.json"


def test_a_file_holds_hashes_of_pictures_and_can_be_read_by_people(files: ChatFiles, tmp_path: Path) -> None:
    text = files.save(CHAT).read_text("utf-8")
    [first, *_] = json.loads(text)["turns"]
    assert "你好" in text
    assert first["messages"][0]["images"] == [
        {
            "sha256": IMAGE.digest,
            "mime": "image/png",
            "label": "the plot",
            "size_bytes": 4,
            "width": 60,
            "height": 40,
            "origin": ["PNG", 600, 400, 1234],
            "notes": ["scaled down"],
        }
    ]
    kept = {path.name: path.read_bytes() for path in (tmp_path / "home" / "media").iterdir()}
    assert kept == {IMAGE.digest: b"\x89PNG", VIDEO.digest: b"ftyp"}


def test_a_saved_conversation_is_overwritten_and_no_other_file_is(files: ChatFiles, tmp_path: Path) -> None:
    path = files.save(CHAT)
    assert files.load(files.save(Conversation("trip", CHAT.turns[1:]), path)).turns == CHAT.turns[1:]
    for name, content in (("notes.json", '{"a": 1}'), ("empty", ""), ("trip.ipynb", '{"cells": []}')):
        other = tmp_path / name
        other.write_text(content)
        with pytest.raises(ChatError, match="is not a saved conversation"):
            files.save(CHAT, other)
        assert other.read_text() == content
    with pytest.raises(ChatError, match="is not a saved conversation"):
        files.save(CHAT, tmp_path)


def test_a_place_that_cannot_be_written_is_said(files: ChatFiles, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ChatError, match="could not be written"):
        files.save(Conversation("x"), tmp_path / "file" / "chat.json")


@pytest.mark.parametrize("damage", [None, b"other bytes"])
def test_a_picture_that_is_missing_or_damaged_is_named(files: ChatFiles, tmp_path: Path, damage: bytes | None) -> None:
    path = files.save(CHAT)
    medium = tmp_path / "home" / "media" / IMAGE.digest
    medium.unlink()
    if damage is not None:
        medium.write_bytes(damage)
    with pytest.raises(ChatError, match="the plot of the conversation is not here") as caught:
        files.load(path)
    assert IMAGE.digest[:12] in caught.value.remedy
    files.save(CHAT)
    assert files.load(path) == CHAT


def write(*messages: dict, **changes: object) -> str:
    """Return a file of one turn."""
    turns = [{"cell": None, "part": 0, "state": "kept", "messages": messages}]
    return json.dumps({"kimi_magics_chat": 1, "name": "x", "cache_key": "", "turns": turns} | changes)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        (write(kimi_magics_chat=2), "$.kimi_magics_chat"),
        (write(name="../x"), "is not a name"),
        (write(turns=[3]), "$.turns[0]"),
        (write({"role": "robot", "text": "x"}), "$.turns[0].messages[0].role"),
        (write({"role": "user", "text": " "}), "the prompt is empty"),
        (
            write(
                {
                    "role": "user",
                    "text": "",
                    "images": [{"sha256": "../../key", "mime": "image/png", "label": "it", "size_bytes": 1}],
                }
            ),
            "is not the hash of it",
        ),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_place(
    files: ChatFiles, tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ChatError) as caught:
        files.load(path)
    assert says in caught.value.message


def test_a_file_that_is_not_there_is_said(files: ChatFiles, tmp_path: Path) -> None:
    with pytest.raises(ChatError, match="there is no file"):
        files.load(tmp_path / "none.json")
    with pytest.raises(ChatError, match="it is not a file"):
        files.load(tmp_path)


def test_a_name_finds_what_was_saved_without_a_path(
    files: ChatFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.find("trip") == Path("trip")
    saved = files.save(CHAT)
    assert files.find("trip") == saved
    files.save(CHAT, Path("trip"))
    assert files.find("trip") == Path("trip")
    assert files.find("../x.json") == Path("../x.json")

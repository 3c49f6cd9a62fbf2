"""The alt texts that are kept: by hash and language, whatever happens to the file."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kimi_magics.store import alts
from kimi_magics.store.alts import AltStore, AltText

CHART = AltText("A chart.", "kimi-k2.6", "2026-11-23")
DIGEST = "0123456789abcdef" * 4


def digest(number: int) -> str:
    return f"{number:064x}"


def test_an_alt_text_is_known_by_another_process_for_its_language_only(tmp_path: Path) -> None:
    AltStore(tmp_path).put(DIGEST, "English", CHART)
    other = AltStore(tmp_path)
    assert other.get(DIGEST, " english ") == CHART
    assert other.get(DIGEST, "German") is None
    assert other.get(digest(1), "English") is None


def test_a_newer_alt_text_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    store, newer = AltStore(tmp_path), AltText("A better one.", "kimi-k3", "2026-11-24")
    store.put(DIGEST, "English", CHART)
    store.put(DIGEST, "English", newer)
    assert (store.get(DIGEST, "English"), AltStore(tmp_path).get(DIGEST, "English")) == (newer, newer)


def test_only_hash_language_text_model_and_day_are_kept(tmp_path: Path) -> None:
    store = AltStore(tmp_path)
    store.put(DIGEST, "English", CHART)
    assert json.loads(store.path.read_text("utf-8")) == {
        "version": 1,
        "alts": {f"{DIGEST} english": {"text": "A chart.", "model": "kimi-k2.6", "date": "2026-11-23"}},
    }


def test_the_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alts, "MAX_ALTS", 3)
    for number in (0, 1, 2, 0, 3):
        AltStore(tmp_path).put(digest(number), "English", CHART)
    assert [AltStore(tmp_path).get(digest(number), "English") for number in range(4)] == [CHART, None, CHART, CHART]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"version": 2, "alts": {}}',
        b'{"version": 1, "alts": 3}',
        b'{"version": 1, "alts": {"DIGEST english": {"text": 3, "model": "m", "date": "d"}}}',
        b'{"version": 1, "alts": {"DIGEST english": {"text": " ", "model": "m", "date": "d"}}}',
        b'{"version": 1, "alts": {"DIGEST english": "text"}}',
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_a_broken_file_knows_nothing_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    store = AltStore(tmp_path)
    store.path.write_bytes(content.replace(b"DIGEST", DIGEST.encode()))
    assert store.get(DIGEST, "English") is None
    store.put(DIGEST, "English", CHART)
    assert AltStore(tmp_path).get(DIGEST, "English") == CHART


def test_a_disk_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file in the place of the folder")
    store = AltStore(tmp_path / "home")
    store.put(DIGEST, "English", CHART)
    assert store.get(DIGEST, "English") == CHART


def test_what_another_process_kept_meanwhile_stays(tmp_path: Path) -> None:
    one, other = AltStore(tmp_path), AltStore(tmp_path)
    one.put(digest(1), "English", CHART)
    other.put(digest(2), "English", CHART)
    one.put(digest(3), "English", CHART)
    assert all(AltStore(tmp_path).get(digest(number), "English") == CHART for number in (1, 2, 3))


def test_threads_lose_nothing(tmp_path: Path) -> None:
    store = AltStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(digest(number), "English", CHART), range(40)))
    assert all(AltStore(tmp_path).get(digest(number), "English") == CHART for number in range(40))


def test_a_name_that_is_no_hash_is_a_slip(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        AltStore(tmp_path).put("secret prompt", "English", CHART)

"""What was learnt survives the kernel, is shared with others, and never fails a call."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from kimi_magics.core.tokens import DEFAULT_WEIGHTS, Weights, count_text, learn
from kimi_magics.store.weights import MAX_MODELS, WeightsStore

SECRET = "the launch code is swordfish. "


def learn_about(text: str = SECRET * 20, share: float = 1.2) -> Weights:
    return learn(DEFAULT_WEIGHTS, [text], round(share * count_text(text)))


LEARNT = learn_about()


def test_nothing_is_known_before_anything_is_learnt(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path / "home")
    assert store.get("kimi-k2.6") is DEFAULT_WEIGHTS
    store.save()
    assert list(tmp_path.iterdir()) == []


def test_what_was_put_is_known_at_once_and_to_the_next_kernel_once_saved(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path)
    store.put("kimi-k2.6", LEARNT)
    assert store.get("kimi-k2.6") is LEARNT
    assert WeightsStore(tmp_path).get("kimi-k2.6") is DEFAULT_WEIGHTS
    store.save()
    assert WeightsStore(tmp_path).get("kimi-k2.6").to_row() == LEARNT.to_row()
    assert WeightsStore(tmp_path).get("kimi-k3") is DEFAULT_WEIGHTS


def test_the_home_is_looked_up_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = WeightsStore()
    monkeypatch.setenv("KIMI_MAGICS_HOME", str(tmp_path))
    store.put("kimi-k2.6", LEARNT)
    store.save()
    assert [path.name for path in tmp_path.iterdir()] == ["weights.json"]


def test_no_text_is_in_the_file(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path)
    store.put("kimi-k2.6", LEARNT)
    store.save()
    written = store.path.read_text("utf-8")
    assert not any(word in written for word in SECRET.split() if len(word) > 3)


def test_two_kernels_keep_what_the_other_learnt(tmp_path: Path) -> None:
    first, second = WeightsStore(tmp_path), WeightsStore(tmp_path)
    assert first.get("kimi-k3") is second.get("kimi-k2.6") is DEFAULT_WEIGHTS
    first.put("kimi-k2.6", LEARNT)
    second.put("kimi-k3", learn_about(share=0.9))
    first.save()
    second.save()
    first.put("moonshot-v1-8k", LEARNT)
    first.save()
    assert list(json.loads(first.path.read_text("utf-8"))["models"]) == ["kimi-k2.6", "kimi-k3", "moonshot-v1-8k"]


def test_the_models_learnt_about_most_recently_are_kept(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path)
    for number in range(MAX_MODELS + 2):
        store.put(f"model-{number}", LEARNT)
    store.save()
    store.put("model-2", LEARNT)
    store.put("one-more", LEARNT)
    store.save()
    kept = list(json.loads(store.path.read_text("utf-8"))["models"])
    assert kept == [*(f"model-{number}" for number in range(4, MAX_MODELS + 2)), "model-2", "one-more"]
    assert store.path.stat().st_size < 25_000 * MAX_MODELS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"version": 9, "models": {"kimi-k2.6": {}}}',
        b'{"version": 1}',
        b'{"version": 1, "models": []}',
        b'{"version": 1, "models": {"kimi-k2.6": 5}}',
        b'{"version": 1, "models": {"kimi-k2.6": {"version": 1}}}',
        b'{"version": 1, "models": {"kimi-k2.6": {"version": 1, "learnt": 1, "values": [NaN], "doubt": null}}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_gives_the_defaults_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.json").write_bytes(content)
    store = WeightsStore(tmp_path)
    assert store.get("kimi-k2.6") is DEFAULT_WEIGHTS
    store.put("kimi-k2.6", LEARNT)
    store.save()
    assert WeightsStore(tmp_path).get("kimi-k2.6").learnt == 1


def test_a_folder_that_cannot_be_written_fails_nothing_and_is_tried_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file where the folder should be", "utf-8")
    store = WeightsStore(home)
    store.put("kimi-k2.6", LEARNT)
    store.save()
    assert store.get("kimi-k2.6") is LEARNT
    home.unlink()
    store.save()
    assert WeightsStore(home).get("kimi-k2.6").learnt == 1


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "weights.json").mkdir()
    store = WeightsStore(tmp_path)
    store.put("kimi-k2.6", LEARNT)
    store.save()
    assert os.listdir(tmp_path) == ["weights.json"]


def test_threads_may_put_and_save_together(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path)

    def work(number: int) -> None:
        for at in range(3):
            store.put(f"model-{number}-{at}", LEARNT)
            store.save()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(store.path.read_text("utf-8"))["models"]) == 12

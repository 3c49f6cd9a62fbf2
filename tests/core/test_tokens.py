"""The local count of a text: never free, never cheaper for more text, and wiser with each count of the host."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kimi_magics.core import pieces
from kimi_magics.core.tokens import (
    CHARACTER_CLASSES,
    DEFAULT_WEIGHTS,
    Weights,
    count_text,
    learn,
    rates,
)
from kimi_magics.sandbox.tokens import split_tokens

ENGLISH = "The quick brown fox jumps over the lazy dog, then it sleeps for an hour in the warm grass.\n"
CHINESE = "今天天气很好，我们去公园散步，然后一起吃午饭。"
RUSSIAN = "Сегодня хорошая погода, и мы пойдём гулять в парк, а потом вместе пообедаем.\n"
CODE = "for index, name in enumerate(names):\n    total += sizes[index] * 12.5  # in bytes\n"
TEXTS = (ENGLISH, CHINESE, RUSSIAN, CODE)

#: Characters at the borders of what is told apart: scripts, cases, marks, halves of pairs, ends of lines.
HARD = (
    "aZéÉ\u0301 \t\u00a0\u3000\r\n09_'\"-({.、。あーアｱ一龥яЯё가αع\u0ca0"
    "€→\ufeff\u200d\ufe0f😀𝐀\U00020000\ud83d\ude00\x00\x1c\x85\u2028"
)


def grow(first: Weights, second: Weights) -> Weights:
    """Return extreme weights within the bounds: every second one from each."""
    values = [pair[at % 2] for at, pair in enumerate(zip(first.values, second.values, strict=True))]
    return replace(first, values=tuple(values))


def train(times: int = 20) -> Weights:
    weights = DEFAULT_WEIGHTS
    for at in range(times):
        text = TEXTS[at % len(TEXTS)] * (1 + at)
        weights = learn(weights, [text], len(split_tokens(text)))
    return weights


LEARNT = train()
ALL_WEIGHTS = (DEFAULT_WEIGHTS, LEARNT, grow(DEFAULT_WEIGHTS, Weights((0.0,) * len(pieces.NAMES))))


def test_the_empty_text_alone_is_free() -> None:
    assert count_text("") == 0
    nothing = Weights((0.0,) * len(pieces.NAMES))
    assert [count_text(text, nothing) for text in ("a", " ", "\n", "\ud800", CHINESE)] == [1] * 5


hard_text = st.one_of(st.text(alphabet=HARD, max_size=30), st.text(max_size=30))


@given(hard_text, hard_text)
@example("a ", "b")
@example("((", "a")
@example("(", "\n")
@example("\r", "\n")
@example("a\r\n", "\r")
@example("  ", "\n")
@example(" '", "s")
@example("HTML", "p")
@example("retur", "n")
@example("return", "q")
@example("A", "B")
@example("возвра", "ъ")
@example("我", "们的")
@example("します", "ゑ")
def test_appended_text_never_makes_it_cheaper(text: str, more: str) -> None:
    before, after = pieces.measure(text), pieces.measure(text + more)
    assert all(after[name] >= figure for name, figure in before.items())
    for weights in ALL_WEIGHTS:
        assert count_text(text + more, weights) >= count_text(text, weights) >= min(1, len(text))


@given(st.text(alphabet=HARD, max_size=60))
def test_every_character_is_counted_in_its_own_class_alone(text: str) -> None:
    classes = [[name for name, source in CHARACTER_CLASSES.items() if re.match(source, char)] for char in text]
    assert all(len(names) == 1 for names in classes)
    present = {names[0] for names in classes}
    assert {name for name, characters in pieces.count_characters(text).items() if characters} == present
    counts = pieces.measure(text)
    counted = {name for name, features in pieces.FEATURES.items() if any(counts[feature] for feature in features)}
    assert counted == present


def test_each_character_class_is_read_alike_by_python_and_javascript() -> None:
    # What JavaScript refuses in a class under its `u` flag: escapes that are none, and \U or \x of Python alone.
    for source in CHARACTER_CLASSES.values():
        assert set(re.findall(r"\\(.)", source)) <= set("utrn[]-/{}^\\")
        assert source.startswith("[")
        assert source.endswith("]")


@pytest.mark.parametrize("weights", [DEFAULT_WEIGHTS, LEARNT])
def test_rates_times_characters_add_up_to_the_count(weights: Weights) -> None:
    text = "".join(TEXTS) * 20
    found = rates(text, weights)
    assert list(found) == list(CHARACTER_CLASSES)
    total = sum(rate * len(re.findall(CHARACTER_CLASSES[name], text)) for name, rate in found.items())
    assert total == pytest.approx(count_text(text, weights), rel=0.01)


def test_a_class_that_a_text_lacks_has_its_usual_rate() -> None:
    found = rates("")
    assert all(0.05 < rate < 3 for rate in found.values())
    assert found["han"] > 2 * found["latin"]


def test_it_learns_a_host_that_counts_otherwise() -> None:
    for text in TEXTS:
        tokens = len(split_tokens(text * 7))
        # Of this English sentence both hosts make a token a word.
        assert text is ENGLISH or abs(count_text(text * 7) - tokens) > 0.05 * tokens
        assert count_text(text * 7, LEARNT) == pytest.approx(tokens, rel=0.04)
    assert LEARNT.learnt == 20


def test_one_count_moves_the_weights_of_what_it_counted() -> None:
    learnt = learn(DEFAULT_WEIGHTS, [CHINESE], round(1.3 * count_text(CHINESE)))
    assert count_text(CHINESE * 9, learnt) > 1.15 * count_text(CHINESE * 9)
    assert count_text(CODE * 9, learnt) == count_text(CODE * 9)


@pytest.mark.parametrize(
    ("texts", "tokens"), [([ENGLISH], 0), ([ENGLISH], -5), ([], 10), ([""], 10), ([CODE * 9], 10**6)]
)
def test_nonsense_teaches_nothing(texts: list[str], tokens: int) -> None:
    assert learn(LEARNT, texts, tokens) is LEARNT


@given(st.lists(st.tuples(hard_text, st.integers(-5, 200)), max_size=3))
def test_whatever_is_learnt_stays_in_bounds(counted: list[tuple[str, int]]) -> None:
    weights = DEFAULT_WEIGHTS
    for text, tokens in counted:
        weights = learn(weights, [text], tokens)
    assert all(value >= 0 for value in weights.values)
    assert Weights.from_row(json.loads(json.dumps(weights.to_row()))).learnt == weights.learnt


@pytest.mark.parametrize("weights", [DEFAULT_WEIGHTS, LEARNT])
def test_weights_come_back_from_json(weights: Weights) -> None:
    row = json.loads(json.dumps(weights.to_row()))
    read = Weights.from_row(row)
    assert read.values == pytest.approx(weights.values, rel=1e-4)
    assert read.to_row() == row
    assert len(json.dumps(row)) < 25_000
    learnt, kept = (learn(each, [ENGLISH * 9], 250) for each in (weights, read))
    assert kept.values == pytest.approx(learnt.values, rel=1e-3, abs=1e-4)


ROW = LEARNT.to_row()
LOWER = ROW["doubt"]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"learnt": -1},
        {"learnt": "many"},
        {"values": ROW["values"][1:]},
        {"values": [-0.1, *ROW["values"][1:]]},
        {"values": [math.nan, *ROW["values"][1:]]},
        {"values": [10**400, *ROW["values"][1:]]},
        {"values": [99.0, *ROW["values"][1:]]},
        {"values": [True, *ROW["values"][1:]]},
        {"values": ["0.1", *ROW["values"][1:]]},
        {"values": None},
        {"doubt": []},
        {"doubt": LOWER[1:]},
        {"doubt": [[0.0], *LOWER[1:]]},
        {"doubt": [[-1.0], *LOWER[1:]]},
        {"doubt": [[math.inf], *LOWER[1:]]},
        {"doubt": [LOWER[0], [5.0, LOWER[1][1]], *LOWER[2:]]},
        {"doubt": 5},
        {"factors": [1.0]},
        {"factors": [5.0, 1.0]},
        {"factors": [1.0, 0.0]},
        {"factors": [1.0, math.nan]},
        {"factors": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_row_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"weight|doubt|factor|unpack"):
        Weights.from_row(ROW | change)


def test_a_row_that_lacks_something_is_refused() -> None:
    for name in ROW:
        with pytest.raises(ValueError, match="damaged"):
            Weights.from_row({key: value for key, value in ROW.items() if key != name})

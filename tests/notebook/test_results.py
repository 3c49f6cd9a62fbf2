"""What functions return, as text and images for the model: every kind of value, within bounds, and never an error."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import io
import math
import sqlite3
import uuid
from collections import Counter, UserList, namedtuple
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.display import Image as DisplayImage
from matplotlib.figure import Figure
from PIL import Image as Pillow
from pydantic import BaseModel

from kimi_magics.core.messages import Message
from kimi_magics.notebook.results import MOST_LETTERS, Result, cut_text, write_result


class Colour(enum.Enum):
    RED = "red"


class Shade(enum.StrEnum):
    DARK = "dark"


@dataclasses.dataclass
class Point:
    x: int
    when: date


class Person(BaseModel):
    name: str
    born: date


class Plain:
    def __repr__(self) -> str:
        return "Plain()"


class Wordy:
    def __str__(self) -> str:
        return "in words"


class Broken:
    def __repr__(self) -> str:
        raise ZeroDivisionError


class Trap:
    """Fails at whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Record(msgspec.Struct):
    name: str
    size: int


def row_of_a_database() -> sqlite3.Row:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        row: sqlite3.Row = connection.execute("select 1 as a, 'x' as b").fetchone()
        return row


class Formula:
    """Could show itself as a picture, and does not."""

    def _repr_png_(self) -> None: ...

    def __str__(self) -> str:
        return "x**2"


Pair = namedtuple("Pair", "left right")


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("", "(no value)"),
        (" \n", "(no value)"),
        (None, "(no value)"),
        (True, "true"),
        (3, "3"),
        (2.5, "2.5"),
        (math.nan, "NaN"),
        (Decimal("1.20"), "1.20"),
        (date(2026, 11, 22), "2026-11-22"),
        (datetime(2026, 11, 22, 9, 30), "2026-11-22T09:30:00"),
        (timedelta(seconds=90), "PT1M30S"),
        (PurePosixPath("a/b"), "a/b"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Shade.DARK, "dark"),
        (numpy.str_("text"), "text"),
        (numpy.float32(2), "2.0"),
        (numpy.int64(7), "7"),
        (numpy.array(3), "3"),
        (numpy.datetime64("2026-11-22"), "2026-11-22"),
        ([], "[]"),
        ([1, None, "ä"], '[1,null,"ä"]'),
        ({"a": {"b": (1, 2)}, Colour.RED: {3}}, '{"a":{"b":[1,2]},"red":[3]}'),
        ({(1, 2): 3, None: 4}, '{"1,2":3,"None":4}'),
        (Counter("aab"), '{"a":2,"b":1}'),
        (Pair(1, 2), "[1,2]"),
        (Point(1, date(2026, 1, 1)), '{"x":1,"when":"2026-01-01"}'),
        ([Person(name="Ada", born=date(1815, 12, 10))], '[{"name":"Ada","born":"1815-12-10"}]'),
        ({"n": numpy.int64(1), "many": numpy.arange(3)}, '{"n":1,"many":[0,1,2]}'),
        (row_of_a_database(), '{"a":1,"b":"x"}'),
        ([row_of_a_database()], '[{"a":1,"b":"x"}]'),
        (MappingProxyType({"a": [1]}), '{"a":[1]}'),
        (UserList([1, 2]), "[1,2]"),
        (Record("x", 1), '{"name":"x","size":1}'),
        ([Formula()] * 10, '["x**2"' + ',"x**2"' * 9 + "]"),
        (Plain(), "Plain()"),
        (Wordy(), "in words"),
        ({"odd": Plain(), "error": ValueError("x")}, '{"odd":"Plain()","error":"ValueError(\'x\')"}'),
        (ValueError("x"), "ValueError('x')"),
        (range(3), "range(0, 3)"),
        (Plain, f"{Plain!r}"),
        (b"plain text\n", "plain text\n"),
        (b"\x00\xff" * 600, "(1.2 kB of binary data)"),
        ({"data": b"\xff"}, "{'data': b'\\xff'}"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_is_written(value: Any, text: str) -> None:
    assert write_result(value) == Result(text)


def test_a_value_that_holds_itself_is_written() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert write_result(loop) == Result("[1, [...]]")


def test_a_value_that_cannot_be_shown_is_said_to_be_so() -> None:
    assert write_result(Broken()) == Result("(a Broken, which cannot be shown: ZeroDivisionError)")
    assert write_result([Broken()]) == Result('["(a Broken, which cannot be shown: ZeroDivisionError)"]')
    assert write_result(Trap()).text.startswith("(a Trap, which cannot be shown: ")


def test_halves_of_characters_are_made_fit_to_be_sent() -> None:
    assert write_result("a\ud800b \ud83d\ude00") == Result("a\ufffdb 😀")


def test_a_key_does_not_go_to_the_model_but_what_only_looks_alike_does() -> None:
    key = "sk-" + "k" * 40
    assert write_result({"key": key}) == Result('{"key":"sk-[redacted]"}')
    assert write_result("org-chart-2026 and proj-alpha") == Result("org-chart-2026 and proj-alpha")


def test_a_long_text_is_cut_and_its_length_said() -> None:
    assert write_result("x" * 20_000) == Result("x" * 20_000)
    assert write_result("x" * 1_234_567) == Result(
        "x" * 20_000 + "\n… cut: 20,000 of 1,234,567 characters", is_cut=True
    )
    assert write_result(list(range(10)), limit=5) == Result("[0,1,\n… cut: 5 of 21 characters", is_cut=True)


def test_a_key_over_the_edge_is_not_half_told() -> None:
    text, is_cut = cut_text("x" * (MOST_LETTERS - 10) + "-sk-" + "k" * 40)
    assert is_cut
    assert "kkk" not in text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
)


@given(JSON_VALUES | st.text(st.characters(codec=None)), st.integers(1, 60))
def test_whatever_comes_can_be_sent_and_is_in_bounds(value: Any, limit: int) -> None:
    result = write_result(value, limit=limit)
    assert len(result.text) <= limit + 60
    assert Message("tool", result.text, call_id="c").text == result.text


# ---------------------------------------------------------------- tables and pictures


def test_an_array_becomes_a_table() -> None:
    assert write_result(numpy.array([[1, 2], [3, 4]])) == Result("numpy ndarray, shape (2, 2), int64\n\n1,2\n3,4")


def test_a_large_array_inside_of_json_becomes_a_sample() -> None:
    text = write_result({"all": numpy.arange(5_000)}).text
    assert text.startswith('{"all":"numpy ndarray, shape (5000,), int64\\n\\n0,1,2,')
    assert text.endswith('(a sample: 100 of 5,000 values)"}')


@pytest.mark.parametrize(
    "value",
    [
        Pillow.new("RGB", (40, 20), "red"),
        png(40, 20),
        DisplayImage(data=png(40, 20)),
        Figure(figsize=(0.4, 0.2), dpi=100),
    ],
    ids=["Pillow", "bytes", "display", "figure"],
)
def test_a_picture_goes_as_an_image_that_the_text_names(value: Any) -> None:
    result = write_result(value)
    (image,) = result.images
    assert result.text == f"image {image.width}x{image.height}"
    assert image.mime == "image/png"


def test_the_size_of_a_picture_is_its_own() -> None:
    assert write_result(png(64, 48)).text == "image 64x48"


def test_pictures_inside_of_other_values_go_along_once_each() -> None:
    red, wide = Pillow.new("RGB", (40, 20), "red"), Pillow.new("RGB", (80, 20), "red")
    result = write_result({"note": "look", "plots": [red, wide, red]})
    assert result.text == '{"note":"look","plots":["image 40x20","image 80x20","image 40x20"]}'
    assert [image.width for image in result.images] == [40, 80]


def test_there_is_a_bound_on_the_pictures() -> None:
    result = write_result([Pillow.new("RGB", (at, 20)) for at in range(10, 20)])
    assert len(result.images) == 8
    assert result.text.endswith(
        '"image 17x20","(an image beyond the first 8, left out)","(an image beyond the first 8, left out)"]'
    )


def test_a_picture_that_cannot_be_drawn_is_said_in_words() -> None:
    assert write_result(png(40, 20)[:20]) == Result("(20 B of binary data)")


def test_a_word_is_not_taken_for_a_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png(40, 20))
    monkeypatch.chdir(tmp_path)
    assert write_result("a.png") == Result("a.png")
    assert write_result([PurePosixPath("a.png")]) == Result('["a.png"]')

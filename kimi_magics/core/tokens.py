"""How many tokens a text has, by weights that learn from each count of the host.

The promise: only the empty text is free, and appended text never makes it cheaper. It holds by construction: what
`pieces.measure` counts never falls when text is appended, and no weight is ever negative.

What the host counted moves the weights by recursive least squares with bounds, a Kalman filter: its prior says which
weights move together and which differ little from one vocabulary to the next. The defaults fit the stand-in for K2 of
`tests/benchmarks/calibrate.py` and the measured pairs of kimi_api.md section 6; `tests/benchmarks/accuracy.py` prints
how near they come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from operator import mul
from typing import Any

from kimi_magics.core.pieces import CHARACTER_CLASSES, FEATURES, NAMES, count_characters, measure

__all__ = [
    "CHARACTER_CLASSES",
    "DEFAULT_WEIGHTS",
    "Weights",
    "count_text",
    "find_factor",
    "learn",
    "learn_factor",
    "rates",
]

#: Tokens for each feature, printed by tests/benchmarks/calibrate.py.
_DEFAULTS: dict[str, float] = {
    "blank": 0.391,
    "blank_2": 0.949,
    "blank_3": 0,
    "tab": 1.16,
    "tab_2": 0,
    "newline": 1.02,
    "newline_after_symbol": 0,
    "newline_2": 0,
    "latin_after": 0.579,
    "latin_bare": 1.05,
    "latin_mark": 0.199,
    "latin_after_mark": 1,
    "latin_capital": 0.000739,
    "latin_capital_2": 0.115,
    "latin_accent": 1.12,
    "latin_new": 0.0248,
    "latin_more": 0.221,
    "latin_5": 0.00846,
    "latin_9": 0.00202,
    "latin_pair": 0.1,
    "cyrillic_after": 0.345,
    "cyrillic_bare": 1.13,
    "cyrillic_mark": 0.976,
    "cyrillic_after_mark": 1.64,
    "cyrillic_capital": 0.685,
    "cyrillic_capital_2": 0.501,
    "cyrillic_2": 0.11,
    "cyrillic_new": 0.182,
    "cyrillic_more": 0.431,
    "cyrillic_5": 0.00208,
    "cyrillic_9": 0,
    "cyrillic_pair": 0.0568,
    "han_after": 1.67,
    "han_bare": 0.85,
    "han_2": 0,
    "han_3": 0,
    "han_4": 0,
    "han_5": 0,
    "han_more": 1,
    "kana_after": 0.997,
    "kana_bare": 1.14,
    "kana_mark": 0.726,
    "kana_after_mark": 0.898,
    "hiragana": 0,
    "hiragana_6": 0.0178,
    "katakana": 0.0316,
    "kana_more": 0.988,
    "digit_after": 1.64,
    "digit_bare": 0.936,
    "digit_group": 0.924,
    "digit_more": 0.104,
    "symbol_after": 0.58,
    "symbol_bare": 0.976,
    "symbol_same": 0.0328,
    "symbol_2": 0.217,
    "cjk_symbol": 1.2,
    "cjk_symbol_2": 0.735,
    "wide": 1.92,
    "letter": 0.389,
    "letter_2": 0.415,
    "sign": 1.2,
    "sign_2": 0.297,
}
#: By how much the weights of a family differ together from one vocabulary to the next, as a part of themselves (one
#: standard deviation): English, code and digits little, other scripts much.
_FAMILIES: dict[str, float] = {
    "blank": 0.1,
    "tab": 0.1,
    "newline": 0.1,
    "latin": 0.1,
    "cyrillic": 0.45,
    "han": 0.4,
    "kana": 0.4,
    "hiragana": 0.4,
    "katakana": 0.4,
    "digit": 0.1,
    "symbol": 0.1,
    "cjk": 0.3,
    "wide": 0.4,
    "letter": 0.4,
    "sign": 0.4,
}
#: What each weight differs by on its own: a part of itself, and a little where the default is nothing.
_OWN_SHARE, _OWN_TOKENS = 0.2, 0.03
#: What stays unexplained of a count: a part of it, and the variance of each token, since words come as they come.
_NOISE_SHARE, _NOISE_PER_TOKEN = 0.015, 0.15
#: An error beyond this many standard deviations is taken for one of just so many.
_SURPRISE_LIMIT = 4.0
#: How much of the prior's doubt returns with each count, so that a host that changes is followed.
_RETURNING_DOUBT = 0.0003
#: No weight goes beyond this many times its default, and a token.
_LIMIT_FACTOR, _LIMIT_TOKENS = 4.0, 1.0
#: A figure that differs more than this from what was expected is no count of this text.
_LARGEST_RATIO, _LARGEST_DIFFERENCE = 4.0, 12
#: How the host writes tools and a schema for the model is not published: bounds of a factor, and of one step of it.
_LEAST_FACTOR, _MOST_FACTOR, _MOST_STEP = 0.25, 4.0, 1.25
#: Another version has other features: what was learnt by it means nothing here.
_VERSION = 2

_Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """What was learnt about one model: tokens for each feature, how sure that is, and from how many counts."""

    values: tuple[float, ...]
    #: Covariance of the values; None stands for the prior.
    doubt: _Matrix | None = None
    learnt: int = 0
    #: How many tokens tools and a schema have at the host, for each one that their text has by `values`.
    tools: float = 1.0
    schema: float = 1.0

    def to_row(self) -> dict[str, Any]:
        """Return plain JSON values: about 15 kB once something was learnt, and nothing of any text."""
        rows = self.doubt and [[_shorten(value) for value in row[: at + 1]] for at, row in enumerate(self.doubt)]
        values = [_shorten(value) for value in self.values]
        row = {"version": _VERSION, "learnt": self.learnt, "values": values, "doubt": rows}
        factors = [_shorten(self.tools), _shorten(self.schema)]
        return row if factors == [1.0, 1.0] else row | {"factors": factors}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Weights:
        """Return the weights of a row that `to_row` made. Raises ValueError for any other."""
        try:
            if row["version"] != _VERSION or type(row["learnt"]) is not int or row["learnt"] < 0:
                raise ValueError("the weights are of another version")
            values = tuple(_read_number(value) for value in row["values"])
            doubt = None if row["doubt"] is None else _read_doubt(row["doubt"])
            tools, schema = (_read_number(factor) for factor in row.get("factors", (1.0, 1.0)))
        except (KeyError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(f"the weights are damaged: {error!r}") from None
        if len(values) != len(NAMES) or any(
            not 0 <= value <= limit for value, limit in zip(values, _LIMITS, strict=True)
        ):
            raise ValueError("a weight is missing or out of bounds")
        if not all(_LEAST_FACTOR <= factor <= _MOST_FACTOR for factor in (tools, schema)):
            raise ValueError("a factor is out of bounds")
        return cls(values, doubt, row["learnt"], tools, schema)


def _shorten(value: float) -> float:
    return float(f"{value:.5g}")


def _read_number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a weight")
    return float(value)


def _read_doubt(rows: Any) -> _Matrix:
    """Return the whole of a symmetric matrix whose lower half is `rows`. Raises ValueError for what is none."""
    size = len(NAMES)
    lower = [[_read_number(value) for value in row] for row in rows]
    if [len(row) for row in lower] != list(range(1, size + 1)):
        raise ValueError("the doubt has another shape")
    prior = _prior()
    for at, row in enumerate(lower):
        if not 0 < row[at] <= 1.1 * prior[at][at]:
            raise ValueError("the doubt is out of bounds")
        if any(value * value > 1.1 * row[at] * lower[other][other] for other, value in enumerate(row)):
            raise ValueError("the doubt is not a covariance")
    return tuple(tuple(lower[max(at, to)][min(at, to)] for to in range(size)) for at in range(size))


DEFAULT_WEIGHTS = Weights(tuple(_DEFAULTS.get(name, 0.0) for name in NAMES))
_LIMITS = tuple(_LIMIT_FACTOR * value + _LIMIT_TOKENS for value in DEFAULT_WEIGHTS.values)


@cache
def _prior() -> _Matrix:
    families = [name.split("_")[0] for name in NAMES]
    defaults = DEFAULT_WEIGHTS.values

    def covary(at: int, to: int) -> float:
        shared = _FAMILIES[families[at]] ** 2 * defaults[at] * defaults[to] if families[at] == families[to] else 0.0
        return shared + ((_OWN_SHARE * defaults[at] + _OWN_TOKENS) ** 2 if at == to else 0.0)

    return tuple(tuple(covary(at, to) for to in range(len(NAMES))) for at in range(len(NAMES)))


def count_text(text: str, weights: Weights = DEFAULT_WEIGHTS) -> int:
    """Return about how many tokens `text` has: at least 1 for text that is not empty."""
    return count_measured(_measure(text), weights) if text else 0


def count_measured(counts: Sequence[int], weights: Weights) -> int:
    """Return the tokens of a text, not empty, of which `pieces.measure` counted so much."""
    # Rounding keeps the order, and so do products and sums of figures that are not negative.
    return max(1, round(_weigh(counts, weights)))


# Three figures are asked of a draft in a row: its tokens, its rates, and what its count teaches.
@lru_cache(maxsize=4)
def _measure(text: str) -> tuple[int, ...]:
    return tuple(measure(text).values())


def _weigh(counts: Sequence[int], weights: Weights) -> float:
    return math.fsum(map(mul, counts, weights.values))


def learn(weights: Weights, texts: Sequence[str], tokens: int) -> Weights:
    """Return weights that know that `texts` had `tokens` together; the same weights when that cannot be a count."""
    if tokens <= 0 or not any(texts):
        return weights
    counts = [sum(figures) for figures in zip(*map(_measure, texts), strict=True)]
    expected = _weigh(counts, weights)
    ratio = tokens / max(1.0, expected)
    if abs(tokens - expected) > _LARGEST_DIFFERENCE and not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        return weights
    return _update(weights, counts, tokens - expected, (_NOISE_SHARE * tokens) ** 2 + _NOISE_PER_TOKEN * tokens)


def _update(weights: Weights, counts: Sequence[int], error: float, noise: float) -> Weights:
    """One step of the filter: move each weight by its doubt along `counts`, and doubt it less there."""
    prior = _prior()
    doubt = weights.doubt or prior
    present = [at for at, count in enumerate(counts) if count]
    along = [sum(row[at] * counts[at] for at in present) for row in doubt]
    # The last digits of a matrix that was written and read may leave a little less than nothing.
    spread = max(0.0, sum(along[at] * counts[at] for at in present)) + noise
    surprise = _SURPRISE_LIMIT * math.sqrt(spread)
    step = max(-surprise, min(surprise, error)) / spread
    moved = (value + step * part for value, part in zip(weights.values, along, strict=True))
    values = tuple(min(limit, max(0.0, value)) for value, limit in zip(moved, _LIMITS, strict=True))
    keep, back = 1 - _RETURNING_DOUBT, _RETURNING_DOUBT
    after = tuple(
        tuple(
            keep * (value - part * other / spread) + back * first
            for value, other, first in zip(row, along, prior_row, strict=True)
        )
        for row, part, prior_row in zip(doubt, along, prior, strict=True)
    )
    return replace(weights, values=values, doubt=after, learnt=weights.learnt + 1)


def learn_factor(factor: float, *, expected: int, counted: int) -> float:
    """Return a factor that is nearer to what was counted where `expected` was expected by it; a step at a time.

    One figure that is wrong moves it by a quarter at most.
    """
    step = min(_MOST_STEP, max(1 / _MOST_STEP, counted / max(1, expected)))
    return min(_MOST_FACTOR, max(_LEAST_FACTOR, factor * step))


# ---------------------------------------------------------------- rates for a page

#: A class of which a text has fewer characters takes its rate from the sample.
_FEWEST_CHARACTERS = 30
_SAMPLE = (
    "Explain in a few sentences what this function returns, and when it fails: the answer is for beginners.\n"
    "def read_lines(path, limit=100):\n    with open(path) as file:\n        return [line.strip() for line in file]\n"
    "请用简单的语言解释这段代码的作用，并说明它在什么情况下会失败。\n"
    "このコードが何をするのか、どんなときにエラーになるのかを、わかりやすく説明してください。\n"
    "Объясните простыми словами, что делает этот код и в каких случаях он завершается ошибкой.\n"
    "Τι επιστρέφει; 무엇을 반환합니까? مرحبا → ✓ — … 😀🎉🚀 1234 56.78 2026-11-22 café naïve\n"
)


def rates(text: str, weights: Weights = DEFAULT_WEIGHTS) -> dict[str, float]:
    """Return tokens per character for each of CHARACTER_CLASSES; times the characters they add up to the count."""
    shares = _share(_measure(text), weights)
    sampled = _share(_measure_sample(), weights)
    found: dict[str, float] = {}
    for name, characters in count_characters(text).items():
        is_enough = characters >= _FEWEST_CHARACTERS
        found[name] = shares[name] / characters if is_enough else sampled[name] / _count_sample()[name]
    return found


def find_factor(weights: Weights) -> float:
    """Return how many tokens ordinary text has by `weights`, for each one that it has by the defaults.

    Ordinary is what most prompts hold: English and code; of a script that nothing was learnt about it tells nothing.
    """
    counts = _measure_ordinary()
    return _weigh(counts, weights) / _weigh(counts, DEFAULT_WEIGHTS)


def _share(counts: Sequence[int], weights: Weights) -> dict[str, float]:
    """Return the tokens by the class of the characters that they come from."""
    weighed = dict(zip(NAMES, map(mul, counts, weights.values), strict=True))
    return {name: sum(weighed[feature] for feature in features) for name, features in FEATURES.items()}


@cache
def _measure_sample() -> tuple[int, ...]:
    return tuple(measure(_SAMPLE).values())


@cache
def _measure_ordinary() -> tuple[int, ...]:
    return tuple(measure("".join(_SAMPLE.splitlines(keepends=True)[:3])).values())


@cache
def _count_sample() -> dict[str, int]:
    return count_characters(_SAMPLE)

"""The local count: an approximation that is never 0, never falls, and knows the context."""

from __future__ import annotations

from decimal import Decimal
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.estimate import Estimate, check_context, count_prompt, count_text, image_tokens
from kimi_magics.core.media import Image
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.usage import Price
from kimi_magics.errors import ContextError
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()

# Measured on the K2 vocabulary: kimi_api.md section 6.
MEASURED = {
    "hello world": 2,
    "Hello, world!": 4,
    "the quick brown fox jumps over the lazy dog": 9,
    "I've got it, don't worry.": 7,
    "你好，世界！": 4,
    "日本語のテキストです。": 8,
    "café résumé naïve": 8,
    "12345678901234567890": 7,
    "def add(a, b):\n    return a + b\n": 12,
    "price: $19.99, quantity: 42": 11,
    "getUserName": 3,
    "emoji test 😀🎉🚀": 9,
    "русский текст с числами 123": 10,
}


def test_it_is_near_to_what_was_measured() -> None:
    errors = [abs(count_text(text) - tokens) / tokens for text, tokens in MEASURED.items()]
    assert median(errors) <= 0.15
    assert max(errors) <= 0.6


@given(st.text(min_size=1))
def test_text_is_never_free(text: str) -> None:
    assert count_text(text) >= 1


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200), st.text(alphabet="abc 你好.\n", max_size=50))
def test_appended_words_never_make_it_much_less(text: str, more: str) -> None:
    # A cut word may become one token less when it is completed.
    assert count_text(text + more) >= count_text(text) - 1


@pytest.mark.parametrize(
    ("model", "thinking", "tokens"),
    [("kimi-k2-turbo-preview", None, 8), ("kimi-k2.6", None, 9), ("kimi-k2.6", "off", 11)],
)
def test_the_template_adds_what_was_billed(model: str, thinking: str | None, tokens: int) -> None:
    prompt = Prompt(CATALOG.get(model), (Message("user", "hello"),), thinking=thinking)
    assert count_prompt(prompt) == tokens


def test_an_image_counts_in_cells_of_28_pixels() -> None:
    # 361 for the cells of 512 × 512, and about 4 around them: kimi_api.md section 6.
    assert image_tokens(512, 512) == 19 * 19 + 4
    assert image_tokens(1, 1) == 1 + 4
    assert image_tokens(8000, 8000) < image_tokens(8000, 8000, patch_limit=65_536)
    with_image = Prompt(CATALOG.get("kimi-k2.6"), (Message("user", "hello", (Image(b"", "image/png", 512, 512),)),))
    assert count_prompt(with_image) == 9 + 365


@pytest.mark.parametrize(
    ("max_tokens", "tokens", "fits"),
    [(None, 262_144, True), (None, 262_145, False), (1, 262_143, True), (2, 262_143, False), (300_000, 5, False)],
)
def test_prompt_and_reserved_answer_must_fit_the_context(max_tokens: int | None, tokens: int, fits: bool) -> None:
    prompt = Prompt(CATALOG.get("kimi-k2.6"), (Message("user", "x"),), max_tokens=max_tokens)
    if fits:
        check_context(prompt, tokens, is_counted=True)
        return
    with pytest.raises(ContextError, match=r"does not fit the 262,144 of kimi-k2\.6") as caught:
        check_context(prompt, tokens, is_counted=True)
    assert "larger context" in caught.value.remedy


def test_a_model_of_unknown_context_is_left_to_the_host() -> None:
    check_context(Prompt(CATALOG.get("kimi-k9"), (Message("user", "x"),)), 10**9, is_counted=False)


def test_an_estimate_prices_the_prompt_and_the_longest_answer() -> None:
    price = Price(Decimal(1), Decimal(4))
    estimate = Estimate(CATALOG.get("kimi-k2.6"), 26_214, is_counted=True, output_limit=1000, price=price)
    assert (estimate.input_cost, estimate.ceiling) == (Decimal("0.026214"), Decimal("0.030214"))
    assert estimate.context_share == pytest.approx(0.1, rel=1e-4)


def test_what_is_not_known_stays_unknown() -> None:
    estimate = Estimate(CATALOG.get("kimi-k9"), 10, is_counted=False)
    assert (estimate.input_cost, estimate.ceiling, estimate.context_share) == (None, None, None)

"""The local count: an approximation that is never 0, never falls, and knows the context."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from statistics import median

import pytest
from measured import MEASURED

from kimi_magics.core.estimate import (
    Estimate,
    check_context,
    count_extras,
    count_parts,
    count_prompt,
    count_text,
    image_tokens,
    learn_extras,
    learn_prompt,
)
from kimi_magics.core.formats import Format
from kimi_magics.core.media import Image
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.tokens import DEFAULT_WEIGHTS, Weights
from kimi_magics.core.tools import Tool
from kimi_magics.core.usage import Price
from kimi_magics.errors import ContextError
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()


def test_it_is_near_to_what_was_measured() -> None:
    errors = [abs(count_text(text) - tokens) / tokens for text, tokens in MEASURED.items()]
    assert median(errors) <= 0.05
    assert max(errors) <= 0.3


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


IMAGE = Image(b"", "image/png", 512, 512)
TALK = (
    Message("system", "Answer in one short sentence."),
    Message("user", "What is in this picture?", (IMAGE,)),
    Message("assistant", "A red fox in the snow."),
    Message("user", "And what is it doing there, do you think?"),
)


def test_the_parts_of_a_prompt_add_up_to_the_whole() -> None:
    prompt = Prompt(CATALOG.get("kimi-k2.6"), TALK)
    parts = count_parts(prompt)
    system, before, answer, draft = (count_text(message.text) for message in TALK)
    texts = {"draft": draft, "system": system, "history": before + answer}
    assert parts == {**texts, "images": 365, "videos": 0, "template": 20}
    assert sum(parts.values()) == count_prompt(prompt)


def test_a_prompt_without_a_user_has_no_draft() -> None:
    prompt = Prompt(CATALOG.get("kimi-k2.6"), (TALK[0], TALK[2]))
    system, answer = count_text(TALK[0].text), count_text(TALK[2].text)
    media = {"images": 0, "videos": 0}
    assert count_parts(prompt) == {"draft": 0, "system": system, "history": answer, **media, "template": 12}


def test_what_the_host_counted_is_learnt_without_the_template() -> None:
    text = "Explain step by step why the sky is blue, and why it is red in the evening. " * 30
    prompt = Prompt(CATALOG.get("kimi-k2.6"), (Message("system", text), Message("user", text)))
    counted = round(1.2 * count_prompt(prompt))
    weights = DEFAULT_WEIGHTS
    for _ in range(5):
        weights = learn_prompt(weights, prompt, counted)
    assert count_prompt(prompt, weights) == pytest.approx(counted, rel=0.02)
    assert count_parts(prompt, weights)["template"] == count_parts(prompt)["template"]


@pytest.mark.parametrize("tokens", [-1, 0, 9, 10**9])
def test_nonsense_is_not_learnt(tokens: int) -> None:
    prompt = Prompt(CATALOG.get("kimi-k2.6"), (Message("user", "Why is the sky blue? " * 20),))
    assert learn_prompt(DEFAULT_WEIGHTS, prompt, tokens) is DEFAULT_WEIGHTS


def test_images_teach_nothing_of_text() -> None:
    assert learn_prompt(DEFAULT_WEIGHTS, Prompt(CATALOG.get("kimi-k2.6"), TALK), 450) is DEFAULT_WEIGHTS


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


# ---------------------------------------------------------------- tools and schema


def with_tools(text: str = "a tool that does a thing with a thing " * 4) -> Prompt:
    return Prompt(Model("kimi-k3"), (Message("user", "x"),), tools=(Tool("work", text, {"type": "object"}),))


def test_what_is_billed_for_tools_is_expected_after_a_few_calls() -> None:
    weights, prompt = DEFAULT_WEIGHTS, with_tools()
    (first,) = count_extras(prompt, weights).values()
    for _ in range(6):
        weights = learn_extras(weights, prompt, 2 * first)
    assert abs(count_extras(prompt, weights)["tools"] - 2 * first) <= 2
    assert (weights.schema, weights.values) == (1.0, DEFAULT_WEIGHTS.values)


@pytest.mark.parametrize("billed", [10**9, 0, -50])
def test_a_bill_that_is_wrong_moves_the_tokens_of_tools_by_a_quarter_and_within_bounds(billed: int) -> None:
    prompt, weights = with_tools(), DEFAULT_WEIGHTS
    (first,) = count_extras(prompt, weights).values()
    weights = learn_extras(weights, prompt, billed)
    assert 0.79 * first <= count_extras(prompt, weights)["tools"] <= 1.26 * first
    for _ in range(50):
        weights = learn_extras(weights, prompt, billed)
    assert 0.24 * first <= count_extras(prompt, weights)["tools"] <= 4.01 * first
    assert Weights.from_row(weights.to_row()).tools == pytest.approx(weights.tools, rel=1e-3)


def test_little_and_what_cannot_be_parted_teaches_nothing() -> None:
    small = with_tools("x")
    both = replace(with_tools(), format=Format({"type": "object", "description": "long " * 40}))
    for prompt in (small, both):
        assert learn_extras(DEFAULT_WEIGHTS, prompt, 500) is DEFAULT_WEIGHTS

from __future__ import annotations

import pytest

from kimi_magics.sandbox.models import find_model
from kimi_magics.sandbox.tokens import count_image_tokens, split_tokens

ENGLISH = (
    "You are Kimi, an AI assistant provided by Moonshot AI. You excel in Chinese and English conversations. "
    "You provide users with safe, helpful, and accurate answers. "
    "The quick brown fox jumps over the lazy dog, and then it sleeps."
)
CHINESE = "人工智能是研究、开发用于模拟、延伸和扩展人的智能的理论、方法、技术及应用系统的一门新的技术科学。"


@pytest.mark.parametrize(("text", "length"), [(ENGLISH, 3.7), (CHINESE, 1.75)])
def test_a_token_is_about_as_long_as_kimis(text, length):
    assert len(text) / len(split_tokens(text)) == pytest.approx(length, abs=0.2)


@pytest.mark.parametrize(
    "text", [ENGLISH, CHINESE, "a  b\n\n\tc ÀÉ ñandú русский 😀🎉 12345.6 __x__ \x00 日本語のテキスト\r\n", ""]
)
def test_tokens_joined_are_the_text_again(text):
    assert "".join(split_tokens(text)) == text


@pytest.mark.parametrize(
    ("size", "tokens"), [((512, 512), 365), ((28, 28), 5), ((1, 1), 5), ((29, 28), 6), ((1920, 1080), 2695)]
)
def test_an_image_costs_its_cells_of_28_pixels_and_four(size, tokens):
    assert count_image_tokens(*size, find_model("kimi-k2.6")) == tokens


def test_a_large_image_is_scaled_down_to_its_models_limit():
    assert count_image_tokens(6000, 4000, find_model("kimi-k2.6")) < 4_200
    assert count_image_tokens(6000, 4000, find_model("kimi-k3")) > 16_000


@pytest.mark.parametrize("text", ["hi", ENGLISH, CHINESE, "def f(x):\n    return {x: [1, 2]}\n"])
@pytest.mark.parametrize("model", ["kimi-k2.6", "kimi-k2.7-code", "kimi-k3"])
def test_an_estimate_is_what_is_billed(caller, text, model):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "name": "Li", "content": text}]
    assert caller.estimate(messages, model=model) == caller.ask(messages, model=model)["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    "parameters", [{"thinking": {"type": "disabled"}}, {"max_completion_tokens": 5}, {"stop": "x"}]
)
def test_parameters_do_not_change_what_is_billed_for_the_prompt(caller, parameters):
    assert caller.ask("The same", **parameters)["usage"]["prompt_tokens"] == caller.estimate("The same")


def test_an_estimate_with_an_image_is_what_is_billed(caller, draw):
    parts = [{"type": "image_url", "image_url": draw(size=(300, 200))}, {"type": "text", "text": "What is it?"}]
    assert caller.estimate(parts_message(parts)) == caller.ask(parts_message(parts))["usage"]["prompt_tokens"]
    assert caller.estimate(parts_message(parts)) - caller.estimate(parts_message(parts[1:])) == 11 * 8 + 4


def parts_message(parts):
    return [{"role": "user", "content": parts}]


def test_a_message_costs_four_and_the_answer_header_four(caller):
    one = caller.estimate([{"role": "user", "content": "hi"}])
    two = caller.estimate([{"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}])
    assert (one, two - one) == (9, 5)


def test_tools_are_billed_and_estimated_alike(caller):
    tools = [{"type": "function", "function": {"name": "get_weather", "description": "It says the weather."}}]
    estimated = caller.estimate("Hello", tools=tools)
    assert estimated == caller.ask("Hello", tools=tools)["usage"]["prompt_tokens"] > caller.estimate("Hello")

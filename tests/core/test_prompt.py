"""From what was typed to what would be sent: interpolation, defaults, and what is refused before sending."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.ask import Ask
from kimi_magics.core.interpolate import interpolate, resolve
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Defaults, Prompt, adapt, build_prompt
from kimi_magics.errors import PromptError, VariableError
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()
VARIABLES = {
    "name": "Ada",
    "braces": "{{name}} {x}",
    "row": {"k": "v", "a b": [10, 20]},
    "person": SimpleNamespace(first="Grace", tags=["x", "y"]),
    "number": 3,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi {{name}}!", "Hi Ada!"),
        ("{{ name }}{{name}}", "AdaAda"),
        ("{{person.first}} {{person.tags[1]}} {{person.tags[-1]}}", "Grace y y"),
        ("{{row['k']}} {{row[\"a b\"][0]}}", "v 10"),
        ("{{number}}", "3"),
        # what was filled in is not looked at again
        ("{{braces}}", "{{name}} {x}"),
        # an extra pair is text around a place
        ("{{{name}}}", "{Ada}"),
        # every other brace is text
        ("{}", "{}"),
        ("{{}}", "{{}}"),
        ("{{ }}", "{{ }}"),
        ("{name} {{ 1 }} {{a + b}} {{name!r}} {{row[name]}}", "{name} {{ 1 }} {{a + b}} {{name!r}} {{row[name]}}"),
        ('{"a": {"b": [1, {"c": {}}]}}', '{"a": {"b": [1, {"c": {}}]}}'),
        (r"\frac{{1}}{{2}} {% if x %}", r"\frac{{1}}{{2}} {% if x %}"),
        ("$name %name {{if}} {{'x'}} {{\\d}}", "$name %name {{if}} {{'x'}} {{\\d}}"),
        ("{{name\n}} {{", "Ada {{"),
    ],
)
def test_places_are_filled_in_once_and_other_braces_stay(text: str, expected: str) -> None:
    assert interpolate(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "says", "advises"),
    [
        ("{{nme}}", "no variable 'nme'", "did you mean 'name'?"),
        ("{{zzz}}", "no variable 'zzz'", "--raw"),
        ("{{person.frist}}", "no attribute 'frist'", "did you mean 'first'?"),
        ("{{row['kk']}}", "KeyError for ['kk']", "did you mean 'k'?"),
        ("{{person.tags[9]}}", "IndexError for [9]", "--raw"),
        ("{{number[0]}}", "TypeError for [0] of int", "--raw"),
        ("{{name.upper()}}", "would call name.upper()", "value = name.upper()"),
        ("{{f(x) + 1}}", "would call f()", "--raw"),
    ],
)
def test_what_cannot_be_filled_in_names_cause_and_remedy(text: str, says: str, advises: str) -> None:
    with pytest.raises(VariableError) as caught:
        interpolate(text, VARIABLES)
    assert says in caught.value.message
    assert advises in caught.value.remedy


def test_nothing_is_called() -> None:
    calls = []
    with pytest.raises(VariableError):
        interpolate("{{f()}}", {"f": lambda: calls.append(1)})
    assert calls == []


def test_a_value_whose_text_fails_is_an_error_of_ours() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(VariableError, match="cannot be written as text: RuntimeError: no text"):
        interpolate("{{x}}", {"x": Broken()})


@given(st.text())
def test_text_without_double_braces_is_never_changed(text: str) -> None:
    if "{{" not in text:
        assert interpolate(text, {}) == text


@given(st.text(), st.text(alphabet="ab{}", max_size=12))
def test_a_value_goes_in_as_it_is(value: str, around: str) -> None:
    if "{{" not in around and "}}" not in around and not around.endswith("{"):
        assert interpolate(f"{around} {{{{v}}}}", {"v": value}) == f"{around} {value}"


def test_a_value_is_found_by_the_same_rules() -> None:
    assert resolve("person.tags[0]", VARIABLES) == "x"
    with pytest.raises(VariableError, match="is not a name"):
        resolve("f()", VARIABLES)


def build(ask: Ask, **defaults: object) -> Prompt:
    return build_prompt(
        ask, defaults=Defaults(**({"model": "kimi-k2.6"} | defaults)), find_model=CATALOG.get, variables=VARIABLES
    )


def test_the_system_prompt_comes_first_and_is_filled_in_too() -> None:
    prompt = build(Ask(text="Hi {{name}}", system="You are {{person.first}}."))
    assert prompt.messages == (Message("system", "You are Grace."), Message("user", "Hi Ada"))


def test_raw_sends_the_braces_as_typed() -> None:
    prompt = build(Ask(text="{{nobody}} {{f()}}", system="{{name}}", raw=True))
    assert [message.text for message in prompt.messages] == ["{{name}}", "{{nobody}} {{f()}}"]


def test_flags_go_before_settings() -> None:
    settings = {"system": "S", "max_tokens": 5, "thinking": "on"}
    assert build(Ask(text="x"), **settings).max_tokens == 5
    prompt = build(Ask(text="x", system="T", max_tokens=9, thinking="off", model="kimi-k2.5"), **settings)
    assert (prompt.messages[0].text, prompt.max_tokens, prompt.thinking, prompt.model.name) == (
        "T",
        9,
        "off",
        "kimi-k2.5",
    )


def test_an_empty_system_flag_takes_the_setting_away() -> None:
    assert build(Ask(text="x", system=""), system="S").messages == (Message("user", "x"),)


def test_a_setting_that_the_model_lacks_is_left_out() -> None:
    prompt = build(Ask(text="x", model="kimi-k3"), thinking="off", effort="low")
    assert (prompt.thinking, prompt.effort) == (None, "low")
    assert build(Ask(text="x"), effort="low").effort is None


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (Ask(text=""), "the prompt is empty"),
        (Ask(text=" \n\t"), "the prompt is empty"),
        (Ask(text="x", stop=tuple("abcdef")), "6 stop words were given, the API takes at most 5"),
        (Ask(text="x", stop=("é" * 17,)), "has 34 bytes, the API takes 1 to 32"),
        (Ask(text="x", stop=("",)), "has 0 bytes"),
        (Ask(text="x", model="kimi-k3", thinking="off"), "kimi-k3 always thinks"),
        (Ask(text="x", model="kimi-k2.7-code", thinking="off"), "kimi-k2.7-code always thinks"),
        (Ask(text="x", effort="low"), "kimi-k2.6 has no --effort"),
        (Ask(text="x", model="moonshot-v1-8k", thinking="on"), "moonshot-v1-8k does not think"),
    ],
)
def test_what_the_api_would_refuse_is_refused_before(ask: Ask, says: str) -> None:
    with pytest.raises(PromptError) as caught:
        build(ask)
    assert says in caught.value.message
    assert caught.value.remedy


def test_five_stop_words_of_32_bytes_are_allowed() -> None:
    stops = tuple(letter * 32 for letter in "abcde")
    assert build(Ask(text="x", stop=stops)).stop == stops


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(PromptError, match="'tutor' is not a role"):
        Message("tutor", "x")  # type: ignore[arg-type]


def test_text_that_is_not_unicode_is_refused_where_it_is() -> None:
    with pytest.raises(PromptError, match="character 3 of the user message") as caught:
        Message("user", "ab\udce9")
    assert "real encoding" in caught.value.remedy


def test_a_model_that_nobody_knows_takes_every_field() -> None:
    prompt = build(Ask(text="x", model="kimi-k9", thinking="off", effort="max"))
    assert (prompt.model, prompt.thinking, prompt.effort) == (Model("kimi-k9"), "off", "max")


def test_another_model_gets_the_request_without_the_fields_that_it_lacks() -> None:
    prompt = build(Ask(text="x", thinking="off"))
    other = adapt(prompt, CATALOG.get("kimi-k3"))
    assert (other.model.name, other.thinking, other.messages) == ("kimi-k3", None, prompt.messages)


@pytest.fixture(autouse=True)
def no_warnings_from_user_text(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """A stray backslash between braces is text of the user: Python must not warn about it."""
    yield
    assert list(recwarn) == []

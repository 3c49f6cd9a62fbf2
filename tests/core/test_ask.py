"""The line of a magic: what is a flag, what is the prompt, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.ask import OPTIONS, Ask, HelpRequested, LineParser
from kimi_magics.errors import MagicLineError

PARSER = LineParser("%%kimi", "Ask.")


def test_a_cell_takes_flags_from_its_line_and_the_prompt_as_typed() -> None:
    ask = PARSER.parse_cell('-m kimi-k3 -s "be brief" --max-tokens 1_000 --stop END -o x', 'Hi\n--raw "stays\n')
    assert ask == Ask(
        text='Hi\n--raw "stays', model="kimi-k3", system="be brief", max_tokens=1000, stop=("END",), out="x"
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("what's new?", "what's new?"),
        ('-m kimi-k3 it\'s "so"  spaced', 'it\'s "so"  spaced'),
        ("explain git commit -m 'x'", "explain git commit -m 'x'"),
        ("--raw -- -5 + 3 = ?", "-5 + 3 = ?"),
        ("-", "-"),
        ("", ""),
    ],
)
def test_a_line_magic_takes_the_rest_as_typed(line: str, text: str) -> None:
    assert PARSER.parse_line(line).text == text


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).filter(lambda t: t.strip() == t))
def test_any_prompt_after_the_flags_stays_what_it_is(text: str) -> None:
    assert PARSER.parse_line(f"-o answer -- {text}").text == text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('-s "a b"', {"system": "a b"}),
        ("--system='a \"b\" c'", {"system": 'a "b" c'}),
        (r"-s it\'s", {"system": "it's"}),
        ('-s ""', {"system": ""}),
        ('-s "- a list"', {"system": "- a list"}),
        ("--stop=--raw", {"stop": ("--raw",)}),
        ("--stop a --stop b", {"stop": ("a", "b")}),
        ("-i fig -i Out[3]", {"image": ("fig", "Out[3]")}),
        ("--thinking off --effort max", {"thinking": "off", "effort": "max"}),
        ("--no-stream --dry-run --raw", {"no_stream": True, "dry_run": True, "raw": True}),
    ],
)
def test_values_are_read_as_in_a_posix_shell(line: str, expected: dict[str, object]) -> None:
    ask = PARSER.parse_cell(line, "x")
    assert {name: getattr(ask, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "says", "advises"),
    [
        ("--mdel x", "unknown flag --mdel", "did you mean --model?"),
        ("--mod x", "unknown flag --mod", "did you mean --model?"),
        ("-z", "unknown flag -z", "?"),
        ("-m", "-m needs a value", "-m MODEL"),
        ("-s --raw", "-s needs a value", "-s TEXT"),
        ("--thinking", "--thinking needs a value", "on|off|keep"),
        ("--raw=yes", "--raw takes no value", "--raw alone"),
        ('-s "open', "a quote on the line is not closed", "close it"),
        ("--thinking maybe", "invalid choice: 'maybe'", "%%kimi?"),
        ("--max-tokens 0", "'0' is not a whole number above 0", "%%kimi?"),
        ("--max-tokens many", "'many' is not a whole number above 0", "%%kimi?"),
        ("-o class", "'class' is not a name for a variable", "%%kimi?"),
        ("-o a.b", "'a.b' is not a name for a variable", "%%kimi?"),
        ("kimi-k3", "only flags may stand on the first line", "%%kimi -m kimi-k3"),
        ("--raw hello there", "not 'hello there'", "on the lines below"),
    ],
)
def test_a_line_that_cannot_be_read_names_cause_and_remedy(line: str, says: str, advises: str) -> None:
    with pytest.raises(MagicLineError) as caught:
        PARSER.parse_cell(line, "x")
    assert says in caught.value.message
    assert advises in caught.value.remedy


@pytest.mark.parametrize(
    "line", ["sk-abcdefghijklmnop1234", "-m sk-abcdefghijklmnop1234", "--key=sk-abcdefghijklmnop1234"]
)
def test_a_key_on_the_line_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(MagicLineError) as caught:
        PARSER.parse_line(line)
    assert "API key" in caught.value.message
    assert "sk-abc" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("line", ["-h", "--help", "-m kimi-k3 --help"])
def test_help_shows_every_flag(line: str) -> None:
    with pytest.raises(HelpRequested) as caught:
        PARSER.parse_cell(line, "")
    text = str(caught.value)
    assert all(name in text for option in OPTIONS for name in option.names)


@given(st.text(max_size=60))
def test_whatever_is_typed_ends_in_an_ask_or_in_an_error_of_ours(line: str) -> None:
    with contextlib.suppress(MagicLineError, HelpRequested):
        assert isinstance(PARSER.parse_line(line), Ask)


@pytest.mark.parametrize(
    ("line", "template", "pairs", "text"),
    [
        ("-t review", "review", (), ""),
        ("-t review who=me what='a b' -m kimi-k3 the text", "review", (("who", "me"), ("what", "a b")), "the text"),
        ("--template=review who= x=1", "review", (("who", ""), ("x", "1")), ""),
        ("-t review -- who=me", "review", (), "who=me"),
        ("-m kimi-k3 who=me", None, (), "who=me"),
        ("-t review 3=4", "review", (), "3=4"),
    ],
)
def test_what_follows_a_template_is_filled_into_it(line: str, template: str, pairs: tuple, text: str) -> None:
    ask = LineParser("%kimi", "").parse_line(line)
    assert (ask.template, ask.pairs, ask.text) == (template, pairs, text)


def test_nobody_can_type_the_flag_by_which_it_is_passed_on() -> None:
    with pytest.raises(MagicLineError, match="unknown flag --pair"):
        LineParser("%kimi", "").parse_line("--pair a=b")

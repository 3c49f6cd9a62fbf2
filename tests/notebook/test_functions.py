"""Functions of the user as tools: what the model is told of each kind, what is refused and why, and the call."""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from kimi_magics.core.tools import Tool
from kimi_magics.errors import KimiError, PromptError, ToolError
from kimi_magics.notebook.functions import MOST_ITEMS, ArgumentsError, Function, find_function

ANYTHING = ["string", "number", "boolean", "object", "array", "null"]


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclasses.dataclass
class Place:
    city: str
    country: str = "FR"


class Person(BaseModel):
    """Who asks."""

    name: str
    title: str = ""


def weather(city: str, days: int = 3, *, unit: Unit = Unit.CELSIUS) -> str:
    """Tell the weather.

    Only for towns.

    Args:
        city: The town's
            name.
        days: How many of them.
    """
    return f"{city}, {days}, {unit.value}"


def find(function: Any, name: str = "tool_name") -> Function:
    """Return a function as a tool, found under its own name where it has one that can be written."""
    own = getattr(function, "__name__", name)
    return find_function(own if own.isidentifier() else name, {own if own.isidentifier() else name: function})


def parameters_of(function: Any) -> Any:
    return dict(find(function).tool.parameters or {})


def properties_of(function: Any) -> Any:
    return parameters_of(function)["properties"]


def refusal_of(name: str, **variables: Any) -> str:
    with pytest.raises(ToolError) as caught:
        find_function(name, variables)
    return str(caught.value)


# ---------------------------------------------------------------- what the model is told


def test_a_function_is_told_by_its_name_docstring_signature_and_defaults() -> None:
    assert find(weather).tool == Tool(
        "weather",
        "Tell the weather.\n\nOnly for towns.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The town's name."},
                "days": {"type": "integer", "description": "How many of them.", "default": 3},
                "unit": {"$ref": "#/$defs/Unit"},
            },
            "required": ["city"],
            "additionalProperties": False,
            "$defs": {"Unit": {"enum": ["C", "F"], "type": "string"}},
        },
    )


NUMPY = """Add up.

Parameters
----------
first, second : int
    One of both.
"""
REST = """Add up.

:param first: One of both.
:param second: One of both.
"""
GOOGLE = """Add up.

Args:
    first (int): One of both.
    second (int): One of both.

Returns:
    The sum.
"""


@pytest.mark.parametrize("docstring", [NUMPY, REST, GOOGLE], ids=["numpy", "rest", "google"])
def test_each_style_of_docstring_is_understood(docstring: str) -> None:
    def add_up(first: int, second: int) -> int:
        return first + second

    add_up.__doc__ = docstring
    tool = find(add_up).tool
    assert tool.description == "Add up."
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "first": {"type": "integer", "description": "One of both."},
            "second": {"type": "integer", "description": "One of both."},
        },
        "required": ["first", "second"],
        "additionalProperties": False,
    }


def test_a_function_without_docstring_annotations_and_parameters_is_a_tool_as_well() -> None:
    def now():  # type: ignore[no-untyped-def]
        return 1

    def anything(value, maybe=None):  # type: ignore[no-untyped-def]
        return value, maybe

    assert find(now).tool == Tool("now", "", {"type": "object", "properties": {}, "additionalProperties": False})
    assert properties_of(anything) == {"value": {"type": ANYTHING}, "maybe": {"type": ANYTHING}}
    assert find(anything).call('{"value": {"a": [1]}}') == ({"a": [1]}, None)


def test_what_annotations_say_is_told() -> None:
    def search(
        word: Annotated[str, Field(description="what to find", min_length=2)],
        kind: Annotated[Literal["a", "b"], "which kind"],
        since: Optional[datetime] = None,  # noqa: UP045 both spellings are meant
        limit: Annotated[int, Field(ge=1)] = 5,
        tags: list[str] | None = None,
        size: float = Field(default=1.5, description="how large"),
    ) -> Any:
        """Find.

        :param word: not this
        :param since: the first day
        """
        return word, kind, since, limit, tags, size

    assert properties_of(search) == {
        "word": {"type": "string", "minLength": 2, "description": "what to find"},
        "kind": {"type": "string", "enum": ["a", "b"], "description": "which kind"},
        "since": {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
            "description": "the first day",
        },
        "limit": {"type": "integer", "minimum": 1, "default": 5},
        "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "size": {"type": "number", "default": 1.5, "description": "how large"},
    }
    assert find(search).call('{"word": "sun", "kind": "a", "since": "2026-11-22T10:00:00"}') == (
        "sun",
        "a",
        datetime(2026, 11, 22, 10),
        5,
        None,
        1.5,
    )


def test_titles_go_but_a_parameter_called_title_stays() -> None:
    def greet(title: str, person: Person) -> str:
        return f"{title} {person.name}"

    assert parameters_of(greet) == {
        "type": "object",
        "properties": {"title": {"type": "string"}, "person": {"$ref": "#/$defs/Person"}},
        "required": ["title", "person"],
        "additionalProperties": False,
        "$defs": {
            "Person": {
                "type": "object",
                "description": "Who asks.",
                "properties": {"name": {"type": "string"}, "title": {"type": "string", "default": ""}},
                "required": ["name"],
            }
        },
    }


def test_names_that_a_model_of_pydantic_has_itself_can_be_parameters() -> None:
    def odd(json: int, copy: int, _private: int, model_config: int, class_: int = 1) -> Any:
        return json, copy, _private, model_config, class_

    assert list(properties_of(odd)) == ["json", "copy", "_private", "model_config", "class_"]
    assert find(odd).call('{"json": 1, "copy": 2, "_private": 3, "model_config": 4}') == (1, 2, 3, 4, 1)


@pytest.mark.parametrize("default", [object(), "x" * 300, "sk-" + "a" * 32, float("nan"), None], ids=repr)
def test_a_default_that_is_odd_long_or_secret_is_not_told(default: Any) -> None:
    def take(value=default):  # type: ignore[no-untyped-def]
        return value

    assert properties_of(take) == {"value": {"type": ANYTHING}}
    assert find(take).call("{}") is default


def test_a_parameter_that_is_none_by_default_takes_null() -> None:
    def take(days: int = None, hours: Annotated[int, "of a day"] = None) -> Any:  # type: ignore[assignment] # noqa: RUF013
        return days, hours

    numbers = [{"type": "integer"}, {"type": "null"}]
    assert properties_of(take) == {"days": {"anyOf": numbers}, "hours": {"anyOf": numbers, "description": "of a day"}}
    assert find(take).call('{"days": null}') == (None, None)


# ---------------------------------------------------------------- kinds of callables


class Shop:
    """Sells things."""

    def __init__(self, stock: int) -> None:
        self._stock = stock

    def count(self, item: str) -> str:
        """Count an item."""
        return f"{self._stock} {item}"

    def __call__(self, order: str) -> str:
        """Take an order."""
        return f"ordered {order}"

    @staticmethod
    def close_up(hour: int) -> int:
        return hour


def test_a_method_is_a_tool_with_its_object() -> None:
    shop = Shop(7)
    count = find_function("shop.count", {"shop": shop})
    assert (count.tool.name, count.tool.description) == ("count", "Count an item.")
    assert count.tool.parameters == {
        "type": "object",
        "properties": {"item": {"type": "string"}},
        "required": ["item"],
        "additionalProperties": False,
    }
    assert count.call('{"item": "pears"}') == "7 pears"
    assert find_function("Shop.close_up", {"Shop": Shop}).call('{"hour": 8}') == 8


def test_an_object_that_can_be_called_has_the_name_by_which_the_user_calls_it() -> None:
    found = find_function("corner_shop", {"corner_shop": Shop(1)})
    assert (found.tool.name, found.tool.description) == ("corner_shop", "Take an order.")
    assert found.call('{"order": "tea"}') == "ordered tea"
    assert find_function("shops[0]", {"shops": [Shop(1)]}).tool.name == "Shop"


def test_a_partial_offers_what_it_leaves_open() -> None:
    paris = functools.partial(weather, "Paris", unit=Unit.FAHRENHEIT)
    found = find_function("paris", {"paris": paris})
    assert (found.tool.name, found.tool.description) == ("paris", "Tell the weather.\n\nOnly for towns.")
    assert list(found.tool.parameters["properties"]) == ["days"]  # type: ignore[index]
    assert found.call('{"days": 2}') == "Paris, 2, F"


def test_a_decorated_function_is_what_it_wraps() -> None:
    def twice(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def both(*args: Any, **options: Any) -> Any:
            return [function(*args, **options)] * 2

        return both

    assert find(twice(weather)).tool == find(weather).tool
    assert find(twice(weather)).call('{"city": "Rome"}') == ["Rome, 3, C"] * 2
    assert find(functools.lru_cache(weather)).tool == find(weather).tool


def test_positional_only_parameters_are_given_by_place() -> None:
    def place(first: int, second: int = 2, third: int = 3, /, *, last: int = 4) -> Any:
        return first, second, third, last

    assert find(place).call('{"first": 1, "third": 9}') == (1, 2, 9, 4)


def test_the_unnamed_rest_is_left_out() -> None:
    def most(first: int, *others: int, **options: int) -> Any:
        return first, others, options

    assert list(properties_of(most)) == ["first"]
    assert find(most).call('{"first": 1}') == (1, (), {})


# ---------------------------------------------------------------- refused


async def fetch_page(url: str) -> str:
    return url


def sum_all(*numbers: int) -> int:
    return sum(numbers)


def use_lost(value: int, place: Lost) -> int:  # type: ignore[name-defined] # noqa: F821 — the point of it
    return value


def use_nested_lost(places: list[Lost]) -> int:  # type: ignore[name-defined] # noqa: F821 — the point of it
    return len(places)


def use_callback(value: int, when_done: Callable[[], None] = print) -> int:
    return value


def use_iterator(value: int, thing: Shop) -> int:
    return value


def test_the_refusals_say_what_is_wrong_and_what_to_do() -> None:
    lambdas = {"double": lambda x: 2 * x}
    assert {
        "unknown": refusal_of("wether", weather=weather),
        "no attribute": refusal_of("shop.cont", shop=Shop(1)),
        "a call": refusal_of("weather()", weather=weather),
        "no function": refusal_of("city", city="Paris"),
        "class": refusal_of("Shop", Shop=Shop),
        "lambda": refusal_of("double", **lambdas),
        "async": refusal_of("fetch_page", fetch_page=fetch_page),
        "async partial": refusal_of("page", page=functools.partial(fetch_page, "x")),
        "unnamed": refusal_of("sum_all", sum_all=sum_all),
        "unbound": refusal_of("Shop.count", Shop=Shop),
        "undefined": refusal_of("use_lost", use_lost=use_lost),
        "undefined inside": refusal_of("use_nested_lost", use_nested_lost=use_nested_lost),
        "no schema": refusal_of("use_callback", use_callback=use_callback),
        "no signature": refusal_of("dict_update", dict_update={}.update),
    } == {
        "unknown": "--tool wether: there is no variable 'wether'\n  → did you mean 'weather'?",
        "no attribute": "--tool shop.cont: Shop has no attribute 'cont'\n  → did you mean 'count'?",
        "a call": "--tool weather() is not a name\n  → write name, name.part, name[0] or name['key']",
        "no function": "--tool city is of type str, which cannot be called\n  → name a function",
        "class": "--tool Shop is a class\n  → name a function that makes one and returns what it finds",
        "lambda": "--tool double is a lambda, which has no name\n  → write it as a function with def",
        "async": "--tool fetch_page is async\n  → wrap it in a function without async",
        "async partial": "--tool page is async\n  → wrap it in a function without async",
        "unnamed": "--tool sum_all takes its values as *numbers, and a model gives them by name\n"
        "  → give it parameters with names, or one list: def sum_all(numbers: list)",
        "unbound": "--tool Shop.count is a method without its object\n  → name it on an object, as in shop.find",
        "undefined": "parameter place of use_lost is annotated with Lost, which is not defined\n"
        "  → define or import Lost before this cell",
        "undefined inside": "parameter places of use_nested_lost is annotated with Lost, which is not defined\n"
        "  → define or import Lost before this cell",
        "no schema": "parameter when_done of use_callback cannot be written as a JSON schema:"
        " Cannot generate a JsonSchema for core_schema.CallableSchema\n"
        "  → annotate it with a type that JSON has, or bind it with functools.partial",
        "no signature": "--tool dict_update has no signature that can be read\n  → wrap it in a function of your own",
    }


def test_a_class_that_json_does_not_know_is_refused_with_its_parameter() -> None:
    told = refusal_of("use_iterator", use_iterator=use_iterator)
    assert told.startswith("parameter thing of use_iterator cannot be written as a JSON schema: Unable to generate")
    assert told.endswith("annotate it with a type that JSON has, or bind it with functools.partial")


def test_what_has_no_schema_can_be_bound() -> None:
    bound = functools.partial(use_callback, when_done=print)
    assert find_function("bound", {"bound": bound}).call('{"value": 3}') == 3


def test_a_name_that_the_api_refuses_is_refused() -> None:
    def f() -> None: ...

    with pytest.raises(PromptError, match="'f' cannot be the name of a tool"):
        find_function("f", {"f": f})


# ---------------------------------------------------------------- calls


def trouble_of(function: Any, arguments: str) -> str:
    with pytest.raises(ArgumentsError) as caught:
        find(function).call(arguments)
    return str(caught.value)


def test_what_the_model_writes_becomes_what_the_annotations_say() -> None:
    def travel(place: Place, persons: list[Person], days: int, units: set[Unit]) -> Any:
        return place, persons, days, units

    assert find(travel).call(
        '{"place": {"city": "Lyon"}, "persons": [{"name": "Ada"}], "days": "4", "units": ["C", "C"]}'
    ) == (Place("Lyon", "FR"), [Person(name="Ada")], 4, {Unit.CELSIUS})


def test_no_arguments_may_be_an_empty_text() -> None:
    def give(number: int = 5) -> int:
        return number

    assert [find(give).call(arguments) for arguments in ("", " ", "{}")] == [5, 5, 5]


def test_the_function_gets_its_own_default_and_not_a_copy() -> None:
    kept: list[int] = []

    def keep(value: int, into: list[int] = kept) -> list[int]:
        into.append(value)
        return into

    assert find(keep).call('{"value": 1}') is kept


def test_wrong_arguments_are_explained_to_the_model() -> None:
    written = ['{"days": "few", "town": "Rome"}', '{"city": null, "unit": "K"}', "[]", '{"city": "Ro']
    begin, end = "the arguments do not fit weather: ", ". Its parameters: city, days, unit"
    told = [trouble_of(weather, arguments) for arguments in written]
    assert all(text.startswith(begin) and text.endswith(end) for text in told)
    assert [text.removeprefix(begin).removesuffix(end).split("; ") for text in told] == [
        [
            "city is missing",
            'days: Input should be a valid integer, unable to parse string as an integer, not "few"',
            "there is no parameter town",
        ],
        ["city: Input should be a valid string, not null", "unit: Input should be 'C' or 'F', not \"K\""],
        ["Input should be an object"],
        ["Invalid JSON: EOF while parsing a string at line 1 column 12"],
    ]


def test_many_faults_are_told_in_short() -> None:
    def take(numbers: list[int]) -> int:
        return len(numbers)

    told = trouble_of(take, '{"numbers": [' + ", ".join(['"' + "x" * 9_000 + '"'] * 50) + "]}")
    assert "and 42 more. Its parameters: numbers" in told
    assert len(told) < 4_000


@given(st.text() | st.from_regex(r'\{("[a-z]{0,3}": ?(1|"\\\\?[a-z]"|\[+),?)*\}'))
def test_whatever_the_model_writes_wrongly_is_explained(arguments: str) -> None:
    try:
        told = FOUND.call(arguments)
    except ArgumentsError as error:
        told = str(error)
    assert told.startswith("the arguments do not fit weather: ")


FOUND = find(weather)


def test_the_items_of_a_generator_are_taken_within_bounds() -> None:
    closed = []

    def count(most: int) -> Iterator[int]:
        try:
            yield from range(most)
        finally:
            closed.append(most)

    def endless() -> Any:
        return itertools.count()

    assert find(count).call('{"most": 3}') == [0, 1, 2]
    assert find(count).call('{"most": 5000}')[-2:] == [999, "… more follow: only the first 1,000 items were taken"]
    assert closed == [3, 5000]
    assert len(find(endless).call("{}")) == MOST_ITEMS + 1


def test_a_coroutine_that_comes_back_is_an_error_and_leaves_no_warning() -> None:
    def hidden() -> Any:
        return fetch_page("x")

    with pytest.raises(TypeError, match="hidden returned a coroutine"):
        find(hidden).call("")


def test_an_exception_of_the_function_comes_through_as_it_is() -> None:
    def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        find(fail).call("{}")
    assert not issubclass(ArgumentsError, KimiError)

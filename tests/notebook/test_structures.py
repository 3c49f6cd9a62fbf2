"""What `--schema` may name, and what is said of an answer that does not fit."""

from __future__ import annotations

import datetime
import enum
import json
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.formats import Format
from kimi_magics.errors import SchemaError
from kimi_magics.notebook.checker import Checker, Problem
from kimi_magics.notebook.structures import Structure, find_structure


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(pydantic.BaseModel):
    """One line of an invoice."""

    what: str
    price: Decimal
    color: Color = Color.RED
    note: str | None = None


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    day: datetime.date
    lines: list[Line]
    corner: tuple[int, str]


class Node(pydantic.BaseModel):
    value: int
    kids: list[Node] = []


@dataclass
class Person:
    name: str
    tags: list[str] = field(default_factory=list)


class Place(typing.TypedDict):
    """Where it is."""

    town: str
    near: list[Place]
    note: typing.NotRequired[str]


class Modern(typing_extensions.TypedDict, total=False):
    town: str


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}}, "size": {"type": "number"}},
    "required": ["tags"],
    "$defs": {"Tag": {"type": "string", "pattern": "^[a-z]+$"}},
}
SHORT: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
VARIABLES: dict[str, Any] = {
    "Invoice": Invoice,
    "Node": Node,
    "Person": Person,
    "Place": Place,
    "Places": list[Place],
    "Modern": Modern,
    "Parts": dict[str, typing.Annotated[tuple[Place, ...] | None, pydantic.Field(description="some")]],
    "Invoices": list[Invoice],
    "Either": Line | Person,
    "Scores": dict[str, int],
    "schema": SCHEMA,
    "holder": {"inner": SCHEMA},
    "text": "name: the first, and the last\nage int",
    "json_text": json.dumps(SHORT),
}


def check(
    structure: Structure | None, text: str, *, finish_reason: str | None = "stop", is_partial: bool = False
) -> Any:
    return Checker(structure).check(text, finish_reason=finish_reason, is_partial=is_partial)


def problem_of(structure: Structure | None, text: str, **options: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        check(structure, text, **options)
    return caught.value


# ---------------------------------------------------------------- what may be named


def test_a_model_is_sent_as_its_schema_in_the_words_of_the_host() -> None:
    color = {"enum": ["red", "blue"], "type": "string"}
    line = {
        "description": "One line of an invoice.",
        "properties": {
            "what": {"type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "color": {"$ref": "#/$defs/Color"},
        },
        "required": ["what", "price"],
        "type": "object",
    }
    structure = find_structure("Invoice", VARIABLES)
    sent = json.loads(json.dumps(structure.format.schema))
    # How a Decimal is told differs between the versions of Pydantic.
    del sent["$defs"]["Line"]["properties"]["price"]
    assert sent["$defs"] == {"Color": color, "Line": line}
    assert (sent["type"], sent["required"]) == ("object", ["day", "lines", "corner"])
    assert (structure.format.name, structure.label) == ("Invoice", "Invoice")


def test_a_model_gives_its_instance_as_json_has_it_also_when_it_is_strict() -> None:
    text = '{"day": "2026-11-22", "lines": [{"what": "tea", "price": 1.10, "color": "blue"}], "corner": [1, "b"]}'
    invoice = check(find_structure("Invoice", VARIABLES), f"Here:\n```json\n{text}\n```")
    line = Line(what="tea", price=Decimal("1.1"), color=Color.BLUE)
    assert invoice == Invoice(day=datetime.date(2026, 11, 22), lines=[line], corner=(1, "b"))


def test_a_model_that_holds_itself_is_an_object_at_the_root() -> None:
    structure = find_structure("Node", VARIABLES)
    assert structure.format.schema is not None
    assert structure.format.schema["type"] == "object"
    assert check(structure, '{"value": 1, "kids": [{"value": 2}]}') == Node(value=1, kids=[Node(value=2)])


@pytest.mark.parametrize(
    ("source", "text", "data"),
    [
        ("Person", '{"name": "Ada"}', Person("Ada")),
        ("Place", '{"town": "Bern", "near": [{"town": "Thun", "near": [], "note": "x"}]}', None),
        ("Modern", '{"town": "Bern"}', None),
        (
            "Parts",
            '{"a": [{"town": "Bern", "near": []}], "b": null}',
            {"a": ({"town": "Bern", "near": []},), "b": None},
        ),
        ("Scores", '{"Ada": 3}', None),
        ("schema", '{"tags": ["a"], "size": 1.0, "more": 1}', None),
        ("holder['inner']", '{"tags": []}', None),
        ("text", '{"name": "Ada", "age": 36}', None),
        ("json_text", '{"name": "Ada", "age": 36}', None),
        ("name, age int", '{"name": "Ada", "age": 36}', None),
        (json.dumps(SHORT), '{"name": "Ada", "age": 36}', None),
        ("Either", '{"value": {"name": "Ada"}}', Person("Ada")),
        ("Invoices", '{"items": []}', []),
        ("list[Person]", '{"items": [{"name": "Ada"}, {"name": "Bo"}]}', [Person("Ada"), Person("Bo")]),
        ("Places", '{"items": [{"town": "Bern", "near": []}]}', [{"town": "Bern", "near": []}]),
    ],
)
def test_whatever_tells_a_schema_may_be_named(source: str, text: str, data: Any) -> None:
    structure = find_structure(source, VARIABLES)
    assert structure.format.schema is not None
    assert structure.format.schema["type"] == "object"
    assert check(structure, text) == (json.loads(text) if data is None else data)
    assert structure.read(json.loads(text)) == check(structure, text)


def test_the_short_form_is_sent_as_the_schema_that_it_stands_for() -> None:
    assert find_structure("name, age int", {}).format == Format(SHORT, "answer")


def test_what_is_named_gives_the_name_of_the_schema() -> None:
    sources = ["Invoices", "list[Person]", "schema", "holder['inner']", "Scores"]
    names = [find_structure(source, VARIABLES).format.name for source in sources]
    assert names == ["Invoices", "list_Person", "schema", "holder_inner", "Scores"]


def test_names_in_quotes_are_found_among_the_variables_of_the_notebook() -> None:
    first: dict[str, Any] = {}
    exec("import pydantic\nclass Shelf(pydantic.BaseModel):\n    books: list['Book']", first)
    exec("import dataclasses\n@dataclasses.dataclass\nclass Room:\n    best: 'Book'", first)
    exec("import typing\nclass Row(typing.TypedDict):\n    best: 'Book'", first)
    later: dict[str, Any] = {}
    exec("import pydantic\nclass Book(pydantic.BaseModel):\n    title: str", later)
    variables = {name: first[name] for name in ("Shelf", "Room", "Row")} | {"Book": later["Book"]}
    book = later["Book"](title="Emma")
    assert check(find_structure("Shelf", variables), '{"books": [{"title": "Emma"}]}').books == [book]
    assert check(find_structure("Room", variables), '{"best": {"title": "Emma"}}').best == book
    assert check(find_structure("Row", variables), '{"best": {"title": "Emma"}}') == {"best": book}


def test_a_dict_that_changes_afterwards_changes_nothing() -> None:
    schema = json.loads(json.dumps(SCHEMA))
    structure = find_structure("schema", {"schema": schema})
    before = json.dumps(structure.format.schema)
    schema["properties"]["tags"]["items"] = {"type": "integer"}
    assert json.dumps(structure.format.schema) == before
    assert check(structure, '{"tags": ["a"]}') == {"tags": ["a"]}


# ---------------------------------------------------------------- what may not


class Undefined(pydantic.BaseModel):
    other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821, UP037


class Calls(pydantic.BaseModel):
    call: Callable[[], int]


REFUSED: dict[str, Any] = {
    **VARIABLES,
    "invoice": Node(value=1),
    "person": Person("Ada"),
    "number": 5,
    "words": "hello there you",
    "word": "hello",
    "Undefined": Undefined,
    "Calls": Calls,
    "plain": {"name": "str"},
    "array": {"type": "array", "items": {"type": "string"}},
    "bad_type": {"type": "object", "properties": {"age": {"type": "integr"}}},
    "bad_draft": {"$schema": [], "type": "object"},
    "bad_pattern": {"properties": {"age": {"pattern": "("}}},
    "remote": {"properties": {"a": {"items": {"$ref": "https://example.com/a.json"}}}},
    "nowhere": {"properties": {"a": {"$ref": "#/$defs/A"}}},
    "not_json": {"properties": {"a": {"enum": {1, 2}}}},
    "not_a_number": {"properties": {"a": {"maximum": float("nan")}}},
}
WHAT_FITS = "name a Pydantic model, a dataclass, a TypedDict, a JSON schema as dict, or 'name, age int, tags list'"


@pytest.mark.parametrize(
    ("source", "message", "remedy"),
    [
        ("Invoic", "--schema Invoic: there is no variable 'Invoic'", "did you mean Invoice?"),
        ("list[Persn]", "--schema Persn: there is no variable 'Persn'", "did you mean Person?"),
        ("zzz", "--schema zzz: there is no variable 'zzz'", WHAT_FITS),
        ("holder['x']", "--schema holder['x']: KeyError for ['x'] of dict", WHAT_FITS),
        ("make()", "--schema make() is not a name", WHAT_FITS),
        ("invoice", "--schema invoice is one Node, not the class", "write --schema Node"),
        ("person", "--schema person is one Person, not the class", "write --schema Person"),
        ("number", "--schema number is of type int, not a schema", WHAT_FITS),
        ("word", "--schema word is of type str, not a schema", WHAT_FITS),
        ("list[schema]", "--schema list[schema] is of type dict, not a schema", WHAT_FITS),
        ("Undefined", "--schema Undefined uses Nowhere, which is not defined", "define Nowhere before this cell"),
        ("plain", "plain is a dict, but not a JSON schema", "write {'type': 'object', 'properties': {…}}"),
        (
            "array",
            "array asks for a JSON array, and the API gives objects",
            "put it under a key: {'type': 'object', 'properties': {'items': …}}",
        ),
        (
            "bad_type",
            (
                "bad_type is not a valid JSON schema: properties.age.type: 'integr' is not valid under any of the given"
                " schemas"
            ),
            "correct it there",
        ),
        (
            "bad_draft",
            "bad_draft is not a valid JSON schema: $schema: [] is not of type 'string'",
            "correct it there",
        ),
        (
            "bad_pattern",
            "bad_pattern is not a valid JSON schema: properties.age.pattern: '(' is not a 'regex'",
            "correct it there",
        ),
        (
            "remote",
            "remote refers to 'https://example.com/a.json', which is not fetched",
            "put what is meant under $defs of the schema, and refer to '#/$defs/NAME'",
        ),
        (
            "nowhere",
            "nowhere refers to '#/$defs/A', which it does not have",
            "put what is meant under $defs of the schema, and refer to '#/$defs/NAME'",
        ),
        ("not_json", "not_json holds what JSON cannot: Object of type set is not JSON serializable", WHAT_FITS),
        ("not_a_number", "not_a_number holds what JSON cannot: NaN is not a number in JSON", WHAT_FITS),
        ('{"type": }', "the schema is not JSON: line 1, column 10: expecting value at '}'", "correct it there"),
    ],
)
def test_what_is_no_schema_is_refused_with_the_reason(source: str, message: str, remedy: str) -> None:
    with pytest.raises(SchemaError) as caught:
        find_structure(source, REFUSED)
    assert (caught.value.message, caught.value.remedy) == (message, remedy)


@pytest.mark.parametrize(
    ("source", "beginning"),
    [
        ("Calls", "--schema Calls cannot be written as a JSON schema: Cannot generate a JsonSchema for "),
        ("words", "'there you' is not a type for the field hello"),
    ],
)
def test_what_another_library_refuses_is_told(source: str, beginning: str) -> None:
    with pytest.raises(SchemaError) as caught:
        find_structure(source, REFUSED)
    assert caught.value.message.startswith(beginning)
    assert "\n" not in caught.value.message


def test_without_the_check_a_dict_is_sent_as_it_is() -> None:
    bad = REFUSED["bad_type"]
    assert find_structure("bad_type", REFUSED, is_checked=False).format == Format(bad, "bad_type")
    with pytest.raises(SchemaError, match="which is not fetched"):
        find_structure("remote", REFUSED, is_checked=False)


@pytest.mark.parametrize(("source", "is_checked"), [("name, age int", True), ("schema", False), ("Person", True)])
def test_what_loads_for_seconds_is_not_loaded_without_need(source: str, is_checked: bool) -> None:
    script = (
        "import dataclasses, sys\nfrom kimi_magics.notebook.structures import find_structure\n"
        "@dataclasses.dataclass\nclass Person:\n    name: str\n"
        f"find_structure({source!r}, {{'Person': Person, 'schema': {SHORT!r}}}, is_checked={is_checked})\n"
        "print('jsonschema' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("source", "is_loaded"), [("'name, age int'", True), ("'shape'", True), ("'Person'", False), (None, False)]
)
def test_what_reading_needs_is_loaded_while_the_request_is_under_way(source: str | None, is_loaded: bool) -> None:
    script = (
        "import dataclasses, sys, threading\nfrom kimi_magics.notebook.checker import prepare\n"
        "from kimi_magics.notebook.structures import find_structure\n"
        "@dataclasses.dataclass\nclass Person:\n    name: str\n"
        "variables = {'Person': Person, 'shape': {'type': 'object'}}\n"
        f"prepare({source and f'find_structure({source}, variables, is_checked=False)'})\n"
        "for thread in threading.enumerate():\n"
        "    if thread is not threading.main_thread():\n"
        "        thread.join()\n"
        "print('jsonschema' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == str(is_loaded)


def test_a_model_of_the_old_version_is_refused() -> None:
    # Only its place tells such a model; importing the real one warns on newer Pythons.
    old = type("BaseModel", (), {"__module__": "pydantic.v1.main"})
    with pytest.raises(SchemaError, match="is a model of Pydantic's old version 1"):
        find_structure("Old", {"Old": type("Old", (old,), {})})


def test_a_schema_without_bounds_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(400):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(SchemaError, match="nested"):
        find_structure("schema", {"schema": schema})


# ---------------------------------------------------------------- what is wrong with an answer

AGAIN = "--retries 2 asks again and says what is wrong; the reply keeps the text"


def test_any_object_does_for_json_without_a_schema() -> None:
    assert check(None, '```json\n{"a": [1, null]}\n```') == {"a": [1, None]}


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[1]", "an array"), ("42", "a number"), ('"a"', "a text"), ("null", "null"), ("true", "true or false")],
)
def test_what_is_json_but_no_object_is_named(text: str, kind: str) -> None:
    problem = problem_of(None, text)
    assert problem.message == f"the answer is {kind}, not a JSON object"
    assert problem.wish == f"Your answer is {kind}. Answer again with one JSON object and nothing else."


@pytest.mark.parametrize(
    ("source", "text", "faults"),
    [
        (
            "schema",
            '{"tags": ["a", 2, "B"], "size": "1"}',
            [
                "tags[1]: 2 is not of type 'string'",
                "tags[2]: 'B' does not match '^[a-z]+$'",
                "size: '1' is not of type 'number'",
            ],
        ),
        ("schema", "{}", ["top level: 'tags' is a required property"]),
        (
            "name, age int",
            '{"name": "Ada", "age": 1.5, "odd": 1}',
            [
                "age: 1.5 is not of type 'integer'",
                "top level: Additional properties are not allowed ('odd' was unexpected)",
            ],
        ),
        ("day date", '{"day": "22.11.2026"}', ["day: '22.11.2026' is not a 'date'"]),
        ("Person", '{"tags": ["a", 2]}', ["name: Field required", "tags[1]: Input should be a valid string"]),
        ("list[Person]", '{"items": [{}]}', ["items[0].name: Field required"]),
        ("Place", '{"town": "Bern", "near": [{"town": "Thun"}]}', ["near[0].near: Field required"]),
        ("Scores", '{"a b\\u001b[31m": "x"}', None),
        (
            "schema",
            '{"tags": [1, 2, 3, 4, 5, 6, 7]}',
            [*(f"tags[{place}]: {place + 1} is not of type 'string'" for place in range(5)), "and more"],
        ),
        (
            "Person",
            '{"name": "Ada", "tags": [1, 2, 3, 4, 5, 6, 7]}',
            [*(f"tags[{place}]: Input should be a valid string" for place in range(5)), "and more"],
        ),
    ],
)
def test_each_fault_is_told_with_its_place(source: str, text: str, faults: list[str] | None) -> None:
    if faults is None:
        faults = [r"['a b\x1b[31m']: Input should be a valid integer, unable to parse string as an integer"]
    problem = problem_of(find_structure(source, VARIABLES), text)
    label = "the schema" if " " in source else source
    assert problem.message == f"the answer does not fit {label}: {'; '.join(faults)}"
    assert problem.remedy == AGAIN
    assert problem.wish.splitlines() == [
        "Your answer does not fit the JSON schema that was asked for:",
        *(f"- {fault}" for fault in faults),
        "Answer again with the whole corrected JSON object and nothing else.",
    ]


def test_a_long_fault_is_shortened_and_on_one_line() -> None:
    problem = problem_of(find_structure("schema", VARIABLES), json.dumps({"tags": {"a\n\x1b": "b" * 100_000}}))
    assert len(problem.message) < 250
    assert problem.message.isprintable()
    assert problem.message.endswith("is not of type 'array'")


def test_what_a_validator_of_the_user_raises_is_a_problem_too() -> None:
    class Fussy(pydantic.BaseModel):
        age: int

        @pydantic.field_validator("age")
        @classmethod
        def look_up(cls, value: int) -> int:
            return [1, 2][value]

    assert check(find_structure("Fussy", {"Fussy": Fussy}), '{"age": 1}') == Fussy(age=1)
    problem = problem_of(find_structure("Fussy", {"Fussy": Fussy}), '{"age": 7}')
    assert problem.message == "the answer does not fit Fussy: IndexError: list index out of range"


LONG_REMEDY = "raise --max-tokens, which thinking uses as well, or ask for less; the reply keeps the text"
SHORTER = (
    "Your answer was cut off before its JSON was complete."
    " Answer again with the whole JSON object, shorter than before, and nothing else."
)
WHOLE = "Your answer ended before its JSON was complete. Answer again with the whole JSON object and nothing else."


@pytest.mark.parametrize("source", [None, "Person"])
@pytest.mark.parametrize(
    ("text", "finish_reason", "is_partial", "message", "remedy", "wish"),
    [
        (
            '{"name": "A',
            "length",
            False,
            (
                "the answer was cut at the limit of its tokens, so that its JSON has no end: line 1, column 10:"
                " unterminated string at '\"A'"
            ),
            LONG_REMEDY,
            SHORTER,
        ),
        (
            "",
            "length",
            False,
            "the answer was cut at the limit of its tokens, so that its JSON has no end: it is empty",
            LONG_REMEDY,
            SHORTER,
        ),
        (
            '{"name": ',
            "stop",
            False,
            "the answer ends before its JSON does: line 1, column 10: expecting value at the end",
            "run the cell again, or with --retries 2; the reply keeps the text",
            WHOLE,
        ),
        (
            "I think",
            None,
            True,
            "the answer ends before its JSON does: it holds no JSON object, it begins 'I think'",
            "run the cell again, or with --retries 2; the reply keeps the text",
            WHOLE,
        ),
        (
            '{"name" "Ada"}',
            "stop",
            False,
            "the answer cannot be read as JSON: line 1, column 9: expecting ':' delimiter at '\"Ada\"}'",
            AGAIN,
            (
                "Your answer cannot be read as JSON: line 1, column 9: expecting ':' delimiter at '\"Ada\"}'."
                " Answer again with the whole corrected JSON object and nothing else."
            ),
        ),
    ],
)
def test_a_broken_answer_says_which_and_where(
    source: str | None,
    text: str,
    finish_reason: str | None,
    is_partial: bool,
    message: str,
    remedy: str,
    wish: str,
) -> None:
    structure = source and find_structure(source, VARIABLES)
    problem = problem_of(structure or None, text, finish_reason=finish_reason, is_partial=is_partial)
    assert (problem.message, problem.remedy, problem.wish) == (message, remedy, wish)


def test_an_answer_that_was_cut_after_its_json_is_whole() -> None:
    text = '{"name": "Ada"}\nThis is'
    assert check(find_structure("Person", VARIABLES), text, finish_reason="length", is_partial=True) == Person("Ada")


NESTED: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#"}}}


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a": %s}' % ("9" * 10_000),
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": {}, "a": {}}',
        '{"a": "\\ud800"}',
        '{"a": [[[[]]]]}',
    ],
)
def test_hostile_json_is_a_problem_and_no_crash(text: str) -> None:
    structure = find_structure("NESTED", {"NESTED": NESTED})
    problem_of(structure, text).message.encode()


@pytest.mark.parametrize("source", ["NESTED", "Node"])
def test_the_deepest_answer_that_is_read_is_checked(source: str) -> None:
    if source == "Node":
        text = '{"value": 1, "kids": [' * 49 + '{"value": 1}' + "]}" * 49
    else:
        text = '{"a": ' * 99 + "{}" + "}" * 99
    data = check(find_structure(source, {"NESTED": NESTED, "Node": Node}), text)
    assert (data.model_dump(exclude_defaults=True) if source == "Node" else data) == json.loads(text)


VALUES = {
    "str": st.text(),
    "int": st.integers(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "date": st.dates().map(str),
    "list": st.lists(st.text(), max_size=3),
    "list[int]": st.lists(st.integers(), max_size=3),
}


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5))
    source = ", ".join(f"field{place} {kind}" for place, kind in enumerate(kinds))
    return source, {f"field{place}": draw(VALUES[kind]) for place, kind in enumerate(kinds)}


@given(answers())
def test_what_fits_the_short_form_is_read_back_and_less_is_not(answer: tuple[str, dict[str, Any]]) -> None:
    source, value = answer
    structure = find_structure(source, {})
    assert check(structure, json.dumps(value)) == value
    del value["field0"]
    assert "'field0' is a required property" in problem_of(structure, json.dumps(value)).message

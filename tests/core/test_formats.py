"""The form of an answer: the short form of a schema, what the host takes of one, and reading JSON from any text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.formats import Format, fit_schema, read_short_form, says_json, schema_name
from kimi_magics.core.json_answers import MAX_DEPTH, BadJsonError, find_json
from kimi_magics.errors import SchemaError


def test_a_format_is_a_schema_only_with_one() -> None:
    assert not Format().is_schema
    assert Format({"type": "object"}).is_schema


@pytest.mark.parametrize(("text", "says"), [("as JSON", True), ("a json object", True), ("as YAML", False)])
def test_a_text_asks_for_json_by_its_name(text: str, says: bool) -> None:
    assert says_json(text) is says


@pytest.mark.parametrize(
    ("text", "name"),
    [("Invoice", "Invoice"), ("models['Box']", "models_Box"), ("P", "answer"), ("7up", "answer"), ("请求", "answer")],
)
def test_a_name_for_a_schema_keeps_to_the_rule_for_names(text: str, name: str) -> None:
    assert schema_name(text) == name


# ---------------------------------------------------------------- the short form


def of_fields(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STRING, INTEGER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("name, age int, bio", of_fields(name=STRING, age=INTEGER, bio=STRING)),
        ("name,tags list,", of_fields(name=STRING, tags={"type": "array", "items": STRING})),
        ("sizes list[int], ok bool", of_fields(sizes={"type": "array", "items": INTEGER}, ok={"type": "boolean"})),
        ("x float, day date", of_fields(x={"type": "number"}, day={"type": "string", "format": "date"})),
        ("age int", of_fields(age=INTEGER)),
        ("name: who it is", of_fields(name=STRING | {"description": "who it is"})),
        (
            "age int: at: now, name: the first one",
            of_fields(age=INTEGER | {"description": "at: now"}, name=STRING | {"description": "the first one"}),
        ),
        (
            "\n  name: the first, and the last\n\n  age int\n",
            of_fields(name=STRING | {"description": "the first, and the last"}, age=INTEGER),
        ),
    ],
)
def test_the_short_form_stands_for_a_schema(text: str, schema: dict[str, Any]) -> None:
    assert read_short_form(text) == schema


@pytest.mark.parametrize(
    "text", ["Invoice", " Invoice ", "models.Invoice", "a['b, c']", "list[Invoice]", "", ": x", "{}"]
)
def test_a_name_or_a_path_is_no_short_form(text: str) -> None:
    assert read_short_form(text) is None


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("age integer, name", "'integer' is not a type for the field age", "did you mean int? "),
        ("name: the first, and the last", "'the last' is not a type for the field and", "there are str, int"),
        ("name, 1st int", "'1st int' is not a field of a schema", "write 'name, age int"),
        ("name, age int, name", "two fields have the name name", "each needs a name of its own"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(text: str, message: str, remedy: str) -> None:
    with pytest.raises(SchemaError) as caught:
        read_short_form(text)
    assert caught.value.message == message
    assert caught.value.remedy.startswith(remedy)


# ---------------------------------------------------------------- what the host takes


def of_part(part: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": part}}


ANYTHING = {"type": ["string", "number", "boolean", "object", "array", "null"]}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        # The host refused: keyword 'default' is not allowed at the same level as anyOf.
        (
            {"anyOf": [STRING, {"type": "null"}], "default": None, "title": "X"},
            {"anyOf": [STRING, {"type": "null"}], "title": "X"},
        ),
        # … type should be defined in anyOf items instead of the parent schema.
        ({"type": "string", "anyOf": [{"minLength": 2}, INTEGER]}, {"anyOf": [STRING | {"minLength": 2}, INTEGER]}),
        # … conflicting keywords found after $ref expansion: description.
        (
            {"$ref": "#/$defs/A", "description": "the first", "default": 1},
            {"anyOf": [{"$ref": "#/$defs/A"}], "description": "the first"},
        ),
        # … type is not defined.
        ({"title": "X"}, {"title": "X"} | ANYTHING),
        # … property schema for 'x' must be an object.
        (True, ANYTHING),
        ({"items": STRING}, {"items": STRING, "type": "array"}),
        ({"oneOf": [STRING, INTEGER], "discriminator": {"propertyName": "kind"}}, {"anyOf": [STRING, INTEGER]}),
        ({"const": "a", "type": "string"}, {"enum": ["a"], "type": "string"}),
        ({"const": True}, {"const": True}),
        ({"$ref": "#/definitions/A"}, {"$ref": "#/$defs/A"}),
        ({"type": "array", "items": {"const": 1}}, {"type": "array", "items": {"enum": [1]}}),
        # What looks like a schema inside of a value is a value.
        ({"enum": ["a"], "default": {"const": 1}}, {"enum": ["a"], "default": {"const": 1}}),
        ({"type": "string", "pattern": "^a", "format": "date"}, {"type": "string", "pattern": "^a", "format": "date"}),
    ],
)
def test_a_schema_is_sent_in_the_words_that_the_host_takes(given: Any, sent: Any) -> None:
    before = json.dumps(given)
    assert fit_schema(of_part(given)) == of_part(sent)
    assert json.dumps(given) == before


def test_the_type_at_the_root_stays_where_the_host_wants_it() -> None:
    schema = {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    choices = [{"required": ["a"]} | ANYTHING, {"required": ["b"]} | ANYTHING]
    assert fit_schema(schema) == {"type": "object", "anyOf": choices}


def test_a_reference_at_the_root_becomes_the_object_that_it_means() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/definitions/Node"}}}
    fitted = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    given = {"$schema": "draft", "$ref": "#/definitions/Node", "definitions": {"Node": node}}
    assert fit_schema(given) == {**fitted, "$defs": {"Node": fitted}}


# ---------------------------------------------------------------- reading the answer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1.5}', ({"a": 1.5}, '{"a": 1.5}')),
        ('\ufeff\n {"a": []} \n', ({"a": []}, '{"a": []}')),
        ("[1, 2]", ([1, 2], "[1, 2]")),
        ("null", (None, "null")),
        ('```json\n{"a": "```"}\n```', ({"a": "```"}, '{"a": "```"}')),
        ('The set {x} [1] is:\n{"a": {"b": 1}}\nDone.', ({"a": {"b": 1}}, '{"a": {"b": 1}}')),
        ('Here: [{"a": 1}, {"a": 2}].', ([{"a": 1}, {"a": 2}], '[{"a": 1}, {"a": 2}]')),
    ],
)
def test_the_json_is_found_alone_in_a_fence_and_between_words(text: str, found: tuple[Any, str]) -> None:
    assert find_json(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Sure, I can do that for you.", "it holds no JSON object, it begins 'Sure, I can do that for…'"),
        ('{"a": 1 x}', "line 1, column 9: expecting ',' delimiter at 'x}'"),
        ('So:\n{"a": 1,\n "b" 2}', "line 3, column 6: expecting ':' delimiter at '2}'"),
        ('{"a": "x\ny"}', "line 1, column 9: invalid control character at '\\ny\"}'"),
        ("{'a': 1}", "line 1, column 2: expecting property name enclosed in double quotes at \"'a': 1}\""),
        ('{"a": 1}\n{"b": 2}', "it holds 2 JSON values instead of one, in the lines 1, 2"),
        # The inner object is whole, but not the answer.
        ('{"a": {"b": 1}, c}', "line 1, column 17: expecting property name enclosed in double quotes at 'c}'"),
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number in JSON"),
        ('{"a": 1e999}', "it holds the number 1e999, which is too large"),
        ('{"a": %s}' % ("9" * 5000), "it holds a number of 5000 digits"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice in one object"),
        ('{"a":' * 100_000, f"it is nested deeper than {MAX_DEPTH} levels"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, f"it is nested deeper than {MAX_DEPTH} levels"),
        ("[" * 101 + "]" * 101, f"it is nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, message: str) -> None:
    with pytest.raises(BadJsonError) as caught:
        find_json(text)
    assert (str(caught.value), caught.value.is_cut) == (message, False)


def test_the_deepest_that_is_read_is_read() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert find_json(text)[1] == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", "it is empty"),
        ('{"a":', "line 1, column 6: expecting value at the end"),
        ('{"a": tru', "line 1, column 7: expecting value at 'tru'"),
        ('{"a": "x', "line 1, column 7: unterminated string at '\"x'"),
        ('{"a": 1\n', "line 2, column 1: expecting ',' delimiter at the end"),
    ],
)
def test_a_text_that_lacks_its_end_is_cut(text: str, message: str) -> None:
    with pytest.raises(BadJsonError) as caught:
        find_json(text)
    assert (str(caught.value), caught.value.is_cut) == (message, True)


WHOLE = json.dumps({"name": 'a "quoted" é\\', "sizes": [1, 2.5, -3e2], "none": None, "ok": {"yes": True}})


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_a_text_cut_anywhere_is_known_to_be_cut(end: int) -> None:
    with pytest.raises(BadJsonError) as caught:
        find_json(WHOLE[:end])
    assert caught.value.is_cut


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    st.sampled_from(["%s", "```json\n%s\n```", "Here {it} is: %s."]),
)
def test_what_json_writes_is_read_back(value: dict[str, Any], around: str) -> None:
    written = json.dumps(value)
    assert find_json(around.replace("%s", written)) == (value, written)


@given(st.text(alphabet='{}[]":, \n\\aN1-e`', max_size=40))
def test_any_text_gives_a_value_or_a_bad_json_error(text: str) -> None:
    try:
        value, part = find_json(text)
    except BadJsonError:
        return
    assert part in text
    assert json.loads(part) == value

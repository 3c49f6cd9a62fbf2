"""What a model is told of a failure: the error, the code around it and the variables named there, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.ask import Ask
from kimi_magics.core.fixing import FIX_PROMPT, HIDDEN, KEEP_HIDDEN, hide_secrets, is_secret_name
from kimi_magics.errors import KimiError, MagicLineError, RefusedError, VariableError
from kimi_magics.notebook.fix import Failure, Failures, build_fix_ask
from kimi_magics.notebook.named_values import find_names, write_variable
from kimi_magics.notebook.parsers import PARSERS

LAST = ("last_type", "last_value", "last_traceback", "last_exc")


@pytest.fixture(autouse=True)
def no_last_error() -> Iterator[None]:
    """Leave no exception to the next test, and take none from the one before."""
    for name in LAST:
        vars(sys).pop(name, None)
    yield
    for name in LAST:
        vars(sys).pop(name, None)


@pytest.fixture
def run(shell: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run cells as a front end does, without their output."""

    def run(*sources: str) -> None:
        for source in sources:
            shell.run_cell(source, store_history=True)
        capsys.readouterr()

    return run


def tell(shell: Any) -> str:
    return Failures(shell).describe().text


def test_an_error_of_a_cell_is_told_with_the_cell_and_its_variables(shell: Any, run: Any) -> None:
    run("unrelated = 'not told'\nrow = {'prize': 2}", "total = 0\ntotal += row['price'] * 2")
    assert tell(shell) == (
        "The error: KeyError: 'price'\n"
        "\n"
        "The calls, the outermost first:\n"
        "- In[2], line 2: total += row['price'] * 2\n"
        "\n"
        "The cell that failed, In[2]:\n"
        "\n"
        "```python\n"
        "total = 0\n"
        "total += row['price'] * 2\n"
        "```\n"
        "\n"
        "The variables:\n"
        "- `total`: int, 0\n"
        "- `row`: dict of length 1, {'prize': 2}"
    )


def test_a_function_of_another_cell_is_told_with_its_own_variables(shell: Any, run: Any) -> None:
    run(
        "secret_plan = 'not told'\n\nclass Shop:\n    @property\n    def total(self):\n        part = 1\n"
        "        return part + self.x\n\ndef unused():\n    pass",
        "shop = Shop()",
        "# what it costs\nprint(shop.total)",
    )
    text = tell(shell)
    assert text.startswith(
        "The error: AttributeError: 'Shop' object has no attribute 'x'\n\nThe calls, the outermost first:\n"
        "- In[3], line 2: print(shop.total)\n"
    )
    assert "total in In[1], line 7: return part + self.x" in text
    assert "```python\n# what it costs\nprint(shop.total)\n```" in text
    function = "    @property\n    def total(self):\n        part = 1\n        return part + self.x"
    assert f"of In[1]:\n\n```python\n{function}\n```" in text
    assert text.endswith(
        "The variables:\n"
        "- `part`: int, 1\n"
        "- `self`: Shop, <__main__.Shop object>\n"
        "- `shop`: Shop, <__main__.Shop object>"
    )
    assert "unused" not in text
    assert "not told" not in text


def test_of_a_library_only_names_are_told(shell: Any, run: Any) -> None:
    run("import json", "json.loads('x')")
    text = tell(shell)
    calls = text.split("\n\n")[1].split("\n")
    assert calls[:3] == [
        "The calls, the outermost first:",
        "- In[2], line 1: json.loads('x')",
        f"- loads in json, line {calls[2].rpartition(' ')[2]}",
    ]
    assert text.endswith("The variables:\n- `json`: the module json")
    assert json_path() not in text
    assert "raise" not in text


def json_path() -> str:
    import json

    return str(json.__file__).rpartition("/")[0]


def test_a_cell_with_magics_is_told_as_typed_with_what_its_body_names(shell: Any, run: Any) -> None:
    run("rows = []", "%%time\n# first\nrows[0]")
    if not hasattr(shell.compile, "format_code_name"):
        # IPython before 8.7 takes the cell out of what %%time leaves of the error: it is refused, and says why.
        with pytest.raises(RefusedError, match="came from no cell"):
            tell(shell)
        return
    text = tell(shell)
    assert "```python\n%%time\n# first\nrows[0]\n```" in text
    assert text.endswith("The variables:\n- `rows`: list of length 0, []")


def test_code_that_does_not_compile_is_told_without_variables(shell: Any, run: Any) -> None:
    run("x = 1", "y = x[3\nz")
    assert tell(shell) == (
        "The error: SyntaxError: '[' was never closed\n\nThe calls, the outermost first:\n- In[2], line 1: y = x[3\n\n"
        "The cell that failed, In[2]:\n\n```python\ny = x[3\nz\n```"
    )


def test_causes_and_notes_are_told(shell: Any, run: Any) -> None:
    run(
        "try:\n    {}['a']\nexcept KeyError as error:\n    late = ValueError('no a')\n"
        "    late.add_note('ask Ada')\n    raise late from error"
    )
    assert tell(shell).startswith("The error: ValueError: no a\nask Ada\nwhich came of KeyError: 'a'\n\n")


def test_an_endless_recursion_is_told_in_a_few_lines(shell: Any, run: Any) -> None:
    # Shown by IPython, it would take seconds.
    run("def again(n):\n    return again(n + 1)\ntry:\n    again(0)\nexcept RecursionError as error:\n    kept = error")
    sys.last_value = shell.user_ns["kept"]
    text = tell(shell)
    assert text.count("again in In[1], line 2") == 11
    assert "more calls\n" in text
    assert len(text) < 2_000


def test_a_cell_that_left_no_trace_in_the_history_is_told_as_it_was_compiled(shell: Any, run: Any) -> None:
    run("first = 1")
    shell.run_cell("1 / 0 # silent", store_history=False)
    assert "```python\n1 / 0 # silent\n```" in tell(shell)


def test_a_very_long_cell_is_told_around_the_line_and_a_long_line_is_cut(shell: Any, run: Any) -> None:
    lines = [f"a{number} = {number}" for number in range(1_000)]
    lines[500] = "1 / 0"
    lines[501] = f"b = '{'x' * 5_000}'"
    run("\n".join(lines))
    text = tell(shell)
    assert "```python\n# … 400 lines left out\na400 = 400\n" in text
    assert "\na600 = 600\n# … 399 lines left out\n```" in text
    assert "x # … the line is cut\n" in text


def test_the_variables_have_bounds_that_are_told(shell: Any, run: Any) -> None:
    run(
        *(f"v{number} = {number}" for number in range(40)),
        "(" + ", ".join(f"v{number}" for number in range(40)) + ", none)",
    )
    text = tell(shell)
    assert text.count("\n- `v") == 30
    assert text.endswith("\n- … 10 more that are named")


# ---------------------------------------------------------------- which error


def test_without_an_error_there_is_nothing_to_fix(shell: Any) -> None:
    with pytest.raises(RefusedError, match="no cell has failed in this kernel") as caught:
        tell(shell)
    assert caught.value.remedy == "run the cell that fails again, then %kimi_fix in the next one"


def test_an_error_of_ours_is_not_fixed_but_repeated_with_its_remedy(shell: Any, run: Any) -> None:
    run("from kimi_magics.errors import PromptError\nraise PromptError('it is empty', remedy='write it')")
    with pytest.raises(RefusedError, match="one of kimi_magics, and not of your code: it is empty") as caught:
        tell(shell)
    assert caught.value.remedy == "write it"


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
def test_an_interrupt_is_nothing_to_fix(shell: Any, run: Any, kind: str) -> None:
    error: BaseException = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}[kind]()
    sys.last_value = error  # type: ignore[assignment]
    with pytest.raises(RefusedError, match=f"ended by {kind}"):
        tell(shell)


def test_an_error_that_came_from_no_cell_is_refused(shell: Any) -> None:
    sys.last_value = ValueError("elsewhere")
    with pytest.raises(RefusedError, match="ValueError: elsewhere came from no cell of this kernel"):
        tell(shell)


def test_a_failure_of_the_magic_itself_does_not_hide_the_error(shell: Any, run: Any) -> None:
    failures = Failures(shell)
    run("1 / 0")
    told = failures.describe()

    def kimi_fix() -> None:
        raise KimiError("no key", remedy="set it")

    shell.user_ns["fail"] = kimi_fix
    run("fail()")
    assert isinstance(sys.last_value, KimiError)
    assert failures.describe() == told
    run("[][0]")
    assert failures.describe().error == "IndexError: list index out of range"


def test_an_error_whose_text_fails_is_told_by_its_name(shell: Any, run: Any) -> None:
    run("class Odd(Exception):\n    def __str__(self):\n        raise ZeroDivisionError")
    run("try:\n    raise Odd\nexcept Odd as error:\n    kept = error")
    sys.last_value = shell.user_ns["kept"]
    assert Failures(shell).describe().error == "Odd: (a message that cannot be shown)"


# ---------------------------------------------------------------- secrets


def test_no_secret_is_told(shell: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "environment-value")
    run(
        "password = 'correct horse'\nconfig = {'api_key': 'from-a-dict', 'copy': password, 'size': 3}\n"
        "import os\nvalue = os.environ['SERVICE_TOKEN']",
        "token = 'in-the-code'\nurl = 'https://ada:lovelace@example.org/?api_key=q1w2'\n"
        "raise ValueError(f'{password} {config} {value} {url}')",
    )
    failure = Failures(shell).describe()
    for text in (failure.text, failure.error):
        secrets = ["correct horse", "from-a-dict", "environment-value", "in-the-code", "lovelace", "q1w2"]
        assert [secret for secret in secrets if secret in text] == []
    assert "'size': 3" in failure.text
    assert f"- `password`: str, {HIDDEN}" in failure.text


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdefghijklmnop",
        "ghp_abcdefghijklmnop",
        "hf_abcdefghijklmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abc",
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_key_is_hidden_wherever_it_stands(text: str) -> None:
    assert text[-12:] not in hide_secrets(f"x = f('{text}') # end")
    assert hide_secrets(f"x = f('{text}') # end").endswith("') # end")


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens = 'a'",
        "tokens = ['a']",
        "monkey = 'x'",
        "author = 'x'",
        "print('the password: ', 'x')",
        "password = read()",
        "https://example.org/a:b",
        "token == other",
        "f(x)[3]",
        "a: str = 'x'",
    ],
)
def test_ordinary_code_stays_as_it_is(text: str) -> None:
    assert hide_secrets(text, known=["a", "x"]) == text


@given(st.text())
def test_hiding_twice_hides_no_more(text: str) -> None:
    assert hide_secrets(hide_secrets(text)) == hide_secrets(text)


def test_names_of_secrets() -> None:
    secret = "api_key password2 openai_api_key token MY_TOKEN auth pwd db_pwd client_secret"
    ordinary = "tokens max_tokens author monkey keys cwd tokenizer data"
    assert [name for name in secret.split() if not is_secret_name(name)] == []
    assert [name for name in ordinary.split() if is_secret_name(name)] == []


# ---------------------------------------------------------------- names and values


@pytest.mark.parametrize(
    ("source", "line", "names"),
    [
        ("a = b\nc.d = e[f]", 2, ["c", "e", "f", "b"]),
        ("x += 1\nprint('y', z)  # w", 1, ["x", "print", "z"]),
        ("%time a\n!ls b\nc", 1, ["c"]),
        ("%%time\nd", 1, ["d"]),
        ("for a in b:\n    %matplotlib inline\n    d", 3, ["d", "b"]),
        ("g = a(b.c, 'd'", 1, ["g", "a", "b"]),
        ("", 1, []),
    ],
)
def test_the_names_that_code_reads_are_found_the_nearest_first(source: str, line: int, names: list[str]) -> None:
    assert find_names(source, line=line) == names


class Broken:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


class Odd:
    """A value whose attributes fail."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError


def twice(number: int = 3, *, key: str = "told") -> int:
    """Be a function."""
    return 2 * number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "int, 3"),
        ("abc", "str of length 3, 'abc'"),
        (None, "NoneType, None"),
        ([1, "a"], "list of length 2, [1, 'a']"),
        (range(3), "range, range(0, 3)"),
        (list(range(1_000)), "list of length 1,000, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
        (sys, "the module sys"),
        (dict, "the class dict"),
        (twice, "function twice(number, key)"),
        (len, "builtin_function_or_method len(obj)"),
        (numpy.array([1, 2]), "numpy ndarray, shape (2,), int64\n  \n  1,2"),
    ],
    ids=repr,
)
def test_a_value_is_its_type_and_a_short_form(value: Any, text: str) -> None:
    assert write_variable("x", value) == f"- `x`: {text}"


@pytest.mark.parametrize(
    "make",
    [Broken, Odd, lambda: [Broken()], lambda: "x" * 10_000, lambda: {"a" * 5_000: "b" * 5_000}],
    ids=["broken", "odd", "in a list", "long", "long key"],
)
def test_whatever_a_value_is_it_is_short_and_raises_nothing(make: Callable[[], Any]) -> None:
    assert len(write_variable("x", make())) < 1_000


def test_a_secret_is_told_by_its_type_alone() -> None:
    assert write_variable("api_key", "abc") == f"- `api_key`: str, {HIDDEN}"
    assert write_variable("token", 3) == "- `token`: int, 3"


# ---------------------------------------------------------------- the request

FAILURE = Failure("E: x", "The error: E: {{x}}")


def test_the_request_is_the_task_the_hint_and_the_failure_and_asks_for_code() -> None:
    ask = PARSERS["kimi_fix"].parse_line('-m kimi-k3 -s "Be {{how}}." -o fixed keep {{what}}')
    built = build_fix_ask(ask, FAILURE, variables={"how": "brief", "what": "the loop"}, system="unused")
    text = f"{FIX_PROMPT}\n\nWhat the user says of it: keep the loop\n\nThe error: E: {{{{x}}}}"
    assert built == Ask(text=text, system="Be brief.", model="kimi-k3", out="fixed", raw=True, code=True)


def test_without_a_hint_the_setting_is_the_system_prompt() -> None:
    built = build_fix_ask(Ask(), FAILURE, variables={"a": "b"}, system="Say {{a}}")
    assert (built.text, built.system) == (f"{FIX_PROMPT}\n\n{FAILURE.text}", "Say b")


def test_raw_leaves_the_braces_of_the_hint() -> None:
    built = build_fix_ask(Ask(text="{{a}}", raw=True), FAILURE, variables={})
    assert "What the user says of it: {{a}}\n" in built.text


def test_where_something_is_hidden_the_model_is_told_to_keep_the_place() -> None:
    built = build_fix_ask(Ask(), Failure("E", f"key = '{HIDDEN}'"), variables={})
    assert built.text == f"{FIX_PROMPT}\n\n{KEEP_HIDDEN}\n\nkey = '{HIDDEN}'"


def test_a_hint_that_names_no_variable_is_refused() -> None:
    with pytest.raises(VariableError, match="no variable 'a'"):
        build_fix_ask(Ask(text="{{a}}"), FAILURE, variables={})


@pytest.mark.parametrize(("ask", "flag"), [(Ask(json=True), "--json"), (Ask(schema="x"), "--schema")])
def test_an_answer_in_json_is_no_cell(ask: Ask, flag: str) -> None:
    with pytest.raises(MagicLineError, match=f"the answer is a cell, which {flag} rules out"):
        build_fix_ask(ask, FAILURE, variables={})

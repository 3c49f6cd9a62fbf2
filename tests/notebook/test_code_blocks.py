"""The first code of an answer goes into a new cell that is not run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kimi_magics.notebook.code_blocks import CodeBlock, NewCell, first_code, make_cell, propose_cell, propose_code

FOUND = {
    "plain": ("Do:\n```python\nx = 1\n\ny = 2\n```\nDone.", CodeBlock("x = 1\n\ny = 2", "python")),
    "the first of two": ("```bash\nls\n```\n```python\nx\n```", CodeBlock("ls", "bash")),
    "no language": ("```\nx\n```", CodeBlock("x", "")),
    "tildes": ("~~~ Python3\nx\n~~~", CodeBlock("x", "python3")),
    "longer fence": ("````python\n```\nx\n```\n````", CodeBlock("```\nx\n```", "python")),
    "not closed": ("text\n```python\nif x:\n    y", CodeBlock("if x:\n    y", "python")),
    "in a list": ("1. Do\n\n   ```py\n   if x:\n       y\n   ```\n2. more", CodeBlock("if x:\n    y", "py")),
    "in a list in a list": ("- a\n  - b\n\n    ```py\n    x\n      y\n    ```", CodeBlock("x\n  y", "py")),
    "too deep": ("- a\n\n      ```python\n      x\n      ```", CodeBlock("x", "python")),
    "in a quotation": ("> ```python\n> x\n> ```", CodeBlock("x", "python")),
    "within HTML": ("<details>\n```python\nx\n```\n</details>", CodeBlock("x", "python")),
    "all indented": ("```python\n    if x:\n        y\n```", CodeBlock("if x:\n    y", "python")),
    "with attributes": ('```python title="a.py"\nx\n```', CodeBlock("x", "python")),
    "in braces": ("```{code-cell} ipython3\nx\n```", CodeBlock("x", "ipython3")),
    "of pandoc": ("```{.python .numberLines}\nx\n```", CodeBlock("x", "python")),
    "an empty one before": ("```\n\n```\n```c++\nint x;\n```", CodeBlock("int x;", "c++")),
    "lines of Windows": ("```python\r\nx\r\ny\r\n```\r\n", CodeBlock("x\ny", "python")),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_first_fenced_block_is_found(name: str) -> None:
    text, block = FOUND[name]
    assert first_code(text) == block


@pytest.mark.parametrize("text", ["", "no code", "`x = 1`", "    x = 1", "```\n\n```", "a ``` b", "```python"])
def test_without_a_fenced_block_there_is_none(text: str) -> None:
    assert first_code(text) is None


@pytest.mark.parametrize(
    ("language", "source", "cell"),
    [
        ("python", "x", NewCell("x")),
        ("", "x", NewCell("x")),
        ("ipython", "%pip install a", NewCell("%pip install a")),
        ("python", "%%time\nx", NewCell("%%time\nx")),
        ("bash", "ls", NewCell("%%bash\nls")),
        ("shell", "ls", NewCell("%%bash\nls")),
        ("js", "x", NewCell("%%javascript\nx")),
        ("html", "<b>", NewCell("%%html\n<b>")),
        ("bash", "%%bash\nls", NewCell("%%bash\nls")),
        ("sql", "select 1", NewCell("# sql, which is not run here\nselect 1", "sql")),
        ("rust", "fn x", NewCell("# rust, which is not run here\nfn x", "rust")),
        # an answer does not choose a magic
        ("kimi", "x", NewCell("# kimi, which is not run here\nx", "kimi")),
        ("time", "x", NewCell("# time, which is not run here\nx", "time")),
    ],
)
def test_code_of_other_languages_gets_its_magic_or_says_what_it_is(language: str, source: str, cell: NewCell) -> None:
    known = {"bash", "javascript", "html", "kimi", "time"}
    assert make_cell(CodeBlock(source, language), has_magic=known.__contains__) == cell


def test_a_magic_that_the_user_loaded_is_used() -> None:
    assert make_cell(CodeBlock("select 1", "sql"), has_magic=lambda name: True) == NewCell("%%sql\nselect 1")


# ---------------------------------------------------------------- where it goes


class Kernel(SimpleNamespace):
    """The shell of a kernel, as far as it is used: it tells its front end the next input."""

    kernel = True

    def set_next_input(self, text: str, replace: bool = True) -> None:
        self.payload = (text, replace)


def never(source: str) -> bool:
    raise AssertionError("no page is asked while a cell runs")


def test_in_a_kernel_the_front_end_makes_a_new_cell_below_the_one_that_runs() -> None:
    kernel: Any = Kernel()
    assert propose_cell(kernel, "x = 1", insert=never) == "the code is in a new cell below; it was not run"
    assert kernel.payload == ("x = 1", False)


def test_outside_of_a_cell_the_page_inserts_one() -> None:
    kernel: Any = Kernel(payload=None)
    inserted: list[str] = []
    told = propose_cell(kernel, "x", insert=lambda source: not inserted.append(source), is_in_cell=False)
    assert (told, inserted, kernel.payload) == ("the code is in a new cell; it was not run", ["x"], None)
    told = propose_cell(kernel, "x", insert=lambda source: False, is_in_cell=False)
    assert told == "no page is there to make a cell: the code is only in the answer"


def test_in_a_terminal_the_code_stands_at_the_next_prompt_and_is_not_run(shell: Any) -> None:
    told = propose_code(shell, "```python\nran = True\n```", insert=never)
    assert told == "the code stands at the next prompt; it was not run"
    assert shell.rl_next_input == "ran = True"
    assert "ran" not in shell.user_ns


def test_the_magics_of_the_shell_are_those_that_are_used(shell: Any) -> None:
    propose_code(shell, "```shell\nls\n```", insert=never)
    assert shell.rl_next_input == "%%bash\nls"
    told = propose_code(shell, "```sql\nselect 1\n```", insert=never)
    assert told == "the code stands at the next prompt; it was not run; it is sql, which is not run here"
    assert shell.rl_next_input == "# sql, which is not run here\nselect 1"


def test_an_answer_without_code_leaves_everything_alone(shell: Any) -> None:
    shell.rl_next_input = None
    assert propose_code(shell, "No code.", insert=never) == "the answer has no code block: there is no new cell"
    assert shell.rl_next_input is None

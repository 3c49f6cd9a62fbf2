"""The code of an answer, put into a new cell that nobody runs but the user."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: What may stand in a cell as it is.
_PYTHON = frozenset({"", "python", "python3", "py", "py3", "ipython", "ipython3", "jupyter", "jupyter-python", "pycon"})
#: The cell magic that takes the code of a language: IPython's own, and those of packages that the user may have loaded.
#: No others, or an answer could choose any magic by the name of a language.
_MAGICS = {
    "bash": "bash",
    "shell": "bash",
    "zsh": "bash",
    "sh": "sh",
    "html": "html",
    "javascript": "javascript",
    "js": "javascript",
    "latex": "latex",
    "tex": "latex",
    "markdown": "markdown",
    "md": "markdown",
    "svg": "svg",
    "perl": "perl",
    "ruby": "ruby",
    "sql": "sql",
    "r": "R",
    "cython": "cython",
    "julia": "julia",
}
_LANGUAGE = re.compile(r"(?:\{code-cell\}\s*)?[{.]*([\w+#\-]{0,30})")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """The code of a fenced block, and the language that its fence names, in small letters; empty for none."""

    source: str
    language: str


class NewCell(NamedTuple):
    """What goes into a cell; `language` is named where nothing here runs the code."""

    source: str
    language: str = ""


def first_code(markdown: str) -> CodeBlock | None:
    """Return the first fenced block of Markdown that holds something, also one in a list, or that is not closed."""
    from markdown_it import MarkdownIt

    # As `safe_markdown` reads it, so that what is shown as code is found; what is within paragraphs is not looked at.
    parser = MarkdownIt("commonmark").enable("table").disable(["html_block", "reference", "inline"])
    for token in parser.parse(markdown):
        if token.type == "code_block" and token.content.startswith(("```", "~~~")):
            # A fence that a model put in too deep for its list.
            return first_code(token.content)
        if token.type == "fence" and token.content.strip():
            found = _LANGUAGE.match(token.info.strip())
            source = textwrap.dedent(token.content).strip("\n")
            return CodeBlock(source, found[1].lower() if found else "")
    return None


def make_cell(block: CodeBlock, *, has_magic: Callable[[str], bool]) -> NewCell:
    """Return the cell for a block: as it is, below the magic of its language, or below a line that says what it is.

    `has_magic` tells whether there is a cell magic of that name.
    """
    if block.language in _PYTHON or block.source.startswith("%%"):
        return NewCell(block.source)
    magic = _MAGICS.get(block.language)
    if magic is not None and has_magic(magic):
        return NewCell(f"%%{magic}\n{block.source}")
    return NewCell(f"# {block.language}, which is not run here\n{block.source}", block.language)


def propose_code(
    shell: InteractiveShell, markdown: str, *, insert: Callable[[str], bool], is_in_cell: bool = True
) -> str:
    """Put the first code of an answer into a new cell, and return what to tell the user of it. Nothing is run."""
    block = first_code(markdown)
    if block is None:
        return "the answer has no code block: there is no new cell"
    magics = shell.magics_manager.magics["cell"]
    cell = make_cell(block, has_magic=lambda name: name in magics)
    told = propose_cell(shell, cell.source, insert=insert, is_in_cell=is_in_cell)
    return f"{told}; it is {cell.language}, which is not run here" if cell.language else told


def propose_cell(
    shell: InteractiveShell, source: str, *, insert: Callable[[str], bool], is_in_cell: bool = True
) -> str:
    """Put `source` into a new cell below the one that runs, and return what to tell the user. Nothing is run.

    A front end makes the cell when it is told that the running one is done, below that one, wherever the user has gone
    meanwhile; only `insert`, for what runs in no cell such as a composer, is about the cell that the user is in. A
    terminal has it at its next prompt.
    """
    if getattr(shell, "kernel", None) is None:
        shell.set_next_input(source)
        return "the code stands at the next prompt; it was not run"
    if is_in_cell:
        # JupyterLab 4 and Notebook 7: handlePayload in @jupyterlab/notebook inserts after the cell of the reply.
        shell.set_next_input(source, replace=False)
        return "the code is in a new cell below; it was not run"
    if insert(source):
        return "the code is in a new cell; it was not run"
    return "no page is there to make a cell: the code is only in the answer"

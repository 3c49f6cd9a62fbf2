r"""Make a model's Markdown safe to display, whichever parser displays it.

The promise: JupyterLab and Notebook 7 (marked), nbconvert (mistune, not sanitised) and markdown-it make no element of
raw HTML, load no image, and link to nothing but http, https, mailto and ``#``; what is honest looks as written.

The parsers disagree about much, so nothing here relies on one reading:

- Prose is safe wherever and however it is read. What is meant literally becomes a character reference, which never has
  a structural meaning; in a formula, where it would be shown as typed, a space is put in instead.
- Code stays as it is, so all must agree where it ends. Blocks get a canonical fence; spans are of one line; no backtick
  is left outside of code; what could begin before a dangerous span and end inside it is taken away.
"""

import re
from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from kimi_magics.core.safe_prose import DANGEROUS, Rules, is_plain, render_literally, render_prose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from markdown_it.token import Token

# nbconvert looks for the second kind in the whole text before it looks for blocks, code or not:
# https://github.com/jupyter/nbconvert/blob/main/nbconvert/filters/markdown_mistune.py (MULTILINE_MATH).
_MATH_DELIMITER = re.compile(r"\$|\\\\[\[\]()]|\\(?:begin|end)\{")
_DISPLAY_DELIMITER = re.compile(r"\$\$|\\\\[\[\]()]|\\(?:begin|end)\{")

# Whatever may come out as a delimiter of MathJax. Without any, a backslash and a name are, say, a path of Windows.
_MAY_BE_MATH = re.compile(r"\$|&(?:#|dollar;|bsol;)|\\\\|\\begin")

# A blank or the end of a line to some parsers only (`\s` and `^` differ between Python and JavaScript).
_ODD_BLANK = re.compile(r"[\x01-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# Tables are cut at each bare pipe, in code spans, too. Any such row may be the one that makes a table.
_TABLE_RULE = re.compile(r"^[ \t>:]*[|-][ \t>|:-]*$", re.MULTILINE)
_BARE_PIPE = re.compile(r"(?<!\\)\||\\\\\|")


class _CodeBlock(NamedTuple):
    """A fenced or indented code block: the lines it had, and what becomes of them."""

    start: int
    end: int
    head: str
    info: str
    ticks: int
    content: str

    def is_delicate(self) -> bool:
        """Tell whether it did harm where it was not read as code, or could end what began before it."""
        return bool(DANGEROUS.search(self.content) or _MATH_DELIMITER.search(self.content))


class _CodeSpan(NamedTuple):
    """A code span: where it was, backticks included, and what is in it."""

    start: int
    end: int
    ticks: int
    content: str


def safe_markdown(text: str) -> str:
    """Return `text` as Markdown that renders alike where it is honest and does nothing where it is not.

    It is meant for display. Made safe twice it is as safe, but shows what was escaped. Takes linear time.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").split("\n")
    blocks = list(_find_code_blocks(lines))
    rules = Rules(
        keeps_display_math=not any(_DISPLAY_DELIMITER.search(block.content) for block in blocks),
        keeps_dollars=text.count("$") == 1,  # it has no other to be paired with
        keeps_macros=not _MAY_BE_MATH.search(text),
    )
    has_environment = bool(re.search(r"\\\\[\[(]|\\begin\{", text))
    output: list[str] = []
    position = 0
    for block in blocks:
        output.extend(_render_lines(lines[position : block.start], rules))
        is_apart = not block.head or has_environment or block.is_delicate()
        _append_code(output, block, is_apart=is_apart)
        position = block.end
        if is_apart and position < len(lines) and lines[position].strip(" \t"):
            output.append("")
    output.extend(_render_lines(lines[position:], rules))
    return "\n".join(output)


@lru_cache(maxsize=1)
def _code_parser() -> "Callable[[str], list[Token]]":
    """Return a parser of blocks, to which raw HTML and link definitions are paragraphs, that keeps code blocks only.

    The tokens of all else would cost more than the parsing.
    """
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.token import Token

    parser = MarkdownIt("commonmark").enable("table")
    parser.disable(["html_block", "reference"])
    unused = Token("", "", 0)

    class CodeState(StateBlock):
        def push(self, ttype: str, tag: str, nesting: "Literal[-1, 0, 1]") -> Token:
            if ttype in ("fence", "code_block"):
                return super().push(ttype, tag, nesting)
            self.level += nesting
            return unused

    def parse(text: str) -> list[Token]:
        state = CodeState(text, parser, {}, [])
        parser.block.tokenize(state, state.line, state.lineMax)
        return state.tokens

    return parse


def _find_code_blocks(lines: list[str]) -> "Iterator[_CodeBlock]":
    text = "\n".join(lines)
    if not re.search("```|~~~| {4}|\t", text):
        return  # no code block is without one of these; the parser is what costs time
    for token in _code_parser()(text):
        if token.map is None:
            continue
        start, end = token.map
        content = token.content
        if token.type == "code_block":
            content = content.rstrip("\n") + "\n"
            end = start + content.count("\n")
        longest = max(map(len, re.findall("`+", content)), default=0)
        written = len(token.markup) if token.markup.startswith("`") else 3
        head = _find_head(lines[start], token.markup, content) if token.level else ""
        yield _CodeBlock(start, end, head, _sane_info(token.info), max(written, longest + 1), content)


def _find_head(line: str, markup: str, content: str) -> str:
    """Return what stands before a code block on its first line: quote marks, list markers and blanks."""
    if markup:
        head = line[: line.index(markup)].expandtabs(4)
    else:
        first = content.split("\n", 1)[0].expandtabs(4)
        head = line.expandtabs(4).removesuffix(first.lstrip(" "))
        head = head[: max(0, len(head) - (len(first) - len(first.lstrip(" "))) - 4)]
    head = re.sub(">(?! )", "> ", head)
    # Anything else would not be the same to all parsers; such a block leaves its list or quote.
    return head if re.fullmatch(r"(?:(?:[-*+]|[0-9]{1,9}[.)]) +|> | )*", head) else ""


def _sane_info(info: str) -> str:
    info = info.strip()
    # nbconvert writes a `mermaid` block into the page without escaping it (`block_mermaidjs`).
    if info.lower().startswith("mermaid"):
        return ""
    if len(info) <= 100 and re.fullmatch(r"[\w+#][\w+#.:=,/ -]*", info, re.ASCII):
        return info
    return re.split(r"[^\w+#.-]", info, maxsplit=1, flags=re.ASCII)[0][:40]


def _append_code(output: list[str], block: _CodeBlock, *, is_apart: bool) -> None:
    """Append a block in the form that no parser mistakes: one head for all lines, a fence longer than any in it.

    After a blank line they are a fence to a parser that sees the list or quote; to one that does not, they are a fence
    or all of them indented code. At a blank line JupyterLab forgets a formula that is open (removeMath):
    https://github.com/jupyterlab/jupyterlab/blob/main/packages/rendermime/src/latex.ts
    """
    if is_apart and output and output[-1]:
        output.append("")
    fence = "`" * block.ticks
    indent = re.sub(r"[^ >]", " ", block.head)
    output.append(block.head + fence + block.info)
    if block.content:
        lines = block.content.removesuffix("\n").split("\n")
        output.extend(indent + line if line else indent.rstrip() for line in lines)
    output.append(indent + fence)


def _render_lines(lines: list[str], rules: Rules) -> "Iterator[str]":
    """Render prose by chunks. A chunk is what lies between blank lines, so that no paragraph is longer than one."""
    chunk: list[str] = []
    for line in lines:
        line = _ODD_BLANK.sub(" ", line)
        if line.strip(" \t"):
            chunk.append(line)
            continue
        if chunk:
            yield _render_chunk("\n".join(chunk), rules)
            chunk = []
        yield ""  # mistune takes a line of many blanks after a paragraph for more of it
    if chunk:
        yield _render_chunk("\n".join(chunk), rules)


def _render_chunk(text: str, rules: Rules) -> str:
    if is_plain(text):
        return text
    if "`" not in text:
        return render_prose(text, rules, is_first=True)
    spans = list(_find_spans(text))
    kept = set(_choose_spans(text, spans, rules))
    has_danger = any(DANGEROUS.search(span.content) for span in kept)
    # What a dollar, a tilde or a bracket begins must not end within a span, or the backticks are paired anew.
    contents = "\n".join(span.content for span in kept)
    rules = rules._replace(
        keeps_math=not (has_danger and "$" in contents),
        keeps_tildes=not (has_danger and "~" in contents),
        keeps_brackets=not re.search(r"\][(:\[]", contents),
        keeps_tight_less_than=not has_danger,
    )
    output: list[str] = []
    position = 0
    for span in spans:
        # To marked before 16 tildes and the backticks after them are one run, which is text.
        before = text[position : span.start]
        prose = before.rstrip("~")
        prose += "~" if prose.endswith("\\") else ""
        output.append(render_prose(prose, rules, is_first=position == 0))
        output.append("&#126;" * (len(before) - len(prose)))
        if span in kept:
            # Older versions of marked mistake two backticks for an empty span.
            ticks = "`" * span.ticks if "`" in span.content else "`"
            output.append(f"{ticks}{span.content}{ticks}")
        else:
            output.append(render_literally(text[span.start : span.end]))
        position = span.end
    output.append(render_prose(text[position:], rules, is_first=position == 0))
    return "".join(output)


def _find_spans(text: str) -> "Iterator[_CodeSpan]":
    """Find what all parsers read as code spans, of one line each, if nothing swallows a backtick."""
    shift = 0
    for line in text.split("\n"):
        runs = [(match.start(), match.end()) for match in re.finditer("`+", line)]
        by_length: dict[int, list[int]] = {}
        for start, stop in runs:
            by_length.setdefault(stop - start, []).append(start)
        end = 0
        for start, stop in runs:
            if start < end or line[start - 1 : start] == "\\":
                continue
            same = by_length[stop - start]
            closer = bisect_left(same, stop)
            if closer < len(same):
                end = same[closer] + stop - start
                yield _CodeSpan(shift + start, shift + end, stop - start, line[stop : same[closer]])
        shift += len(line) + 1


def _choose_spans(text: str, spans: list[_CodeSpan], rules: Rules) -> "Iterator[_CodeSpan]":
    """Choose the spans that may stay code; the others become text, backticks included."""
    is_table = bool(_TABLE_RULE.search(text))
    has_danger = any(DANGEROUS.search(span.content) for span in spans)
    blanks = [match.start() for match in re.finditer(r"[ \t\n]", text)]
    addresses = [match.start() for match in re.finditer(r"://|(?i:www)\.", text)]
    end = 0
    for span in spans:
        is_dangerous = bool(DANGEROUS.search(span.content))
        index = bisect_left(addresses, span.start) - 1
        if index >= 0 and addresses[index] >= end:
            blank = bisect_left(blanks, addresses[index])
            if blank == len(blanks) or blanks[blank] > span.start:
                continue  # marked and mistune take the backtick for a part of the address
        if is_table and (_BARE_PIPE.search(span.content) or (is_dangerous and "|" in span.content)):
            continue  # the table's cell ends in the middle
        if has_danger and ("`" in span.content or span.content.endswith("\\")):
            continue  # to marked, emphasis that began before may end in it
        is_exposed = has_danger or not rules.keeps_display_math
        if is_exposed and _DISPLAY_DELIMITER.search(span.content):
            continue  # a formula may begin or end in it
        end = span.end
        yield span

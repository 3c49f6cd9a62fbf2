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
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it import MarkdownIt

# Macros that make links, load things or set attributes: https://docs.mathjax.org/en/latest/input/tex/extensions/html.html,
# .../action.html and https://katex.org/docs/options (trust). `mmlToken` takes an href; `csname` builds other names.
_MACROS = (
    r"(?:cssId|class|csname|data|href|html(?:Class|Data|Id|Style)?|img|includegraphics|mmlToken|require|style|unicode|url"
    # Its argument may be a style with a background image; a mere colour and a padding are common and harmless.
    r"|bbox(?! *\[[\w #,.+-]*\]))(?![A-Za-z])"
)
_FORBIDDEN_MACRO = re.compile(rf"\\(?={_MACROS})", re.ASCII)
_ZERO_WIDTH_SPACE = "\u200b"

_DANGEROUS = re.compile(rf"<[A-Za-z/!?]|!\[|\][(:\[]|(?i:ftp|xmpp):|\\{_MACROS}")
# nbconvert looks for the second kind in the whole text before it looks for blocks, code or not:
# https://github.com/jupyter/nbconvert/blob/main/nbconvert/filters/markdown_mistune.py (MULTILINE_MATH).
_MATH_DELIMITER = re.compile(r"\$|\\\\[\[\]()]|\\(?:begin|end)\{")
_DISPLAY_DELIMITER = re.compile(r"\$\$|\\\\[\[\]()]|\\(?:begin|end)\{")

# A blank or the end of a line to some parsers only (`\s` and `^` differ between Python and JavaScript).
_ODD_BLANK = re.compile(r"[\x01-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# Tables are cut at each bare pipe, in code spans, too. Any such row may be the one that makes a table.
_TABLE_RULE = re.compile(r"^[ \t>:]*[|-][ \t>|:-]*$", re.MULTILINE)
_BARE_PIPE = re.compile(r"(?<!\\)\||\\\\\|")

_ADDRESS = r"(?i:https?://|mailto:|\#)(?:[^\s<>()\[\]`\\\"]|\([^\s<>()\[\]`\\\"]*\))*"
_TARGET = (
    rf"\([ \t]*<?(?P<address{{0}}>{_ADDRESS})>?(?P<title{{0}}>[ \t]+\"[^\"\\`<$|\n]*\"|[ \t]+'[^'\\`<$|\n]*')?[ \t]*\)"
)
_TOKEN_PATTERN = rf"""
      (?P<definition>^[ \t>*+.)\d-]*\[[^\[\]\\`<$|\n]{{1,200}}\]:[ \t]+{_ADDRESS}(?:[ \t]+"[^"\\`<$|\n]*")?[ \t]*$)
    | (?P<link>\[(?P<label>[^\[\]`\n]*)\]{_TARGET.format(1)})
    | (?P<link_end>\]{_TARGET.format(2)})
    | (?P<autolink><(?i:https?://|mailto:)[^\s<>`\\"$|\[\]]+>)
    | (?P<math>(?<![\\$])\${{1,2}}(?!\$)|(?<!\\)\\\\(?=[\[(])|\\(?=begin\{{[A-Za-z]*\*?\}}))
    | (?P<dollars>\$+)
    | (?P<macro>\\*(?:\\|&(?:\#0*92|(?i:\#x0*5c)|bsol);)(?:[A-Za-z]|&(?:\#\d{{1,8}}|\#[xX][\dA-Fa-f]{{1,7}}|fjlig|bsol);)+)
    | (?P<backslashes>\\+)
    | (?P<escaped><+|`+|!(?=\[)|~~~+|(?i:(?<=ftp):(?=//)|(?<=xmpp):))
    | (?P<link_start>\]\(|\]:)
"""
_TOKEN = re.compile(_TOKEN_PATTERN, re.VERBOSE | re.MULTILINE | re.ASCII)
_STRICT_TOKEN = re.compile(
    _TOKEN_PATTERN + r"| (?P<bracket>\[+(?=\[)|\[) | (?P<tilde>~)", re.VERBOSE | re.MULTILINE | re.ASCII
)
_CLOSERS = re.compile(r"(?<![\\$])\$\$(?!\$)|\\\\[\])]|\\end\{[A-Za-z]*\*?\}")
_INLINE_MATH = re.compile(r"\$((?:[^$`\n]|(?<=\\)\$)+)(?<!\\)\$(?!\$)")
_BRACE = re.compile(r"\\[{}$]|\\(?:begin|end)\{[A-Za-z]*\*?\}|([{}])")


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
        return bool(_DANGEROUS.search(self.content) or _MATH_DELIMITER.search(self.content))


class _CodeSpan(NamedTuple):
    """A code span: where it was, backticks included, and what is in it."""

    start: int
    end: int
    ticks: int
    content: str


class _Rules(NamedTuple):
    """What the prose around code may keep."""

    keeps_display_math: bool
    keeps_dollars: bool
    keeps_math: bool = True
    keeps_tildes: bool = True
    keeps_brackets: bool = True
    keeps_tight_less_than: bool = True


def safe_markdown(text: str) -> str:
    """Return `text` as Markdown that renders alike where it is honest and does nothing where it is not.

    It is meant for display. Made safe twice it is as safe, but shows what was escaped. Takes linear time.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").split("\n")
    blocks = list(_find_code_blocks(lines))
    rules = _Rules(
        keeps_display_math=not any(_DISPLAY_DELIMITER.search(block.content) for block in blocks),
        keeps_dollars=text.count("$") == 1,  # it has no other to be paired with
    )
    has_math = bool(re.search(r"\\\\[\[(]|\\begin\{", text))
    output: list[str] = []
    position = 0
    for block in blocks:
        output.extend(_render_lines(lines[position : block.start], rules))
        is_apart = not block.head or has_math or block.is_delicate()
        _append_code(output, block, is_apart=is_apart)
        position = block.end
        if is_apart and position < len(lines) and lines[position].strip():
            output.append("")
    output.extend(_render_lines(lines[position:], rules))
    return "\n".join(output)


@lru_cache(maxsize=1)
def _block_parser() -> "MarkdownIt":
    """Return a parser of blocks only, to which raw HTML and link definitions are paragraphs."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    return parser.disable(["html_block", "reference", "inline", "text_join"], ignoreInvalid=True)


def _find_code_blocks(lines: list[str]) -> "Iterator[_CodeBlock]":
    text = "\n".join(lines)
    if not re.search("```|~~~| {4}|\t", text):
        return  # no code block is without one of these; the parser is what costs time
    for token in _block_parser().parse(text):
        if token.type not in ("fence", "code_block") or token.map is None:
            continue
        start, end = token.map
        content = token.content.removesuffix("\n")
        if token.type == "code_block":
            content = content.rstrip("\n")
            end = start + content.count("\n") + 1
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
    # Anything else would not be the same to all parsers; such a block leaves its list or quote.
    return head if re.fullmatch(r"(?:(?:[-*+]|[0-9]{1,9}[.)]) +|>| )*", head) else ""


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

    Such lines, after a blank one, are a fence to a parser that sees the list or quote, and a fence or all of them indented
    code to one that does not. At a blank line JupyterLab forgets a formula that is open:
    https://github.com/jupyterlab/jupyterlab/blob/main/packages/rendermime/src/latex.ts (removeMath).
    """
    if is_apart and output and output[-1].strip():
        output.append("")
    fence = "`" * block.ticks
    indent = re.sub(r"[^ >]", " ", block.head)
    output.append(block.head + fence + block.info)
    if block.content:
        output.extend(indent + line if line else indent.rstrip() for line in block.content.split("\n"))
    output.append(indent + fence)


def _render_lines(lines: list[str], rules: _Rules) -> "Iterator[str]":
    """Render prose by chunks. A chunk is what lies between blank lines, so that no paragraph is longer than one."""
    chunk: list[str] = []
    for line in lines:
        if not line.strip(" \t"):
            if chunk:
                yield _render_chunk("\n".join(chunk), rules)
                chunk = []
            yield line
        else:
            chunk.append(_ODD_BLANK.sub(" ", line))
    if chunk:
        yield _render_chunk("\n".join(chunk), rules)


def _render_chunk(text: str, rules: _Rules) -> str:
    spans = list(_choose_spans(text, list(_find_spans(text)), rules))
    dangerous = "\n".join(span.content for span in spans if _DANGEROUS.search(span.content))
    rules = rules._replace(
        keeps_math="$" not in dangerous,
        keeps_tildes="~" not in dangerous,
        keeps_brackets=not any(re.search(r"\][(:\[]", span.content) for span in spans),
        keeps_tight_less_than=not dangerous,
    )
    output: list[str] = []
    position = 0
    for span in spans:
        # To marked before 16 tildes and the backticks after them are one run, which is text.
        before = text[position : span.start]
        prose = before.rstrip("~")
        prose += "~" if prose.endswith("\\") else ""
        output.append(_render_prose(prose, rules, is_first=position == 0))
        output.append("&#126;" * (len(before) - len(prose)))
        # Older versions of marked mistake two backticks for an empty span.
        ticks = "`" * span.ticks if "`" in span.content else "`"
        output.append(f"{ticks}{span.content}{ticks}")
        position = span.end
    output.append(_render_prose(text[position:], rules, is_first=position == 0))
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


def _choose_spans(text: str, spans: list[_CodeSpan], rules: _Rules) -> "Iterator[_CodeSpan]":
    """Choose the spans that may stay code; of the others all becomes text, backticks included."""
    is_table = bool(_TABLE_RULE.search(text))
    has_danger = any(_DANGEROUS.search(span.content) for span in spans)
    blanks = [match.start() for match in re.finditer(r"[ \t\n]", text)]
    addresses = [match.start() for match in re.finditer(r"://|(?i:www)\.", text)]
    end = 0
    for span in spans:
        is_dangerous = bool(_DANGEROUS.search(span.content))
        index = bisect_left(addresses, span.start) - 1
        if index >= 0 and addresses[index] >= end:
            blank = bisect_left(blanks, addresses[index])
            if blank == len(blanks) or blanks[blank] > span.start:
                continue  # marked and mistune take the backtick for a part of the address
        if is_table and (_BARE_PIPE.search(span.content) or (is_dangerous and "|" in span.content)):
            continue  # the table's cell ends in the middle
        if has_danger and "`" in span.content:
            continue  # to marked, emphasis that began before may end in it
        is_exposed = has_danger or not rules.keeps_display_math
        if is_exposed and _DISPLAY_DELIMITER.search(span.content):
            continue  # a formula may begin or end in it
        end = span.end
        yield span


_REFERENCES = {ord(character): f"&#{ord(character)};" for character in "!$(:[\\`~"} | {ord("<"): "&lt;"}


def _as_references(characters: str) -> str:
    return characters.translate(_REFERENCES)


def _render_prose(text: str, rules: _Rules, *, is_first: bool) -> str:
    """Return prose that is safe in any context. `is_first` says that it begins its chunk."""
    formulas = _Formulas(text)
    output: list[str] = []
    position = 0
    pattern = _TOKEN if rules.keeps_brackets and rules.keeps_tildes else _STRICT_TOKEN
    while match := pattern.search(text, position):
        output.append(text[position : match.start()])
        position = match.end()
        if match["math"] and rules.keeps_math:
            # At the margin after a blank line nothing is in the way of nbconvert's finding it.
            keeps_display_math = rules.keeps_display_math or (is_first and match.start() == 0)
            end = formulas.find_end(match, keeps_display_math=keeps_display_math)
            if end is not None:
                output.append(_render_formula(text[match.start() : end], rules))
                position = end
                continue
        if match["backslashes"]:
            rendered, position = _render_backslashes(match[0], text, position, rules)
        else:
            rendered = _render_token(match, rules)
        output.append(rendered)
    output.append(text[position:])
    return "".join(output)


def _render_token(match: re.Match[str], rules: _Rules) -> str:
    kind, token = match.lastgroup, match[0]
    if kind == "bracket":
        return token if rules.keeps_brackets else _as_references(token)
    if kind == "tilde":
        return token if rules.keeps_tildes else _as_references(token)
    if kind == "link":
        label = _render_prose(match["label"], rules, is_first=False)
        return f"[{label}]({_as_address(match['address1'])}{match['title1'] or ''})"
    if kind == "link_end":
        return f"]({_as_address(match['address2'])}{match['title2'] or ''})"
    if kind in ("definition", "autolink"):
        return _as_address(token)
    if kind == "macro":
        return _render_macro(token, is_environment=match.string.startswith("{", match.end()))
    if kind == "link_start":
        return "]" + _as_references(token[1])
    if token.startswith("$") and rules.keeps_dollars:
        return token
    if kind == "math" and token.startswith("\\"):
        return "&#92;"  # for the two of them, too: the first escapes the second
    return _as_references(token)


def _as_address(text: str) -> str:
    return text.replace("$", "%24").replace("|", "%7C")


def _render_macro(token: str, *, is_environment: bool) -> str:
    r"""Return a backslash and a name such that it is no forbidden macro for MathJax, which reads the page, not the source.

    So `&#92;href`, `\\href` and `\hr&#101;f` are `\href` to it.
    """
    if is_environment and token.endswith("begin"):
        # With more than one backslash it begins a formula to Jupyter all the same.
        count = token.count("\\")
        return "&#92;" * (count - count // 2) + token[count:]
    if not _FORBIDDEN_MACRO.search(unescape(token)):
        return token
    token = re.sub(r"&(?!#0*92;|#[xX]0*5[cC];|bsol;)", "&amp;", token)
    return re.sub(r"(\\|&#0*92;|&#[xX]0*5[cC];|&bsol;)(?=[A-Za-z])", rf"\1{_ZERO_WIDTH_SPACE}", token)


def _render_backslashes(run: str, text: str, position: int, rules: _Rules) -> tuple[str, int]:
    """Return a run of backslashes, with the character it escapes if that must not stay, and where to go on."""
    escaped = text[position : position + 1]
    count = len(run)
    if count >= 2 and escaped in ("[", "("):
        return "&#92;" * (count // 2) + "\\" * (count % 2), position
    if count % 2 == 0:
        return run, position
    dollars = re.compile(r"\$*").match(text, position)
    if dollars and len(dollars[0]) > 1:
        return run[1:] + _as_references(dollars[0]), dollars.end()
    if (
        escaped in ("<", "`")
        or text.startswith("![", position)
        or (escaped == "[" and not rules.keeps_brackets)
        or (escaped == "~" and not rules.keeps_tildes)
    ):
        return run[1:] + _as_references(escaped), position + 1
    return (run + escaped, position + 1) if escaped in ("$", "~") else (run, position)


class _Formulas:
    """Finds where a formula ends, if nbconvert and JupyterLab agree about that. Linear over all openers of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._refused: set[int] = set()
        self._closers: dict[str, list[int]] | None = None

    def find_end(self, opener: re.Match[str], *, keeps_display_math: bool) -> int | None:
        """Return the end of the formula that `opener` begins; None when it is none, or too odd to stay one."""
        start, begin = opener.end(), opener[0]
        if begin == "$":
            inline = _INLINE_MATH.match(self._text, opener.start())
            return inline.end() if inline and _is_balanced(inline[1]) else None
        if not keeps_display_math:
            return None
        if begin == "$$":
            closer = "$$"
        elif begin == "\\\\":
            closer = "\\\\" + {"[": "]", "(": ")"}[self._text[start]]
        else:
            closer = "\\end" + self._text[start + len("begin") : self._text.index("}", start) + 1]
        positions = self._closer_positions().get(closer, [])
        index = bisect_left(positions, start)
        if index == len(positions) or positions[index] in self._refused:
            return None
        content = self._text[start : positions[index]]
        if "`" in content or ("$$" if begin == "$$" else "$") in content or not _is_balanced(content):
            self._refused.add(positions[index])
            return None
        return positions[index] + len(closer)

    def _closer_positions(self) -> dict[str, list[int]]:
        if self._closers is None:
            self._closers = {}
            for match in _CLOSERS.finditer(self._text):
                self._closers.setdefault(match[0], []).append(match.start())
        return self._closers


def _is_balanced(formula: str) -> bool:
    """Tell whether no brace is left open, counted as JupyterLab does: an open one hides the end of the formula."""
    depth = 0
    for match in _BRACE.finditer(formula):
        if match[1] == "{":
            depth += 1
        elif match[1] == "}" and depth:
            depth -= 1
    return depth == 0


_FORMULA_HAZARD = re.compile(
    r"<(?=[/!?])|(?<=[\s>])<(?=[A-Za-z])|<(?=[A-Za-z][\w.+-]*(?:[\s/>:@]|\Z))"
    r"|!(?=\[)|\](?=[(:])|&(?=#|\w+;)|(?i:ftp|xmpp)(?=:)|~~(?=~)",
    re.ASCII,
)


def _render_formula(formula: str, rules: _Rules) -> str:
    """Put a space, which TeX ignores, into whatever Markdown could take for its own."""
    formula = _FORBIDDEN_MACRO.sub(rf"\\{_ZERO_WIDTH_SPACE}", formula)
    if not rules.keeps_tight_less_than:
        formula = re.sub(r"<(?! )", "< ", formula)
    return _FORMULA_HAZARD.sub(r"\g<0> ", formula)

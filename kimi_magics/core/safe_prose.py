"""Make the prose of untrusted Markdown safe, so that nothing comes of it wherever and however it is read.

What is meant literally becomes a character reference, which never has a structural meaning. In a formula a reference
would be shown as it is typed; there a space is put in instead, which TeX ignores.
"""

import re
from bisect import bisect_left
from html import unescape
from typing import NamedTuple

# Macros that make links, load things or set attributes: https://docs.mathjax.org/en/latest/input/tex/extensions/html.html
# and https://katex.org/docs/options (trust). `mmlToken` takes an href, too, and `csname` builds other names.
_MACROS = (
    r"(?:cssId|class|csname|data|href|html(?:Class|Data|Id|Style)?|img|includegraphics|mmlToken|require|style|unicode|url"
    # Its argument may be a style with a background image; a mere colour and a padding are common and harmless.
    r"|bbox(?! *\[[\w #,.+-]*\]))(?![A-Za-z])"
)
_FORBIDDEN_MACRO = re.compile(rf"\\(?={_MACROS})", re.ASCII)
_ZERO_WIDTH_SPACE = "\u200b"

# What would do harm if it were read as prose.
DANGEROUS = re.compile(rf"<[A-Za-z/!?]|!\[|\][(:\[]|(?i:ftp|xmpp):|\\{_MACROS}")
_ADDRESS = r"(?i:https?://|mailto:|\#)(?:[^\s<>()\[\]`\\\"]|\([^\s<>()\[\]`\\\"]*\))*"
_TARGET = (
    rf"\([ \t]*<?(?P<address{{0}}>{_ADDRESS})>?(?P<title{{0}}>[ \t]+\"[^\"\\`<$|\n]*\"|[ \t]+'[^'\\`<$|\n]*')?[ \t]*\)"
)
_BACKSLASH = r"(?:\\|&(?:\#0*92|\#[xX]0*5[cC]|bsol);)"
_NAME = r"(?:[A-Za-z]|&(?:\#\d{1,8}|\#[xX][\dA-Fa-f]{1,7}|fjlig|bsol);)+"
_TOKEN_PATTERN = rf"""
      (?P<definition>^[ \t>*+.)\d-]*\[[^\[\]\\`<$|\n]{{1,200}}\]:[ \t]+<?{_ADDRESS}>?(?:[ \t]+"[^"\\`<$|\n]*")?[ \t]*$)
    | (?P<link>\[(?P<label>[^\[\]`\n]*)\]{_TARGET.format(1)})
    | (?P<link_end>\]{_TARGET.format(2)})
    | (?P<autolink><(?i:https?://|mailto:)[^\s<>`\\"$|\[\]]+>)
    | (?P<math>(?<![\\$])\${{1,2}}(?!\$)|(?<!\\)\\\\(?=[\[(])|\\(?=begin\{{[A-Za-z]*\*?\}}))
    | (?P<dollars>\$+)
    | (?P<macro>\\*{_BACKSLASH}{_NAME})
    | (?P<backslashes>\\+)
    | (?P<escaped><+|`+|(?:!\[)*!(?=\[)|~~~+|(?i:(?<=ftp):(?=//)|(?<=xmpp):))
    | (?P<link_start>\]\(|\]:)
"""
_TOKEN = re.compile(_TOKEN_PATTERN, re.VERBOSE | re.MULTILINE | re.ASCII)
_STRICT_TOKEN = re.compile(
    _TOKEN_PATTERN + r"| (?P<bracket>\[+(?=\[)|\[) | (?P<tilde>~)", re.VERBOSE | re.MULTILINE | re.ASCII
)
_SPECIAL = re.compile(r"[\[\]<$\\&`~]")
_SCHEME = re.compile(r"(?:ftp|xmpp):", re.IGNORECASE)
_CLOSERS = re.compile(r"(?<![\\$])\$\$(?!\$)|\\\\[\])]|\\end\{[A-Za-z]*\*?\}")
_INLINE_MATH = re.compile(r"\$((?:[^$`\n]|(?<=\\)\$)+)(?<!\\)\$(?!\$)")
_BRACE = re.compile(r"\\[{}$]|\\(?:begin|end)\{[A-Za-z]*\*?\}|([{}])")


class Rules(NamedTuple):
    """What the prose around code may keep."""

    keeps_display_math: bool
    keeps_dollars: bool
    keeps_macros: bool
    keeps_math: bool = True
    keeps_tildes: bool = True
    keeps_brackets: bool = True
    keeps_tight_less_than: bool = True


_REFERENCES = {ord(character): f"&#{ord(character)};" for character in "!#$&()*+:>@[\\]_`{}~"} | {ord("<"): "&lt;"}


def _as_references(characters: str) -> str:
    return characters.translate(_REFERENCES)


def render_literally(text: str) -> str:
    """Return one line of prose that looks like `text`, character by character; in a table an escaped pipe stays one."""
    text = _FORBIDDEN_MACRO.sub(rf"\\{_ZERO_WIDTH_SPACE}", text)
    return "\\|".join(map(_as_references, text.split("\\|")))


def is_plain(text: str) -> bool:
    """Tell whether prose has nothing to be made safe, as most has: found out many times faster than by its tokens."""
    return not (_SPECIAL.search(text) or (":" in text and _SCHEME.search(text)))


def render_prose(text: str, rules: Rules, *, is_first: bool) -> str:
    """Return prose that is safe in any context. `is_first` says that it begins its chunk."""
    if is_plain(text):
        return text
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


def _render_token(match: re.Match[str], rules: Rules) -> str:
    kind, token = match.lastgroup, match[0]
    if kind == "link":
        label = render_prose(match["label"], rules, is_first=False)
        return f"[{label}]({_as_address(match['address1'])}{match['title1'] or ''})"
    if kind == "link_end":
        return f"]({_as_address(match['address2'])}{match['title2'] or ''})"
    if kind in ("definition", "autolink"):
        return _as_address(token)
    if kind == "macro":
        if rules.keeps_macros:
            return token
        return _render_macro(token, is_environment=match.string.startswith("{", match.end()))
    if kind == "link_start":
        return "]" + _as_references(token[1])
    is_kept = {"$": rules.keeps_dollars, "[": rules.keeps_brackets, "~": rules.keeps_tildes and kind == "tilde"}
    if is_kept.get(token[0], False):
        return token
    if kind == "math" and token.startswith("\\"):
        return "&#92;"  # for the two of them, too: the first escapes the second
    return _as_references(token)


def _as_address(text: str) -> str:
    return text.replace("$", "%24").replace("|", "%7C")


def _render_macro(token: str, *, is_environment: bool) -> str:
    r"""Return a backslash and a name such that MathJax finds no forbidden macro.

    It reads the page, not the source, so that `&#92;href`, `\\href` and `\hr&#101;f` are `\href` to it.
    """
    if is_environment and token.endswith("begin"):
        # With more than one backslash it begins a formula to Jupyter all the same.
        count = token.count("\\")
        return "&#92;" * (count - count // 2) + token[count:]
    if not _FORBIDDEN_MACRO.search(unescape(token)):
        return token
    token = re.sub(rf"(?!{_BACKSLASH})&", "&amp;", token)
    return re.sub(rf"{_BACKSLASH}(?=[A-Za-z])", rf"\g<0>{_ZERO_WIDTH_SPACE}", token)


def _render_backslashes(run: str, text: str, position: int, rules: Rules) -> tuple[str, int]:
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


def _render_formula(formula: str, rules: Rules) -> str:
    """Put a space, which TeX ignores, into whatever Markdown could take for its own."""
    formula = _FORBIDDEN_MACRO.sub(rf"\\{_ZERO_WIDTH_SPACE}", formula)
    if not rules.keeps_tight_less_than:
        formula = re.sub(r"<(?! )", "< ", formula)
    return _FORMULA_HAZARD.sub(r"\g<0> ", formula)

"""Model text does nothing in the renderers it is shown in, and honest text looks as written."""

import re
import time
from html import unescape
from html.parser import HTMLParser

import pytest
from attacks import ATTACKS as ATTACKS_IN_BROWSER
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from kimi_magics.core.safe_markdown import _code_parser, safe_markdown

TAGS = {
    "p",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "em",
    "strong",
    "del",
    "s",
    "a",
    "br",
    "hr",
    "code",
    "pre",
    "blockquote",
}
TAGS |= {"ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "div", "span", "input"}
# What the renderers write themselves: nbconvert highlights code and puts anchors to headings; `input` is a task's box.
ATTRIBUTES = {
    ("a", "href"): r"(?i:https?://|mailto:|#).*",
    ("a", "title"): r".*",
    ("a", "class"): r"anchor-link",
    ("code", "class"): r"language-[\w+#.:=,/-]+",
    ("div", "class"): r"highlight",
    ("span", "class"): r"\w+",
    ("input", "class"): r"task-list-item-checkbox",
    **{(f"h{level}", "id"): r"[^\s<>\"]*" for level in range(1, 7)},
    ("li", "class"): r"task-list-item",
    ("input", "type"): r"checkbox",
    ("input", "disabled"): r"",
    ("input", "checked"): r"",
    ("ol", "start"): r"\d+",
    ("th", "style"): r"text-align:(left|right|center)",
    ("td", "style"): r"text-align:(left|right|center)",
}


class Page(HTMLParser):
    """What a browser would make of a piece of HTML, as far as it matters here."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forbidden: list[object] = []
        self.prose = ""
        self.code: list[str] = []
        self._in_code = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in TAGS:
            self.forbidden.append(tag)
        for name, value in attrs:
            allowed = ATTRIBUTES.get((tag, name))
            if allowed is None or not re.fullmatch(allowed, value or "", re.DOTALL):
                self.forbidden.append((tag, name, value))
        if tag in ("code", "pre"):
            if not self._in_code:
                self.code.append("")
            self._in_code += 1
        else:
            self.prose += "\0"

    def handle_endtag(self, tag):
        self._in_code = max(0, self._in_code - (tag in ("code", "pre")))
        self.prose += "\0"

    def handle_data(self, data):
        if self._in_code:
            self.code[-1] += data
        else:
            self.prose += data

    def handle_comment(self, data):
        self.forbidden.append(("comment", data))

    handle_decl = handle_pi = unknown_decl = handle_comment


MARKDOWN_IT = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
RENDERERS = {"nbconvert": markdown2html_mistune, "markdown-it": MARKDOWN_IT.render}


def forbidden(markdown: str) -> dict[str, list[object]]:
    """Return what each renderer makes of `markdown` that it must not; nothing for a safe text."""
    pages = {name: Page(render(markdown)).forbidden for name, render in RENDERERS.items()}
    return {name: found for name, found in pages.items() if found}


# Each of them does something in one of the two renderers at least; `test_attacks_are_attacks` says so.
ATTACKS = [
    # raw HTML
    "<script>alert(1)</script>",
    "a <b onclick=alert(1)>b</b>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<iframe src=//evil.example></iframe>",
    "<style>@import '//evil.example'</style>",
    "<details open ontoggle=alert(1)>x</details>",
    "</div></div><form action=//evil.example>",
    "<!-- comment --> after",
    "<!--\n\n<b>\n-->",
    "<?php x ?>",
    "<![CDATA[ <b> ]]>",
    "<!DOCTYPE html>",
    "> <b>quoted</b>",
    "- <b>item</b>",
    "# <b>heading</b>",
    "<b>setext</b>\n===",
    "| a |\n|---|\n| <b>cell</b> |",
    "*<b>emphasis</b>*",
    "[<b>label</b>](https://example.com)",
    "\\\\<b>",
    "&amp;<b>",
    "line\r<b>carriage return</b>",
    # images
    "![x](http://evil.example/x.png)",
    "![x][1]\n\n[1]: http://evil.example/x.png",
    "![1]\n\n[1]: http://evil.example/x.png",
    "[![x](http://evil.example/x.png)](https://example.com)",
    "\\\\![x](http://evil.example/x.png)",
    "![x](data:image/svg+xml;base64,AAAA)",
    "![x](attachment:x.png)\n\n![x](//evil.example/x)".replace("attachment:", "file:"),
    # links
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x]( \n javascript:alert(1))",
    "[x](javascript\\:alert(1))",
    "[x](\\javascript:alert(1))",
    "[x](java\u200bscript:alert(1))",
    "[x](\u202ejavascript:alert(1))",
    "[x](data:text/html,<b>)",
    "[x](vbscript:x)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](relative.html)",
    "[x]()",
    "[[x]](javascript:x)",
    "[a [b](javascript:x) c](javascript:y)",
    "[a\\](javascript:x)](javascript:y)",
    "[`a`](javascript:x)",
    "<javascript:alert(1)>",
    "<ftp://evil.example>",
    "[x]\n\n[x]: javascript:alert(1)",
    "[x]\n\n[x]:\njavascript:alert(1)",
    "[x\ny]\n\n[x\ny]: javascript:alert(1)",
    "> [x]: javascript:alert(1)\n\n[x]",
    "- [x]: javascript:alert(1)\n\n[x]",
    "[x][]\n\n[x]: <javascript:alert(1)> 'title'",
    # the end of code
    "```\n```\n<b>",
    "```\ncode\n```` \n<b>",
    "~~~\n```\n~~~\n<b>",
    "``` a`b\n<b>\n```",
    "> ```\nx <b>",
    "- ```\n\n<b>\n",
    "```mermaid\n</pre><script>alert(1)</script>\n```",
    "~~~ mermaid\n</pre><script>alert(1)</script>\n~~~",
    "a `b\n\nc` <b>",
    "\\`<b>`",
    "`\\`<b>`",
    "$ `$ <b>`",
    "$$ b\n\n```\n$$\n<b>\n```",
    "`$$`\n\n~~~\n$$\n<b>\n~~~",
    "\\\\[ b\n\n```\n\\\\]\n<b>\n```",
    "\\begin{x} b\n\n```\n\\end{x}\n<b>\n```",
    "https://example.com`<b>`",
    "https://example.com`a b` `<b>`",
    "| `a | <b>` |\n|---|---|\n| `c | d` `<b>` |",
    "10000000000. ```\n<b>\n```",
    "\t<b>\n\n- a\n\n\t\t<b>\n\n- <b>",
    "a\n    <b>",
    # formulas
    "\\$<b>$",
    "$a\n\n<b>$",
    "\\\\(<b>)",
    "$$a$ <b>",
    "# $$ <b>\n$$",
]
# These need a parser of JupyterLab (marked, MathJax); whether they are harmless is seen in the text.
OTHER_ATTACKS = {
    "ftp://evil.example": "ftp&#58;//evil.example",
    "xmpp:a@evil.example": "xmpp&#58;a@evil.example",
    "*a <5 `x> *<img src=x>`": "*a &lt;5 `x> *<img src=x>`",
    "~~a `~~<img src=x>`": "&#126;&#126;a `~~<img src=x>`",
    "~`<img src=x>`": "&#126;`<img src=x>`",
    "*a ` `` * ` `<img src=x>`": "*a &#96; &#96;&#96; &#42; &#96; `<img src=x>`",
    "[a `](https://x) *<img src=x>`": "&#91;a `](https://x) *<img src=x>`",
    "*`*<img src=x>\\` *": "*&#96;&#42;&lt;img src=x&#62;&#92;&#96; *",
    "[x `y] <img src=x>`\n\n[x `y]: https://x '`'": "[x `y] <img src=x>`\n\n&#91;x `y]: https://x '`'",
    "$a{b$ `$<img src=x>`": "&#36;a{b&#36; `$<img src=x>`",
    "`\\\\[` `<img src=x>` \\\\]": "&#96;&#92;&#92;&#91;&#96; `<img src=x>` \\\\]",
}


BROWSER_ATTACKS = {
    number: attack.replace("HOST", "http://evil.example").replace("NUMBER", "1")
    for number, attack in ATTACKS_IN_BROWSER.items()
}
FORBIDDEN_MACROS = [
    "$\\href{javascript:alert(1)}{x}$",
    "$$\\style{background:url(//evil.example)}{x}$$",
    "$\\class{x}{y} \\cssId{x}{y} \\unicode{x41}$",
    "$\\bbox[background:url(//evil.example)]{x}$",
    "$\\require{html}\\htmlStyle{x}{y}$",
    "$\\mmlToken{mi}[href='javascript:alert(1)']{x}$",
    "$\\includegraphics{//evil.example}$",
    "$\\csname href\\endcsname{x}{y}$",
    "\\begin{x}\\href{x}{y}\\end{x}",
    "&#36;\\href{x}{y}&#36;",
    "&dollar;&bsol;href{x}{y}&dollar;",
    "$\n\\\\href{x}{y}$",
    "$ &#92;hr&#101;f{x}{y} $ $",
    "$ \\&#x68;ref{x}{y} $ $",
    "\\\\(\\href{x}{y}\\\\)",
]
HONEST = [
    "Plain text, with *emphasis*, **strength**, ~~no~~ and snake_case_name; 5 * 3 * 2.",
    "# One\n\n## Two `code`\n\nThree\n-----\n\n***",
    "- a\n  - b\n    1. c\n    2. d\n- e\n\n3. x\n\n   more\n4. y",
    "- [x] done\n- [ ] todo",
    "> quoted `List<int>`\n> more\n>\n> - item",
    "| a | b |\n|:--|--:|\n| `x` | **y** |\n| 1 < 2 | `Map<K, V>` |",
    "a < b, a<b, List<int>, x <= y << 2, x -> y, &amp; &lt; &copy; &#169;",
    "`List<int>` and `a < b`, `<div class='x'>`, `arr[0][1]`, `d[k]: v`, `[a](b)`, `![a](b)`, `&amp;`",
    "``a ` b`` and `` `c` ``",
    "**Use** `std::vector<int*>` with *care*.",
    "Run `echo $HOME $PATH`, or `<?php echo $x; ?>`.",
    "It costs $5.",
    "[a](https://example.com/a_(b)?c=d&e=f 'title') <https://example.com?a=b&c=d> https://example.com/x.",
    "[a](#b) [c](mailto:d@example.com) [e `f`](HTTP://EXAMPLE.COM)",
    'see [1], [x][2].\n\n[1]: https://example.com "title"\n[2]: <https://example.com/2>',
    '{"a": [1, 2, {"b": "<c>"}], "d": null}',
    "two  \nlines\\\nthree",
    "\\*not\\* C:\\new\\style \\` \\[x\\]",
    "$a<b$, $x_1 \\in [0,1)$, $|x|<|y|$, $\\{x\\}$ and $f: A \\to B$",
    "$$\\int_0^1 x^2\\,dx < 1$$",
    "$$\n\\begin{aligned}\na &= b \\\\[2pt]\n+ c &< d\n\\end{aligned}\n$$",
    "\\begin{equation}\na_1 < b_2\n\\end{equation}",
    "\\\\( a_1 < b \\\\) and \\\\[ a = b \\\\]",
    "\\( a \\le b \\) and \\[ c \\]",
    "$\\bbox[yellow,5px]{x} \\color{red}{y}$",
    "```python\nprint('<b>', \"$x\", '\\n')\n```\n\ntext\n\n~~~\nno language\n~~~",
    "text\n```html\n<p>\n```\nmore",
    "1. Write:\n\n   ```html\n   <p>hi</p>\n\n   <b>\n   ```\n\n2. Open it.",
    "- run\n  ```bash\n  echo hi\n  ```\n- next",
    "````markdown\n```\nx\n```\n````",
    "Term\n: Definition",
    "Jürgen 中文 🎉 — “quotes”",
    "",
    "\n\n",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_does_nothing(attack):
    assert forbidden(safe_markdown(attack)) == {}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_attacks(attack):
    """Without protection each would do something, so that the tests of it can fail."""
    assert forbidden(attack) != {}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_does_nothing_among_others(attack):
    """What surrounds a text must not bring it to life."""
    text = f"- a `x` $ ` ``\n\n{attack}\n\n> $$ ~~~\n\n`<i>` {attack} `$`\n\n```\n{attack}"
    assert forbidden(safe_markdown(text)) == {}


@pytest.mark.parametrize("number", BROWSER_ATTACKS)
def test_an_attack_on_a_browser_does_nothing(number):
    assert forbidden(safe_markdown(BROWSER_ATTACKS[number])) == {}


@pytest.mark.parametrize(("attack", "expected"), OTHER_ATTACKS.items())
def test_an_attack_on_jupyterlab_is_taken_apart(attack, expected):
    assert safe_markdown(attack) == expected


@pytest.mark.parametrize("attack", FORBIDDEN_MACROS)
def test_mathjax_finds_no_forbidden_macro(attack):
    macro = re.compile(r"\\(href|style|class|cssId|unicode|bbox|require|html|mmlToken|includegraphics|csname)")
    for render in RENDERERS.values():
        assert macro.search(Page(render(attack)).prose.replace("\0", "")) or "&" in attack
        assert not macro.search(Page(render(safe_markdown(attack))).prose.replace("\0", ""))


# Text that is to be shown as it is, and Markdown that says so.
SHOWN_AS_TYPED = {
    "a < b, a<b, List<int>, x <= y << 2": "a \\< b, a\\<b, List\\<int>, x \\<= y \\<\\< 2",
    '{"a": [1, {"b": "<c>"}]}': '{"a": [1, {"b": "\\<c>"}]}',
    "array[i]: the item": "array\\[i\\]: the item",
    "![a](b)": "!\\[a\\](b)",
    "| a |\n|--|\n| `x \\| <y>` |": "| a |\n|--|\n| \\`x \\| \\<y>\\` |",
    "Use `$$`.\n\n```sh\necho $$\n```": "Use \\`\\$\\$\\`.\n\n```sh\necho $$\n```",
}


@pytest.mark.parametrize("text", HONEST)
@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
def test_honest_text_looks_as_written(text, render):
    assert unescape(render(safe_markdown(text))) == unescape(render(text))


@pytest.mark.parametrize(("text", "twin"), SHOWN_AS_TYPED.items())
@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
def test_what_is_not_allowed_is_shown_as_typed(text, twin, render):
    assert Page(render(safe_markdown(text))).prose == Page(render(twin)).prose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a <b> c$", "$a < b> c$"),
        ("$n![k](x)$", "$n! [k] (x)$"),
        ("`List<int>` and $a<b$", "`List<int>` and $a< b$"),
        ("costs $5 and $6", "costs $5 and $6"),
        ("costs $5, `x` and $6", "costs &#36;5, `x` and &#36;6"),
        ("``code``", "`code`"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("```py", "```py\n```"),
        ("- a\n  ```\n  b", "- a\n  ```\n  b\n  ```"),
        ("> ```\n> <b>\nc", "> ```\n> <b>\n> ```\n\nc"),
        ("    <b>", "```\n<b>\n```"),
        ("~~~~py title=x.py\n```\n~~~~", "````py title=x.py\n```\n````"),
        ("```c++ {onclick}\n```", "```c++\n```"),
        ("```Mermaid\nx\n```", "```\nx\n```"),
    ],
)
def test_the_canonical_form(text, expected):
    assert safe_markdown(text) == expected


CHARACTERS = "`$\\{}[]()<>&|*_#:\"'!-+=a1. \t\n\r\x0b\xa0\u2028\u200b"
BEGINNINGS = [
    "``",
    "```",
    "~~~",
    "~~",
    "$$",
    "\\\\[",
    "\\\\]",
    "\\begin{a}",
    "\\end{a}",
    "](",
    "]:",
    "![",
    "\n[x]: ",
    "\n\n",
]
LINES = ["\n- ", "\n1. ", "\n2) ", "\n> ", "\n    ", "\n|-|\n", "\n---\n", "\n```\n", "\n\n~~~mermaid\n"]
PAYLOADS = ["<b>", "<img src=x>", "<!--", "<?", "<a href='", "</pre>", "javascript:x", "https://x.y", "`<b>`", "&#106;"]
SPECIAL = st.sampled_from([*CHARACTERS, *BEGINNINGS, *LINES, *PAYLOADS])
MARKDOWN = st.lists(SPECIAL | st.text(max_size=3), max_size=25).map("".join)
FENCED = st.lists(SPECIAL | st.text(max_size=3), max_size=12).map(
    lambda parts: re.sub("`{3,}", "``", re.sub(r"[\r\0]", "", "".join(parts)))
)
BEGUN_ATTACK = st.sampled_from([*ATTACKS, *OTHER_ATTACKS, *FORBIDDEN_MACROS, *BROWSER_ATTACKS.values()]).flatmap(
    lambda attack: st.integers(0, len(attack)).map(lambda end: attack[:end])
)
HONEST_PIECES = [
    *("a < b", "x <= y", "1 << 2", "a<b", "List<int>", "Map<String, List<int>>", "std::vector<T*>", "p->next", "R&D"),
    *('{"a": [1, {"b": null}]}', '[{"c": "<d>"}]', '{"e": "f(g)"}', "[1, 2][0]", "items[0]: one", "snake_case_name"),
    *(r"$x^2 < y$", r"$\frac{a}{b}$", r"$\alpha \le \beta$", r"$$\sqrt{2} < 2$$", r"$A \to B$", "C:\\temp", "5 % 2"),
]
HONEST_PROSE = st.lists(
    st.sampled_from(HONEST_PIECES) | st.text("abcxyz", min_size=1, max_size=5), min_size=1, max_size=12
)
SLOW = settings(max_examples=80, deadline=None)


@SLOW
@given(MARKDOWN)
def test_any_text_does_nothing(text):
    assert forbidden(safe_markdown(text)) == {}


@SLOW
@given(MARKDOWN)
def test_a_text_made_safe_twice_does_nothing(text):
    assert forbidden(safe_markdown(safe_markdown(text))) == {}


@SLOW
@given(st.lists(st.text("abcXYZ019.,;?'\"()/%+=-–é中 ", min_size=1).map(str.strip), min_size=1).map("x ".join))
def test_plain_text_is_left_alone(text):
    assert safe_markdown(text) == text


@SLOW
@given(st.sampled_from(["", "- ", "> ", "1. a\n\n   ", "> - "]), FENCED)
@example("- ", "\n\n<b>\n")
@example("> ", " \n- x\n$$")
def test_fenced_code_is_left_alone(head, code):
    last = head.rpartition("\n")[2]
    indent = re.sub(r"[^ >]", " ", last)
    text = f"{head}```\n" + "".join(f"{indent}{line}\n" for line in code.split("\n")) + f"{indent}```"
    safe = safe_markdown(text)
    assert [token.content for token in MARKDOWN_IT.parse(safe) if token.type == "fence"] == [f"{code}\n"]
    shown = "".join(Page(markdown2html_mistune(safe)).code)
    if head:  # in a list or a quote mistune changes blanks by itself
        assert shown.split() == code.split()
    else:
        assert shown == f"{code}\n"


@settings(SLOW, max_examples=200)
@given(BEGUN_ATTACK)
def test_an_attack_that_is_still_coming_in_does_nothing(text):
    """A live view shows each answer from its first piece on."""
    assert forbidden(safe_markdown(text)) == {}


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
@SLOW
@given(pieces=HONEST_PROSE, separator=st.sampled_from([" ", "\n", "\n\n", ", "]))
def test_prose_looks_as_written(render, pieces, separator):
    text = separator.join(pieces)
    page = Page(render(safe_markdown(text)))
    assert page.prose.replace("\0", "").split() == text.split()
    assert page.code == []


UNITS = [
    "[",
    "`",
    "<",
    "![",
    "](",
    "$ ",
    "\\",
    "\\begin{a}",
    "` `` ",
    "[a](http://x ",
    "> ",
    "- `a\n",
    "~",
    "://x`a` ",
    "$a{b$ ",
]


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_no_faster_than_the_text(unit):
    def measure(length: int, times: int) -> float:
        text = (unit * length)[:length]
        seconds = []
        for _ in range(times):
            start = time.process_time()
            safe_markdown(text)
            seconds.append(time.process_time() - start)
        return min(seconds)

    # A text 30 times as long: 30 times the time if all is well, 900 times if it grows with the square. The bound lies
    # between, so far from both that a busy machine cannot decide it.
    assert measure(90_000, times=2) <= 100 * max(measure(3_000, times=5), 0.0005)


@given(BEGUN_ATTACK | st.text(alphabet="ab`~>-*1. \t\n#|=<[]:", max_size=80))
def test_code_is_found_as_the_whole_parser_finds_it(text):
    whole = MarkdownIt("commonmark").enable("table").disable(["html_block", "reference"])
    tokens = [token for token in whole.parse(text.replace("\0", "")) if token.type in ("fence", "code_block")]
    found = _code_parser()(text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n"))
    assert [(token.map, token.content, token.info, token.level) for token in found] == [
        (token.map, token.content, token.info, token.level) for token in tokens
    ]

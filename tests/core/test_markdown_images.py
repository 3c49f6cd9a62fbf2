"""Images without alt text in Markdown, judged by markdown-it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kimi_magics.core.markdown_images import find_bare_images

PARSER = MarkdownIt("commonmark").enable("table")


def render_image(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Render an image with the whole of its alt text: markdown-it-py 3 leaves out what is escaped."""
    for token in tokens[index].children or ():
        if token.type in ("text_special", "code_inline", "html_inline"):
            token.type = "text"
    return renderer.image(tokens, index, options, env)


PARSER.add_render_rule("image", render_image)


def found(source: str) -> list[str]:
    return [image.target for image in find_bare_images(source)]


def put_in(source: str, alt: str) -> str:
    """Return the source with `alt` for every image that lacks one."""
    for image in reversed(find_bare_images(source)):
        source = source[: image.start] + image.write(alt) + source[image.end :]
    return source


class Images(HTMLParser):
    """Source and alt text of the images of a page, and the names of all its elements."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.images: list[tuple[str | None, str | None]] = []
        self.names: list[str] = []
        self.feed(PARSER.render(source))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        if tag == "img":
            self.images.append((dict(attrs).get("src"), dict(attrs).get("alt")))


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        ("![](a.png)", ["a.png"]),
        ("see ![ ](a.png 'A title') and ![](<b c.png> \"T\")", ["a.png", "b c.png"]),
        ("![image.png](attachment:image.png)", ["attachment:image.png"]),
        ("![my-plot.JPEG](figures/x.jpeg)", ["figures/x.jpeg"]),
        ("![](a(1).png)", ["a(1).png"]),
        ("[![](a.png)](https://example.com)", ["a.png"]),
        ("![][one] and ![][Two Words]\n\n[one]: a.png\n[two  words]: <b.png> 'T'", ["a.png", "b.png"]),
        ('<img src="a.png">', ["a.png"]),
        ("text <img width=3\nsrc='a.png' /> text", ["a.png"]),
        ("<div>\n<IMG SRC=a.png>\n</div>", ["a.png"]),
        ("- item\n\n  > ![](a.png)\n", ["a.png"]),
        ("| a | b |\n|---|---|\n| ![](a.png) | `![](b.png)` |", ["a.png"]),
        ("# ![](a.png)\n\n![](b.png)\n---\n", ["a.png", "b.png"]),
        ("`` ` `` ![](a.png) `", ["a.png"]),
        # not without alt text, or not an image
        ("![A chart](a.png)", []),
        ("![chart of a.png](a.png)", []),
        ('<img src="a.png" alt="A chart">', []),
        ('<img src="a.png" alt="">', []),
        ("<img src=a.png role=presentation>", []),
        ("<img src=a.png aria-label='A chart'>", []),
        ("<img>", []),
        ("\\![](a.png)", []),
        ("`![](a.png)`", []),
        ("``` ![](a.png) ```", []),
        ("```\n![](a.png)\n<img src=a.png>\n```", []),
        ("~~~md\n![](a.png)\n~~~", []),
        ("    ![](a.png)", []),
        ("- x\n\n  ```\n  ![](a.png)\n  ```", []),
        ("<!-- ![](a.png) <img src=a.png> -->", []),
        ("text <!-- <img src=a.png> --> text", []),
        ("<div>\n![](a.png)\n</div>", []),
        ("![](a b.png)", []),
        ("![]()", []),
        ("![][nowhere]", []),
        ("plain text", []),
        ("", []),
    ],
)
def test_images_without_alt_text_are_found(source: str, targets: list[str]) -> None:
    assert found(source) == targets


PIECES = st.sampled_from(
    [
        "![](a.png)",
        "![x](b.png)",
        "`",
        "``",
        "\n",
        "\n\n",
        "> ",
        "- ",
        "    ",
        "```\n",
        "text ",
        "\\",
        "[",
        "]",
        "|",
        "*",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_what_is_found_is_what_a_parser_shows_as_an_image_without_alt_text(source: str) -> None:
    shown = [target for target, alt in Images(source).images if not (alt or "").strip()]
    assert found(source) == shown


ALTS = [
    "A line chart of sales, 2019–2024: it rises from 3 to 9 million €.",
    '"><script>alert(1)</script>',
    "](javascript:alert(1)) ![x](http://evil/x.png",
    "a_b * c ** d `code` | pipe $x$ \\ end\\",
    "<img src=x onerror=alert(1)> &lt; &amp; R&D",
    "图表：销售额",
]


@pytest.mark.parametrize("alt", ALTS)
@pytest.mark.parametrize(
    "source",
    [
        "text ![](a.png) text",
        "![image.png](a.png 'T')",
        "text <img src='a.png'> text",
        "| a | b |\n|---|---|\n| ![](a.png) | x |",
        "![][r]\n\n[r]: a.png",
    ],
)
def test_an_alt_text_comes_out_as_it_was_written_and_makes_no_element(source: str, alt: str) -> None:
    before, after = Images(source), Images(put_in(source, alt))
    assert after.images == [("a.png", alt)]
    assert after.names == before.names
    assert find_bare_images(put_in(source, alt)) == []


@example("__0__")
@example("a_b __init__.py _x_ a__b")
@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=40))
def test_any_alt_text_stays_inside_its_image(alt: str) -> None:
    alt = " ".join(alt.split()) or "x"
    for source in ("text ![](a.png) text", "text <img src=a.png> text"):
        assert Images(put_in(source, alt)).images == [("a.png", alt)]

"""What is asked about pictures, and what is made of an alt text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.describing import (
    ALT_TEMPLATE,
    DESCRIBE_TEMPLATE,
    MOST_ALT_CHARACTERS,
    clean_alt,
    figure_html,
    fill_template,
)


def test_both_places_of_our_templates_are_filled_in() -> None:
    for template in (DESCRIBE_TEMPLATE, ALT_TEMPLATE):
        assert "{" not in fill_template(template, language="German", length="normal")
        assert "German" in fill_template(template, language="German", length="normal")


def test_other_braces_and_what_was_filled_in_are_text() -> None:
    filled = fill_template("{lang} {{x}} {{lang}} {{ length }}", language="{{length}}", length="short")
    assert filled == "{lang} {{x}} {{length}} in two or three sentences"


@pytest.mark.parametrize(
    ("text", "alt"),
    [
        ("A chart.", "A chart."),
        ("  A\n\nchart\tof\u00a0it. ", "A chart of it."),
        ('"A chart."', "A chart."),
        ("“A chart.”", "A chart."),
        ('"A" and "B"', '"A" and "B"'),
        ("**Alt text:** A **bold** and *slanted* `name` of __it__", "A bold and slanted name of it"),
        ("# A chart\n- one\n- two", "A chart one two"),
        ("```\nA chart\n```", "A chart"),
        ("A [link](https://example.com) and ![picture](x.png)", "A link and picture"),
        ("col_a * 2 * col_b, 3 < 4 & $5", "col_a * 2 * col_b, 3 < 4 & $5"),
        ("A\x1b[31m red\u202e \u200bchart\x00", "A[31m red chart"),
        ('"><script>alert(1)</script>', '"><script>alert(1)</script>'),
        ("```", ""),
        (" \n ", ""),
    ],
)
def test_an_alt_text_is_plain_text_on_one_line(text: str, alt: str) -> None:
    assert clean_alt(text) == alt


def test_a_text_that_is_far_too_long_is_cut_at_a_word() -> None:
    cut = clean_alt("wording " * 100)
    assert cut.endswith("wording…")
    assert 200 < len(cut) <= MOST_ALT_CHARACTERS
    assert len(clean_alt("图" * 1000)) == MOST_ALT_CHARACTERS


@given(st.text())
def test_any_text_becomes_one_line_of_what_can_be_read(text: str) -> None:
    alt = clean_alt(text)
    assert len(alt) <= MOST_ALT_CHARACTERS
    assert alt == alt.strip()
    assert not [letter for letter in alt if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]
    alt.encode("utf-8")


def test_a_figure_holds_its_sides_where_they_are_known() -> None:
    source, alt = "data:image/png;base64,QQ==", "a&quot;&lt;b"
    assert figure_html("QQ==", "image/png", alt='a"<b', width=3, height=2) == (
        f'<figure style="margin: 0"><img src="{source}" alt="{alt}" width="3" height="2"></figure>'
    )

"""`-t`: what a template is filled in with, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kimi_magics.core.ask import LineParser
from kimi_magics.errors import MagicLineError, VariableError
from kimi_magics.notebook.templates import apply_template
from kimi_magics.store.config import Config
from kimi_magics.store.templates import Templates

PARSER = LineParser("%%kimi", "")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(tmp_path)


def fill(config: Config, line: str, body: str = "", **variables: Any) -> tuple[str, str | None]:
    templates = Templates(config, home=config.path.parent, folder=config.path.parent)
    ask, _ = apply_template(PARSER.parse_cell(line, body), templates, variables)
    assert ask.raw  # all is filled in
    return ask.text, ask.system


def test_the_cells_text_stands_where_the_template_says_so_else_below(config: Config) -> None:
    config.set("template.a", "Review: {{text}} Thanks.")
    config.set("template.b", "Review this.")
    assert fill(config, "-t a", "my text") == ("Review: my text Thanks.", None)
    assert fill(config, "-t b", "my text") == ("Review this.\n\nmy text", None)
    assert fill(config, "-t b") == ("Review this.", None)


def test_keys_go_before_variables_and_nothing_is_filled_in_twice(config: Config) -> None:
    config.set("template.a", "{{who}} and {{topic}}: {{text}}")
    filled = fill(config, "-t a who='{{topic}}'", "see {{topic}}", who="nobody", topic="{{x}}")
    assert filled == ("{{x}} and {{x}}: see {{x}}", None)


def test_raw_leaves_the_cells_text_as_typed(config: Config) -> None:
    config.set("template.a", "{{who}}: {{text}}")
    assert fill(config, "--raw -t a who=I", "{{topic}}") == ("I: {{topic}}", None)


def test_its_system_prompt_gives_way_to_the_flag(config: Config) -> None:
    project = '[tool.kimi_magics.template]\na = { system = "For {{who}}.", prompt = "P {{text}}" }\n'
    (config.path.parent / "pyproject.toml").write_text(project)
    assert fill(config, "-t a who=me") == ("P ", "For me.")
    assert fill(config, "-t a who=me -s 'Be {{mood}}'", mood="brief") == ("P ", "Be brief")


def test_a_key_that_it_does_not_have_and_one_that_is_missing(config: Config) -> None:
    config.set("template.a", "{{who}} {{what}}")
    with pytest.raises(MagicLineError, match=r"-t a has no .*whom.* to fill in") as unknown:
        fill(config, "-t a whom=x")
    assert "what, who" in unknown.value.remedy
    with pytest.raises(VariableError, match="-t a needs what, who") as missing:
        fill(config, "-t a")
    assert "-t a what=… who=…" in missing.value.remedy


def test_without_a_template_the_ask_is_as_it_was(config: Config) -> None:
    ask = PARSER.parse_cell("-s S", "{{x}}")
    assert apply_template(ask, Templates(config), {})[0] is ask

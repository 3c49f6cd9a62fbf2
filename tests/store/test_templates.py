"""Templates: where they are found, which goes first, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kimi_magics.errors import ConfigError
from kimi_magics.store.config import Config
from kimi_magics.store.templates import Template, Templates


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return a home and the folder of a notebook in a project."""
    home, notebook = tmp_path / "home", tmp_path / "project" / "deep"
    for folder in (home / "templates", notebook):
        folder.mkdir(parents=True)
    return home, notebook


def find(folders: tuple[Path, Path]) -> tuple[Config, Templates]:
    home, notebook = folders
    config = Config(home)
    return config, Templates(config, home=home, folder=notebook)


def test_the_users_own_goes_before_a_file_and_a_file_before_the_projects(folders: tuple[Path, Path]) -> None:
    home, notebook = folders
    config, templates = find(folders)
    project = notebook.parent / "pyproject.toml"
    project.write_text('[tool.kimi_magics.template]\nreview = "shared"\n')
    assert templates.get("review") == Template("review", "shared", None, str(project))
    path = home / "templates" / "review.md"
    path.write_text("from a file\n")
    assert templates.get("review") == Template("review", "from a file", None, str(path))
    config.set("template.review", "saved", save=True)
    assert templates.get("review").prompt == "saved"
    config.set("template.review", "of this session")
    assert templates.get("review").prompt == "of this session"


def test_a_saved_template_is_there_in_the_next_session(folders: tuple[Path, Path]) -> None:
    find(folders)[0].set("template.two.words", "a\nb {{x}}", save=True)
    assert find(folders)[1].get("two.words").prompt == "a\nb {{x}}"
    assert find(folders)[0].names()[-1] == "template.two.words"
    find(folders)[0].unset("template.two.words", save=True)
    assert find(folders)[1].names() == []


def test_a_project_may_share_a_system_prompt_with_it(folders: tuple[Path, Path]) -> None:
    (folders[1] / "pyproject.toml").write_text(
        '[tool.kimi_magics.template]\nfigures = { system = "Be exact.", prompt = "List {{text}}" }\n'
    )
    assert find(folders)[1].get("figures").system == "Be exact."


def test_the_nearest_project_counts_and_nothing_else_of_it_is_taken(folders: tuple[Path, Path]) -> None:
    (folders[1].parent / "pyproject.toml").write_text('[tool.kimi_magics.template]\nfar = "x"\n')
    (folders[1] / "pyproject.toml").write_text('[tool.kimi_magics]\nmodel = "evil"\n')
    config, templates = find(folders)
    assert templates.names() == []
    assert config.get("model") == "kimi-k2.6"


def test_an_unknown_name_says_what_may_be_meant(folders: tuple[Path, Path]) -> None:
    config, templates = find(folders)
    with pytest.raises(ConfigError, match="there is no template 'review'") as none:
        templates.get("review")
    assert "%kimi_config template.NAME" in none.value.remedy
    config.set("template.reviews", "x")
    with pytest.raises(ConfigError) as near:
        templates.get("review")
    assert near.value.remedy == "did you mean reviews?"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.kimi_magics.template\n", "cannot be read"),
        ("[tool.kimi_magics.template]\nreview = 3\n", "neither a text nor a table"),
        ('[tool.kimi_magics.template]\nreview = { system = "s" }\n', "neither a text nor a table"),
        ('[tool.kimi_magics.template]\nreview = { prompt = "p", model = "m" }\n', "neither a text nor a table"),
        ('[tool.kimi_magics.template]\nreview = " "\n', "neither a text nor a table"),
    ],
)
def test_a_broken_project_says_where(folders: tuple[Path, Path], text: str, says: str) -> None:
    path = folders[1] / "pyproject.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        find(folders)[1].get("review")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["template.", "template.a b", "template.../x", "template." + "x" * 65])
def test_a_name_that_is_none_is_refused(folders: tuple[Path, Path], name: str) -> None:
    with pytest.raises(ConfigError):
        find(folders)[0].set(name, "text")


def test_an_empty_template_and_one_with_a_key_are_refused(folders: tuple[Path, Path]) -> None:
    config = find(folders)[0]
    with pytest.raises(ConfigError, match="empty"):
        config.set("template.review", " ")
    with pytest.raises(ConfigError, match="API key") as caught:
        config.set("template.review", "sk-" + "a1" * 12)
    assert "a1a1" not in str(caught.value)

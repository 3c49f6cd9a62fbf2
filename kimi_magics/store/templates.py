"""Prompts that were written before, by name: the user's own first, then those that a project shares.

Where they come from, the first that has the name: `%kimi_config template.NAME=…` for the session or saved; a file
`templates/NAME.md` or `NAME.txt` of KIMI_MAGICS_HOME; `[tool.kimi_magics.template]` in the pyproject.toml of the
notebook's folder or one above it. A project gives texts only: nothing of it is run, and no setting is taken from it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kimi_magics.errors import ConfigError
from kimi_magics.store.config import TEMPLATE_NAME, Config, find_home

_SUFFIXES = (".md", ".txt")
_FIELDS = ("prompt", "system")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with `{{name}}` for what is filled in, and the system prompt that goes with it."""

    name: str
    prompt: str
    system: str | None = None
    #: Where it was found, for messages.
    source: str = ""


class Templates:
    """All templates that can be named in `folder`, the notebook's."""

    def __init__(self, config: Config, *, home: Path | None = None, folder: Path | None = None) -> None:
        self._config = config
        self._home, self._folder = home, folder

    def get(self, name: str) -> Template:
        """Return a template. Raises ConfigError, also for a file that cannot be read."""
        own = self._config.own_templates()
        if name in own:
            return Template(name, own[name], source=f"%kimi_config template.{name}")
        path = self._files().get(name)
        if path is not None:
            return Template(name, _read_text(path), source=str(path))
        shared, source = self._shared()
        if name in shared:
            return _read_shared(name, shared[name], source)
        known = self.names()
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        remedy = f"did you mean {close[0]}?" if close else f"the templates are {', '.join(known)}" if known else ""
        write = "write one with %kimi_config template.NAME='… {{text}} …'"
        raise ConfigError(f"there is no template {name!r}", remedy=remedy or write)

    def names(self) -> list[str]:
        """Return the names of all templates. Raises ConfigError."""
        return sorted({*self._config.own_templates(), *self._files(), *self._shared()[0]})

    def _files(self) -> dict[str, Path]:
        folder = (self._home or find_home()) / "templates"
        if not folder.is_dir():
            return {}
        paths = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
        return {path.stem: path for path in reversed(paths) if TEMPLATE_NAME.fullmatch(path.stem)}

    def _shared(self) -> tuple[Mapping[str, Any], str]:
        """Return the templates of the project, and the file that holds them."""
        folder = (self._folder or Path.cwd()).resolve()
        for path in (parent / "pyproject.toml" for parent in (folder, *folder.parents)):
            if path.is_file():
                return _read_project(path), str(path)
        return {}, ""


def _read_project(path: Path) -> Mapping[str, Any]:
    try:
        tool = tomllib.loads(_read_text(path)).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the templates in {path} cannot be read: {error}", remedy="mend the file") from None
    found = tool.get("kimi_magics", {}).get("template", {}) if isinstance(tool, dict) else {}
    return found if isinstance(found, dict) else {}


def _read_shared(name: str, value: Any, source: str) -> Template:
    fields = {"prompt": value} if isinstance(value, str) else value
    is_right = (
        isinstance(fields, dict)
        and set(fields) <= set(_FIELDS)
        and all(isinstance(text, str) and text.strip() for text in fields.values())
        and "prompt" in fields
    )
    if not is_right:
        raise ConfigError(
            f"the template {name!r} in {source} is neither a text nor a table of prompt and system",
            remedy=f'write {name} = "…" below [tool.kimi_magics.template]',
        )
    return Template(name, fields["prompt"], fields.get("system"), source)


def _read_text(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"{path} cannot be read: {reason}", remedy="mend the file, or move it away") from None
    if not text.strip():
        raise ConfigError(f"{path} is empty", remedy="write the prompt into it")
    return text.strip("\n")

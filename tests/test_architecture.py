"""The house rules: what may import what, what loading costs, and that the README tells the truth."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kimi_magics import __version__
from kimi_magics.core.ask import OPTIONS
from kimi_magics.notebook.parsers import PARSERS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kimi_magics"
README = (ROOT / "README.md").read_text("utf-8")

#: What core may import beside the standard library, and why.
CORE_MAY_USE = {
    "msgspec",  # typed decoding, several times faster than json
    "markdown_it",  # pure functions over Markdown, imported late
    "kimi_magics",
}


def imports_of(path: Path) -> set[str]:
    """Return the top-level names of the packages that a module imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def run_python(source: str) -> str:
    """Run a script in a fresh interpreter and return what it prints."""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=120)
    return ran.stdout


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda path: path.name)
def test_core_uses_the_standard_library_and_little_else(path: Path) -> None:
    assert imports_of(path) <= set(sys.stdlib_module_names) | CORE_MAY_USE
    io = {"os", "pathlib", "time", "socket", "subprocess", "threading", "urllib", "sqlite3", "asyncio"}
    assert not imports_of(path) & io


def test_only_the_client_imports_httpx() -> None:
    importers = {path.parent.name for path in PACKAGE.rglob("*.py") if "httpx" in imports_of(path)}
    assert importers == {"client"}


def test_the_imports_point_inward() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "0 broken" in ran.stdout


def test_importing_the_package_pulls_in_nothing_heavy() -> None:
    heavy = run_python(
        "import sys, kimi_magics\n"
        "names = ('IPython', 'httpx', 'ipywidgets', 'msgspec', 'PIL', 'tornado', 'sqlalchemy')\n"
        "print([name for name in names if name in sys.modules])"
    )
    assert heavy.strip() == "[]"


LOADED = """
import sys
from traitlets.config import Config
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
before = set(sys.modules)
shell.run_line_magic("load_ext", "kimi_magics")
def loaded(*names):
    return [name for name in names if name in set(sys.modules) - before]
"""


def test_loading_the_extension_pulls_in_nothing_heavy() -> None:
    names = ["httpx", "msgspec", "PIL", "tornado", "pydantic", "genai_prices", "markdown_it", "tomlkit", "ssl"]
    names += ["sqlalchemy", "matplotlib", "psycopg"]
    assert run_python(f"{LOADED}print(loaded(*{names}))").strip() == "[]"


DRAFT = """
import threading
magics = shell.find_line_magic("kimi").__self__
before_draft = loaded("sqlalchemy")
report = magics.drafts.report("%%kimi\\nHello", may_ask=False)
for thread in threading.enumerate():
    if thread.name.startswith("kimi-"):
        thread.join(60)
print(before_draft, report.state, loaded("sqlalchemy", "sqlalchemy.dialects.postgresql"))
"""


def test_a_draft_has_the_ledger_made_ready_before_its_first_call_and_without_the_drivers_of_other_databases() -> None:
    assert run_python(LOADED + DRAFT).strip() == "[] local ['sqlalchemy']"


def test_the_first_tab_pulls_in_nothing_heavy() -> None:
    press_tab = (
        "with provisionalcompleter():\n"
        "    found = list(shell.Completer.completions('%%kimi -m kimi-k2', 17))\n"
        "print(len(found), loaded('httpx', 'pydantic', 'PIL'))"
    )
    assert run_python(LOADED + press_tab).strip() == "3 []"


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["dynamic"] == ["version"]
    assert __version__.count(".") == 2


# ---------------------------------------------------------------- README


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.long_name)
def test_the_readme_names_every_flag(option: object) -> None:
    assert f"`{option.long_name}" in README or f"{option.long_name}`" in README


@pytest.mark.parametrize("name", PARSERS)
def test_the_readme_names_every_magic(name: str) -> None:
    assert f"%{name}" in README


def test_the_readme_names_every_command() -> None:
    from kimi_magics.cli import build_parser

    commands = next(action for action in build_parser()._actions if action.choices).choices
    assert all(f"kimi-magics {name}" in README for name in commands)


def test_the_picture_of_the_rooms_is_the_one_of_the_folders() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "notebooks")}
    assert all(f"  {room}/" in README for room in rooms)


def test_the_first_two_commands_of_the_quick_start_are_the_product_and_its_tests() -> None:
    quick_start = README.split("## Quick start", 1)[1].split("\n## ", 1)[0]
    commands = [line for line in quick_start.splitlines() if line.startswith("uv run ")]
    assert commands[:2] == ["uv run kimi-magics demo", "uv run pytest"]

"""What is right and wrong with the set-up: a line per finding, a remedy per problem; the key's value never shows."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.request import getproxies

from kimi_magics import __version__
from kimi_magics.client.access import Key, check_base_url, check_key, is_loopback
from kimi_magics.client.http import KimiClient
from kimi_magics.errors import AuthenticationError, ConfigError, KimiError, RefusedError
from kimi_magics.notebook.session import DEFAULT_BASE_URL, base_url
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.config import Config

LABEXTENSION = "kimi-magics"
_MARKS = {"good": "✓", "note": "·", "wrong": "✗"}
_REACH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `wrong` needs the remedy, a `note` works but may be better with it."""

    state: Literal["good", "note", "wrong"]
    what: str
    remedy: str = ""


def report(*, as_json: bool) -> int:
    """Print all findings; return 1 when something is wrong, else 0."""
    findings = list(examine())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))  # noqa: T201
    else:
        for finding in findings:
            print(f"{_MARKS[finding.state]} {finding.what}" + (f"\n    → {finding.remedy}" if finding.remedy else ""))  # noqa: T201
    return int(any(finding.state == "wrong" for finding in findings))


def examine() -> Iterator[Finding]:
    """Yield what was found, the most needed first."""
    yield Finding("good", f"kimi-magics {__version__}, Python {platform.python_version()}")
    yield from _key_and_host()
    yield _settings()
    yield from _kernel()
    yield from _jupyter()


def _key_and_host() -> Iterator[Finding]:
    key: Key | None
    try:
        key = check_key(os.environ.get("MOONSHOT_API_KEY", ""))
    except RefusedError as error:
        key = None
        yield Finding("wrong", error.message, error.remedy)
    else:
        yield Finding("good", "the key was found in the environment variable MOONSHOT_API_KEY (its value is not shown)")
    try:
        url = check_base_url(base_url())
    except ConfigError as error:
        yield Finding("wrong", error.message, error.remedy)
        return
    where = "the default" if base_url() == DEFAULT_BASE_URL else "from MOONSHOT_BASE_URL"
    yield Finding("good", f"the host is {url.host} ({where})")
    if not is_loopback(url.host) and getproxies().get(url.scheme):
        yield Finding("note", f"requests go through the {url.scheme} proxy of the environment")
    yield _reach(key)


def _reach(key: Key | None) -> Finding:
    """Ask for the list of models: it costs nothing. Without a key, a refusal shows that the host is there."""
    client = KimiClient(base_url(), key or "no-key", catalog=load_catalog(), timeout_seconds=_REACH_SECONDS)
    started = time.monotonic()
    try:
        models = client.models()
    except AuthenticationError as error:
        if not key:
            return Finding("good", f"{client.host} can be reached")
        return Finding("wrong", error.message, error.remedy)
    except KimiError as error:
        return Finding("wrong", error.message, error.remedy)
    finally:
        client.close()
    return Finding(
        "good", f"{client.host} answers in {(time.monotonic() - started) * 1000:.0f} ms and serves {len(models)} models"
    )


def _settings() -> Finding:
    config = Config()
    try:
        config.names()
    except ConfigError as error:
        return Finding("wrong", error.message, error.remedy)
    state = "are read from" if config.path.exists() else "are at their defaults; they would be saved in"
    return Finding("good", f"settings {state} {config.path}")


def _kernel() -> Iterator[Finding]:
    yield Finding("good", f"IPython {version('ipython')}, ipywidgets {version('ipywidgets')}")
    kernel = _version("ipykernel")
    if kernel is None:
        yield Finding(
            "note", "there is no ipykernel here: the magics work in terminal IPython only", "pip install ipykernel"
        )
        return
    yield describe_kernel(kernel)
    loads = _loads_by_itself()
    yield Finding(
        "good" if loads else "note",
        "the magics load by themselves" if loads else "the magics load with %load_ext kimi_magics",
        ""
        if loads
        else "to load them always, put c.InteractiveShellApp.extensions = ['kimi_magics'] into ipython_config.py",
    )


def describe_kernel(number: str) -> Finding:
    """Tell what a version of ipykernel can do."""
    if int(number.split(".")[0]) < 7:
        return Finding("good", f"ipykernel {number}, without subshells")
    if re.match(r"7\.[0-3]\b", number):
        # https://github.com/ipython/ipykernel/issues/1554; `comms.mend_replies` is the cure
        return Finding(
            "note",
            f"ipykernel {number}, with subshells; until the magics are loaded it may leave a message unread, and hang",
            "pip install --upgrade ipykernel (7.4 is mended)",
        )
    return Finding("good", f"ipykernel {number}, with subshells")


def _loads_by_itself() -> bool:
    """Tell whether the default IPython profile names the extension; its file is read as text, not run."""
    from IPython.paths import get_ipython_dir

    folder = Path(get_ipython_dir()) / "profile_default"
    for name in ("ipython_config.py", "ipython_kernel_config.py", "ipython_config.json"):
        try:
            lines = (folder / name).read_text("utf-8", errors="replace").splitlines()
        except OSError:
            continue
        if any("kimi_magics" in line and not line.lstrip().startswith("#") for line in lines):
            return True
    return False


def _jupyter() -> Iterator[Finding]:
    found = {name: _version(name) for name in ("jupyterlab", "notebook")}
    there = [f"{name} {number}" for name, number in found.items() if number]
    if there:
        yield Finding("good", ", ".join(there))
    else:
        yield Finding(
            "note", "neither JupyterLab nor Notebook is installed in this environment", "pip install jupyterlab"
        )
    yield from _live()


def _live() -> Iterator[Finding]:
    """Tell how an answer is shown while it comes, and how prompts are counted while they are written."""
    folder = _find_labextension()
    if folder is None:
        remedy = "install kimi-magics in the environment of the Jupyter server, too"
        yield Finding(
            "note", "the JupyterLab extension is not installed here: a growing answer is shown as plain text", remedy
        )
        yield Finding("note", "gauge: no; without that extension, %kimi_draft counts a prompt while it is written")
        return
    has_subshells = int((_version("ipykernel") or "0").split(".")[0]) >= 7
    stop = "a Stop button" if has_subshells else "no Stop button (ipykernel 7 has it); interrupt the kernel"
    yield Finding("good", f"answers grow in JupyterLab's own rendering, with {stop} ({folder})")
    yield _gauge(is_live_while_busy=has_subshells)


def _gauge(*, is_live_while_busy: bool) -> Finding:
    """Tell where a draft goes to be counted."""
    try:
        mode = Config().get("gauge")
    except ConfigError:
        mode = "live"  # what is wrong with the settings is a finding of its own
    where = {
        "live": "live: a draft goes to the host for counting once it is edited or has the cursor",
        "local": "local: a draft stays here, the count is an estimate",
        "off": "off",
    }[mode]
    while_busy = "" if is_live_while_busy or mode != "live" else "; while a cell runs it counts here (ipykernel 7 asks)"
    remedy = "" if mode == "live" else "%kimi_config --save gauge=live"
    return Finding("good" if mode == "live" else "note", f"gauge: {where}{while_busy}", remedy)


def _find_labextension() -> Path | None:
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return None
    folders = (Path(path) / LABEXTENSION for path in jupyter_path("labextensions"))
    return next((folder for folder in folders if folder.is_dir()), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

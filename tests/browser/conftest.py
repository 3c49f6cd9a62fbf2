"""A real JupyterLab and a real Notebook 7 in a real Chromium, driven as a user drives them: by clicks and keys.

The promise: whatever is started ends here, by its own id, and everything is kept in temporary folders. The browser lives
as long as one module of tests, because Playwright keeps an event loop on the main thread for as long as it runs.

Source of the flags and addresses: Chromium's `--headless` without its background calls, JupyterLab's URL documentation.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from kimi_magics.sandbox import Sandbox, SandboxOptions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

WAIT_SECONDS = 60.0
_WAIT_MS = WAIT_SECONDS * 1000
_STOP_SECONDS = 15
_TOKEN = "browser-tests"
_TOKENS_PER_SECOND = 150
_VIEWPORT = {"width": 1280, "height": 1000}
# Without the background flags Chromium calls its maker's hosts at every start.
_CHROMIUM_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
#: The address of a notebook by front end. A workspace of its own keeps Lab from opening the notebooks of other tests.
_ADDRESSES = {"lab": "/lab/workspaces/{stem}/tree/{stem}.ipynb", "notebook7": "/notebooks/{stem}.ipynb"}
_OPEN_NOTEBOOKS = pytest.StashKey[list["NotebookPage"]]()


# ---------------------------------------------------------------- server


class JupyterServer:
    """A Jupyter server with both front ends; notebooks are files in `folder`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"token {_TOKEN}"}, timeout=WAIT_SECONDS)
        self._numbers = count(1)

    def write_notebook(self, cells: list[str]) -> Path:
        """Write a notebook of code cells under a new name."""
        path = self.folder / f"notebook-{next(self._numbers)}.ipynb"
        rows = [
            {"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
            for i, source in enumerate(cells)
        ]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": rows, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(notebook), "utf-8")
        return path

    def has_idle_kernel(self, path: Path) -> bool:
        """Tell whether the notebook's kernel runs, is idle and has a front end connected to it."""
        kernels = [one["kernel"] for one in self._sessions() if one["path"] == path.name]
        return any(one["execution_state"] == "idle" and one["connections"] for one in kernels)

    def stop_kernel(self, path: Path) -> None:
        """End the notebook's kernel, if it has one."""
        for session in self._sessions():
            if session["path"] == path.name:
                self.http.delete(f"/api/sessions/{session['id']}")

    def _sessions(self) -> list[dict[str, Any]]:
        return [one for one in self.http.get("/api/sessions").raise_for_status().json() if one["kernel"]]


def _build_environment(root: Path, base_url: str) -> dict[str, str]:
    """Return an environment in which Jupyter keeps everything below `root` and Kimi means the sandbox."""
    folders = {
        "HOME": "home",
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "KIMI_MAGICS_HOME": "kimi_magics",
        "MPLCONFIGDIR": "matplotlib",
    }
    for name in folders.values():
        (root / name).mkdir()
    kimi = {"MOONSHOT_BASE_URL": base_url, "MOONSHOT_API_KEY": "sandbox"}
    jupyter = {"JUPYTER_TOKEN": _TOKEN, "JUPYTER_PREFER_ENV_PATH": "1"}
    return {**os.environ, **{key: str(root / name) for key, name in folders.items()}, **kimi, **jupyter}


def _build_command(folder: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={folder}"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(is_true: Callable[[], bool], *, what: str, seconds: float = WAIT_SECONDS) -> None:
    """Return when `is_true()`; fail the test when that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The distribution's Chromium; without it the tests fail in CI and are skipped elsewhere."""
    path = shutil.which("chromium")
    if path is None:
        reason = "no `chromium` on PATH for the browser tests; remedy: apt install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return path


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    """The sandbox that every kernel's environment names."""
    with Sandbox(SandboxOptions(tokens_per_second=_TOKENS_PER_SECOND)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    """The sandbox that every kernel's environment names, with the requests of earlier tests forgotten."""
    shared_sandbox.clear()
    return shared_sandbox


@pytest.fixture(scope="session")
def server(
    chromium_path: str, shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    """One Jupyter server with JupyterLab and Notebook 7, for all browser tests."""
    root, port = tmp_path_factory.mktemp("jupyter"), _find_free_port()
    environment = _build_environment(root, shared_sandbox.base_url)
    # JupyterLab asks about its news although `news_url` is None, and the question lies over the notebook.
    answer = root / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    answer.parent.mkdir(parents=True)
    answer.write_text('{"fetchNews": "false"}', "utf-8")
    folder = root / "notebooks"
    folder.mkdir()
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            _build_command(folder, port), env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        jupyter = JupyterServer(folder, port)
        try:
            _wait_until_served(jupyter, process, root / "server.log")
            yield jupyter
        finally:
            jupyter.http.close()
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_served(jupyter: JupyterServer, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_served() -> bool:
        if process.poll() is not None:
            pytest.fail(f"the Jupyter server ended:\n{log.read_text('utf-8', errors='replace')[-2000:]}")
        with contextlib.suppress(httpx.TransportError):
            return jupyter.http.get("/api").is_success
        return False

    _wait_for(is_served, what="the Jupyter server answers")


# ---------------------------------------------------------------- notebook


class NotebookPage:
    """A notebook of code cells, open in a front end with its kernel running; cells are numbered from 0."""

    def __init__(self, page: Page, server: JupyterServer, path: Path, screenshots: Path) -> None:
        self.page = page
        self.path = path
        self._server = server
        self._screenshots = screenshots

    def wait_until_ready(self) -> None:
        """Wait until the cells are there and the kernel is idle."""
        self.cell(0).locator(".cm-content").wait_for(timeout=_WAIT_MS)
        # A new page shows its kernel as idle before there is one: the server knows better.
        _wait_for(lambda: self._server.has_idle_kernel(self.path), what=f"the kernel of {self.path.name} is idle")
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=_WAIT_MS)

    # -------------------------------------------------------- cells

    def cell(self, index: int) -> Locator:
        """Return the cell's element."""
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')

    def type(self, index: int, text: str) -> None:
        """Put the cursor at the end of the cell and type `text`, key by key."""
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.press("Control+End")
        self.page.keyboard.type(text)

    def run(self, index: int) -> None:
        """Select the cell and press Shift+Enter; returns while it runs."""
        self.cell(index).locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Shift+Enter")

    def run_all(self) -> None:
        """Choose “Run All Cells” in the menu; returns while they run."""
        self.page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
        self.page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()

    def interrupt(self) -> None:
        """Press the toolbar's button that interrupts the kernel."""
        self.page.locator('[data-command="notebook:interrupt-kernel"]').first.click()

    def prompt(self, index: int) -> str:
        """Return what stands beside the cell: `[ ]:` never run, `[*]:` running or waiting, `[3]:` done."""
        return self.cell(index).locator(".jp-InputPrompt").inner_text().strip()

    def wait_until_done(self, index: int) -> None:
        """Wait until the cell has run, well or with an error."""
        _wait_for(lambda: re.fullmatch(r"\[\d+\]:", self.prompt(index)) is not None, what=f"cell {index} is done")

    # -------------------------------------------------------- outputs

    def outputs(self, index: int) -> Locator:
        """Return the elements of the cell's outputs, one per bundle, in order."""
        return self.cell(index).locator(".jp-OutputArea-child .jp-OutputArea-output")

    def output_text(self, index: int) -> str:
        """Return the visible text of all outputs of the cell, a line break between them."""
        return "\n".join(self.outputs(index).all_inner_texts())

    def output_html(self, index: int) -> str:
        """Return the HTML inside all outputs of the cell."""
        return "\n".join(output.inner_html() for output in self.outputs(index).all())

    def wait_for_output(self, index: int, pattern: str) -> str:
        """Wait until the text of the cell's outputs matches; return that text."""
        found = re.compile(pattern, re.DOTALL)
        _wait_for(lambda: found.search(self.output_text(index)) is not None, what=f"cell {index} shows {pattern}")
        return self.output_text(index)

    def watch_output(self, index: int) -> Callable[[], list[str]]:
        """Note each change of the cell's outputs from now on; call the result for the texts seen, in order.

        The page itself takes the notes, so that a slow test machine misses none.
        """
        seen = self.cell(index).evaluate_handle(
            """cell => {
                const seen = [];
                const note = () => {
                    const outputs = [...cell.querySelectorAll(".jp-OutputArea-output")];
                    const text = outputs.map(output => output.innerText).join("\\n");
                    if (text !== seen.at(-1)) seen.push(text);
                };
                new MutationObserver(note).observe(cell, {childList: true, subtree: true, characterData: true});
                return seen;
            }"""
        )
        return seen.json_value

    # -------------------------------------------------------- document

    def save(self) -> dict[str, Any]:
        """Press Ctrl+S; return the notebook as it stands in its file then."""
        with self.page.expect_response(lambda response: response.request.method == "PUT" and self.path.name in response.url):
            self.page.keyboard.press("Control+S")
        return json.loads(self.path.read_text("utf-8"))

    def reload(self) -> None:
        """Load the page again; the kernel goes on."""
        self.page.reload(wait_until="commit")
        self.wait_until_ready()

    def screenshot(self, name: str) -> Path:
        """Take a picture of the window, as `name`.png in the folder that KIMI_SCREENSHOTS names."""
        path = self._screenshots / f"{name}.png"
        self.page.screenshot(path=path)
        return path


class Frontend:
    """JupyterLab or Notebook 7, by `name`, in a browser profile of its own."""

    def __init__(self, name: str, context: BrowserContext, server: JupyterServer, screenshots: Path) -> None:
        self.name = name
        self.context = context
        self.notebooks: list[NotebookPage] = []
        self._server = server
        self._screenshots = screenshots

    def open(self, cells: list[str]) -> NotebookPage:
        """Open a new notebook with these code cells and wait until its kernel is idle."""
        path = self._server.write_notebook(cells)
        notebook = NotebookPage(self.context.new_page(), self._server, path, self._screenshots)
        self.notebooks.append(notebook)
        address = self._server.url + _ADDRESSES[self.name].format(stem=path.stem)
        notebook.page.goto(f"{address}?token={_TOKEN}", wait_until="commit")
        notebook.wait_until_ready()
        return notebook

    def close(self) -> None:
        """Close the pages and end their kernels."""
        self.context.close()
        for notebook in self.notebooks:
            self._server.stop_kernel(notebook.path)


# ---------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """A headless Chromium; it keeps an event loop on this thread until the module is done."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=_CHROMIUM_FLAGS)
        yield chromium
        chromium.close()

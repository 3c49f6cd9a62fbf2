"""A notebook in JupyterLab or Notebook 7, driven as a user drives it: by clicks and keys.

Everything that waits does so for a condition, at most `WAIT_SECONDS`, and fails the test with what it waited for.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Response
    from playwright.sync_api import Error as PageError

WAIT_SECONDS = 60.0
TOKEN = "browser-tests"
_WAIT_MS = WAIT_SECONDS * 1000
_TAB_SECONDS = 5.0
#: The address of a notebook by front end. A workspace of its own keeps Lab from opening the notebooks of other tests.
_ADDRESSES = {"lab": "/lab/workspaces/{stem}/tree/{stem}.ipynb", "notebook7": "/notebooks/{stem}.ipynb"}


def wait_for(is_true: Callable[[], bool], *, what: str, seconds: float = WAIT_SECONDS) -> None:
    """Return when `is_true()`; fail the test when that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.05)


def build_stream(text: str, *, thinking: str = "", size: int = 7) -> tuple[bytes, ...]:
    """Return the events of a stream that sends `thinking` as reasoning, then `text`, in pieces of `size` characters."""
    deltas = [{"reasoning_content": thinking[start : start + size]} for start in range(0, len(thinking), size)]
    deltas += [{"content": text[start : start + size]} for start in range(0, len(text), size)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [{"id": "cmpl-1", "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
    return (*(f"data: {json.dumps(event)}\n\n".encode() for event in events), b"data: [DONE]\n\n")


class PacedStream:
    """What a sandbox sends as its answer, piece by piece, so that a test can hold it, let it go on and have it end.

    It sleeps in the loop of its sandbox, which has nobody else to serve.
    """

    def __init__(self) -> None:
        self._events: tuple[bytes, ...] = ()
        self._held_at: int | None = None
        self._goes_on = threading.Event()
        self._delay_seconds = 0.0

    def set(self, events: tuple[bytes, ...], delay_seconds: float, *, held_at: int | None = None) -> None:
        """Send these events from the next request on, the one at `held_at` not before `go_on`."""
        self._events, self._delay_seconds, self._held_at = events, delay_seconds, held_at
        self._goes_on.clear()

    def __iter__(self) -> Iterator[bytes]:
        for position, event in enumerate(self._events):
            if position == self._held_at:
                self._goes_on.wait(WAIT_SECONDS)
            time.sleep(self._delay_seconds)
            yield event

    def go_on(self) -> None:
        """Send what was held."""
        self._goes_on.set()

    def hurry(self) -> None:
        """Send what is left at once."""
        self._delay_seconds = 0.0
        self._goes_on.set()


class JupyterServer:
    """A running Jupyter server; its notebooks are files in `folder`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"token {TOKEN}"}, timeout=WAIT_SECONDS)
        self._numbers = count(1)

    def write_notebook(self, cells: list[str]) -> Path:
        """Write a notebook of code cells under a new name."""
        path = self.folder / f"notebook-{next(self._numbers)}.ipynb"
        empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        rows = [empty | {"id": f"cell-{index}", "source": source} for index, source in enumerate(cells)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": rows, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(notebook), "utf-8")
        return path

    def is_up(self) -> bool:
        """Tell whether the server answers."""
        try:
            return self.http.get("/api").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections to the server; the server goes on."""
        self.http.close()

    def has_idle_kernel(self, path: Path) -> bool:
        """Tell whether the notebook's kernel runs, is idle and has a front end connected to it."""
        kernels = [one["kernel"] for one in self._sessions() if one["path"] == path.name]
        return any(one["execution_state"] == "idle" and one["connections"] for one in kernels)

    def set_setting(self, plugin: str, values: dict[str, Any]) -> None:
        """Save the settings of a plugin of JupyterLab; a page takes them when it is loaded."""
        self.http.put(f"/lab/api/settings/{plugin}", json={"raw": json.dumps(values)}).raise_for_status()

    def stop_kernel(self, path: Path) -> None:
        """End the notebook's kernel, if it has one."""
        for session in self._sessions():
            if session["path"] == path.name:
                self.http.delete(f"/api/sessions/{session['id']}")

    def _sessions(self) -> list[dict[str, Any]]:
        return [one for one in self.http.get("/api/sessions").raise_for_status().json() if one["kernel"]]


class NotebookPage:
    """A notebook of code cells, open in a front end with its kernel running; cells are numbered from 0."""

    def __init__(self, page: Page, path: Path, frontend: Frontend) -> None:
        self.page = page
        self.path = path
        self._frontend = frontend
        self._goes_on = path.with_suffix(".goes-on")
        #: Code of a cell that runs until `let_go`, however slow the machine is.
        self.held = f"import pathlib, time\nwhile not pathlib.Path('{self._goes_on.name}').exists(): time.sleep(0.05)"
        #: The answer that comes, where a test has it come slowly.
        self.stream = PacedStream()
        self._offers = page.locator(".jp-Completer .jp-Completer-match:visible")
        #: What the page threw in our code, and what its console said of us; the front ends have faults of their own.
        self.complaints: list[str] = []
        page.on("pageerror", self._note_error)
        page.on("console", self._note)

    def _note_error(self, error: PageError) -> None:
        if "kimi-magics" in (error.stack or ""):
            self.complaints.append(error.stack or "")

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "kimi-magics" in message.text:
            self.complaints.append(message.text)

    def wait_until_ready(self) -> None:
        """Wait until the cells are there and the kernel is idle."""
        server = self._frontend.server
        self.cell(0).locator(".cm-content").wait_for(timeout=_WAIT_MS)
        # A new page shows its kernel as idle before there is one: the server knows better.
        wait_for(lambda: server.has_idle_kernel(self.path), what=f"the kernel of {self.path.name} is idle")
        self.wait_until_idle()

    # -------------------------------------------------------- cells

    def cell(self, index: int) -> Locator:
        """Return the cell's element."""
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')

    def type(self, index: int, text: str) -> None:
        """Put the cursor at the end of the cell and type `text`, key by key."""
        self._go_to_end(index)
        self.page.keyboard.type(text)

    def type_at_once(self, index: int, text: str) -> None:
        """Do the same in one edit, without the pauses between keys that a slow machine makes."""
        self._go_to_end(index)
        self.page.keyboard.insert_text(text)

    def _go_to_end(self, index: int) -> None:
        if self._offers.count():
            self.page.keyboard.press("Escape")
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.press("Control+End")

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

    def let_go(self) -> None:
        """End the cell that runs `held`."""
        self._goes_on.touch()

    def prompt(self, index: int) -> str:
        """Return what stands beside the cell: `[ ]:` never run, `[*]:` running or waiting, `[3]:` done."""
        return self.cell(index).locator(".jp-InputPrompt").inner_text().strip()

    def wait_until_running(self, index: int) -> None:
        """Wait until the cell is marked as running; only then is the number of a run before gone."""
        wait_for(lambda: self.prompt(index) == "[*]:", what=f"cell {index} runs")

    def wait_until_done(self, index: int) -> None:
        """Wait until the cell has run, well or with an error; what it displayed may be drawn a little later."""
        wait_for(lambda: re.fullmatch(r"\[\d+\]:", self.prompt(index)) is not None, what=f"cell {index} is done")

    def wait_until_idle(self) -> None:
        """Wait until the kernel has nothing more to do."""
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=_WAIT_MS)

    def source(self, index: int) -> str:
        """Return the text in the cell's editor."""
        return "\n".join(self.cell(index).locator(".cm-line").all_inner_texts())

    def complete(self) -> list[str]:
        """Press Tab in the editor; return what the completer's list offers.

        JupyterLab drops an answer that takes the kernel longer than a second, as it may on a busy machine: Tab is
        pressed again every few seconds, as a user would.
        """
        pressed_at = [0.0]

        def is_offered() -> bool:
            if not self._offers.count() and time.monotonic() - pressed_at[0] > _TAB_SECONDS:
                self.page.keyboard.press("Tab")
                pressed_at[0] = time.monotonic()
            return self._offers.count() > 0

        wait_for(is_offered, what="the completer offers something")
        return self._offers.all_inner_texts()

    # -------------------------------------------------------- gauge

    def gauge(self, index: int) -> Locator:
        """Return the gauge of the cell, where it has one."""
        return self.cell(index).locator("[data-kimi-gauge]")

    def gauge_tokens(self, index: int) -> int:
        """Return the number of tokens that the gauge of the cell shows."""
        return int(self.gauge(index).get_attribute("data-tokens") or -1)

    def wait_for_gauge(self, index: int, state: str) -> str:
        """Wait until the gauge of the cell is in that state; return its text, the row alone."""
        self.page.locator(
            f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"] [data-kimi-gauge][data-state="{state}"]'
        ).wait_for(timeout=_WAIT_MS)
        return " · ".join(self.gauge(index).locator(".kimi-gauge-row > span:visible").all_inner_texts())

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
        wait_for(lambda: found.search(self.output_text(index)) is not None, what=f"cell {index} shows {pattern}")
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

        def is_saved(response: Response) -> bool:
            return response.request.method == "PUT" and self.path.name in response.url

        with self.page.expect_response(is_saved, timeout=_WAIT_MS):
            self.page.keyboard.press("Control+S")
        return json.loads(self.path.read_text("utf-8"))

    def reload(self, *, is_busy: bool = False) -> None:
        """Load the page again; the kernel goes on, with `is_busy` with its work."""
        self.page.reload(wait_until="commit")
        if is_busy:
            self.cell(0).locator(".cm-content").wait_for(timeout=_WAIT_MS)
        else:
            self.wait_until_ready()

    def screenshot(self, name: str) -> Path:
        """Take a picture of the window, as FRONTEND-`name`.png in the folder that KIMI_SCREENSHOTS names."""
        path = self._frontend.screenshots / f"{self._frontend.name}-{name}.png"
        self.page.screenshot(path=path)
        return path


class Frontend:
    """JupyterLab or Notebook 7, by `name`, in a browser profile of its own."""

    def __init__(self, name: str, context: BrowserContext, server: JupyterServer, screenshots: Path) -> None:
        self.name = name
        self.context = context
        self.notebooks: list[NotebookPage] = []
        self.server = server
        self.screenshots = screenshots

    def open(self, cells: list[str]) -> NotebookPage:
        """Open a new notebook with these code cells and wait until its kernel is idle."""
        path = self.server.write_notebook(cells)
        notebook = NotebookPage(self.context.new_page(), path, self)
        self.notebooks.append(notebook)
        address = self.server.url + _ADDRESSES[self.name].format(stem=path.stem)
        notebook.page.goto(f"{address}?token={TOKEN}", wait_until="commit")
        notebook.wait_until_ready()
        return notebook

    def open_again(self, notebook: NotebookPage) -> NotebookPage:
        """Open a notebook in a second window, too."""
        second = NotebookPage(self.context.new_page(), notebook.path, self)
        self.notebooks.append(second)
        second.page.goto(notebook.page.url.partition("?")[0] + f"?token={TOKEN}", wait_until="commit")
        second.wait_until_ready()
        return second

    def keep_pictures(self, name: str) -> list[Path]:
        """Take a picture of every open notebook; return where they are."""
        return [notebook.screenshot(f"{name}-{notebook.path.stem}") for notebook in self.notebooks]

    def close(self) -> None:
        """Close the pages and end their kernels."""
        self.context.close()
        for notebook in self.notebooks:
            self.server.stop_kernel(notebook.path)

"""What the gauge costs who types: in JupyterLab with Chromium, beside the same page without the extension.

    uv run python tests/benchmarks/gauge.py             a notebook of 1,000 cells, 333 of them prompts; then the kernel
    uv run python tests/benchmarks/gauge.py --kernel    the kernel alone: its report on a prompt of 100 kB

The page itself takes the times, each from the moment of the key: `handled` is when all that the key sets off at once is
done, `number` when the gauge's number is in the page (of those keys that change it), `painted` when the next frame is
drawn, and `next` when the one after that begins, which is later than what an eye sees.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kimi_magics.sandbox import Sandbox, SandboxOptions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession

CELLS = 1_000
#: Cells to type into: both are in sight when the notebook opens.
PROMPT, PLAIN = 4, 5
LONG_CHARACTERS = 100_000
KEYS = 200
TIMES = ("handled", "number", "painted", "next")
# A key after the other before the gauge asks the kernel, as a quick typist does.
_REST_MS, _GAP_MS = 1_000, 20
_OPEN_SECONDS = 300
_ENTRY = "**/kimi-magics/static/remoteEntry*"
_BROWSER_TESTS = Path(__file__).parents[1] / "browser"
_WATCH = """([cell, times]) => {
    const keys = [];
    const soon = then => {
        const {port1, port2} = new MessageChannel();
        port1.onmessage = then;
        port2.postMessage(null);
    };
    const begin = event => {
        const key = {};
        key.note = name => key[name] ??= performance.now() - event.timeStamp;
        keys.push(key);
        soon(() => key.note("handled"));
        key.isOver = new Promise(resolve => requestAnimationFrame(() => {
            soon(() => key.note("painted"));
            requestAnimationFrame(() => resolve(key.note("next")));
        }));
    };
    const gauge = cell.querySelector("[data-kimi-gauge]");
    const observer = new MutationObserver(() => keys.at(-1)?.note("number"));
    if (gauge) observer.observe(gauge, {attributeFilter: ["data-tokens"]});
    addEventListener("keydown", begin, {capture: true});
    return {
        wait: () => keys.at(-1).isOver,
        stop: () => {
            removeEventListener("keydown", begin, {capture: true});
            observer.disconnect();
            // The number after the last key may come from the kernel.
            return keys.slice(0, -1).map(key => times.map(name => key[name] ?? null));
        },
    };
}"""


@dataclass(frozen=True)
class Typed:
    """Milliseconds from each key until each of TIMES, and those for which a key kept the processor busy."""

    keys: tuple[tuple[float | None, ...], ...]
    busy: float

    def read(self, name: str) -> list[float]:
        """Return the times of this name, sorted."""
        place = TIMES.index(name)
        return sorted(value for key in self.keys if (value := key[place]) is not None)

    def median(self, name: str) -> float:
        """Return the median of the times of this name."""
        return statistics.median(self.read(name))

    def p95(self, name: str) -> float:
        """Return what 95 of 100 times of this name stay below."""
        return statistics.quantiles(self.read(name), n=20)[-1]


# ---------------------------------------------------------------- the page


def build_cells(count: int = CELLS) -> list[str]:
    """Return the sources of a notebook of so many cells: every third is a prompt."""
    cells = [f"%%kimi\nSay what {index} is." if index % 3 == 1 else f"x_{index} = {index}" for index in range(count)]
    cells[0] = "%load_ext kimi_magics"
    return cells


def build_long_prompt() -> str:
    """Return a cell with LONG_CHARACTERS, in lines as people write them."""
    line = "What is written in this line is one of many that were pasted from a file.\n"
    return "%%kimi\n" + (line * (LONG_CHARACTERS // len(line)))


class Lab:
    """JupyterLab in Chromium; its kernels ask a sandbox."""

    def __init__(self, tests: ModuleType, browser: Browser, server: Any, folder: Path) -> None:
        self._tests, self._browser, self._server, self._folder = tests, browser, server, folder

    @contextmanager
    def open(self, cells: Sequence[str], *, has_extension: bool) -> Iterator[Any]:
        """Open a notebook in a profile of its own, where `has_extension` with the gauge at work."""
        with self._browser.new_context(viewport=self._tests._VIEWPORT) as context:
            if not has_extension:
                context.route(_ENTRY, lambda route: route.abort())
            driver = self._tests.driver
            frontend = driver.Frontend("lab", context, self._server, self._folder)
            try:
                notebook = frontend.open(list(cells))
                notebook.run(0)
                notebook.wait_until_done(0)
                # Lab makes the cells that are out of sight one by one, when it has time.
                editors = notebook.page.locator(".jp-Cell .cm-editor")
                driver.wait_for(lambda: editors.count() == len(cells), what="all cells are there", seconds=_OPEN_SECONDS)
                prompts = sum(cell.startswith("%%kimi") for cell in cells)
                expected = prompts if has_extension else 0
                gauges = notebook.page.locator("[data-kimi-gauge]")
                driver.wait_for(lambda: gauges.count() == expected, what=f"there are {expected} gauges")
                yield notebook
            finally:
                frontend.close()


@contextmanager
def open_lab() -> Iterator[Lab]:
    """Start JupyterLab and Chromium as the browser tests do."""
    from playwright.sync_api import sync_playwright

    tests = _load_browser_tests()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Sandbox(SandboxOptions()) as sandbox,
        tests._run_server("jupyterlab", Path(folder), sandbox.base_url) as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=shutil.which("chromium"), args=tests._CHROMIUM_FLAGS) as chromium,
    ):
        yield Lab(tests, chromium, server, Path(folder))


def _load_browser_tests() -> ModuleType:
    """Return the conftest of the browser tests; as `conftest` another one may be known."""
    if str(_BROWSER_TESTS) not in sys.path:
        sys.path.append(str(_BROWSER_TESTS))
    spec = importlib.util.spec_from_file_location("browser_conftest", _BROWSER_TESTS / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(notebook: Any, index: int, *, keys: int = KEYS) -> Typed:
    """Type digits at the end of a cell, each when the one before is drawn; in a prompt, from a counted draft on."""
    page, cell = notebook.page, notebook.cell(index)
    page.bring_to_front()
    notebook.type(index, " ")
    if cell.locator("[data-kimi-gauge]").count():
        cell.locator("[data-kimi-gauge][data-state=counted]").wait_for()
    page.wait_for_timeout(_REST_MS)
    watch = cell.evaluate_handle(f"(cell, times) => ({_WATCH})([cell, times])", list(TIMES))
    session = page.context.new_cdp_session(page)
    # Of the thread itself, so that other work of the machine does not count.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _read_busy(session)
    for _ in range(keys):
        page.keyboard.press("4")
        watch.evaluate("watch => watch.wait()")
        page.wait_for_timeout(_GAP_MS)
    busy = _read_busy(session) - before
    session.detach()
    return Typed(tuple(map(tuple, watch.evaluate("watch => watch.stop()"))), busy / keys)


def _read_busy(session: CDPSession) -> float:
    """Return the milliseconds for which the page's main thread was at work so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")

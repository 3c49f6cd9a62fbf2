"""What the gauge costs who types: in JupyterLab with Chromium, beside the same page without the extension.

    uv run python tests/benchmarks/gauge.py             a notebook of 1,000 cells, 333 of them prompts; then the kernel
    uv run python tests/benchmarks/gauge.py --kernel    the kernel alone: its report on a prompt of 100 kB

The page itself takes the times. `update` is what the editor and all that listens to it do with the text of a key; the
others begin with the key: `number` is when the gauge's number is in the page (of those keys that change it), `painted`
when the next frame is drawn, and `next` when the one after that begins, which is later than what an eye sees. `busy` is
the processor time of the page's main thread per key. Lab draws most of what is in the page anew with each key.
"""

from __future__ import annotations

import argparse
import importlib.util
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
    from playwright.sync_api import Browser, CDPSession, Page

CELLS = 1_000
#: Cells to type into: both are in sight when the notebook opens.
PROMPT, PLAIN = 4, 5
LONG_CHARACTERS = 100_000
KEYS = 200
REPORTS = 50
TIMES = ("update", "number", "painted", "next")
# A key after the other before the gauge asks the kernel, as a quick typist does.
_SETTLE_MS, _REST_MS, _GAP_MS = 5_000, 1_000, 20
_OPEN_SECONDS = 300
_NOTEBOOKS = "@jupyterlab/notebook-extension:tracker"
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
        key.isOver = new Promise(resolve => requestAnimationFrame(() => {
            soon(() => key.note("painted"));
            requestAnimationFrame(() => resolve(key.note("next")));
        }));
    };
    // The editor takes the text in a microtask that was queued when the text came; the one queued here follows it.
    const update = () => {
        const began = performance.now();
        queueMicrotask(() => (keys.at(-1).update ??= performance.now() - began));
    };
    const gauge = cell.querySelector("[data-kimi-gauge]");
    const observer = new MutationObserver(() => keys.at(-1)?.note("number"));
    if (gauge) observer.observe(gauge, {attributeFilter: ["data-tokens"]});
    addEventListener("keydown", begin, {capture: true});
    addEventListener("input", update, {capture: true});
    return {
        wait: () => keys.at(-1).isOver,
        stop: () => {
            removeEventListener("keydown", begin, {capture: true});
            removeEventListener("input", update, {capture: true});
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

    def part(self, name: str, percent: int) -> float:
        """Return what so many of 100 times of this name stay below."""
        return statistics.quantiles(self.read(name), n=100)[percent - 1]

    def __add__(self, other: Typed) -> Typed:
        return Typed(self.keys + other.keys, min(self.busy, other.busy))


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
    def open(self, cells: Sequence[str], *, has_extension: bool, is_windowed: bool = False) -> Iterator[Any]:
        """Open a notebook in a profile of its own, where `has_extension` with the gauge at work.

        With `is_windowed` the page holds the cells in sight, else all: both are settings of JupyterLab.
        """
        self._server.set_setting(_NOTEBOOKS, {"windowingMode": "full" if is_windowed else "defer"})
        with self._browser.new_context(viewport=self._tests._VIEWPORT) as context:
            if not has_extension:
                context.route(_ENTRY, lambda route: route.abort())
            frontend = self._tests.driver.Frontend("lab", context, self._server, self._folder)
            try:
                notebook = frontend.open(list(cells))
                notebook.run(0)
                notebook.wait_until_done(0)
                self._wait_for_cells(notebook.page, cells, has_extension=has_extension, is_windowed=is_windowed)
                yield notebook
            finally:
                frontend.close()

    def _wait_for_cells(self, page: Page, cells: Sequence[str], *, has_extension: bool, is_windowed: bool) -> None:
        """Wait until the page has what it is to have: Lab makes cells that are out of sight when it has time."""
        wait_for = self._tests.driver.wait_for
        gauges, editors = page.locator("[data-kimi-gauge]"), page.locator(".jp-Cell .cm-editor")
        if is_windowed:
            page.wait_for_timeout(_SETTLE_MS)
            assert editors.count() < len(cells)
            assert bool(gauges.count()) == has_extension
            return
        wait_for(lambda: editors.count() == len(cells), what="all cells are there", seconds=_OPEN_SECONDS)
        prompts = sum(cell.startswith("%%kimi") for cell in cells) if has_extension else 0
        wait_for(lambda: gauges.count() == prompts, what=f"there are {prompts} gauges")


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


def print_typing() -> None:
    """Measure in the page, and print."""
    ways = [f"{time} p{percent}" for time in TIMES for percent in (50, 95)]
    print(f"{'ms per key':<50}" + "".join(f"{title:>13}" for title in [*ways, "busy"]))
    with open_lab() as lab:
        many, long = build_cells(), ["%load_ext kimi_magics", build_long_prompt()]
        for name, cells, is_windowed, places in (
            (f"{CELLS:,} cells, those in sight", many, True, {"plain cell": PLAIN, "prompt": PROMPT}),
            (f"{CELLS:,} cells, all drawn", many, False, {"plain cell": PLAIN, "prompt": PROMPT}),
            (f"{LONG_CHARACTERS:,} characters", long, False, {"prompt": 1}),
        ):
            for has_extension in (False, True):
                with lab.open(cells, has_extension=has_extension, is_windowed=is_windowed) as notebook:
                    for place, index in places.items():
                        label = f"{name}, {place}, {'with' if has_extension else 'without'}"
                        _print_typed(label, measure(notebook, index))


def _print_typed(label: str, typed: Typed) -> None:
    cells = [f"{typed.part(time, p):.1f}" if typed.read(time) else "" for time in TIMES for p in (50, 95)]
    print(f"{label:<50}" + "".join(f"{cell:>13}" for cell in [*cells, f"{typed.busy:.1f}"]), flush=True)


# ---------------------------------------------------------------- the kernel


def print_kernel() -> None:
    """Measure how long the kernel takes for one report, and print."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Sandbox(SandboxOptions()) as sandbox:
        os.environ |= {"KIMI_MAGICS_HOME": folder, "IPYTHONDIR": folder}
        os.environ |= {"MOONSHOT_BASE_URL": sandbox.base_url, "MOONSHOT_API_KEY": "sandbox"}
        config = Config()
        config.HistoryManager.enabled = False
        shell = InteractiveShell.instance(config=config)
        shell.run_line_magic("load_ext", "kimi_magics")
        drafts = shell.magics_manager.magics["cell"]["kimi"].__self__.drafts
        print(f"\n{'ms per report of the kernel':<50}{'first':>13}{'p50':>13}{'p95':>13}")
        for name, cell in (("a line", "%%kimi\nSay what a token is."), (f"{LONG_CHARACTERS:,}", build_long_prompt())):
            for way, may_ask in (("here", False), ("asked of a sandbox", True)):
                # Each text is another one, as each key makes it.
                taken = [_time(drafts, f"{cell} {number} {may_ask}", may_ask=may_ask) for number in range(REPORTS)]
                figures = (taken[0], *(statistics.quantiles(taken[1:], n=100)[p - 1] for p in (50, 95)))
                print(f"{f'prompt of {name}, counted {way}':<50}" + "".join(f"{one:>13.1f}" for one in figures))
        shell.run_line_magic("unload_ext", "kimi_magics")


def _time(drafts: Any, source: str, *, may_ask: bool) -> float:
    began = time.perf_counter()
    report = drafts.report(source, cell="cell", may_ask=may_ask)
    assert report.state == ("counted" if may_ask else "local"), report
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="store_true", help="without the browser")
    if not parser.parse_args().kernel:
        if not shutil.which("chromium"):
            sys.exit("there is no `chromium` on the PATH; remedy: apt install chromium")
        print_typing()
    print_kernel()


if __name__ == "__main__":
    main()

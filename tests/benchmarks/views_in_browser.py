"""What a growing answer costs the page: the live view beside a loop by hand in JupyterLab; run by `views.py --browser`.

The times are those of the page's main thread as Chrome counts them; `idle` is what Lab took for as long without an
answer, and `per chunk` the difference. To hear of each message of the websocket adds to the times, in each way. What
the wall is longer than `sent in`, which the model needs, is delay. Jupyter Server drops messages beyond its limits.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, CDPSession, Page, WebSocket

CHUNK_SECONDS = 0.005
_POLL_MS, _SETTLE_MS = 500, 3000
#: What takes longer is not waited for.
_MOST_SECONDS = 150
_METRICS = ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


@dataclass
class Traffic:
    """What came over the websockets of a page."""

    frames: int = 0
    size: int = 0

    def watch(self, context: BrowserContext) -> None:
        """Count from now on, for each page that is opened."""
        context.on("page", lambda page: page.on("websocket", self._watch_socket))

    def _watch_socket(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._count)

    def _count(self, payload: bytes | str) -> None:
        self.frames += 1
        self.size += len(payload)


@dataclass
class Seen:
    """What a cell, or the same time without one, cost the page; times in seconds."""

    wall: float
    frames: int
    size: int
    times: dict[str, float] = field(default_factory=dict)


class Meter:
    """Measures a page from `start` to `stop`."""

    def __init__(self, session: CDPSession, traffic: Traffic) -> None:
        self._session, self._traffic = session, traffic
        session.send("Performance.enable")

    def start(self) -> None:
        """Begin."""
        self._times, self._frames, self._size = self._read(), self._traffic.frames, self._traffic.size
        self._started = time.perf_counter()

    def stop(self) -> Seen:
        """Return what there was since `start`."""
        wall = time.perf_counter() - self._started
        times = {name: after - self._times[name] for name, after in self._read().items()}
        return Seen(wall, self._traffic.frames - self._frames, self._traffic.size - self._size, times)

    def _read(self) -> dict[str, float]:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        found = {one["name"]: one["value"] for one in metrics}
        return {name: found[name] for name in _METRICS}


@contextmanager
def _open_lab() -> Iterator[tuple[Any, Traffic]]:
    """Start JupyterLab and Chromium as the browser tests do; the kernels find no host."""
    from playwright.sync_api import sync_playwright

    sys.path.append(str(Path(__file__).parents[1] / "browser"))
    import conftest as tests

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tests._run_server("jupyterlab", Path(folder), "http://127.0.0.1:9/v1") as jupyter,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=shutil.which("chromium"), args=tests._CHROMIUM_FLAGS) as chromium,
        chromium.new_context(viewport=tests._VIEWPORT) as context,
    ):
        traffic = Traffic()
        traffic.watch(context)
        lab = tests.driver.Frontend("lab", context, jupyter, Path(folder))
        try:
            yield lab, traffic
        finally:
            lab.close()


def _measure_cell(lab: Any, traffic: Traffic, way: str, warm_url: str, base_url: str) -> tuple[Seen, Seen | None]:
    """Run one of the ways in a new notebook, after a short answer that loads all that is needed.

    Return what it cost, and what the same time costs without it; None for that where it took too long to be waited for.
    """
    load = f"%load_ext kimi_magics\n%run {Path(__file__).with_name('ways.py')}\nmeasure({way!r}, {warm_url!r})"
    notebook = lab.open([load, f"measure({way!r}, {base_url!r})"])
    notebook.run(0)
    notebook.wait_until_done(0)
    page = notebook.page
    page.wait_for_timeout(_SETTLE_MS)  # Lab has more to do after it is shown
    meter = Meter(page.context.new_cdp_session(page), traffic)
    meter.start()
    notebook.run(1)
    is_done = _wait(page, lambda: re.fullmatch(r"\[\d+\]:", notebook.prompt(1)) is not None, _MOST_SECONDS)
    seen, idle = meter.stop(), None
    if is_done:
        meter.start()
        _wait(page, lambda: not notebook.prompt(1), seen.wall)
        idle = meter.stop()
    page.close()
    lab.server.stop_kernel(notebook.path)
    return seen, idle


def _wait(page: Page, is_true: Callable[[], bool], seconds: float) -> bool:
    """Ask the page now and then; tell whether it became true in time."""
    deadline = time.perf_counter() + seconds
    while not (found := is_true()) and time.perf_counter() < deadline:
        page.wait_for_timeout(_POLL_MS)
    return found


def _print_row(chunks: int, way: str, seen: Seen, idle: Seen | None, text_size: int) -> None:
    mark = "" if idle else "> "
    own = seen.times["TaskDuration"] - (idle.times["TaskDuration"] if idle else 0)
    cells = [
        f"{chunks * CHUNK_SECONDS:.1f} s",
        f"{mark}{seen.wall:.1f} s",
        *(f"{mark}{seen.times[name]:.2f} s" for name in _METRICS),
        f"{idle.times['TaskDuration']:.2f} s" if idle else "",
        f"{mark}{own / chunks * 1000:.2f} ms",
        f"{mark}{seen.frames:,}",
        f"{mark}{seen.size:,}",
        f"{mark}{seen.size / text_size:.1f}",
    ]
    print(f"{chunks:>7,}  {way:<6}" + _align(cells), flush=True)


def _align(cells: list[str]) -> str:
    widths = (8, 10, 11, 10, 10, 10, 9, 11, 9, 14, 9)
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def main(views: ModuleType, *, is_quick: bool) -> None:
    """Measure and print; `views` is the module of the other half."""
    if not shutil.which("chromium"):
        sys.exit("there is no `chromium` on the PATH; remedy: apt install chromium")
    both, long = (400, 1_000) if is_quick else (1_500, 5_000)
    titles = ["sent in", "wall", "task", "script", "layout", "style", "idle", "per chunk", "frames", "bytes", "by text"]
    print(f"{'chunks':>7}  {'way':<6}" + _align(titles))
    with _open_lab() as (lab, traffic), views.server(views.Shape(200)) as warm:
        for chunks, way in ((both, "plain"), (both, "kimi"), (both, "hand"), (long, "kimi")):
            shape = views.Shape(chunks, CHUNK_SECONDS)
            text_size = len("".join(shape.build_texts()).encode())
            with views.server(shape) as served:
                seen, idle = _measure_cell(lab, traffic, way, warm.base_url, served.base_url)
            _print_row(chunks, way, seen, idle, text_size)

"""What was displayed: the pictures of a kernel's outputs, so that `last` and `cell:…` can name them.

The promise: what is displayed is displayed as before, also when nothing can be kept of it; the same picture is kept
once; together they stay within a bound, and the oldest go first.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

from kimi_magics.notebook.cell_runs import cell_id

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: Of several forms of the same picture, the first is kept.
_MIMES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
_MOST_DISPLAYS = 4096
#: The bound is never lower: for a few figures nobody needs to read the settings.
LEAST_LIMIT_BYTES = 1_000_000
#: Why there are no bytes: the form that cannot be sent, or that the picture did not fit the bound.
Trouble = Literal["", "svg", "plotly", "let-go"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that was displayed: its bytes as the front end got them, and where that was."""

    mime: str
    data: bytes
    cell: str | None
    execution_count: int
    trouble: Trouble = ""

    def __repr__(self) -> str:
        return f"Shown({self.mime}, {len(self.data):,} bytes, cell={self.cell!r}, In[{self.execution_count}])"


@dataclass(slots=True)
class _Display:
    """One display of a picture, whose bytes are kept by their digest."""

    digest: str
    mime: str
    cell: str | None
    execution_count: int
    display_id: str | None
    trouble: Trouble


class Gallery:
    """Keeps the pictures that one shell displays; safe to use from several threads."""

    def __init__(self, shell: InteractiveShell, *, limit_bytes: Callable[[], int]) -> None:
        self._shell = shell
        self._limit_bytes = limit_bytes
        self._lock = RLock()
        self._displays: deque[_Display] = deque(maxlen=_MOST_DISPLAYS)
        #: By digest, the one displayed last at the end.
        self._bytes: OrderedDict[str, bytes] = OrderedDict()
        self._taken: list[tuple[Any, str, Any]] = []
        self._cell: str | None = None

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Begin to watch what is displayed, by cells and by threads, and what cells return."""
        # On the instances: hooks that IPython offers are kept for each thread by itself.
        self._wrap(self._shell.display_pub, "publish", self._watch_publish)
        self._wrap(self._shell.displayhook, "write_format_data", self._watch_result)
        self._shell.events.register("pre_run_cell", self._begin_cell)

    def close(self) -> None:
        """Watch no more, and let all pictures go."""
        for place, name, wrapper in self._taken:
            # Another extension may have wrapped it again: what it calls does nothing of ours any more.
            if place.__dict__.get(name) is wrapper:
                delattr(place, name)
        self._taken.clear()
        if self._begin_cell in self._shell.events.callbacks.get("pre_run_cell", []):
            self._shell.events.unregister("pre_run_cell", self._begin_cell)
        with self._lock:
            self._displays.clear()
            self._bytes.clear()

    def _wrap(self, place: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(place, name, None)
        if original is None:
            return
        wrapper = make(original)
        setattr(place, name, wrapper)
        self._taken.append((place, name, wrapper))

    def _watch_publish(self, original: Any) -> Any:
        def publish(data: Any, *args: Any, **options: Any) -> Any:
            result = original(data, *args, **options)
            self._try_to_keep(data, display_id=(options.get("transient") or {}).get("display_id"))
            return result

        return publish

    def _watch_result(self, original: Any) -> Any:
        def write_format_data(format_dict: Any, *args: Any, **options: Any) -> Any:
            result = original(format_dict, *args, **options)
            self._try_to_keep(format_dict)
            return result

        return write_format_data

    def _begin_cell(self, info: Any = None) -> None:
        self._cell = getattr(info, "cell_id", None)
        if self._cell is None:
            return
        # A cell that runs again loses its outputs in the page, too.
        with self._lock:
            kept = [display for display in self._displays if display.cell != self._cell]
            self._displays.clear()
            self._displays.extend(kept)
            self._let_unused_go()

    # ------------------------------------------------------------ keeping

    def _try_to_keep(self, bundle: Any, *, display_id: str | None = None) -> None:
        if not self._taken:
            return  # closed
        try:
            self.keep(bundle, display_id=display_id)
        except Exception:  # a display must not fail because of us
            self._shell.log.warning("kimi_magics could not keep a picture", exc_info=True)

    def keep(self, bundle: Mapping[str, Any], *, display_id: str | None = None) -> None:
        """Keep the picture of a bundle by MIME type, if there is one; an update takes the place of what it updates."""
        mime = next((mime for mime in _MIMES if bundle.get(mime)), None)
        if mime is not None:
            data = bundle[mime]
            # matplotlib gives base64, PIL bytes.
            data = a2b_base64(data) if isinstance(data, str) else bytes(data)
            self._add(mime, data, "", display_id)
        elif bundle.get("image/svg+xml"):
            self._add("image/svg+xml", b"", "svg", display_id)
        elif any(str(name).startswith("application/vnd.plotly") for name in bundle):
            self._add("application/vnd.plotly.v1+json", b"", "plotly", display_id)

    def _add(self, mime: str, data: bytes, trouble: Trouble, display_id: str | None) -> None:
        from hashlib import blake2b  # not for every kernel that loads the magics

        digest = blake2b(data).hexdigest() if data else f"{trouble}-{len(self._displays)}"
        cell = cell_id(self._shell) or self._cell
        count = max(0, len(self._shell.user_ns.get("In", ())) - 1)
        with self._lock:
            if display_id is not None:
                for display in [display for display in self._displays if display.display_id == display_id]:
                    self._displays.remove(display)
                self._let_unused_go()
            self._displays.append(_Display(digest, mime, cell, count, display_id, trouble))
            if data:
                self._bytes[digest] = data
                self._bytes.move_to_end(digest)
                self._make_room()

    def _let_unused_go(self) -> None:
        """Let bytes go that no output shows any more, as the frames of an animation: they would push others out."""
        used = {display.digest for display in self._displays}
        for digest in [digest for digest in self._bytes if digest not in used]:
            del self._bytes[digest]

    def _make_room(self) -> None:
        total = self.size_bytes
        if total <= LEAST_LIMIT_BYTES:
            return
        limit = self._limit_bytes()
        while self._bytes and total > limit:
            _, data = self._bytes.popitem(last=False)
            total -= len(data)

    # ------------------------------------------------------------ finding

    @property
    def size_bytes(self) -> int:
        """The bytes of all pictures that are kept."""
        return sum(len(data) for data in self._bytes.values())

    def newest(self, count: int = 1) -> list[Shown]:
        """Return the `count` different pictures displayed last, in the order in which they were displayed."""
        found: dict[str, Shown] = {}
        with self._lock:
            for display in reversed(self._displays):
                if display.digest not in found:
                    found[display.digest] = self._show(display)
                if len(found) == count:
                    break
        return list(found.values())[::-1]

    def of_cell(self, cell: str) -> list[Shown]:
        """Return the pictures of a cell, by its id or its execution count, in the order of display."""
        with self._lock:
            return [
                self._show(display)
                for display in self._displays
                if cell in (display.cell, str(display.execution_count))
            ]

    def _show(self, display: _Display) -> Shown:
        data = self._bytes.get(display.digest, b"")
        trouble: Trouble = display.trouble or ("" if data else "let-go")
        return Shown(display.mime, data, display.cell, display.execution_count, trouble)

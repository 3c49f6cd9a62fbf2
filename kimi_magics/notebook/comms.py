"""Comms that a front end can use while a cell runs, and that leave the running cell alone.

ipykernel 7 hands the messages of a comm to a subshell, where the front end asks for one. Four of its habits are in the
way; each cure is guarded, so that a version without the habit is left as it is (1 to 3 seen with ipykernel 7.4.0):

1. A comm's messages go to the shell that last published on it, which is the running cell's own: they would wait for its
   end. `tame` lets them go where the front end sent them.
2. `handle_msg` of the package `comm` triggers `pre_execute` and `post_execute` around each message. On a subshell that
   closes the figures which another cell is drawing (https://github.com/ipython/ipykernel/issues/1564).
3. Each message becomes the parent of what threads print from then on, and front ends drop it. `CellParents` puts the
   cell back in that place; better, where it can be, `keep_quiet` does not let them come there at all.
4. Before 7.4 a reply is sent past the stream that reads requests, and may take its wake-up away: a message that comes
   just then, as a page's question at the end of a cell does, is never read, nor is any after it
   (https://github.com/ipython/ipykernel/issues/1554). `mend_replies` sends replies as 7.4 does.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary


class CellParents:
    """Remembers to which cell the output of threads belongs; made while that cell runs."""

    def __init__(self, shell: Any) -> None:
        self.kernel = getattr(shell, "kernel", None)
        self._values = self._read(shell)

    @staticmethod
    def _read(shell: Any) -> list[tuple[Any, str, Any]]:
        kernel = getattr(shell, "kernel", None)
        outlets = (shell, shell.displayhook, shell.display_pub, sys.stdout, sys.stderr)
        places = [(outlet, "_parent_header_global") for outlet in outlets] + [(kernel, "_shell_context")]
        return [(place, name, getattr(place, name)) for place, name in places if hasattr(place, name)]

    def restore(self) -> None:
        """Let the output of threads belong to that cell again."""
        for place, name, value in self._values:
            setattr(place, name, value)


class LatestParents(CellParents):
    """The parents of the cell that ran last, for a widget that outlives its cell."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._shell = shell

    def open(self) -> None:
        """Begin to watch the cells."""
        self._shell.events.register("pre_run_cell", self._renew)

    def close(self) -> None:
        """Watch no more."""
        with suppress(ValueError):
            self._shell.events.unregister("pre_run_cell", self._renew)

    def _renew(self, _info: object = None) -> None:
        self._values = self._read(self._shell)


def tame(comm: Any, handle: Callable[[Mapping[str, Any]], None], *, parents: CellParents) -> None:
    """Let `handle` take the data of each message of `comm`, on the subshell that the front end chose."""
    _take_over(comm, lambda message: handle(message["content"]["data"]), parents=parents)


def tame_widget(widget: Any, *, parents: CellParents) -> None:
    """Let a widget take its messages as it does, on the subshell that the front end chose."""
    # The whole message: a widget looks for buffers beside the data.
    _take_over(widget.comm, widget._handle_msg, parents=parents)


def _take_over(comm: Any, handle: Callable[[Mapping[str, Any]], None], *, parents: CellParents) -> None:
    is_quiet = keep_quiet(parents.kernel, comm.comm_id)

    def handle_message(message: Mapping[str, Any]) -> None:
        try:
            handle(message)
        finally:
            parents.restore()

    comm.handle_msg = handle if is_quiet else handle_message
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, default: default


_MANY_NAMES = 64
#: By kernel, what names the messages that do not become parents: the ids of comms, and targets that open one.
_QUIET: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def keep_quiet(kernel: Any, name: str) -> bool:
    """Let the messages of a comm, or those that open one of a target, not become the parent of what threads print.

    Returns False where ipykernel works in another way, and `CellParents` has to do. Between the moment at which a
    message becomes the parent and the handler that could undo it, a thread of the user may print.
    """
    from comm import get_comm_manager

    parent: Any = getattr(kernel, "_shell_parent", None)
    ident: Any = getattr(kernel, "_shell_parent_ident", None)
    if not hasattr(parent, "set") or not hasattr(ident, "set"):
        return False
    if kernel in _QUIET:
        names = _QUIET[kernel]
        names.add(name)
        if len(names) > _MANY_NAMES:
            # Each answer brings a comm, which is closed with it.
            manager = get_comm_manager()
            names &= {*manager.comms, *manager.targets, name}
        return True
    names = _QUIET[kernel] = {name}
    set_parent = kernel.set_parent

    def set_parent_of_others(idents: Any, message: Mapping[str, Any], channel: str = "shell") -> None:
        content = message.get("content", {})
        if channel == "shell" and names & {content.get("comm_id"), content.get("target_name")}:
            # For the thread that answers this message, and for no other.
            ident.set(idents)
            parent.set(message)
        else:
            set_parent(idents, message, channel)

    kernel.set_parent = set_parent_of_others
    return True


def end_quiet(kernel: Any) -> None:
    """Let every message become a parent again."""
    if _QUIET.pop(kernel, None) is not None:
        del kernel.set_parent


def mend_replies(kernel: Any) -> None:
    """Let replies go through the stream that reads requests, where ipykernel sends them past it."""
    thread: Any = getattr(kernel, "shell_channel_thread", None)
    stream: Any = getattr(kernel, "shell_stream", None)
    # The manager takes the socket over from the thread, but not yet while the kernel starts.
    places: list[Any] = [thread, getattr(thread, "_manager", None)]
    for place in places:
        past = getattr(place, "_shell_socket", None)
        if past is not None and getattr(stream, "socket", None) is past:
            # All that is done with it is `send_multipart`, which a stream has, too; both in one and the same thread.
            place._shell_socket = stream


def has_subshells(shell: Any) -> bool:
    """Tell whether the kernel can take messages while a cell runs, if the front end asks for it."""
    return bool(getattr(getattr(shell, "kernel", None), "_supports_kernel_subshells", False))


def find_main_loop(shell: Any) -> Callable[[Callable[[], None]], object] | None:
    """Return what has a job done on the main thread between two cells; None without a kernel, as in a terminal."""
    loop = getattr(getattr(shell, "kernel", None), "io_loop", None)
    return getattr(loop, "add_callback", None)


def interrupt_main_thread() -> None:
    """Raise KeyboardInterrupt in the main thread, also where it waits for the network."""
    if hasattr(signal, "pthread_kill"):
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGINT)
    else:  # Windows: takes effect when the next piece comes
        import _thread

        _thread.interrupt_main()


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Let the block end before a KeyboardInterrupt is raised; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt

"""Interrupts that wait until something is whole.

An interrupt raises KeyboardInterrupt between any two steps of the main thread: in the middle of a transaction it leaves
a connection that nobody can use, or is lost in a clean-up of the database's library.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold interrupts back until the end of the block, which is short; then they come as ever."""
    before = signal.getsignal(signal.SIGINT)
    # Other threads are never interrupted; what is not callable does not raise.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(*held[0])

"""How soon a replayed answer is there, and what looking for one costs: `uv run python tests/benchmarks/replay.py`."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path

from kimi_magics.core.ask import Ask
from kimi_magics.core.events import Event, Replayed, TextDelta
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.recording import Recording
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Usage
from kimi_magics.errors import KimiError
from kimi_magics.notebook.replaying import NO_RECALL, Recall
from kimi_magics.notebook.session import Session
from kimi_magics.sandbox import Sandbox, SandboxOptions
from kimi_magics.store.replays import Replays
from kimi_magics.store.replays_values import Answer

KEPT = Recall(replays=True, keeps=True)
#: An answer of some length.
TEXT = "A sentence of an answer that is neither short nor long. " * 40


class FirstPiece:
    """A view that notes when the first piece of the answer came."""

    def __init__(self) -> None:
        self.at: float | None = None

    def begin(self, reply: Reply) -> None:
        """Wait."""

    def show(self, reply: Reply, event: Event) -> None:
        """Note the time once."""
        if self.at is None and isinstance(event, TextDelta):
            self.at = time.perf_counter()

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Do nothing more."""


@contextmanager
def open_session() -> Iterator[Session]:
    """A session with a home of its own, and a sandbox that answers as fast as it can."""
    before = {name: os.environ.get(name) for name in ("KIMI_MAGICS_HOME", "MOONSHOT_BASE_URL", "MOONSHOT_API_KEY")}
    with tempfile.TemporaryDirectory() as home, Sandbox(options=SandboxOptions()) as sandbox:
        os.environ |= {
            "KIMI_MAGICS_HOME": home,
            "MOONSHOT_BASE_URL": sandbox.base_url,
            "MOONSHOT_API_KEY": "sandbox",
        }
        session = Session()
        try:
            yield session
        finally:
            session.close()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def build(session: Session, text: str = "Tell me of tokens") -> Prompt:
    """Return a request without reasoning, whose answer begins at once."""
    return session.build(Ask(text=text, thinking="off"), variables={})


def measure_first_piece(session: Session, prompt: Prompt, recall: Recall, times: int) -> float:
    """Return the median milliseconds from the call to the first piece of its answer."""
    taken = []
    for _ in range(times):
        view, began = FirstPiece(), time.perf_counter()
        session.call(prompt, reply=session.open_reply(prompt), view=view, recall=recall)
        assert view.at is not None
        taken.append(1000 * (view.at - began))
    return statistics.median(taken)


def fill(replays: Replays, count: int) -> None:
    """Keep so many answers."""
    first = Replayed(Usage(400, 500), Decimal("0.0024"), "USD", date(2026, 11, 20))
    recording = Recording((TextDelta(TEXT),))
    for number in range(count):
        replays.put(Answer(f"{number:064d}", recording.pieces, first), recording.encode(), host="h", model="m")


def measure(job: Callable[[], object], times: int) -> float:
    """Return the median milliseconds of a job."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        job()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def main(answers: int = 10_000) -> None:
    """Print the figures."""
    with open_session() as session:
        prompt = build(session)
        measure_first_piece(session, prompt, KEPT, 2)
        replayed = measure_first_piece(session, prompt, KEPT, 30)
        print(f"first piece of a replay: {replayed:.1f} ms")
        print(f"  of a call of a sandbox on this machine: {measure_first_piece(session, prompt, NO_RECALL, 15):.1f} ms")
    with tempfile.TemporaryDirectory() as folder:
        replays = Replays(limit_bytes=lambda: 100_000_000, home=Path(folder))
        fill(replays, 1)
        print(f"to look for what is not there: {measure(lambda: replays.find('x'), 200):.2f} ms among few answers")
        fill(replays, answers)
        print(f"  among {answers:,}: {measure(lambda: replays.find('x'), 200):.2f} ms")
        print(f"to keep one among {answers:,}: {measure(lambda: fill(replays, 1), 50):.2f} ms")
        print(f"size: {replays.path.stat().st_size / 1e6:.0f} MB")
        replays.close()


if __name__ == "__main__":
    main()

"""What a growing answer costs: the live view beside a loop by hand, in a real kernel and in a real browser.

    uv run python tests/benchmarks/views.py             500, 5,000 and 50,000 chunks as fast as they come
    uv run python tests/benchmarks/views.py --quick     without the 50,000
    uv run python tests/benchmarks/views.py --paced     5,000 chunks at 200 a second, as a model sends them
    uv run python tests/benchmarks/views.py --browser   the same in JupyterLab, with Chromium

A kernel in a process of its own asks a server in another one, in ways that take turns: `plain` reads with httpx and
json and shows nothing, `once` is `%%kimi` that shows the answer at its end, `kimi` is `%%kimi` with the live view, and
`hand` is the plain loop with an update of the whole text per chunk.
The least wall and CPU time of several rounds count, since noise only ever adds time; of the messages, the most.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from served import run_server

from kimi_magics.sandbox import Sandbox, SandboxOptions

CHUNK_CHARACTERS = 16
MARK = "Pause number {}."
WAYS = ("plain", "once", "kimi", "hand")
#: Where the loop by hand is stopped: it takes the square of the text.
HAND_LIMITS = {"most_seconds": 40, "most_characters": 1e9}
_SECONDS = 120
_WORDS = re.findall(
    r"\w+",
    "a the kernel page cell answer token model prompt price chunk stream widget message notebook output browser reader "
    "is has sends takes shows grows waits keeps draws counts and but because where when slowly often never at with of "
    "naïve café über 言葉 größer",
)


# ---------------------------------------------------------------- the answer


def write_markdown(length: int) -> str:
    """Return an answer of this many characters with all that models write; always the same."""
    chance, sections, written = random.Random(7), [], 0
    while written < length:
        sections.append(_write_section(chance, len(sections) + 1))
        written += len(sections[-1])
    return "".join(sections)[:length]


def _write_section(chance: random.Random, number: int) -> str:
    def say(least: int, most: int) -> str:
        return " ".join(chance.choices(_WORDS, k=chance.randint(least, most))).capitalize()

    rows = "\n".join(f"| {say(1, 2)} | {chance.randint(1, 9999):,} | `{say(1, 1)}` |" for _ in range(4))
    items = "\n".join(f"- **{say(1, 2)}**: {say(5, 15)}" for _ in range(4))
    steps = "\n".join(f"{step}. {say(4, 12)}" for step in range(1, 4))
    lines = "\n".join(f"    total += {word!r}.count(x) * {chance.randint(2, 9)}" for word in chance.sample(_WORDS, 5))
    return (
        f"## {number}. {say(2, 5)}\n\n"
        f"{say(20, 60)}, as *{say(2, 3)}* and `value_{number}` show. {say(10, 30)}: $x_{number} = \\sqrt{{n + 1}}$.\n\n"
        f"{items}\n\n### {say(2, 4)}\n\n{say(20, 50)}. See [the manual](https://example.org/{number}).\n\n"
        f"| What | How many | Name |\n|---|---:|---|\n{rows}\n\n"
        f"```python\ndef count_{number}(x):\n    total = 0\n{lines}\n    return total\n```\n\n"
        f"{steps}\n\n$$\\sum_{{i=1}}^{{{number}}} i^2 \\le \\frac{{a_{number}}}{{b}}$$\n\n> {say(10, 30)}.\n\n"
    )


@dataclass(frozen=True)
class Shape:
    """How an answer comes: its chunks, the seconds between them, and the chunks before which the model pauses."""

    chunks: int
    chunk_seconds: float = 0.0
    pauses: tuple[int, ...] = ()
    pause_seconds: float = 0.0
    chunk_characters: int = CHUNK_CHARACTERS

    def build_texts(self) -> list[str]:
        """Return the text of each chunk; the last one before a pause says its number, so that it can be found."""
        size = self.chunk_characters
        text = write_markdown(self.chunks * size)
        texts = [text[start : start + size] for start in range(0, len(text), size)]
        for number, place in enumerate(self.pauses):
            texts[place - 1] = f"\n\n{MARK.format(number)}\n\n"
        return texts


def build_stream(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Return the stream of these texts as the API sends it, usage on the last choice."""
    head = {"id": "cmpl-benchmark", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "kimi-k2.6"}

    def line(delta: dict, finish: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
        return b"data: " + json.dumps(head | {"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"

    usage = {"prompt_tokens": 10, "completion_tokens": len(texts), "total_tokens": len(texts) + 10}
    first, last = line({"role": "assistant", "content": ""}), line({}, "stop", usage=usage)
    return (first, *(line({"content": text}) for text in texts), last, b"data: [DONE]\n\n")


# ---------------------------------------------------------------- the server


class PacedPieces:
    """The pieces of a stream, each in its time; it prints when a pause begins and ends.

    It sleeps in the sandbox's loop, which has nobody else to serve.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._pieces = build_stream(shape.build_texts())

    def __iter__(self) -> Iterator[bytes]:
        due = time.monotonic()
        for index, piece in enumerate(self._pieces):
            if index - 1 in self._shape.pauses:  # one piece comes before the text
                began = time.time()
                time.sleep(self._shape.pause_seconds)
                print(json.dumps([began, time.time()]), flush=True)
                due = time.monotonic()
            due += self._shape.chunk_seconds
            time.sleep(max(0.0, due - time.monotonic()))
            yield piece


def serve(shape: Shape) -> None:
    """Serve the stream until standard input ends; what the server process runs."""
    is_paced = bool(shape.chunk_seconds or shape.pauses)
    pieces = PacedPieces(shape) if is_paced else build_stream(shape.build_texts())
    # The rate does not pace what is replayed, but lets each piece go at once.
    options = SandboxOptions(replay=pieces, tokens_per_second=1.0 if is_paced else None)
    with Sandbox(options=options) as sandbox:
        print(sandbox.base_url, flush=True)
        sys.stdin.read()


@dataclass
class Served:
    """A running server."""

    base_url: str
    process: subprocess.Popen[str]

    def read_pause(self) -> tuple[float, float]:
        """Return when the next pause began and ended; the answer must be over."""
        began, ended = json.loads(self.process.stdout.readline())
        return began, ended


@contextmanager
def server(shape: Shape) -> Iterator[Served]:
    """Serve the stream from a process of its own."""
    with run_server(__file__, json.dumps(asdict(shape))) as process:
        yield Served(process.stdout.readline().strip(), process)


# ---------------------------------------------------------------- the kernel


class Sent(NamedTuple):
    """A message of a comm: when it was made, when it came, and its data."""

    made: float
    came: float
    data: dict[str, Any]


@dataclass
class Ran:
    """What a cell did: its figures, and its iopub messages."""

    wall: float = 0.0
    cpu: float = 0.0
    characters: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    size: int = 0
    printed: str = ""
    sent: list[Sent] = field(default_factory=list)

    @property
    def messages(self) -> int:
        """How many messages came."""
        return self.kinds.total()


class Kernel:
    """A kernel with the extension and `ways.py`, whose iopub messages are read as raw frames, so that none is lost."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client
        self.run(f"%load_ext kimi_magics\n%run {Path(__file__).with_name('ways.py')}")

    def measure(self, way: str, served: Served, **limits: float) -> Ran:
        """Run one of the ways."""
        ran = self.run(f"measure({way!r}, {served.base_url!r}, **{limits!r})")
        for name, value in json.loads(ran.printed.splitlines()[-1]).items():
            setattr(ran, name, value)
        return ran

    def run(self, code: str) -> Ran:
        """Run a cell as a live front end does."""
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        session = self.client.session
        message = session.msg("execute_request", content, metadata={"cellId": "benchmark"})
        self.client.shell_channel.send(message)
        ran = Ran()
        while True:
            frames, came = self._receive(), time.time()
            _, (_, header, parent, _, body, *_) = session.feed_identities(frames)
            if json.loads(parent).get("msg_id") != message["header"]["msg_id"]:
                continue
            about = json.loads(header)
            kind = about["msg_type"]
            ran.kinds[kind] += 1
            ran.size += sum(map(len, frames))
            if kind == "comm_msg":
                ran.sent.append(Sent(datetime.fromisoformat(about["date"]).timestamp(), came, json.loads(body)["data"]))
            elif kind == "stream":
                ran.printed += json.loads(body)["text"]
            elif kind == "error":
                raise RuntimeError("\n".join(json.loads(body)["traceback"]))
            elif kind == "status" and json.loads(body)["execution_state"] == "idle":
                break
        self.client.get_shell_msg(timeout=_SECONDS)
        return ran

    def _receive(self) -> list[bytes]:
        socket = self.client.iopub_channel.socket
        if not socket.poll(_SECONDS * 1000):
            raise TimeoutError(f"the kernel said nothing for {_SECONDS} s")
        return socket.recv_multipart()


@contextmanager
def kernel() -> Iterator[Kernel]:
    """Start a kernel that keeps its files in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        manager = KernelManager(kernel_name="python3", connection_file=f"{folder}/kernel.json")
        manager.start_kernel(extra_arguments=["--log-level=ERROR"], env=_build_environment(folder))
        client = manager.client()
        client.context.setsockopt(zmq.RCVHWM, 0)
        try:
            client.start_channels()
            client.wait_for_ready(timeout=_SECONDS)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()


def _build_environment(folder: str) -> dict[str, str]:
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    return kept | {
        "KIMI_MAGICS_HOME": f"{folder}/kimi_magics",
        "IPYTHONDIR": f"{folder}/ipython",
        "MOONSHOT_API_KEY": "sandbox",
    }


# ---------------------------------------------------------------- what was sent


@dataclass
class Screen:
    """What a page shows of the answer, by the messages so far: what `reply.js` does, without the drawing."""

    number: int = 0
    blocks: list[str] = field(default_factory=list)

    def take(self, data: dict[str, Any]) -> None:
        """Take the data of a message of the comm."""
        if data["method"] != "custom":
            return
        content = data["content"]
        assert content["number"] == self.number + 1
        self.number += 1
        if "all" in content:
            self.blocks = [block[0] for block in content["all"]["text"]]
        for part, block, keep, add, *_ in content.get("patches", ()):
            assert part == "text"
            before = "" if block == len(self.blocks) else self.blocks.pop(block)
            start = before.encode("utf-16-le")[: 2 * keep].decode("utf-16-le")
            self.blocks.insert(block, start + add)

    @property
    def text(self) -> str:
        """All blocks."""
        return "\n\n".join(self.blocks)


def find_when_shown(sent: Sequence[Sent], text: str) -> float:
    """Return when the message came that completed `text`."""
    screen = Screen()
    for message in sent:
        screen.take(message.data)
        if text in screen.text:
            return message.came
    raise AssertionError(f"never shown: {text}")


def count_in_busiest_second(sent: Sequence[Sent]) -> int:
    """Return the most messages that were made within one second."""
    times, first, most = [message.made for message in sent], 0, 0
    for last, made in enumerate(times):
        while made - times[first] > 1:
            first += 1
        most = max(most, last - first + 1)
    return most


# ---------------------------------------------------------------- the table


def best(rounds: Sequence[Ran]) -> Ran:
    """Return the least times and the most messages, which need not be of the same round."""
    most = max(rounds, key=lambda ran: ran.size)
    wall, cpu = min(ran.wall for ran in rounds), min(ran.cpu for ran in rounds)
    return replace(most, wall=wall, cpu=cpu)


def compare(kernel: Kernel, shape: Shape, *, ways: Sequence[str] = WAYS, rounds: int = 5) -> dict[str, Ran]:
    """Return the best of each way; the rounds alternate between them. What takes too long is run once."""
    ran: dict[str, list[Ran]] = {way: [] for way in ways}
    with server(shape) as served:
        for _ in range(rounds):
            for way in ways:
                if not (ran[way] and ran[way][0].wall > HAND_LIMITS["most_seconds"] / 4):
                    ran[way].append(kernel.measure(way, served, **HAND_LIMITS))
    return {way: best(done) for way, done in ran.items()}


def print_row(shape: Shape, way: str, ran: Ran, plain: Ran) -> None:
    """Print the figures of one way; `>` where it was stopped before the end."""
    characters = shape.chunks * CHUNK_CHARACTERS
    text = write_markdown(ran.characters).encode()
    is_stopped = ran.characters < characters
    mark = "> " if is_stopped else ""
    note = f"   stopped after {ran.characters // CHUNK_CHARACTERS:,} chunks" if is_stopped else ""
    cells = (
        f"{mark}{ran.wall:.3f} s",
        f"{mark}{ran.wall / plain.wall:.2f}",
        f"{mark}{ran.cpu / plain.cpu:.2f}",
        f"{mark}{ran.messages:,}",
        f"{mark}{ran.size:,}",
        f"{mark}{ran.size / len(text):.1f}",
        str(count_in_busiest_second(ran.sent)) if ran.sent else "",
    )
    print(f"{shape.chunks:>7,}  {way:<6}" + _align(cells) + note, flush=True)


def print_table(shapes: Sequence[Shape], *, rounds: int) -> None:
    """Measure and print."""
    titles = ("wall", "ratio", "CPU ratio", "messages", "bytes", "by text", "per second")
    print(f"{'chunks':>7}  {'way':<6}" + _align(titles))
    with kernel() as running:
        compare(running, Shape(200), rounds=2)  # imports, connections
        for shape in shapes:
            ran = compare(running, shape, rounds=rounds)
            for way in WAYS:
                print_row(shape, way, ran[way], ran["plain"])


def _align(cells: Sequence[str]) -> str:
    widths = (11, 9, 10, 10, 16, 10, 11)
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the 50,000 chunks; fewer of them with --browser")
    parser.add_argument("--paced", action="store_true", help="at 200 chunks a second")
    parser.add_argument("--browser", action="store_true", help="in JupyterLab, with Chromium")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", metavar="SHAPE", help="be the server of an answer of this shape, as JSON")
    chosen = parser.parse_args()
    if chosen.serve:
        serve(Shape(**json.loads(chosen.serve)))
    elif chosen.browser:
        from views_in_browser import main as measure_in_browser

        measure_in_browser(sys.modules[__name__], is_quick=chosen.quick)
    elif chosen.paced:
        print_table([Shape(1_000 if chosen.quick else 5_000, 0.005)], rounds=1)
    else:
        print_table([Shape(n) for n in ((500, 5_000) if chosen.quick else (500, 5_000, 50_000))], rounds=chosen.rounds)


if __name__ == "__main__":
    main()

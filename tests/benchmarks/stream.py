"""How fast a stream becomes a reply, beside a hand-written loop over httpx in the same run.

    uv run python tests/benchmarks/stream.py            prints the table
    uv run python tests/benchmarks/stream.py --quick    a smaller one, as the tests use it

Both sides read the same bytes from the same server, a process of its own on this machine; rounds alternate between
them, and the best of each counts, since noise only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from served import run_server

from kimi_magics.client.http import KimiClient
from kimi_magics.core.events import TextDelta
from kimi_magics.core.messages import Message
from kimi_magics.core.models import DEFAULT_MODEL
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.sandbox import Sandbox, SandboxOptions
from kimi_magics.store.catalog import load_catalog

CHUNKS = 50_000
CHUNK_BYTES = 200


def build_stream(chunks: int) -> tuple[bytes, ...]:
    """Return a stream as the API sends it: `chunks` content deltas of about 200 bytes, usage on the last choice."""
    head = {"id": "cmpl-benchmark", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": DEFAULT_MODEL}

    def line(delta: dict, finish: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
        return b"data: " + json.dumps(head | {"choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"

    padding = CHUNK_BYTES - len(line({"content": ""}))
    words = ("token " * CHUNK_BYTES)[:padding]
    usage = {"prompt_tokens": 10, "completion_tokens": chunks, "total_tokens": chunks + 10}
    return (
        line({"role": "assistant", "content": ""}),
        *([line({"content": words})] * chunks),
        line({}, "stop", usage=usage),
        b"data: [DONE]\n\n",
    )


def serve(chunks: int) -> None:
    """Serve the stream until standard input ends; what the server process runs."""
    with Sandbox(options=SandboxOptions(replay=build_stream(chunks))) as sandbox:
        print(sandbox.base_url, flush=True)
        sys.stdin.read()


@contextmanager
def server(chunks: int) -> Iterator[str]:
    """Serve the stream from another process; yields its address."""
    with run_server(__file__, str(chunks)) as process:
        yield process.stdout.readline().strip()


@dataclass
class Timed:
    """Seconds to the first piece of text and to the end, seconds of this process's CPU, and how much text there was."""

    first: float
    whole: float
    cpu: float
    characters: int


def read_by_hand(base_url: str) -> Callable[[], Timed]:
    """The plain loop: httpx stream → iter_lines → json.loads."""
    client = httpx.Client(base_url=base_url, headers={"Authorization": "Bearer sandbox"}, timeout=600, trust_env=False)
    body = {"model": DEFAULT_MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}

    def read() -> Timed:
        started, cpu, first = time.perf_counter(), time.process_time(), 0.0
        parts, usage = [], None
        with client.stream("POST", "chat/completions", json=body) as response:
            for line in response.iter_lines():
                if not line.startswith("data: "):
                    continue
                data = line[6:]
                if data == "[DONE]":
                    break
                choice = json.loads(data)["choices"][0]
                usage = choice.get("usage") or usage
                content = choice["delta"].get("content")
                if content:
                    first = first or time.perf_counter()
                    parts.append(content)
        text = "".join(parts)
        return Timed(first - started, time.perf_counter() - started, time.process_time() - cpu, len(text))

    return read


def read_by_client(base_url: str) -> Callable[[], Timed]:
    """Ours: through the client and the fold into a `Reply`."""
    client = KimiClient(base_url, "sandbox", catalog=load_catalog())
    prompt = Prompt(load_catalog().get(DEFAULT_MODEL), (Message("user", "hi"),))

    def read() -> Timed:
        started, cpu, first = time.perf_counter(), time.process_time(), 0.0
        reply = Reply(DEFAULT_MODEL)
        for event in client.send(prompt):
            reply.add(event)
            if not first and isinstance(event, TextDelta):
                first = time.perf_counter()
        assert reply.usage.prompt_tokens == 10
        text = reply.text
        return Timed(first - started, time.perf_counter() - started, time.process_time() - cpu, len(text))

    return read


def compare(chunks: int, rounds: int) -> tuple[Timed, Timed, float]:
    """Return the best of each side, hand-written first, and the median difference of the first piece in ms.

    Best means: the least wall time and the least CPU time, which need not be of the same round.
    """
    with server(chunks) as base_url:
        by_hand, by_client = read_by_hand(base_url), read_by_client(base_url)
        by_hand(), by_client()  # connections, caches
        pairs = [(by_hand(), by_client()) for _ in range(rounds)]
    hands, clients = zip(*pairs, strict=True)
    assert {timed.characters for timed in hands} == {timed.characters for timed in clients}
    later = statistics.median(client.first - hand.first for hand, client in pairs) * 1000
    return best(hands), best(clients), later


def best(rounds: Sequence[Timed]) -> Timed:
    """Return the least of each figure."""
    return Timed(
        *(min(getattr(timed, name) for timed in rounds) for name in ("first", "whole", "cpu")), rounds[0].characters
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", type=int, metavar="N", help="be the server of N chunks")
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    print(
        f"{'chunks':>8} {'by hand':>9} {'client':>9} {'ratio':>6} {'CPU ratio':>10} {'µs/chunk':>9} {'first piece':>12}"
    )
    seconds: dict[int, float] = {}
    for chunks in (500, 5_000) if chosen.quick else (500, 5_000, CHUNKS):
        hand, client, later = compare(chunks, rounds=5)
        seconds[chunks] = client.whole
        print(
            f"{chunks:>8,} {hand.whole:>8.3f}s {client.whole:>8.3f}s"
            f" {client.whole / hand.whole:>6.2f} {client.cpu / hand.cpu:>10.2f}"
            f" {client.whole / chunks * 1e6:>9.1f} {later:>+9.2f} ms"
        )
    *_, before, last = sorted(seconds)
    print(f"10 times the chunks take {seconds[last] / seconds[before]:.1f} times as long")


if __name__ == "__main__":
    main()

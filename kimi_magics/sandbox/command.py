"""`kimi-magics sandbox`: serve until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from kimi_magics.sandbox.faults import PRESETS, Fault, build_preset
from kimi_magics.sandbox.options import SandboxOptions

if TYPE_CHECKING:
    import argparse

_DEMO_TOKENS_PER_SECOND = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    parser.add_argument("--port", type=int, default=0, help="the port on 127.0.0.1 (default: any that is free)")
    parser.add_argument("--key", default="sandbox", help="the only API key accepted (default: %(default)s)")
    parser.add_argument("--rpm", type=int, metavar="N", help="refuse more than N completions a minute")
    parser.add_argument("--concurrency", type=int, metavar="N", help="refuse more than N completions at once")
    parser.add_argument(
        "--usage",
        choices=("choice", "chunk", "extra"),
        default="choice",
        help="where a stream states its usage (default: %(default)s)",
    )
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        metavar="N",
        default=_DEMO_TOKENS_PER_SECOND,
        help="the speed of an answer, 0 for as fast as possible (default: %(default)g)",
    )
    parser.add_argument(
        "--fault",
        nargs="+",
        action="extend",
        default=[],
        type=read_fault_argument,
        metavar="NAME[:TIMES]",
        help="let the next completions fail, each once or TIMES (a number or 'always'): " + ", ".join(PRESETS),
    )


def read_fault_argument(argument: str) -> Fault:
    """Read `NAME`, `NAME:3` or `NAME:always`; ValueError, which argparse reports, for anything else."""
    name, _, times = argument.partition(":")
    if not times:
        return build_preset(name)
    return build_preset(name, times=None if times == "always" else int(times))


def run(arguments: argparse.Namespace) -> int:
    """Serve as the arguments say, until a signal comes; return the exit status."""
    from kimi_magics.sandbox.server import Sandbox

    sandbox = Sandbox(_read_options(arguments), arguments.port)
    try:
        sandbox.start()
    except OSError as error:
        sys.stderr.write(f"The sandbox cannot serve on port {arguments.port}: {error.strerror}\n")
        return 1
    try:
        for fault in arguments.fault:
            sandbox.fault(fault)
        sys.stdout.write(
            f"The sandbox speaks the Kimi API at {sandbox.base_url}; no model is called. Ctrl-C ends it.\n"
            f"export MOONSHOT_BASE_URL={sandbox.base_url}\n"
            f"export MOONSHOT_API_KEY={arguments.key}\n"
        )
        sys.stdout.flush()
        _wait_for_signal()
    finally:
        sandbox.stop()
    return 0


def _read_options(arguments: argparse.Namespace) -> SandboxOptions:
    return SandboxOptions(
        key=arguments.key,
        usage_place=arguments.usage,
        rpm=arguments.rpm,
        concurrency=arguments.concurrency,
        tokens_per_second=arguments.tokens_per_second or None,
    )


def _wait_for_signal() -> None:
    is_over = threading.Event()

    def end(number: int, frame: object) -> None:
        is_over.set()

    before: dict[int, Any] = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        is_over.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

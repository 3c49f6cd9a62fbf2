"""A server in a process of its own, so that it and what is measured have a core each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def run_server(script: str, argument: str) -> Iterator[subprocess.Popen[str]]:
    """Run `script --serve argument`, which prints its address and serves until its standard input ends."""
    command = [sys.executable, script, "--serve", argument]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

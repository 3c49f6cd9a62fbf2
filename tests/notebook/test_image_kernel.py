"""`last` in a real kernel: figures that the inline backend drew and closed, pictures of threads, cells by their id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kernels import FrontEnd, start_kernel

from kimi_magics.sandbox import Sandbox, SandboxOptions

PLOT = """
%matplotlib inline
import matplotlib.pyplot as plt
fig = plt.figure(figsize=({width}, 1), dpi=100)
fig.set_facecolor("{colour}")
plt.axis("off");
"""
THREAD = """
import threading
from IPython.display import display
from PIL import Image
thread = threading.Thread(target=lambda: display(Image.new("RGB", (77, 10), "red")))
thread.start(); thread.join()
"""


@pytest.fixture
def kernel(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with Sandbox(options=SandboxOptions()) as sandbox:
        monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        with start_kernel() as kernel:
            kernel.run("%load_ext kimi_magics")
            kernel.run("%kimi_config view=once")
            yield kernel


def ask(kernel: FrontEnd, name: str) -> list[tuple[str, str]]:
    """Return sizes and main colours of the pictures that arrived at the sandbox."""
    messages = kernel.run(f"%kimi -i {name} What are these?")
    texts = [message["content"]["data"]["text/plain"] for message in messages if message["msg_type"] == "display_data"]
    assert texts, [message["content"] for message in messages if message["msg_type"] == "error"]
    return re.findall(r"\| size \| (\d+ × \d+) pixels.*?main colours \| (\w+)", texts[0], re.DOTALL)


def test_what_a_page_showed_last_arrives(kernel: FrontEnd) -> None:
    kernel.run(PLOT.format(width=2, colour="navy"), cell="first")
    kernel.run(PLOT.format(width=3, colour="red"), cell="second")
    sizes = [int(size.split()[0]) for size, _ in ask(kernel, "last:2")]
    assert sizes == sorted(sizes)
    assert [colour for _, colour in ask(kernel, "last:2")] == ["navy", "red"]
    assert [colour for _, colour in ask(kernel, "cell:first")] == ["navy"]
    # Closed and changed since: what was seen is what is sent; the figure itself is what it is now.
    kernel.run("fig.set_facecolor('green')")
    assert [colour for _, colour in ask(kernel, "last")] == ["red"]
    assert [colour for _, colour in ask(kernel, "fig")] == ["green"]


def test_what_a_thread_displays_belongs_to_its_cell(kernel: FrontEnd) -> None:
    kernel.run(THREAD, cell="threads")
    assert ask(kernel, "last") == ask(kernel, "cell:threads") == [("77 × 10", "red")]

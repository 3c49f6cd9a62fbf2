"""Conversations in a real kernel: what the cells of a notebook send, whatever was run before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kernels import FrontEnd, start_kernel

from kimi_magics.sandbox import Sandbox

PAGE = "the-page"
CHAT = "chat/completions"


@pytest.fixture(scope="module")
def kernel() -> Iterator[FrontEnd]:
    """One kernel for all, as slow to start as it is."""
    with start_kernel() as front_end:
        yield front_end


@pytest.fixture
def notebook(kernel: FrontEnd, sandbox: Sandbox, environment: Any) -> Iterator[Notebook]:
    settings = {
        "MOONSHOT_BASE_URL": sandbox.base_url,
        "MOONSHOT_API_KEY": "sandbox",
        "KIMI_MAGICS_HOME": str(environment / "kimi_magics"),
    }
    kernel.run(f"import os; os.environ.update({settings!r})", cell="first")
    kernel.run("%load_ext kimi_magics", cell="first")
    yield Notebook(kernel, sandbox)
    kernel.run("%unload_ext kimi_magics", cell="first")


class Notebook:
    """Cells of one conversation, each with its text as its id, run as a front end runs them."""

    def __init__(self, kernel: FrontEnd, sandbox: Sandbox) -> None:
        self._kernel, self._sandbox = kernel, sandbox
        self._orders = 0

    def run(self, cell: str, *, text: str = "") -> list[str]:
        """Run a cell and return the texts of the user's messages that it sends."""
        before = len(self._sandbox.requests)
        self._kernel.run(f"%%kimi -c paper\n{text or cell}", cell=cell)
        sent = [one.body for one in self._sandbox.requests[before:] if one.path.endswith(CHAT)]
        return [message["content"] for message in sent[0]["messages"] if message["role"] == "user"] if sent else []

    def open_page(self) -> None:
        self._kernel.tell("comm_open", PAGE, {}, subshell=None, target="kimi_magics.gauge")

    def show(self, *cells: str) -> None:
        """Let the page tell the order of the cells, as it does before a cell runs."""
        self._orders += 1
        self._kernel.tell("comm_msg", PAGE, {"op": "order", "seq": self._orders, "cells": list(cells)}, subshell=None)

    def look(self, line: str) -> Any:
        """Return what a line prints as JSON."""
        told = self._kernel.run(line, cell="looking")
        return json.loads("".join(message["content"]["text"] for message in told if message["msg_type"] == "stream"))


def test_a_cell_that_is_run_again_replaces_its_turn_and_forgets_later_ones(notebook: Notebook) -> None:
    for cell in ("one", "two", "three"):
        notebook.run(cell)
    assert notebook.run("two", text="two, changed") == ["one", "two, changed"]
    turns = notebook.look("%kimi_chat paper --json")["turns"]
    assert [turn["state"] for turn in turns] == ["kept", "kept", "forgotten"]
    assert notebook.run("three") == ["one", "two, changed", "three"]
    assert notebook.run("one") == ["one"]


def test_from_top_to_bottom_the_messages_are_always_the_same(notebook: Notebook) -> None:
    first = [notebook.run(cell) for cell in ("one", "two", "three")]
    for cell in ("three", "one", "three", "two"):
        notebook.run(cell)
    assert [notebook.run(cell) for cell in ("one", "two", "three")] == first


def test_a_call_that_fails_leaves_no_turn(notebook: Notebook, sandbox: Sandbox) -> None:
    notebook.run("one")
    notebook.run("two")
    sandbox.fault("quota")
    notebook.run("two")
    assert notebook.run("three") == ["one", "three"]


def test_a_cell_takes_the_place_that_it_has_in_the_notebook(notebook: Notebook) -> None:
    notebook.open_page()
    notebook.show("one", "three")
    notebook.run("one")
    notebook.run("three")
    notebook.show("one", "two", "three")
    assert notebook.run("two") == ["one", "two"]
    assert notebook.run("three") == ["one", "two", "three"]
    notebook.show("two", "three")  # the first cell is deleted
    assert notebook.run("two") == ["two"]
    notebook.show("three", "two")  # moved
    assert notebook.run("three") == ["three"]
    assert notebook.run("two") == ["three", "two"]


def test_a_loop_makes_turns_of_one_cell_which_are_made_anew_with_it(notebook: Notebook, kernel: FrontEnd) -> None:
    loop = "for text in {texts!r}:\n    get_ipython().run_line_magic('kimi', f'-c paper {{text}}')"
    kernel.run(loop.format(texts=["a", "b", "c"]), cell="loop")
    assert notebook.run("after") == ["a", "b", "c", "after"]
    kernel.run(loop.format(texts=["d"]), cell="loop")
    assert notebook.run("after") == ["d", "after"]

"""A notebook that is run again: without a request, without a key, and with the same outputs, byte by byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from kernels import start_kernel
from nbclient import NotebookClient
from nbformat import NotebookNode

from kimi_magics.sandbox import Sandbox, SandboxOptions

SECONDS = 180
CELLS = (
    "%load_ext kimi_magics\n%kimi_config cache=on",
    "%%kimi -o first\nTell me of tokens",
    "%%kimi -c trip -s Brief.\nWhere to?",
    "%%kimi -c trip\nAnd then?",
    "def weather(city: str) -> str:\n    'Tell the weather.'\n    return '21 °C'",
    "%%kimi --tool weather -o second\nWhat is the weather in Paris?",
    "%%kimi --schema 'name, age int' -o third\nAda is 36",
    "print(len(first.text), second.calls[0].text, third.data)",
)
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def environment_of(home: Path, sandbox: Sandbox, *, key: str = "sandbox") -> dict[str, str]:
    return {
        **os.environ,
        "MOONSHOT_BASE_URL": sandbox.base_url,
        "MOONSHOT_API_KEY": key,
        "KIMI_MAGICS_HOME": str(home / "kimi_magics"),
        "IPYTHONDIR": str(home / "ipython"),
    }


def make_notebook() -> NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def execute(home: Path, sandbox: Sandbox, *, key: str = "sandbox") -> list[Any]:
    """Run the notebook in a kernel of its own; return the outputs of each cell."""
    notebook = make_notebook()
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", extra_arguments=["--log-level=ERROR"])
    client.execute(env=environment_of(home, sandbox, key=key))
    return [json.loads(json.dumps(cell.outputs)) for cell in notebook.cells]


def without_footers(outputs: list[Any]) -> list[Any]:
    """Return what is displayed of the answers, and what is printed."""
    return [[output.get("data") or output["text"] for output in cell][:1] for cell in outputs]


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(options=SandboxOptions()) as sandbox:
        yield sandbox


def test_run_all_of_an_unchanged_notebook_costs_nothing_and_changes_nothing(server: Sandbox, tmp_path: Path) -> None:
    first = execute(tmp_path, server)
    sent = len(server.requests)
    second = execute(tmp_path, server)
    third = execute(tmp_path, server, key="")

    assert sent >= 6
    assert len(server.requests) == sent
    # The first time the footers tell what was billed; from then on nothing differs, no time and no name.
    assert without_footers(second) == without_footers(first)
    assert third == second
    footers = [cell[-1]["data"]["text/plain"] for cell in second if cell and "data" in cell[-1]]
    assert len(footers) == 5
    assert all("replayed · " in footer and " · $0 · first $0.0" in footer for footer in footers)


def run_program(home: Path, sandbox: Sandbox, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module of Python as a program."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        env=environment_of(home, sandbox),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_papermill_and_nbval_see_the_same_outputs(server: Sandbox, tmp_path: Path) -> None:
    nbformat.write(make_notebook(), tmp_path / "in.ipynb")
    for name in ("first", "second"):
        ran = run_program(tmp_path, server, "papermill", "in.ipynb", f"{name}.ipynb", "--no-progress-bar")
        assert ran.returncode == 0, ran.stderr
    sent = len(server.requests)
    options = ("-q", "--nbval", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path)
    # What the second run saved holds without a rule for what differs: there is neither a time nor a price.
    ran = run_program(tmp_path, server, "pytest", *options, "second.ipynb")
    assert ran.returncode == 0, ran.stdout
    assert len(server.requests) == sent


def test_in_a_live_front_end_no_widget_is_left_and_the_outputs_are_those_of_the_first_run(
    server: Sandbox, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONSHOT_BASE_URL", server.base_url)
    monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
    with start_kernel() as front_end:
        front_end.run("%load_ext kimi_magics\n%kimi_config view=widget")
        first, second = (front_end.run("%%kimi --cache\nTell me of tokens") for _ in range(2))
        assert front_end.ask("shell", "comm_info_request") == {"comms": {}, "status": "ok"}
    assert len([request for request in server.requests if request.path.endswith("completions")]) == 1
    shown = [last_displays(messages) for messages in (first, second)]
    assert shown[0][0] == shown[1][0]
    assert "replayed · $0" in shown[1][1]["text/plain"]
    assert all(WIDGET_VIEW not in bundle for bundle in shown[1])


def last_displays(messages: list[dict]) -> list[dict]:
    """Return the bundles that are left: of each display the last, then what was displayed once."""
    bundles: dict[str, dict] = {}
    for number, message in enumerate(messages):
        if message["msg_type"] in ("display_data", "update_display_data"):
            content = message["content"]
            bundles[content.get("transient", {}).get("display_id") or str(number)] = content["data"]
    return list(bundles.values())

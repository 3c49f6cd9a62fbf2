"""The demo: the first notebook in JupyterLab against a sandbox, or run once without a browser.

The promise: it works on a copy in a folder of its own, listens on this machine only, needs no key, and leaves nothing
running and nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from kimi_magics.errors import ConfigError
from kimi_magics.sandbox import Sandbox, SandboxOptions

FIRST_NOTEBOOK = "01_first_question.ipynb"
_START_SECONDS = 90
_STOP_SECONDS = 15
#: A Lab that nobody uses any more ends by itself, also when this process was killed.
_IDLE_SECONDS = 7200


def find_notebooks() -> Path:
    """Return the folder of the notebooks: inside an installed package, or beside it in a clone."""
    package = Path(__file__).parents[1]
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if (folder / FIRST_NOTEBOOK).is_file():
            return folder
    raise ConfigError(
        "the notebooks of the demo are not installed", remedy="install kimi-magics again, or run it in a clone"
    )


def run_once() -> int:
    """Execute the first notebook headless and print what happened; return 0 only when every cell passed."""
    _require("nbclient", "ipykernel")
    import nbformat

    notebook = nbformat.read(find_notebooks() / FIRST_NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    with Sandbox(options=SandboxOptions(), port=0) as sandbox, _workplace(sandbox.base_url) as (folder, environment):
        failure = _execute(notebook, folder, environment)
    asked = 0
    for cell in notebook.cells:
        asked += sum(_print_answer(cell, output) for output in cell.get("outputs", ()))
    if failure:
        print(f"FAILED\n{failure}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{asked} answers from the sandbox; all cells of {FIRST_NOTEBOOK} passed.")  # noqa: T201
    return 0


def _execute(notebook: Any, folder: Path, environment: dict[str, str]) -> str:
    """Run all cells; return what failed, or an empty string."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        # ipykernel 7 warns about its own transport, which stays on this machine here.
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        client.execute(env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return str(error)
    return ""


def _print_answer(cell: Any, output: Any) -> bool:
    """Print prompt, answer, tokens and cost when the output carries the receipt of a call."""
    receipt = output.get("metadata", {}).get("kimi_magics")
    if not receipt:
        return False
    usage, cost = receipt["usage"], receipt["cost"]
    price = "unknown" if cost is None else f"{cost} {receipt['currency']}"
    lines = [
        "─" * 72,
        f"prompt   {cell.source.strip()}",
        "",
        output["data"].get("text/plain", "").strip(),
        "",
        f"tokens   {usage['prompt_tokens']} in ({usage['cached_tokens']} cached), {usage['completion_tokens']} out",
        f"cost     {price}",
    ]
    print("\n".join(lines))  # noqa: T201
    return True


def serve(*, opens_browser: bool) -> int:
    """Open JupyterLab on a copy of the first notebook, until Ctrl-C or SIGTERM; return the exit code."""
    _require("jupyterlab", "ipykernel")
    notebooks = find_notebooks()
    options = SandboxOptions(tokens_per_second=120)
    with Sandbox(options=options, port=0) as sandbox, _workplace(sandbox.base_url) as (folder, environment):
        for notebook in notebooks.glob("*.ipynb"):
            (folder / notebook.name).write_bytes(notebook.read_bytes())
        _silence_news(folder.parent)
        port, token = _free_port(), secrets.token_urlsafe(24)
        address = f"http://127.0.0.1:{port}/lab/tree/{FIRST_NOTEBOOK}?token={token}"
        # By the environment: a command line can be read by every user of the machine.
        environment["JUPYTER_TOKEN"] = token
        with _lab(folder, port, environment) as lab:
            if not _wait_until_ready(lab, port, folder):
                return 1
            has_opened = opens_browser and _has_screen() and webbrowser.open(address)
            opened = "JupyterLab is open in the browser" if has_opened else "JupyterLab is ready; open it in a browser"
            print(f"{opened}:\n\n    {address}\n\nThe answers come from a sandbox on this machine. Ctrl-C ends both.")  # noqa: T201
            sys.stdout.flush()
            with contextlib.suppress(KeyboardInterrupt), _terminate_as_interrupt():
                lab.wait()
            print("\nShutting down.")  # noqa: T201
    return 0


@contextlib.contextmanager
def _workplace(base_url: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a folder, and an environment in which Jupyter keeps everything inside it and Kimi means the sandbox."""
    with tempfile.TemporaryDirectory(prefix="kimi-magics-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        folder = root / "notebooks"
        folder.mkdir()
        environment = {
            **os.environ,
            "MOONSHOT_BASE_URL": base_url,
            "MOONSHOT_API_KEY": "sandbox",
            "KIMI_MAGICS_HOME": str(root / "kimi_magics"),
            "JUPYTER_CONFIG_DIR": str(root / "config"),
            "JUPYTER_DATA_DIR": str(root / "data"),
            "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(root / "lab-settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(root / "lab-workspaces"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": str(root / "ipython"),
            # matplotlib would warn in the first cell of a machine whose home cannot be written.
            "MPLCONFIGDIR": str(root / "matplotlib"),
        }
        yield folder, environment


def _silence_news(root: Path) -> None:
    """Spare the reader the question whether Jupyter may look for news, and the network the look."""
    folder = root / "lab-settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True)
    settings = {"fetchNews": "false", "checkForUpdates": False}
    (folder / "notification.jupyterlab-settings").write_text(json.dumps(settings), "utf-8")


@contextlib.contextmanager
def _lab(folder: Path, port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        f"--ServerApp.root_dir={folder}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.shutdown_no_activity_timeout={_IDLE_SECONDS}",
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]
    with (folder.parent / "lab.log").open("wb") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the Lab in order.
        process = subprocess.Popen(  # noqa: S603 — our own command, no shell
            command,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(lab: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and lab.poll() is None:
        # /api needs no token: it only tells the version.
        address = f"http://127.0.0.1:{port}/api"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return True
        time.sleep(0.2)
    log = (folder.parent / "lab.log").read_text("utf-8", errors="replace")
    print(f"JupyterLab did not start. The end of its log:\n{log[-2000:]}", file=sys.stderr)  # noqa: T201
    return False


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the demo in the same order as Ctrl-C."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _has_screen() -> bool:
    """Tell whether a graphical browser can open; a text browser would take the terminal over."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigError(f"the demo needs {' and '.join(missing)}", remedy="pip install 'kimi-magics[demo]'")

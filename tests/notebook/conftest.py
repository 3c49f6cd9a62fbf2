"""A shell with the extension loaded, and a way to run a cell and see what came out."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config


@dataclass
class Ran:
    """What a cell did: bundles displayed, text printed, the error that failed it."""

    bundles: list[dict[str, Any]]
    metadata: list[dict[str, Any]]
    stdout: str
    error: BaseException | None
    shown_error: str = ""


@dataclass
class Cells:
    """Runs cells in one shell."""

    shell: InteractiveShell
    errors: list[str] = field(default_factory=list)

    def run(self, source: str) -> Ran:
        """Run a cell; an error is returned, not raised."""
        with capture_output() as captured:
            result = self.shell.run_cell(source)
        error = result.error_in_exec or result.error_before_exec
        shown = "\n".join(error._render_traceback_()) if hasattr(error, "_render_traceback_") else str(error or "")
        bundles = [output._data if hasattr(output, "_data") else output.data for output in captured.outputs]
        metadata = [output.metadata or {} for output in captured.outputs]
        return Ran(bundles, metadata, captured.stdout, error, shown)

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns[name]


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A bare shell without history and colours."""
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    yield shell
    if "kimi_magics" in shell.extension_manager.loaded:
        shell.run_line_magic("unload_ext", "kimi_magics")
    atexit.unregister(shell.atexit_operations)
    # Else it collects all garbage of the process, which takes longer than most tests.
    shell.displayhook.do_full_cache = False
    shell.atexit_operations()
    InteractiveShell.clear_instance()


@pytest.fixture
def cells(shell: InteractiveShell) -> Cells:
    """The shell with `%load_ext kimi_magics` done."""
    shell.run_line_magic("load_ext", "kimi_magics")
    return Cells(shell)

"""IPython magics and a Jupyter extension for the Kimi API.

``%load_ext kimi_magics`` adds ``%%kimi`` and its companions. Importing the package pulls in neither IPython nor httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"
__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; called by ``%load_ext kimi_magics``."""
    from kimi_magics.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away again; called by ``%unload_ext kimi_magics``."""
    from kimi_magics.notebook.magics import unload

    unload(shell)

"""A local server that speaks the Kimi API: for the demo, the notebooks and every test.

It shares nothing with the rest of the product, so that a fault of ours is not mirrored, and its answers say that no
model was called. tornado and Pillow are imported only when `Sandbox` is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kimi_magics.sandbox.faults import PRESETS, Fault
from kimi_magics.sandbox.options import Request, SandboxOptions

if TYPE_CHECKING:
    from kimi_magics.sandbox.server import Sandbox

__all__ = ["PRESETS", "Fault", "Request", "Sandbox", "SandboxOptions"]


def __getattr__(name: str) -> object:
    """Import the server, and with it tornado, at first use."""
    if name == "Sandbox":
        from kimi_magics.sandbox.server import Sandbox

        return Sandbox
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""A kernel of its own, driven as a live front end does: by messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

SECONDS = 60


class FrontEnd:
    """A kernel and its one page: sends what a page sends, and keeps all that comes on iopub."""

    def __init__(self, client: BlockingKernelClient, *, seconds: float = SECONDS) -> None:
        self._client = client
        #: How long a message may take to come.
        self.seconds = seconds

    def run(
        self, code: str, *, cell: str = "abc", on_message: Callable[[dict], None] = lambda message: None
    ) -> list[dict]:
        """Run a cell; return what was told on iopub until its end, but for changes of state."""
        ran = self.start(code, cell=cell)
        return self.listen(lambda message: is_end(message, ran), on_message=on_message)

    def start(self, code: str, *, cell: str = "abc") -> str:
        """Begin to run a cell; return the id of its request."""
        content = {"code": code, "silent": False, "allow_stdin": False}
        return self._send("shell", "execute_request", content, metadata={"cellId": cell})

    def listen(
        self, is_last: Callable[[dict], bool], *, on_message: Callable[[dict], None] = lambda message: None
    ) -> list[dict]:
        """Return what is told on iopub up to the message that `is_last`, but for changes of state."""
        seen: list[dict] = []
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            message = self._client.get_iopub_msg(timeout=self.seconds)
            if message["msg_type"] != "status":
                seen.append(message)
                on_message(message)
            if is_last(message):
                return seen
        raise TimeoutError([message["msg_type"] for message in seen])

    def ask(self, channel: str, kind: str) -> dict[str, Any]:
        """Send a request and return the content of its reply."""
        asked = self._send(channel, kind, {})
        read = self._client.get_shell_msg if channel == "shell" else self._client.get_control_msg
        while True:
            reply = read(timeout=self.seconds)
            if reply["parent_header"].get("msg_id") == asked:
                return reply["content"]

    def wish(self, comm: str, wish: str, *, subshell: str) -> None:
        """Send a message to the widget, to be taken on a subshell."""
        self.tell("comm_msg", comm, {"method": "custom", "content": {"wish": wish}}, subshell=subshell)

    def tell(self, kind: str, comm: str, data: dict, *, subshell: str | None, target: str = "") -> str:
        """Send a message of a comm, `comm_open` with its target, `comm_msg` or `comm_close`; return its id."""
        content = {"comm_id": comm, "data": data} | ({"target_name": target} if target else {})
        return self._send("shell", kind, content, header={"subshell_id": subshell} if subshell else {})

    def _send(
        self, channel: str, kind: str, content: dict, *, metadata: dict | None = None, header: dict | None = None
    ) -> str:
        message = self._client.session.msg(kind, content, metadata=metadata or {})
        message["header"].update(header or {})
        getattr(self._client, f"{channel}_channel").send(message)
        return message["header"]["msg_id"]


def is_end(message: dict, ran: str) -> bool:
    """Tell whether a message says that the request `ran`, of a cell or a comm, is done with."""
    is_state = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
    return is_state and message["parent_header"].get("msg_id") == ran


@contextmanager
def start_client(specs: Path | None = None) -> Iterator[BlockingKernelClient]:
    """Run a kernel and be its client; it is ended with the block.

    It is one of this environment, or of the one whose kernels are described in the folder `specs`.
    """
    named = {"kernel_spec_manager": KernelSpecManager(kernel_dirs=[str(specs)])} if specs else {}
    manager = KernelManager(kernel_name="python3", **named)
    manager.start_kernel(extra_arguments=["--log-level=ERROR"])
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SECONDS)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


@contextmanager
def start_kernel() -> Iterator[FrontEnd]:
    """Run a kernel with a front end; both are ended with the block."""
    with start_client() as client:
        yield FrontEnd(client)

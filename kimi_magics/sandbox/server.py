"""The sandbox itself: a tornado server on the loopback address, in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Self

from tornado.httpserver import HTTPServer
from tornado.web import Application

from kimi_magics.sandbox.chat import ChatHandler
from kimi_magics.sandbox.control import ControlHandler
from kimi_magics.sandbox.faults import Fault, build_preset
from kimi_magics.sandbox.files import FileStore
from kimi_magics.sandbox.handlers import (
    BalanceHandler,
    EstimateHandler,
    FileHandler,
    FilesHandler,
    ModelsHandler,
    UnknownHandler,
)
from kimi_magics.sandbox.options import Request, SandboxOptions
from kimi_magics.sandbox.state import State

if TYPE_CHECKING:
    from types import TracebackType

    from tornado.web import RequestHandler

_ADDRESS = "127.0.0.1"
_LEAVE_SECONDS = 0.5
_MOST_BODY_BYTES = 1024 * 1024 * 1024  # above the API's limit, so that the refusal is the API's and not tornado's


class Sandbox:
    """A local server that speaks the Kimi API; use it with `with`, or with `start` and `stop`."""

    def __init__(self, options: SandboxOptions | None = None, port: int = 0) -> None:
        self.options = options or SandboxOptions()
        self._wanted_port = port
        self._port: int | None = None
        self._state = State(self.options)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve from now on; OSError when the port is taken. A sandbox that runs already stays as it is."""
        if self._thread is not None:
            return
        listener = socket.create_server((_ADDRESS, self._wanted_port), backlog=128)
        listener.settimeout(0)
        self._port = listener.getsockname()[1]
        is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, is_ready), name="kimi-sandbox", daemon=True)
        self._thread.start()
        is_ready.wait()

    def stop(self) -> None:
        """End all requests and the thread."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = self._loop = self._stop = None

    @property
    def port(self) -> int:
        """The port it serves on; RuntimeError before the start."""
        if self._port is None:
            raise RuntimeError("the sandbox has not been started")
        return self._port

    @property
    def base_url(self) -> str:
        """The address to give to a client, `http://127.0.0.1:PORT/v1`."""
        return f"http://{_ADDRESS}:{self.port}/v1"

    @property
    def requests(self) -> list[Request]:
        """The requests below /v1 so far, oldest first."""
        return self._state.requests

    @property
    def disconnects(self) -> int:
        """How many streaming clients went away before the end."""
        return self._state.disconnects

    @property
    def files(self) -> FileStore:
        """The uploaded files."""
        return self._state.files

    def fault(self, fault: Fault | str) -> None:
        """Queue a fault, or the preset of this name, for the next request it covers."""
        self._state.add_fault(build_preset(fault) if isinstance(fault, str) else fault)

    def clear(self) -> None:
        """Forget requests, faults, counters and cached prefixes; uploaded files stay."""
        self._state.clear()

    def _run(self, listener: socket.socket, is_ready: threading.Event) -> None:
        # tornado wants a selector loop, which is not the default on Windows.
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve(listener, is_ready))
        finally:
            is_ready.set()

    async def _serve(self, listener: socket.socket, is_ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = HTTPServer(_build_application(self._state), max_body_size=_MOST_BODY_BYTES)
        server.add_socket(listener)
        is_ready.set()
        await self._stop.wait()
        server.stop()
        for leave in self._state.leavers:
            leave()
        await self._wait_for_requests()
        await server.close_all_connections()  # this ends the requests whose client does not read
        await self._wait_for_requests()

    async def _wait_for_requests(self) -> None:
        clock = asyncio.get_running_loop()
        end = clock.time() + _LEAVE_SECONDS
        while self._state.leavers and clock.time() < end:
            await asyncio.sleep(0.005)


def _build_application(state: State) -> Application:
    given = {"state": state}
    rules: list[tuple[str, type[RequestHandler], dict[str, State]]] = [
        (r"/v1/chat/completions", ChatHandler, given),
        (r"/v1/tokenizers/estimate-token-count", EstimateHandler, given),
        (r"/v1/models", ModelsHandler, given),
        (r"/v1/models/([^/]+)", ModelsHandler, given),
        (r"/v1/users/me/balance", BalanceHandler, given),
        (r"/v1/files", FilesHandler, given),
        (r"/v1/files/([^/]+)", FileHandler, given),
        (r"/v1/files/([^/]+)/(content)", FileHandler, given),
        (r"/_sandbox/(\w+)", ControlHandler, given),
    ]
    # Refusals are the sandbox's daily work: tornado would log each as a warning.
    return Application(
        list(rules), default_handler_class=UnknownHandler, default_handler_args=given, log_function=lambda handler: None
    )

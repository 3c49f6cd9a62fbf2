"""The sandbox's own end points below /_sandbox: what it saw, and what shall go wrong next."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from tornado.web import RequestHandler

from kimi_magics.sandbox.faults import PRESETS, read_fault
from kimi_magics.sandbox.handlers import encode_json

if TYPE_CHECKING:
    from kimi_magics.sandbox.state import State


class ControlHandler(RequestHandler):
    """GET requests, state and faults; POST faults and clear."""

    def initialize(self, state: State) -> None:
        """Take the sandbox's memory."""
        self.state = state

    def get(self, what: str) -> None:
        """Tell what the sandbox saw."""
        if what == "requests":
            self._send([asdict(request) for request in self.state.requests])
        elif what == "state":
            self._send(self.state.to_row())
        elif what == "faults":
            self._send({"presets": list(PRESETS)})
        else:
            self._send({"error": {"message": f"GET /_sandbox/{what} is not there"}}, 404)

    def post(self, what: str) -> None:
        """Queue faults, given as a name, an object or a list of these; or forget everything."""
        if what == "clear":
            self.state.clear()
        elif what == "faults":
            try:
                rows = json.loads(self.request.body)
                faults = [read_fault(row) for row in (rows if isinstance(rows, list) else [rows])]
            except (ValueError, TypeError) as error:
                self._send({"error": {"message": str(error)}}, 400)
                return
            for fault in faults:
                self.state.add_fault(fault)
        else:
            self._send({"error": {"message": f"POST /_sandbox/{what} is not there"}}, 404)
            return
        self._send(self.state.to_row())

    def _send(self, value: object, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(encode_json(value))

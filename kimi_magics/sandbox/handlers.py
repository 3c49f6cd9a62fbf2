"""What all end points share: recording, the key, faults, refusals; and the small end points of the API."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
import uuid
from http.client import responses
from typing import TYPE_CHECKING, Any, cast

from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from kimi_magics.sandbox.models import find_model, list_models
from kimi_magics.sandbox.options import Request
from kimi_magics.sandbox.refusal import RefusalError, refuse_unless
from kimi_magics.sandbox.validation import count_prompt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tornado.http1connection import HTTP1Connection

    from kimi_magics.sandbox.faults import Fault
    from kimi_magics.sandbox.state import State

_CONNECTION_CLOSED = 499
_STATUS_TYPES = {404: "resource_not_found_error", 405: "invalid_request_error"}
_HTML_PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def refusable(method: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Let a handler's method refuse by raising RefusalError."""

    @functools.wraps(method)
    async def call(self: ApiHandler, *args: str) -> None:
        try:
            await method(self, *args)
        except RefusalError as refusal:
            self.refuse(refusal)

    return call


class ApiHandler(RequestHandler):
    """A handler below /v1: it records the request, asks for the key and lets faults befall it."""

    needs_key = True

    def set_default_headers(self) -> None:
        """Give each response an id; tornado calls this again before it answers with an error of its own."""
        self.set_header("x-request-id", uuid.uuid4().hex)

    def initialize(self, state: State) -> None:
        """Take the sandbox's memory."""
        self.state = state
        self.fault: Fault | None = None
        self.gone = asyncio.Event()
        self.is_over = False
        state.enter(self, self.gone.set)

    @refusable
    async def prepare(self) -> None:
        """Record the request, then refuse or disturb it where that is due."""
        self.body = _parse(self.request.body)
        self._record()
        limit = self.state.options.body_limit_bytes
        if len(self.request.body) > limit:
            raise RefusalError(f"Request body too large: {len(self.request.body)} bytes, at most {limit}", status=413)
        self._check_key()
        self.fault = self.state.take_fault(self.request.path.removeprefix("/v1/"))
        if self.fault is None:
            return
        if await self.pause(self.fault.delay_seconds):
            self.set_status(_CONNECTION_CLOSED, "Client closed request")
            with contextlib.suppress(StreamClosedError):
                await self.finish()
        elif self.fault.status is not None:
            self._fail(self.fault, self.fault.status)

    def _record(self) -> None:
        if not self.request.path.startswith("/v1"):
            return
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        if "authorization" in headers:
            headers["authorization"] = "Bearer …"
        request = Request(self.request.method or "", self.request.path, self.body, headers)
        self.state.record(request, len(self.request.body))

    def _check_key(self) -> None:
        if not self.needs_key:
            return
        scheme, _, key = self.request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RefusalError("Invalid Authentication", status=401, type="invalid_authentication_error")
        if key.strip() != self.state.options.key:
            raise RefusalError("Incorrect API key provided", status=401, type="incorrect_api_key_error")

    def _fail(self, fault: Fault, status: int) -> None:
        if fault.html:
            self.set_status(status)
            self._add_headers(fault)
            self.set_header("Content-Type", "text/html")
            self.finish(_HTML_PAGE.format(fault.message))
            return
        self._add_headers(fault)
        self.refuse(RefusalError(fault.message, status=status, type=fault.type))

    def _add_headers(self, fault: Fault) -> None:
        for name, value in fault.headers.items():
            self.set_header(name, value)

    def refuse(self, refusal: RefusalError) -> None:
        """Answer with an error in the API's form."""
        self.set_status(refusal.status)
        self.send_json(refusal.to_body())

    def send_json(self, value: object) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(encode_json(value))

    def write_error(self, status_code: int, **details: Any) -> None:
        """Answer tornado's own errors in the API's form too."""
        kind = _STATUS_TYPES.get(status_code, "server_error")
        message = (
            "The requested resource was not found" if status_code == 404 else responses.get(status_code, "Unknown")
        )
        self.refuse(RefusalError(message, status=status_code, type=kind))

    async def pause(self, seconds: float) -> bool:
        """Wait; True, and at once, when the client went away or the sandbox stops."""
        if seconds > 0 and not self.gone.is_set():
            try:
                await asyncio.wait_for(self.gone.wait(), seconds)
            except TimeoutError:
                return False
        return self.gone.is_set()

    def break_off(self) -> None:
        """Close the TCP connection without a word."""
        self.is_over = True
        self.connection.stream.close()

    @property
    def connection(self) -> HTTP1Connection:
        """The connection, which writes without tornado's buffer."""
        return cast("HTTP1Connection", self.request.connection)

    @property
    def is_streaming(self) -> bool:
        """Whether the client asked for a stream."""
        return isinstance(self.body, dict) and self.body.get("stream") is True

    def compute_etag(self) -> None:
        """Answer each GET in full, as the API does."""

    def on_connection_close(self) -> None:
        """Stop at once, and count it, when the client of a stream goes away before the end."""
        self.gone.set()
        if self.is_streaming and not self.is_over:
            self.is_over = True
            self.state.count_disconnect()

    def on_finish(self) -> None:
        """Note that the request is done."""
        self.is_over = True
        self.state.leave(self)

    @property
    def json_body(self) -> Any:
        """The body as JSON, or a refusal."""
        refuse_unless(self.body is not None, "the body is not valid JSON")
        return self.body


class ModelsHandler(ApiHandler):
    """GET /models and GET /models/{id}."""

    @refusable
    async def get(self, name: str | None = None) -> None:
        """List the live models, or one of them."""
        revived = self.state.options.revived
        if name is None:
            self.send_json({"object": "list", "data": [model.to_row() for model in list_models(revived)]})
        else:
            self.send_json(find_model(name, revived).to_row())


class BalanceHandler(ApiHandler):
    """GET /users/me/balance."""

    async def get(self) -> None:
        """Return a fixed balance."""
        cash = 3.00001
        balance = self.state.options.balance
        data = {"available_balance": balance, "voucher_balance": round(balance - cash, 5), "cash_balance": cash}
        self.send_json({"code": 0, "data": data, "scode": "0x0", "status": True})


class EstimateHandler(ApiHandler):
    """POST /tokenizers/estimate-token-count."""

    @refusable
    async def post(self) -> None:
        """Count the tokens that the same body would be billed as a prompt."""
        total = count_prompt(self.json_body, self.state.options, self.state.files.find_data)
        self.send_json({"data": {"total_tokens": total}})


class FilesHandler(ApiHandler):
    """POST and GET /files."""

    @refusable
    async def post(self) -> None:
        """Keep an uploaded file."""
        uploads = self.request.files.get("file") or []
        refuse_unless(len(uploads) == 1, "file is required, as multipart/form-data")
        upload = uploads[0]
        file = self.state.files.add(upload["filename"], self.get_body_argument("purpose", ""), upload["body"])
        self.send_json(file.to_row())

    async def get(self) -> None:
        """List the files."""
        rows = [file.to_row() for file in self.state.files.list()]
        self.send_json({"object": "list", "data": rows, "has_more": False})


class FileHandler(ApiHandler):
    """GET and DELETE /files/{id}, GET /files/{id}/content."""

    @refusable
    async def get(self, name: str, content: str | None = None) -> None:
        """Describe a file, or return what is in it."""
        file = self.state.files.get(name)
        if content is None:
            self.send_json(file.to_row())
        elif file.purpose == "file-extract":
            self.send_json(file.extract())
        else:
            self.set_header("Content-Type", "application/octet-stream")
            await self.finish(file.data)

    @refusable
    async def delete(self, name: str, content: str | None = None) -> None:
        """Delete a file."""
        self.state.files.remove(name)
        self.send_json({"deleted": True, "id": name, "object": "file"})


class UnknownHandler(ApiHandler):
    """Every other path: the API's 404."""

    needs_key = False

    @refusable
    async def prepare(self) -> None:
        """Record the request, and say that there is nothing here."""
        self.body = _parse(self.request.body)
        self._record()
        raise RefusalError("The requested resource was not found", status=404, type="resource_not_found_error")


def encode_json(value: object) -> bytes:
    """Return compact JSON in UTF-8, as the API sends it; half a surrogate pair becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def build_head(model: str) -> dict[str, Any]:
    """Return what the completion and each of its chunks begin with."""
    return {"id": f"cmpl-{uuid.uuid4().hex}", "object": "", "created": int(time.time()), "model": model}


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None

"""The one exception of the sandbox: a request that the API would refuse."""

from __future__ import annotations

from typing import Any


class RefusalError(Exception):
    """A refusal in the API's form: an HTTP status, an error type and a message."""

    def __init__(self, message: str, *, status: int = 400, type: str | None = "invalid_request_error") -> None:  # noqa: A002 the API's word
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type

    def to_body(self) -> dict[str, Any]:
        """Return the JSON body `{"error": {"message", "type"}}`."""
        error = {"message": self.message}
        if self.type is not None:
            error["type"] = self.type
        return {"error": error}


def refuse_unless(is_right: bool, message: str) -> None:  # noqa: FBT001 an assertion reads best this way
    """Raise an `invalid_request_error` when a rule does not hold."""
    if not is_right:
        raise RefusalError(f"Invalid request: {message}")

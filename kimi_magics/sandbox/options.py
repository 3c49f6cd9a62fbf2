"""What a sandbox can be told at its start, and what it remembers of each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

UsagePlace = Literal["choice", "chunk", "extra"]


@dataclass(frozen=True)
class SandboxOptions:
    """How a sandbox behaves.

    `key` is the only bearer accepted. `usage_place` says where a stream carries its usage: in `choices[0].usage` of the
    finish chunk, at the top level of that chunk, or on an extra chunk with `choices: []`. `rpm` (within
    `rpm_window_seconds`) and `concurrency` count completions. `tokens_per_second` paces a completion, None is as fast
    as possible. `chunk_tokens` is the size of a stream's pieces. `estimate_refuses` names live models that the estimate
    end point does not know yet, `revived` retired models that are to answer as before. With `replay`, a streaming
    completion sends exactly these raw pieces.
    """

    key: str = "sandbox"
    usage_place: UsagePlace = "choice"
    rpm: int | None = None
    rpm_window_seconds: float = 60.0
    concurrency: int | None = None
    tokens_per_second: float | None = None
    chunk_tokens: int = 3
    estimate_refuses: tuple[str, ...] = ()
    revived: tuple[str, ...] = ()
    balance: float = 49.58894
    body_limit_bytes: int = 100 * 1024 * 1024
    replay: tuple[bytes, ...] | None = None


@dataclass(frozen=True)
class Request:
    """One request as it arrived; `body` is the parsed JSON or None, header names are lower case, no secret is kept."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]

"""Fetch a picture from an address, since the API takes none: within limits, and without anything of the account."""

from __future__ import annotations

import time

import httpx

from kimi_magics.client.access import is_loopback
from kimi_magics.errors import ImageError

MAX_FETCHED_BYTES = 50_000_000
_CONNECT_SECONDS, _READ_SECONDS, _ALL_SECONDS = 10.0, 20.0, 60.0
_MOST_REDIRECTS = 5
_DOWNLOAD = "download the picture and name the file"


def name_address(address: str) -> str:
    """Return what an address is called in messages: host and file, without what may be a password or a token."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError):
        return "the address"
    file = url.path.rstrip("/").rpartition("/")[2]
    name = f"{url.host}/{file}" if file else url.host
    return name if len(name) <= 60 else f"{name[:59]}…"


def fetch_picture(
    address: str,
    *,
    transport: httpx.BaseTransport | None = None,
    limit_bytes: int = MAX_FETCHED_BYTES,
    limit_seconds: float = _ALL_SECONDS,
) -> bytes:
    """Return what stands at an http or https address, at most `limit_bytes` within `limit_seconds`. Raises ImageError.

    Up to five redirects are followed. `transport` is for tests.
    """
    name = name_address(address)
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError) as error:
        raise ImageError(f"the address cannot be read: {error}", remedy="check it") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ImageError(f"{name} is no http or https address", remedy=_DOWNLOAD)
    try:
        with (
            httpx.Client(
                transport=transport,
                timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
                follow_redirects=True,
                max_redirects=_MOST_REDIRECTS,
                trust_env=not is_loopback(url.host),
                # Some hosts of pictures refuse clients that do not say what they are.
                headers={"User-Agent": "kimi-magics", "Accept": "image/*"},
            ) as client,
            client.stream("GET", url) as response,
        ):
            _check_answer(response, name)
            return _read(response, name, limit_bytes, time.monotonic() + limit_seconds)
    except httpx.TooManyRedirects:
        raise ImageError(f"{name} sends from one address to the next", remedy=_DOWNLOAD) from None
    except httpx.TimeoutException:
        raise ImageError(f"{name} did not answer in time", remedy=_DOWNLOAD) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ImageError(
            f"{name} could not be fetched: {type(error).__name__}", remedy=f"check the address, or {_DOWNLOAD}"
        ) from None


def _check_answer(response: httpx.Response, name: str) -> None:
    if response.status_code != 200:
        raise ImageError(
            f"{name} could not be fetched ({response.status_code})", remedy=f"check the address, or {_DOWNLOAD}"
        )
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/json", "text/plain") or kind.startswith("video/"):
        what = "a web page" if kind == "text/html" else f"of the kind {kind}"
        raise ImageError(f"{name} is {what}, not a picture", remedy="give the address of the picture itself")


def _read(response: httpx.Response, name: str, limit_bytes: int, deadline: float) -> bytes:
    data = bytearray()
    for piece in response.iter_bytes():
        data += piece
        if len(data) > limit_bytes:
            raise ImageError(f"{name} is larger than {limit_bytes / 1e6:.0f} MB", remedy=_DOWNLOAD)
        if time.monotonic() > deadline:
            raise ImageError(f"{name} did not come in time", remedy=_DOWNLOAD)
    return bytes(data)

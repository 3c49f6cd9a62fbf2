"""The key and the address of the API.

The promise: the key goes to the configured host and nowhere else, never over plain http except to this machine, and
never into a message, a repr or a log.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Generator

import httpx

from kimi_magics.errors import ConfigError, MissingKeyError


class Key(str):
    """An API key that does not show itself: neither in a repr nor among the local variables of a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Key(…)"


class Bearer(httpx.Auth):
    """Puts the key on a request; the object itself shows nothing."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header (the protocol of httpx.Auth)."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request

    def __repr__(self) -> str:
        return "Bearer(…)"


def check_key(key: str) -> Key:
    """Return the key without outer white space. Raises MissingKeyError, never showing it."""
    key = key.strip()
    if not key:
        raise MissingKeyError(
            "there is no API key: MOONSHOT_API_KEY is not set",
            remedy='import os, getpass; os.environ["MOONSHOT_API_KEY"] = getpass.getpass("Kimi API key: ")'
            " — or set it before Jupyter starts",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise MissingKeyError(
            "MOONSHOT_API_KEY holds a character that no key has (a space, a line break, a quote mark …)",
            remedy="copy the key again from the console of the platform",
        )
    return Key(key)


def account_mark(host: str, key: str) -> str:
    """Return the mark under which files keep what is known of an account: 16 hex digits that do not lead to the key."""
    # A key is too long to be guessed by its hash, and of the hash only a quarter is kept.
    return hashlib.sha256(f"kimi_magics {host} {key.strip()}".encode()).hexdigest()[:16]


def check_base_url(base_url: str) -> httpx.URL:
    """Return the address of the API. Raises ConfigError for one that cannot be used, or that would expose the key."""
    remedy = "set MOONSHOT_BASE_URL=https://api.moonshot.ai/v1, or https://api.moonshot.cn/v1"
    try:
        url = httpx.URL(base_url.strip())
    except (httpx.InvalidURL, TypeError):
        raise ConfigError("MOONSHOT_BASE_URL is not an address", remedy=remedy) from None
    if url.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:-]+", url.host):
        raise ConfigError("MOONSHOT_BASE_URL does not start with https://", remedy=remedy)
    if url.userinfo:
        raise ConfigError(
            "MOONSHOT_BASE_URL holds a user name or password", remedy="the key goes into MOONSHOT_API_KEY"
        )
    if url.scheme == "http" and not is_loopback(url.host):
        raise ConfigError(
            f"MOONSHOT_BASE_URL is plain http to {url.host}: the key would travel in the open", remedy="use https://"
        )
    return url


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

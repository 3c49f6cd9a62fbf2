"""From what httpx raises to errors of ours: one table for the faults of the line."""

from __future__ import annotations

import ssl

import httpx

from kimi_magics.client.hosts import Situation
from kimi_magics.errors import (
    CallError,
    ConnectionFailedError,
    ConnectTimeoutError,
    ProxyFailedError,
    ReadTimeoutError,
    ReplyBrokenError,
    TlsError,
)

#: What to do when an answer broke off.
NO_ANSWER = "the answer so far is kept in _kimi; run the cell again for the whole"

#: Each class of httpx that a request can raise, and what it means for the user.
FAULTS: dict[type[Exception], tuple[type[CallError], str, str]] = {
    httpx.ConnectTimeout: (
        ConnectTimeoutError,
        "{host} did not answer in time",
        "check the network or the proxy; run the cell again",
    ),
    httpx.PoolTimeout: (ConnectTimeoutError, "too many calls are under way", "wait for one to end; run the cell again"),
    httpx.ReadTimeout: (
        ReadTimeoutError,
        "{host} sent nothing for too long; the request may have been billed, so it was not sent again",
        "raise %kimi_config timeout_seconds=…, or ask for less",
    ),
    httpx.WriteTimeout: (
        ReadTimeoutError,
        "the request could not be sent in time",
        "check the network; send smaller images",
    ),
    httpx.ConnectError: (
        ConnectionFailedError,
        "no connection to {host}",
        "check the network, a proxy (HTTPS_PROXY) and MOONSHOT_BASE_URL",
    ),
    httpx.ReadError: (ConnectionFailedError, "the connection to {host} was lost", "run the cell again"),
    httpx.WriteError: (ConnectionFailedError, "the connection to {host} was lost while sending", "run the cell again"),
    httpx.CloseError: (ConnectionFailedError, "the connection to {host} was not closed cleanly", "run the cell again"),
    httpx.ProxyError: (
        ProxyFailedError,
        "the proxy refused the way to {host}",
        "check HTTPS_PROXY, ALL_PROXY and NO_PROXY",
    ),
    httpx.UnsupportedProtocol: (
        ConnectionFailedError,
        "{host} cannot be reached with this kind of address",
        "MOONSHOT_BASE_URL and the proxy variables start with http:// or https://",
    ),
    httpx.LocalProtocolError: (
        ConnectionFailedError,
        "the request to {host} could not be written",
        "check MOONSHOT_API_KEY for stray characters",
    ),
    httpx.RemoteProtocolError: (ConnectionFailedError, "{host} broke the connection off", "run the cell again"),
    httpx.DecodingError: (
        ReplyBrokenError,
        "the reply of {host} cannot be unpacked",
        "run the cell again; a proxy may have damaged it",
    ),
    httpx.TooManyRedirects: (ConnectionFailedError, "{host} sends from address to address", "check MOONSHOT_BASE_URL"),
}


def translate_fault(fault: Exception, situation: Situation, *, has_begun: bool) -> CallError:
    """Return our error for an exception of httpx; `has_begun` tells whether a delta had arrived."""
    if has_begun and isinstance(fault, httpx.NetworkError | httpx.ProtocolError):
        return ReplyBrokenError(
            f"the connection to {situation.host} broke off in the midst of the answer", remedy=NO_ANSWER
        )
    if _is_tls(fault):
        return TlsError(
            f"the certificate of {situation.host} was not accepted: {situation.clean(str(fault), limit=120)}",
            remedy="behind a company proxy, set SSL_CERT_FILE to the company's certificates",
        )
    # A transport of somebody else may raise one of the abstract classes.
    kind = next((cls for cls in type(fault).__mro__ if cls in FAULTS), httpx.ReadError)
    error, message, remedy = FAULTS[kind]
    detail = situation.clean(str(fault), limit=120) if kind in (httpx.ConnectError, httpx.ProxyError) else ""
    return error(message.format(host=situation.host) + (f" ({detail})" if detail else ""), remedy=remedy)


def _is_tls(fault: BaseException | None) -> bool:
    while fault is not None:
        if isinstance(fault, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(fault):
            return True
        fault = fault.__cause__ or fault.__context__
    return False

"""A picture is fetched from an address within limits, and nothing of the account goes along."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from kimi_magics.client.fetch import fetch_picture, name_address
from kimi_magics.errors import ImageError

PNG = b"\x89PNG\r\n\x1a\n rest"


def fetch(
    handle: Callable[[httpx.Request], httpx.Response], address: str = "https://host.example/a.png", **limits: float
) -> bytes:
    return fetch_picture(address, transport=httpx.MockTransport(handle), **limits)


def test_the_bytes_arrive_and_nothing_of_the_account_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-secretsecretsecret")
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=PNG, headers={"content-type": "image/png"})

    assert fetch(handle) == PNG
    assert not any("secret" in value for value in seen[0].headers.values())
    assert "authorization" not in seen[0].headers


def test_a_redirect_is_followed_and_a_circle_is_not() -> None:
    def once(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/a.png":
            return httpx.Response(302, headers={"location": "https://elsewhere.example/b.png"})
        return httpx.Response(200, content=PNG)

    assert fetch(once) == PNG
    with pytest.raises(ImageError, match="from one address to the next"):
        fetch(lambda request: httpx.Response(302, headers={"location": str(request.url)}))


def test_what_is_too_large_or_too_slow_is_given_up() -> None:
    def stream() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(ImageError, match="is larger than 0 MB"):
        fetch(lambda _request: httpx.Response(200, content=stream()), limit_bytes=5000)
    started = time.monotonic()
    with pytest.raises(ImageError, match="did not come in time"):
        fetch(lambda _request: httpx.Response(200, content=stream()), limit_seconds=0.0)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (httpx.Response(404), r"could not be fetched \(404\)"),
        (httpx.Response(200, content=b"<html>", headers={"content-type": "text/html; charset=utf-8"}), "is a web page"),
        (
            httpx.Response(200, content=b"{}", headers={"content-type": "application/json"}),
            "of the kind application/json",
        ),
        (httpx.ConnectError("no route"), "could not be fetched: ConnectError"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
    ],
)
def test_what_does_not_come_says_why_and_what_to_do(response: httpx.Response | Exception, says: str) -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    with pytest.raises(ImageError, match=says) as caught:
        fetch(handle)
    assert "host.example/a.png" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("address", ["https://", "http://[::1", "http://\udcff/"])
def test_an_address_that_cannot_be_read_is_refused(address: str) -> None:
    with pytest.raises(ImageError):
        fetch(lambda _request: httpx.Response(200, content=PNG), address)


def test_a_name_for_messages_holds_no_secret() -> None:
    assert name_address("https://user:password@host.example/path/plot.png?token=abc#x") == "host.example/plot.png"
    assert name_address("https://host.example") == "host.example"
    assert len(name_address("https://host.example/" + "x" * 500)) == 60

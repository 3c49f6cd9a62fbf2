"""Files at the host: what is sent is what arrives, once, and every refusal says what to do."""

from __future__ import annotations

import gc
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from kimi_magics.client.files import name_file
from kimi_magics.client.http import KimiClient
from kimi_magics.core.events import Uploading, Waiting
from kimi_magics.core.media import DocumentFile, Image, Upload, Video
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ConnectTimeoutError,
    KimiError,
    MagicLineError,
    NotFoundError,
    OverloadedError,
    QuotaError,
    ReplyBrokenError,
    RequestTooLargeError,
    ServerFaultError,
)
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()
KEY = "sk-secretsecretsecret"
VIDEO = Video(b"\x00\x00\x00\x20ftypisom" + os.urandom(300_000), "video/mp4", "clips/my clip.mp4")
DOCUMENT = DocumentFile(b"%PDF-1.4 (one) Tj (two) Tj\xff", "application/pdf", "papers/Über uns.pdf")
IMAGE = Image(b"\x89PNG\r\n\x1a\n" + os.urandom(500), "image/png", 8, 8, "图 1")
ROW = {"id": "f1", "filename": "a.mp4", "purpose": "video", "bytes": 5, "created_at": 1_700_000_000}
FILE = Upload("f1", "a.mp4", "video", 5, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))


def connect(sandbox: Sandbox, key: str = "sandbox") -> KimiClient:
    return KimiClient(sandbox.base_url, key, catalog=CATALOG, sleep=lambda _seconds: None)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[KimiClient]:
    made = connect(sandbox)
    sandbox.files.clear()
    yield made
    sandbox.files.clear()
    made.close()


class Host:
    """Answers with one step after the other; the last one stays."""

    def __init__(self, *steps: httpx.Response | Exception | Callable[[], httpx.Response]) -> None:
        self.steps, self.requests = list(steps), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step


def scripted(host: Host) -> KimiClient:
    transport = httpx.MockTransport(host)
    return KimiClient(
        "https://api.example/v1", KEY, catalog=CATALOG, transport=transport, sleep=lambda _s: None, jitter=lambda: 1.0
    )


def failure(status: int, kind: str = "", message: str = "") -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": kind}})


# ---------------------------------------------------------------- against a server


@pytest.mark.parametrize(
    ("medium", "purpose", "name"),
    [
        (VIDEO, "video", "my clip.mp4"),
        (IMAGE, "image", "图 1.png"),
        (DOCUMENT, "file-extract", "Über uns.pdf"),
    ],
)
def test_the_bytes_arrive_as_they_are(
    client: KimiClient, sandbox: Sandbox, medium: Image | Video | DocumentFile, purpose: str, name: str
) -> None:
    upload = client.files.upload(medium)
    [file] = sandbox.files.list()
    assert (file.id, file.name, file.purpose, file.data) == (upload.id, name, purpose, medium.data)
    assert (upload.name, upload.purpose, upload.size_bytes) == (name, purpose, len(medium.data))
    [request] = sandbox.requests
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert int(request.headers["content-length"]) > len(medium.data)


def test_it_tells_how_far_it_is(client: KimiClient) -> None:
    told: list[Uploading | Waiting] = []
    client.files.upload(VIDEO, tell=told.append)
    sizes = [event.sent_bytes for event in told if isinstance(event, Uploading)]
    assert len(sizes) == len(told) >= 4
    assert sizes == sorted(set(sizes))
    assert told[-1] == Uploading("clips/my clip.mp4", len(VIDEO.data), len(VIDEO.data))


def test_files_are_listed_described_and_deleted(client: KimiClient) -> None:
    one, two = client.files.upload(VIDEO), client.files.upload(IMAGE)
    assert client.files.all() == [one, two]
    assert client.files.get(two.id) == two
    client.files.delete(one.id)
    assert client.files.all() == [two]
    for ask in (client.files.get, client.files.delete):
        with pytest.raises(NotFoundError) as caught:
            ask(one.id)
        assert caught.value.message == f"127.0.0.1 has no file {one.id}, or it is of another account (404)"
        assert "%kimi_files" in caught.value.remedy


def test_the_text_of_a_document_comes_back(client: KimiClient) -> None:
    upload = client.files.upload(DOCUMENT)
    assert client.files.content(upload.id) == "one\ntwo"
    client.files.delete(upload.id)
    with pytest.raises(NotFoundError) as caught:
        client.files.content(upload.id)
    assert caught.value.message == f"127.0.0.1 has no file {upload.id}, or it is of another account (404)"


def test_a_wrong_key_is_refused_and_nothing_is_kept(client: KimiClient, sandbox: Sandbox) -> None:
    other = connect(sandbox, key="sk-wrongwrongwrongwrong")
    with pytest.raises(AuthenticationError, match="MOONSHOT_API_KEY") as caught:
        other.files.upload(VIDEO)
    other.close()
    assert "wrongwrong" not in str(caught.value)
    assert sandbox.files.list() == []


def test_an_overload_is_waited_for_and_told(client: KimiClient, sandbox: Sandbox) -> None:
    sandbox.fault(
        Fault(429, "engine_overloaded_error", "busy, please try again after 2 seconds", path="files", times=2)
    )
    told: list[Uploading | Waiting] = []
    client.files.upload(VIDEO, tell=told.append)
    waits = [event for event in told if isinstance(event, Waiting)]
    assert {wait.attempt for wait in waits} == {1, 2}
    assert max(wait.seconds for wait in waits) >= 2
    assert len(sandbox.files.list()) == 1


def test_what_is_raised_while_it_goes_up_ends_it(client: KimiClient, sandbox: Sandbox) -> None:
    def stop(event: Uploading | Waiting) -> None:
        if isinstance(event, Uploading) and event.sent_bytes > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.files.upload(VIDEO, tell=stop)
    assert client.files.upload(IMAGE).id  # and the client is fit for the next one
    assert [file.purpose for file in sandbox.files.list()] == ["image"]


def test_the_bytes_are_not_copied_to_be_sent() -> None:
    video = Video(bytes(20_000_000), "video/mp4")
    arrived = []

    class Counting(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            arrived.append(sum(len(piece) for piece in request.stream))
            return httpx.Response(200, json=ROW)

    client = KimiClient("https://api.example/v1", KEY, catalog=CATALOG, transport=Counting())
    client.files.upload(IMAGE)  # whatever is made once is made
    gc.collect()
    tracemalloc.start()
    try:
        client.files.upload(video)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert arrived[-1] > len(video.data)
    assert peak < 0.1 * len(video.data)


def test_a_refusal_in_the_midst_of_the_upload_is_read() -> None:
    body = b'{"error":{"message":"too big","type":""}}'
    answer = b"HTTP/1.1 413 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def serve() -> None:
        line, _ = server.accept()
        with line:
            line.recv(4096)
            line.sendall(answer)
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        client = KimiClient(f"http://127.0.0.1:{server.getsockname()[1]}/v1", "sandbox", catalog=CATALOG)
        with pytest.raises(RequestTooLargeError, match="413: too big"):
            client.files.upload(Video(bytes(20_000_000), "video/mp4", "film"))
        client.close()
        thread.join()


# ---------------------------------------------------------------- with a scripted host


def test_what_the_host_leaves_out_is_not_known() -> None:
    rows = [ROW, {"id": "f2", "new": 1}, {"id": "f3", "created_at": 1e300, "filename": "a\x1b[2Jb\nc"}]
    host = Host(httpx.Response(200, json={"object": "list", "data": rows, "has_more": False}))
    assert scripted(host).files.all() == [FILE, Upload("f2"), Upload("f3", "a [2Jb c")]


@pytest.mark.parametrize("row", [{}, {"id": ""}, {"id": "../models"}, {"id": "a b"}, {"id": ".."}, [], "x"])
def test_an_id_that_would_lead_elsewhere_is_not_used(row: object) -> None:
    with pytest.raises(ReplyBrokenError):
        scripted(Host(httpx.Response(200, json=row))).files.upload(VIDEO)


@pytest.mark.parametrize("file_id", ["", "..", "../models", "a/b", "a?b", "x" * 300])
def test_what_is_no_id_is_not_asked_for(file_id: str) -> None:
    host = Host(httpx.Response(200, json=ROW))
    for ask in (scripted(host).files.get, scripted(host).files.delete, scripted(host).files.content):
        with pytest.raises(MagicLineError, match="not the id of a file"):
            ask(file_id)
    assert host.requests == []


@pytest.mark.parametrize(
    ("step", "error", "tries"),
    [
        (failure(401, "invalid_authentication_error"), AuthenticationError, 1),
        (failure(413), RequestTooLargeError, 1),
        (failure(429, "exceeded_current_quota_error"), QuotaError, 1),
        (failure(429, "engine_overloaded_error"), OverloadedError, 8),
        # it may have arrived: not sent again
        (failure(500, "server_error"), ServerFaultError, 1),
        (httpx.ReadError("lost"), ConnectionFailedError, 1),
        (httpx.WriteError("lost"), ConnectionFailedError, 1),
        # nothing had been sent
        (httpx.ConnectError("no route"), ConnectionFailedError, 4),
        (httpx.ConnectTimeout("late"), ConnectTimeoutError, 4),
        (httpx.Response(200, text="<html>"), ReplyBrokenError, 1),
    ],
)
def test_only_what_cannot_have_arrived_is_sent_again(
    step: httpx.Response | Exception, error: type[KimiError], tries: int
) -> None:
    host = Host(step if isinstance(step, Exception) else lambda: httpx.Response(step.status_code, content=step.content))
    with pytest.raises(error) as caught:
        scripted(host).files.upload(VIDEO)
    assert len(host.requests) == tries
    assert KEY not in str(caught.value)
    if error is RequestTooLargeError:
        assert "make clips/my clip.mp4 smaller (300 kB)" in caught.value.remedy


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            '{"content":"Grüße\\n\\"a\\"","file_type":"application/pdf","filename":"a.pdf","title":"","type":"file"}',
            'Grüße\n"a"',
        ),
        ('{"content":""}', ""),
        ('"the text\\nalone"', "the text\nalone"),
        ("plain\r\ntext", "plain\r\ntext"),
        ("\ufeffwith a mark", "with a mark"),
        ('{"content": 5}', '{"content": 5}'),
        ('{"title": "no content"}', '{"title": "no content"}'),
        ("[1, 2]", "[1, 2]"),
        ("12", "12"),
        ('{"content": "cut', '{"content": "cut'),
    ],
)
def test_the_text_of_a_document_may_be_wrapped_or_bare(body: str, text: str) -> None:
    assert scripted(Host(httpx.Response(200, content=body.encode()))).files.content("f1") == text


@pytest.mark.parametrize("body", [b"\xff\xfe", b"\n<!DOCTYPE html><html>", b"<HTML><body>log in"])
def test_what_is_no_text_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises(ReplyBrokenError, match="the text of the file cannot be read"):
        scripted(Host(httpx.Response(200, content=body))).files.content("f1")


def test_a_host_that_keeps_no_files_says_so() -> None:
    with pytest.raises(NotFoundError, match=r"api\.example does not keep files"):
        scripted(Host(failure(404, message="Not Found"))).files.upload(DOCUMENT)


def test_an_address_that_is_not_the_api_says_so() -> None:
    with pytest.raises(NotFoundError) as caught:
        scripted(Host(httpx.Response(404, text="<html>"))).files.get("f1")
    assert "ends in /v1" in caught.value.remedy


@pytest.mark.parametrize(
    ("label", "mime", "name"),
    [
        ("clip", "video/mp4", "clip.mp4"),
        ("/home/ada/Films/Été 1.MP4", "video/mp4", "Été 1.MP4"),
        ("https://example.org/a.mp4?key=secret", "video/mp4", "a.mp4"),
        ("Out[3]", "video/webm", "Out_3.webm"),
        ("\udc80…", "video/mov", "video.mov"),
        ("", "video/x-flv", "video.flv"),
    ],
)
def test_a_file_is_called_by_the_last_part_of_its_name(label: str, mime: str, name: str) -> None:
    assert name_file(Video(b"x", mime, label)) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("papers/report.pdf", "report.pdf"),
        ("报告 (1).docx", "报告 _1.docx"),
        ("x" * 100 + ".pdf", "x" * 60 + ".pdf"),
        ("a.tar.gz", "a.tar.gz"),
        ("....pdf", "document.pdf"),
        ("\udc80.xlsx", "document.xlsx"),
        ("no suffix", "no suffix"),
    ],
)
def test_a_document_keeps_its_suffix_which_tells_the_host_how_to_read_it(label: str, name: str) -> None:
    assert name_file(DocumentFile(b"x", label=label)) == name


# ---------------------------------------------------------------- requests that are too large


def test_a_request_that_is_too_large_names_the_largest_medium_and_is_not_even_written() -> None:
    host = Host(httpx.Response(200, json={}))
    model = CATALOG.get("kimi-k2.6")
    large = Image(bytes(80_000_000), "image/png", 9, 9, "scan.png")
    prompt = Prompt(model, (Message("user", "x", (IMAGE, large)),))
    tracemalloc.start()
    try:
        for ask in (lambda: list(scripted(host).send(prompt)), lambda: scripted(host).count(prompt)):
            with pytest.raises(RequestTooLargeError) as caught:
                ask()
            for word in ("scan.png", "80.0 MB", "--upload", "--image-size low"):
                assert word in caught.value.remedy
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.1 * len(large.data)
    assert host.requests == []


def test_a_medium_that_goes_by_its_id_takes_no_room() -> None:
    host = Host(httpx.Response(200, json={"data": {"total_tokens": 9}}))
    large = Video(bytes(99_000_000), "video/mp4", "clip", file_id="f1")
    prompt = Prompt(CATALOG.get("kimi-k2.6"), (Message("user", "x", videos=(large,)),))
    assert scripted(host).count(prompt) == 9
    assert b'"ms://f1"' in host.requests[0].content

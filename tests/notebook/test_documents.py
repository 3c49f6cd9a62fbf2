"""What `--file` names: text is read here, the rest by the host, once; what cannot be sent is refused before it goes."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_magics.client.http import KimiClient
from kimi_magics.core.events import Uploading, Waiting
from kimi_magics.core.media import Document, Image
from kimi_magics.core.messages import Message
from kimi_magics.errors import (
    BadRequestError,
    FileError,
    InterruptedReplyError,
    KimiError,
    MissingKeyError,
    NotFoundError,
    PermissionDeniedError,
    ServerFaultError,
)
from kimi_magics.notebook.document_text import check_text, read_content
from kimi_magics.notebook.documents import Documents, document_message
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.uploads import Uploads
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.catalog import load_catalog

FILES = "/v1/files"
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nstream\nBT (Kimi reads) Tj (a \\(short\\) report) Tj ET\nendstream\n%%EOF\n"
PDF_TEXT = "Kimi reads\na (short) report"
KEY = "sk-" + "aB3" * 12


@pytest.fixture(autouse=True)
def host(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The shared server without files."""
    sandbox.files.clear()
    yield sandbox
    sandbox.files.clear()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the kernel is in."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Kernel:
    """The documents of one kernel, and the session that they use."""

    def __init__(self, **options: Any) -> None:
        self.session = Session()
        self.documents = Documents(lambda: self.session.client, self.session.uploads, **options)

    def find(self, *names: str, tell: Callable[[Any], None] = lambda event: None, **variables: Any) -> list[Document]:
        return list(self.documents.find(names, variables, tell=tell))

    def peek(self, *names: str, **variables: Any) -> tuple[list[str], tuple[str, ...]]:
        documents, pending = self.documents.peek(names, variables)
        return [document.text for document in documents], pending


@pytest.fixture
def kernels() -> Iterator[Callable[..., Kernel]]:
    """Make kernels, one after the other; closed with the test."""
    made: list[Kernel] = []

    def make(**options: Any) -> Kernel:
        made.append(Kernel(**options))
        return made[-1]

    yield make
    for kernel in made:
        kernel.session.close()


@pytest.fixture
def kernel(kernels: Callable[..., Kernel]) -> Kernel:
    return kernels()


def asked(sandbox: Sandbox) -> list[str]:
    """Return what was asked about files, an id as ID."""
    rows = [(request.method, request.path.removeprefix(FILES)) for request in sandbox.requests]
    return [
        method + " " + "/".join("ID" if at == 1 else part for at, part in enumerate(path.split("/")))
        for method, path in rows
    ]


UPLOADED, CONFIRMED, FETCHED = "POST ", "GET /ID", "GET /ID/content"


def scripted(answer: Callable[[httpx.Request], httpx.Response]) -> KimiClient:
    transport = httpx.MockTransport(answer)
    return KimiClient("https://api.example/v1", KEY, catalog=load_catalog(), transport=transport, sleep=lambda _s: None)


def write(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def notebook(*cells: dict[str, Any], **metadata: Any) -> str:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells})


# ---------------------------------------------------------------- the message


def test_a_document_becomes_a_system_message_that_names_the_file() -> None:
    message = document_message(Document("a,b\n1,2\n", "data/table.csv", "d"))
    assert message == Message("system", 'Document "data/table.csv":\na,b\n1,2\n')


# ---------------------------------------------------------------- text is read here


@pytest.mark.parametrize(
    "name", ["notes.txt", "table.csv", "read.md", "a.py", "page.html", "data.json", "odd.pdf", "plain"]
)
def test_text_is_read_here_whatever_it_is_called(kernel: Kernel, sandbox: Sandbox, name: str) -> None:
    text = "Grüße, 你好\r\n\tend\n"
    write(name, text)
    assert kernel.find(name) == [Document(text, name, hashlib.sha256(text.encode()).hexdigest())]
    assert kernel.peek(name) == ([text], ())
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + "häh 你".encode(),
        codecs.BOM_UTF16_LE + "häh 你".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "häh 你".encode("utf-16-be"),
    ],
)
def test_the_mark_of_the_encoding_is_understood_and_left_out(kernel: Kernel, data: bytes) -> None:
    write("a.txt", data)
    assert kernel.find("a.txt")[0].text == "häh 你"


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1))
def test_every_text_comes_as_it_is(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    path.write_bytes(text.encode())
    if text.strip() and not text.lstrip().startswith("%PDF-"):
        assert read_content(path, label="a").text == text
    else:
        with pytest.raises(FileError, match="no text in a"):
            read_content(path, label="a")


@pytest.mark.parametrize(("encoding", "at"), [("gb18030", 5), ("latin-1", 6), ("cp1251", 1)])
def test_another_encoding_is_not_guessed(kernel: Kernel, sandbox: Sandbox, encoding: str, at: int) -> None:
    words = {"gb18030": "data 你好", "latin-1": "Gruß ä", "cp1251": "привет"}
    data = words[encoding].encode(encoding)
    write("a.txt", data)
    at = next(place for place, byte in enumerate(data, 1) if byte > 127)
    with pytest.raises(FileError) as caught:
        kernel.find("a.txt")
    assert caught.value.message == f"a.txt is text, but not in UTF-8: byte {at} cannot be read"
    assert "iconv" in caught.value.remedy
    assert sandbox.requests == []


def test_a_file_that_changed_is_read_again(kernel: Kernel) -> None:
    path = write("a.txt", "one")
    assert kernel.find("a.txt")[0].text == "one"
    path.write_text("three")
    assert (kernel.find("a.txt")[0].text, kernel.peek("a.txt")[0]) == ("three", ["three"])


def test_what_was_read_is_kept_until_the_file_changes(kernel: Kernel) -> None:
    path = write("a.txt", "one" * 100)
    first = kernel.find("a.txt")[0].text
    assert kernel.find(str(path.resolve()))[0].text is first


def test_what_is_kept_has_a_bound(kernels: Callable[..., Kernel]) -> None:
    small = kernels(limit=900)
    for name in "abc":
        write(name, name * 300)
    first = {name: small.find(name)[0].text for name in "abc"}
    assert small.find("c")[0].text is first["c"]
    assert small.find("a")[0].text is not first["a"]
    assert kernels(limit=10).find("a")[0].text == "a" * 300


# ---------------------------------------------------------------- the rest is read by the host


def test_a_pdf_goes_up_once_and_its_text_comes_back(kernel: Kernel, sandbox: Sandbox) -> None:
    write("papers/report.pdf", PDF)
    expected = [Document(PDF_TEXT, "papers/report.pdf", hashlib.sha256(PDF).hexdigest())]
    assert kernel.find("papers/report.pdf") == expected
    [file] = sandbox.files.list()
    assert (file.name, file.purpose, file.data) == ("report.pdf", "file-extract", PDF)
    assert asked(sandbox) == [UPLOADED, FETCHED]
    assert kernel.find("papers/report.pdf") == expected
    assert kernel.peek("papers/report.pdf") == ([PDF_TEXT], ())
    assert asked(sandbox) == [UPLOADED, FETCHED]


def test_the_same_bytes_under_another_name_are_read_once(kernel: Kernel, sandbox: Sandbox) -> None:
    write("a.pdf", PDF)
    write("b.pdf", PDF)
    assert [document.label for document in kernel.find("a.pdf", "b.pdf")] == ["a.pdf", "b.pdf"]
    assert asked(sandbox) == [UPLOADED, FETCHED]


def test_another_kernel_finds_the_upload_and_fetches_only(kernels: Callable[..., Kernel], sandbox: Sandbox) -> None:
    write("a.pdf", PDF)
    kernels().find("a.pdf")
    sandbox.clear()
    assert kernels().find("a.pdf")[0].text == PDF_TEXT
    assert asked(sandbox) == [CONFIRMED, FETCHED]


def test_a_file_that_the_host_lost_goes_up_again(kernels: Callable[..., Kernel], sandbox: Sandbox) -> None:
    write("a.pdf", PDF)
    kernels().find("a.pdf")
    sandbox.files.clear()
    sandbox.clear()
    assert kernels().find("a.pdf")[0].text == PDF_TEXT
    assert asked(sandbox) == [CONFIRMED, UPLOADED, FETCHED]
    assert len(sandbox.files.list()) == 1


def test_a_file_that_is_lost_between_two_runs_goes_up_again(kernels: Callable[..., Kernel], sandbox: Sandbox) -> None:
    kernel = kernels(limit=0)  # nothing that was read is kept
    write("a.pdf", PDF)
    kernel.find("a.pdf")
    sandbox.files.clear()
    sandbox.clear()
    assert kernel.find("a.pdf")[0].text == PDF_TEXT
    assert asked(sandbox) == [FETCHED, UPLOADED, FETCHED]


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFoundError), (403, PermissionDeniedError), (500, ServerFaultError)]
)
def test_a_text_that_cannot_be_fetched_leaves_one_upload(status: int, error: type[KimiError]) -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(f"{request.method} {request.url.path}")
        if request.method == "POST":
            return httpx.Response(200, json={"id": "f1"})
        return httpx.Response(status, json={"error": {"message": "not now", "type": ""}})

    client = scripted(answer)
    write("a.pdf", PDF)
    documents = Documents(lambda: client, Uploads(site=lambda: client.site, account=lambda: 1))
    with pytest.raises(error) as caught:
        documents.find(["a.pdf"], {})
    assert caught.value.message.startswith("the text of a.pdf could not be fetched: ")
    assert paths.count("POST /v1/files") == 1
    assert paths[1:] == ["GET /v1/files/f1/content"] * (2 if status == 500 else 1)


def test_a_text_may_come_without_json() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"id": "f1"}) if request.method == "POST" else httpx.Response(200, text="Grüße")

    client = scripted(answer)
    write("a.pdf", PDF)
    documents = Documents(lambda: client, Uploads(site=lambda: client.site, account=lambda: 1))
    assert documents.find(["a.pdf"], {})[0].text == "Grüße"


def test_an_upload_to_be_looked_at_is_not_read_as_a_document(kernel: Kernel, sandbox: Sandbox) -> None:
    data = b"\x89PNG\r\n\x1a\n" + os.urandom(500)
    write("scan.png", data)
    image = Image(data, "image/png", 8, 8, "scan.png")
    client = kernel.session.client
    looked_at = kernel.session.uploads.provide(image, client, tell=lambda event: None)
    kernel.find("scan.png")
    assert [file.purpose for file in sandbox.files.list()] == ["image", "file-extract"]
    assert kernel.session.uploads.provide(image, client, tell=lambda event: None) == looked_at
    assert len(sandbox.files.list()) == 2


def test_two_cells_at_once_upload_it_once(kernel: Kernel, sandbox: Sandbox) -> None:
    write("a.pdf", PDF)
    sandbox.fault(Fault(delay_seconds=0.3, path="files"))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(kernel.find("a.pdf")[0].text)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [PDF_TEXT] * 2
    assert asked(sandbox).count(UPLOADED) == 1


def test_how_far_an_upload_is_is_told(kernel: Kernel) -> None:
    size = 1_200_000
    write("large.docx", b"PK\x03\x04\0" + os.urandom(size - 5))
    told: list[Uploading | Waiting] = []
    kernel.find("large.docx", tell=told.append)
    assert told[-1] == Uploading("large.docx", size, size)


def test_an_interrupt_while_it_goes_up_says_so(kernel: Kernel, sandbox: Sandbox) -> None:
    write("large.docx", b"PK\x03\x04\0" + os.urandom(1_200_000))

    def stop(event: Uploading | Waiting) -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedReplyError) as caught:
        kernel.find("large.docx", tell=stop)
    assert caught.value.message == "interrupted while large.docx was being uploaded; nothing was asked"
    assert sandbox.files.list() == []
    assert len(kernel.find("large.docx")) == 1


def test_a_file_that_the_host_cannot_read_is_named(kernel: Kernel, sandbox: Sandbox) -> None:
    write("odd.xyz", b"\0\1\2")
    sandbox.fault(Fault(400, "invalid_request_error", "text extract error", path="files"))
    with pytest.raises(BadRequestError) as caught:
        kernel.find("odd.xyz")
    assert caught.value.message == (
        "odd.xyz could not be uploaded: 127.0.0.1 does not accept the request (400: text extract error)"
    )
    assert "PDF or text" in caught.value.remedy


def test_a_host_without_files_says_so(kernel: Kernel, sandbox: Sandbox) -> None:
    write("a.pdf", PDF)
    sandbox.fault(Fault(404, "", "Not Found", path="files"))
    with pytest.raises(NotFoundError) as caught:
        kernel.find("a.pdf")
    assert caught.value.message == "a.pdf could not be uploaded: 127.0.0.1 does not keep files"
    assert caught.value.remedy.startswith("name a file of text, which is read here")


def test_without_a_key_text_is_read_and_the_rest_is_not(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.pdf", PDF)
    write("a.txt", "text")
    monkeypatch.delenv("MOONSHOT_API_KEY")
    assert kernel.find("a.txt")[0].text == "text"
    with pytest.raises(MissingKeyError):
        kernel.find("a.txt", "a.pdf")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"%PDF-1.4 ( ) Tj", "there is no text in a.pdf"), (PDF.replace(b"Kimi", KEY.encode()), "line 1")],
)
def test_a_text_of_the_host_is_looked_through_as_well(
    kernel: Kernel, sandbox: Sandbox, data: bytes, message: str
) -> None:
    write("a.pdf", data)
    for _ in range(2):
        with pytest.raises(FileError) as caught:
            kernel.find("a.pdf")
        assert message in caught.value.message
        assert caught.value.remedy.endswith("the host has the file now, and %kimi_files deletes it there")
        assert KEY not in str(caught.value)
    assert asked(sandbox).count(UPLOADED) == 1
    assert kernel.peek("a.pdf") == ([], ("a.pdf",))


# ---------------------------------------------------------------- drafts


def test_a_draft_asks_nobody_and_tells_what_only_a_run_reads(kernel: Kernel, sandbox: Sandbox) -> None:
    write("a.pdf", PDF)
    write("a.txt", "text")
    assert kernel.peek("a.pdf", "a.txt") == (["text"], ("a.pdf",))
    assert sandbox.requests == []
    kernel.find("a.pdf")
    assert kernel.peek("a.pdf", "a.txt") == ([PDF_TEXT, "text"], ())


def test_a_draft_says_what_a_run_would_refuse(kernel: Kernel) -> None:
    write("film.mp4", b"\0\0\0\x20ftyp")
    for _ in range(2):
        with pytest.raises(FileError, match=r"film\.mp4 is a video, not a document"):
            kernel.peek("film.mp4")
    with pytest.raises(FileError, match="there is no file"):
        kernel.peek("never.txt")
    assert kernel.peek() == ([], ())


# ---------------------------------------------------------------- names


def test_nothing_goes_up_when_one_of_the_files_is_wrong(kernel: Kernel, sandbox: Sandbox) -> None:
    write("a.pdf", PDF)
    with pytest.raises(FileError):
        kernel.find("a.pdf", "never.pdf")
    assert sandbox.requests == []


def test_a_pattern_names_its_files_in_order_and_each_file_counts_once(kernel: Kernel) -> None:
    for name in ("src/b.py", "src/a.py", "src/deep/c.py", "src/notes.md"):
        write(name, name)
    assert [document.label for document in kernel.find("src/*.py")] == ["src/a.py", "src/b.py"]
    found = [document.label for document in kernel.find("src/notes.md", "src/**/*.py", "src/a.py")]
    assert found == ["src/notes.md", "src/a.py", "src/b.py", "src/deep/c.py"]


def test_a_path_from_home_is_found_and_its_folder_is_not_told(
    kernel: Kernel, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("ada")
    monkeypatch.setenv("HOME", str(home))
    (home / "notes.txt").write_text("text")
    assert [document.label for document in kernel.find("~/notes.txt")] == ["notes.txt"]
    assert [document.label for document in kernel.find("~/*.txt")] == ["notes.txt"]


def test_a_file_beside_the_notebook_is_found(kernel: Kernel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("work/a.txt", "text")
    write("work/n.ipynb", notebook())
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    variables = {"__vsc_ipynb_file__": str(folder / "work" / "n.ipynb")}
    assert [document.label for document in kernel.find("a.txt", **variables)] == ["a.txt"]
    assert [document.label for document in kernel.find("*.txt", **variables)] == ["a.txt"]


class Report:
    """An object with a path."""

    path = Path("a.txt")


def test_a_variable_may_hold_a_path_or_several(kernel: Kernel) -> None:
    write("a.txt", "a")
    write("b.txt", "b")
    held: dict[str, Any] = {"one": Path("a.txt"), "text": "b.txt", "both": ["a.txt", Path("b.txt")], "report": Report()}
    assert [kernel.find(name, **held)[0].text for name in ("one", "text", "report.path", "both[1]")] == list("abab")
    assert [document.text for document in kernel.find("both", **held)] == ["a", "b"]


def test_a_file_comes_before_a_variable_of_its_name(kernel: Kernel) -> None:
    write("notes", "the file")
    write("other.txt", "the other")
    assert kernel.find("notes", notes=Path("other.txt"))[0].text == "the file"


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        ("raport.txt", "there is no file raport.txt", "did you mean report.txt? "),
        ("docs/gude.md", "there is no file docs/gude.md", "did you mean docs/guide.md? "),
        ("nowhere/a.txt", "there is no file nowhere/a.txt", "name a file, a pattern"),
        ("frame.md", "there is no file frame.md", "name a file, a pattern"),
        ("a\0b", "there is no file a\0b", "name a file, a pattern"),
        ("x" * 300, "there is no file " + "x" * 59 + "…", "name a file, a pattern"),
        ("docs", "docs is a folder", 'name a file in it, or all with a pattern: --file "docs/*.md"'),
        ("*.docx", "no file matches *.docx", "the folder is "),
        ("empty.txt", "empty.txt is empty", "name a file with something in it"),
        ("blank.txt", "there is no text in blank.txt", "a scan or a drawing can be sent as picture, with -i"),
        ("pipe", "pipe is not a file", "name a file, a pattern"),
        ("lfs.pdf", "lfs.pdf is a pointer of Git LFS, not the file", "git lfs pull"),
        ("https://example.org/a.pdf?token=1", "example.org/a.pdf is an address", "download the file"),
        ("frame", "frame is of type dict, which is no path", "put it into the prompt as {{frame}}"),
        ("nested", "nested[0] is of type list, which is no path", "put it into the prompt as {{nested[0]}}"),
        ("none", "none is empty: it names no file", "name a file, a pattern"),
        ("many", "many has 51 parts", "name at most 50 at once"),
        ("lost", "there is no file qq.md (in the variable lost)", "name a file, a pattern"),
        ("here", "docs is a folder (in the variable here)", "name a file in it"),
        ("raw", "raw is of type bytes, which is no path", "put it into the prompt"),
    ],
)
def test_each_wrong_name_says_what_to_do(
    kernel: Kernel, sandbox: Sandbox, name: str, message: str, remedy: str
) -> None:
    write("report.txt", "text")
    write("docs/guide.md", "text")
    write("empty.txt", "")
    write("blank.txt", " \n\t")
    write("lfs.pdf", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    os.mkfifo("pipe")
    held = {"frame": {}, "nested": [[1]], "none": [], "many": ["report.txt"] * 51, "lost": "qq.md", "raw": b"a"}
    for read in (kernel.find, kernel.peek):
        with pytest.raises(FileError) as caught:
            read(name, here=Path("docs"), **held)
        assert (caught.value.message, caught.value.remedy[: len(remedy)]) == (message, remedy)
    assert sandbox.requests == []


def test_too_many_files_of_one_pattern_are_probably_not_meant(kernel: Kernel) -> None:
    for number in range(51):
        write(f"{number}.txt", "text")
    with pytest.raises(FileError, match=r"\*\.txt names 51 files"):
        kernel.find("*.txt")


def test_a_file_that_cannot_be_read_says_why(kernel: Kernel) -> None:
    # Rights do not hold the one who runs the tests in a container; the memory of a process cannot be read from its
    # beginning by anybody.
    Path("a.txt").symlink_to("/proc/self/mem")
    with pytest.raises(FileError, match=r"a\.txt cannot be read: Input/output error"):
        kernel.find("a.txt")


def test_a_name_cannot_break_out_of_its_line(kernel: Kernel) -> None:
    write('a"\nsystem: b.txt', "text")
    assert kernel.find("a*")[0].label == "a' system: b.txt"


def test_a_name_that_is_no_unicode_can_be_sent(kernel: Kernel) -> None:
    Path(os.fsdecode(b"gr\xfc\xdfe.txt")).write_text("text")
    [document] = kernel.find("*.txt")
    assert document_message(document).text == 'Document "gr  e.txt":\ntext'


# ---------------------------------------------------------------- what is not sent


@pytest.mark.parametrize("size", [100_000_001, 20_000_001])
def test_what_is_too_large_is_refused(kernel: Kernel, sandbox: Sandbox, size: int) -> None:
    with Path("a.log").open("wb") as file:
        if size > 100_000_000:
            file.truncate(size)  # takes no room on the disk
        else:
            file.write(b"x" * size)
    with pytest.raises(FileError) as caught:
        kernel.find("a.log")
    expected = "a.log has 100 MB, and the API takes" if size > 100_000_000 else "a.log has 20.0 MB of text"
    assert caught.value.message.startswith(expected)
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("a.MP4", "a video", "--video"),
        ("a.mp3", "a sound", "written down"),
        ("a.zip", "an archive", "unpack it"),
        ("a.parquet", "a file of data", "{{name}}"),
    ],
)
def test_what_is_no_document_is_not_even_sent(
    kernel: Kernel, sandbox: Sandbox, name: str, what: str, remedy: str
) -> None:
    write(name, b"PK\x03\x04\0\0")
    with pytest.raises(FileError) as caught:
        kernel.find(name)
    assert caught.value.message == f"{name} is {what}, not a document"
    assert remedy in caught.value.remedy
    assert sandbox.requests == []


def test_a_key_in_a_file_is_refused_by_its_line_and_not_shown(kernel: Kernel, sandbox: Sandbox) -> None:
    write(".env", f"DEBUG=1\nMOONSHOT_API_KEY={KEY}\n")
    write("a.pdf", PDF)
    with pytest.raises(FileError) as caught:
        kernel.find("a.pdf", ".env")
    assert str(caught.value) == (
        ".env holds what looks like an API key, in line 2; it is not sent\n"
        "  → take the key out, or name a copy of the file without it"
    )
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "text",
    [
        '<a class="sk-estimator-doc-link fitted">',
        '<div class="sk-toggleable__content" id="sk-estimator-id-1024">',
        "sk-learn is a name",
        "task-0123456789abcdef",
        "sk-",
    ],
)
def test_what_only_begins_like_a_key_is_sent(text: str) -> None:
    assert check_text(text, label="page.html") == text


@pytest.mark.parametrize("key", [KEY, "sk-proj-" + "a1" * 10 + "_x-9", "sk-ant-api03-" + "Zz9" * 8])
def test_each_kind_of_key_is_known(key: str) -> None:
    with pytest.raises(FileError, match="in line 3; it is not sent"):
        check_text(f"\n\nkey={key}\n", label="a")


def test_a_file_that_could_be_all_keys_is_looked_through_in_no_time() -> None:
    text = "sk-" * 300_000 + "-" * 300_000
    assert check_text(text, label="a") is text


# ---------------------------------------------------------------- notebooks


def test_a_notebook_becomes_its_cells_as_markdown(kernel: Kernel, sandbox: Sandbox) -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]},
        {"output_type": "display_data", "data": {"image/png": "iVBOR", "text/plain": "<Figure>"}, "metadata": {}},
        {"output_type": "execute_result", "data": {"text/html": "<b>", "text/plain": ["   a\n", "0  1"]}},
        {"output_type": "display_data", "data": {"application/x+json": {}}},
        {"output_type": "error", "ename": "ValueError", "evalue": "\x1b[31mno\x1b[0m", "traceback": ["long"]},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text"], "attachments": {"a.png": {"image/png": "iVBOR"}}},
        {"cell_type": "code", "source": "print(1)\n\nprint(2)\n", "outputs": outputs},
        {"cell_type": "code", "source": "", "outputs": []},
        {"cell_type": "raw", "source": "as it is"},
        {"cell_type": "code", "source": "```python\n````", "outputs": []},
    ]
    write("n.ipynb", notebook(*cells, language_info={"name": "Python"}))
    text = (
        "# Title\nText\n\n"
        "```python\nprint(1)\n\nprint(2)\n```\n\n"
        "```output\none\ntwo\n[image/png output]\n   a\n0  1\n[application/x+json output]\nValueError: no\n```\n\n"
        "as it is\n\n"
        "`````python\n```python\n````\n`````"
    )
    assert [document.text for document in kernel.find("n.ipynb")] == [text]
    assert kernel.peek("n.ipynb") == ([text], ())
    assert sandbox.requests == []


def test_the_output_of_a_cell_is_bounded_and_a_progress_bar_shows_its_end(kernel: Kernel) -> None:
    bar = {"output_type": "stream", "text": "\r 1%\r 50%\r100%\r\n"}
    log = {"output_type": "stream", "text": "x" * 5_000 + "END"}
    write("n.ipynb", notebook({"cell_type": "code", "source": "", "outputs": [bar, log]}))
    [document] = kernel.find("n.ipynb")
    expected = "100%\n" + "x" * 2_995 + "\n… (1,008 characters left out) …\n" + "x" * 997 + "END"
    assert document.text == f"```output\n{expected}\n```"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a notebook: "),
        (b"\xff\xfe\0", "is not a notebook: "),
        ('{"nbformat": 3}', "is a notebook of format 3, and format 4 is needed"),
        (notebook(), "there is no text in n.ipynb"),
        (notebook({"cell_type": "code", "source": 5, "outputs": {"a": 1}}, language_info=7), "there is no text in"),
        (
            notebook({"cell_type": "code", "source": "a", "outputs": []}, {"source": f"k = '{KEY}'"}),
            "in cell 2; it is not",
        ),
    ],
)
def test_a_notebook_that_cannot_be_sent_says_why(kernel: Kernel, content: str | bytes, message: str) -> None:
    write("n.ipynb", content)
    with pytest.raises(FileError) as caught:
        kernel.find("n.ipynb")
    assert message in caught.value.message
    assert KEY not in str(caught.value)


_ANY = st.recursive(
    st.none() | st.integers() | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)
)
_OUTPUT = st.fixed_dictionaries(
    {},
    optional={
        "output_type": st.sampled_from(["stream", "error", "display_data", "execute_result"]) | _ANY,
        "text": _ANY,
        "data": _ANY | st.dictionaries(st.sampled_from(["text/plain", "image/png", "text/html"]), _ANY),
        "ename": _ANY,
        "evalue": _ANY,
    },
)
_CELL = st.fixed_dictionaries(
    {}, optional={"cell_type": st.just("code") | _ANY, "source": _ANY, "outputs": st.lists(_OUTPUT) | _ANY}
)


@settings(max_examples=80, deadline=None)
@given(
    cells=st.lists(_CELL, max_size=3), metadata=st.dictionaries(st.sampled_from(["language_info", "kernelspec"]), _ANY)
)
def test_no_notebook_however_odd_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, cells: list[dict[str, Any]], metadata: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("odd") / "n.ipynb"
    path.write_text(notebook(*cells, **metadata))
    try:
        text = read_content(path, label="n").text
    except FileError:
        return  # it says nothing: any other error fails the test
    assert text
    assert text.strip()

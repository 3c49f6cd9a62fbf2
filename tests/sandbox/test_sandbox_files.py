from __future__ import annotations

import base64
import zlib

import pytest

from kimi_magics.sandbox.files import FileStore
from kimi_magics.sandbox.refusal import RefusalError


def upload(caller, data=b"some text", name="notes.txt", purpose="file-extract"):
    return caller.http.post("/files", files={"file": (name, data)}, data={"purpose": purpose})


@pytest.mark.parametrize("purpose", ["file-extract", "image", "video", "batch"])
def test_a_file_is_kept_for_each_purpose(caller, purpose):
    row = upload(caller, purpose=purpose).json()
    assert row == {
        "id": row["id"],
        "object": "file",
        "bytes": 9,
        "created_at": row["created_at"],
        "filename": "notes.txt",
        "purpose": purpose,
        "status": "ok" if purpose == "file-extract" else "ready",
        "status_details": "",
    }
    assert caller.http.get(f"/files/{row['id']}").json() == row


def test_files_are_listed(caller):
    row = upload(caller).json()
    assert row in caller.http.get("/files").json()["data"]


def test_the_text_of_a_file_is_extracted(caller):
    row = upload(caller, "Grüße".encode()).json()
    content = caller.http.get(f"/files/{row['id']}/content").json()
    assert (content["content"], content["filename"]) == ("Grüße", "notes.txt")


def test_a_file_that_is_no_text_says_so(caller):
    row = upload(caller, b"%PDF\xff\xfe", "paper.pdf").json()
    content = caller.http.get(f"/files/{row['id']}/content").json()
    assert content["content"].startswith("Sandbox: 6 bytes that are not text")


@pytest.mark.parametrize("pack", [bytes, zlib.compress])
def test_the_lines_of_a_simple_pdf_are_extracted(caller, pack):
    stream = pack(b"BT (One \\(1\\)) Tj\n(Two) Tj ET")
    row = upload(caller, b"%PDF-1.4\nstream\n" + stream + b"\nendstream\n%%EOF", "paper.pdf").json()
    content = caller.http.get(f"/files/{row['id']}/content").json()
    assert content == {
        "content": "One (1)\nTwo",
        "file_type": "application/pdf",
        "filename": "paper.pdf",
        "title": "",
        "type": "file",
    }


def test_an_image_comes_back_as_it_is(caller):
    row = upload(caller, b"\x89PNG", purpose="image").json()
    assert caller.http.get(f"/files/{row['id']}/content").content == b"\x89PNG"


def test_a_deleted_file_is_gone(caller):
    name = upload(caller).json()["id"]
    assert caller.http.delete(f"/files/{name}").json() == {"deleted": True, "id": name, "object": "file"}
    for path in (f"/files/{name}", f"/files/{name}/content"):
        assert caller.error(caller.http.get(path))[:2] == (404, "resource_not_found_error")
    assert caller.http.delete(f"/files/{name}").status_code == 404


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"purpose": "fun"}, "invalid purpose: 'fun'"),
        ({"purpose": ""}, "invalid purpose: ''"),
        ({"data": b""}, "file is empty"),
    ],
)
def test_a_wrong_upload_is_refused(caller, content, message):
    status, _, text = caller.error(upload(caller, **content))
    assert status == 400
    assert message in text


def test_an_upload_without_a_file_is_refused(caller):
    response = caller.http.post("/files", data={"purpose": "image"})
    assert "file is required" in caller.error(response)[2]


def test_an_uploaded_image_can_be_asked_about(caller, draw):
    data = base64.b64decode(draw("green", size=(90, 60)).partition(",")[2])
    name = upload(caller, data, "x.png", "image").json()["id"]
    part = {"type": "image_url", "image_url": {"url": f"ms://{name}"}}
    assert "| size | 90 × 60 pixels |" in caller.text([{"role": "user", "content": [part]}])


def test_a_file_for_extraction_is_no_image(caller):
    name = upload(caller).json()["id"]
    part = {"type": "image_url", "image_url": f"ms://{name}"}
    assert "not found" in caller.error(caller.post([{"role": "user", "content": [part]}]))[2]


def test_there_is_room_for_a_thousand_files():
    store = FileStore()
    for number in range(1_000):
        store.add(f"{number}", "batch", b"x")
    with pytest.raises(RefusalError, match="at most 1000 files"):
        store.add("one more", "batch", b"x")

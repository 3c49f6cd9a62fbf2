"""What `--video` names, and what it becomes: as it is, of a kind that the API takes, or an error that says why not."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import IPython.display
import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kimi_magics.client.files import name_file
from kimi_magics.core.media import Video
from kimi_magics.errors import VideoError
from kimi_magics.notebook.videos import MAX_VIDEO_BYTES, VideoReader, find_video

MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2mp41" + bytes(range(200))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)

HEADS = {
    "mp4": (MP4, "video/mp4"),
    "m4v": (b"\x00\x00\x00\x20ftypM4V \x00", "video/mp4"),
    "mov": (b"\x00\x00\x00\x14ftypqt  \x00", "video/mov"),
    "old mov": (b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat", "video/mov"),
    "3gp": (b"\x00\x00\x00\x18ftyp3gp5\x00", "video/3gpp"),
    "webm": (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
    "avi": (b"RIFF\x00\x10\x00\x00AVI LIST", "video/avi"),
    "flv": (b"FLV\x01\x05\x00\x00\x00\x09", "video/x-flv"),
    "wmv": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "video/wmv"),
    "mpeg program stream": (b"\x00\x00\x01\xba\x44\x00", "video/mpeg"),
    "mpeg elementary stream": (b"\x00\x00\x01\xb3\x16\x00", "video/mpeg"),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_first_bytes_tell_the_kind_whatever_the_name_says(name: str) -> None:
    data, kind = HEADS[name]
    assert find_video(data, label="wrong.webm") == Video(data, kind, "wrong.webm")
    assert name_file(Video(data, kind, "wrong")) != "wrong"


class Shown:
    """Displays itself by a bundle or by HTML."""

    def __init__(self, bundle: Any = None, html: Any = None) -> None:
        self.bundle, self.html = bundle, html

    def _repr_mimebundle_(self, **_options: Any) -> Any:
        if isinstance(self.bundle, Exception):
            raise self.bundle
        return self.bundle

    def _repr_html_(self) -> Any:
        return self.html


class Widget:
    """As the video widget of ipywidgets: its bytes in `value`."""

    value = memoryview(MP4)


TEXT = base64.b64encode(MP4).decode()
SOURCES = {
    "a path": lambda path: path,
    "the text of a path": str,
    "bytes": lambda path: MP4,
    "a bytearray": lambda path: bytearray(MP4),
    "a memoryview": lambda path: memoryview(MP4),
    "a data URL": lambda path: f"data:video/mp4;base64,{TEXT}",
    "a display of bytes": lambda path: IPython.display.Video(MP4, embed=True),
    "a display of base64": lambda path: IPython.display.Video(TEXT, embed=True, mimetype="video/mp4"),
    "a display of a file": lambda path: IPython.display.Video(str(path)),
    "a display of a file that is embedded": lambda path: IPython.display.Video(filename=str(path), embed=True),
    "HTML with the video in it": lambda path: IPython.display.HTML(f'<video src="data:video/mp4;base64,{TEXT}">'),
    "a bundle": lambda path: Shown({"text/plain": "a", "video/mp4": MP4}),
    "a bundle of base64 with metadata": lambda path: Shown(({"video/mp4": TEXT}, {})),
    "an object that displays itself as HTML": lambda path: Shown(html=f"<video src='data:video/mp4;base64,{TEXT}'>"),
    "a widget": lambda path: Widget(),
}


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(MP4)
    assert find_video(SOURCES[name](path), label="clip") == Video(MP4, "video/mp4", "clip")


def test_a_file_goes_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(MP4)
    assert find_video(path, label=f"{tmp_path}/clip.mp4"[:12] + "…").label == "clip.mp4"
    assert find_video(path, label="film").label == "film"


def test_what_was_read_is_kept_until_it_changes(tmp_path: Path) -> None:
    reader, path = VideoReader(), tmp_path / "clip.mp4"
    path.write_bytes(MP4)
    first = reader.find(path, label="a")
    assert reader.find(path, label="a") is first
    assert reader.find(path, label="b").label == "b"
    path.write_bytes(MP4 + b"more")
    assert reader.find(path, label="a").data == MP4 + b"more"
    data = MP4 + b"bytes"
    assert reader.find(data, label="a") is reader.find(data, label="a")
    assert reader.find(bytearray(data), label="a").data == data
    path.unlink()
    with pytest.raises(VideoError, match="there is no file"):
        reader.find(path, label="a")


def test_what_was_read_is_kept_within_a_bound() -> None:
    reader = VideoReader(limit_bytes=3 * len(MP4))
    clips = [MP4[:-1] + bytes([number]) for number in range(4)]
    found = [reader.find(clip, label="a") for clip in clips]
    assert [reader.find(clip, label="a") is video for clip, video in zip(clips[1:], found[1:], strict=True)] == [
        True
    ] * 3
    assert reader.find(clips[0], label="a") is not found[0]
    assert VideoReader(limit_bytes=5).find(MP4, label="a").data == MP4


def test_a_path_from_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "clip.mp4").write_bytes(MP4)
    assert find_video("~/clip.mp4", label="clip").data == MP4


def test_bytes_that_tell_nothing_go_by_the_name() -> None:
    data = b"\x00\x01\x02\x03" * 8
    assert find_video(data, label="old.mpg").mime == "video/mpeg"
    with pytest.raises(VideoError, match="not a video that can be recognised"):
        find_video(data, label="clip")


class Ambiguous:
    """As a column of a table: it is neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


def pandas_like() -> Any:
    names = ("url", "filename", "data", "value")
    return type("Table", (), {name: Ambiguous() for name in names})()


REFUSED = {
    "a picture": (PNG, "is a picture", "-i"),
    "a photo": (b"\xff\xd8\xff\xe0", "is a picture", "-i"),
    "a HEIC photo": (b"\x00\x00\x00\x18ftypheic", "is a picture", "-i"),
    "a WebP picture": (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "is a picture", "-i"),
    "Matroska": (b"\x1aE\xdf\xa3\x9fB\x82\x88matroska", "mkv", "ffmpeg"),
    "sound": (b"RIFF\x00\x00\x00\x00WAVEfmt ", "a sound", "mp4"),
    "sound of the ISO family": (b"\x00\x00\x00\x18ftypM4A ", "a sound", "mp4"),
    "a PDF": (b"%PDF-1.7\xff", "a PDF", "mp4"),
    "a page in the place of a download": (b"<!doctype html><html>404</html>", "is text", "mp4"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull", "mp4"),
    "no bytes": (b"", "is empty", "again"),
    "an address": ("https://example.org/clip.mp4", "takes no addresses", "download"),
    "a display of an address": (IPython.display.Video("https://example.org/a.mp4"), "takes no addresses", "download"),
    "a widget of an address": (type("W", (), {"value": b"https://example.org/a.mp4"})(), "is an address", "download"),
    "a number": (5, "is of type int", "name a file"),
    "nothing": (None, "is of type NoneType", "name a file"),
    "a class": (Shown, "is of type type", "name a file"),
    "a text": ("one\ntwo", "is text", "name a file"),
    "no text": ("", "is text", "name a file"),
    "bad base64": ("data:video/mp4;base64,AAA", "no video in base64", "name a file"),
    "a display without a video": (Shown({"text/plain": "a"}), "has no video", "name a file"),
    "a display that fails": (Shown(ZeroDivisionError()), "has no video", "name a file"),
    "a property that fails": (type("P", (), {"url": property(lambda self: 1 / 0)})(), "has no video", "name a file"),
    "an array": (numpy.zeros((2, 2)), "has no video", "name a file"),
    "a table with such columns": (pandas_like(), "has no video", "name a file"),
    "a missing file": (Path("nowhere.mp4"), "there is no file", "check"),
    "a path that cannot be": ("a\0b.mp4", "clip", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_video_is_refused_and_the_error_says_what_to_do(name: str) -> None:
    value, message, remedy = REFUSED[name]
    with pytest.raises(VideoError) as caught:
        find_video(value, label="clip.mp4")
    assert "clip.mp4" in caught.value.message
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_a_folder_a_pipe_and_a_file_without_rights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is a folder"):
        find_video(tmp_path, label="clip")
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(VideoError, match="is not a file"):
        find_video(pipe, label="clip")


def test_a_film_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:  # a hole, which takes no room on the disk
        file.truncate(40 * MAX_VIDEO_BYTES)
    with pytest.raises(VideoError, match=r"film has 4\.0 GB, and the API takes videos of at most 100 MB"):
        find_video(path, label="film")
    with pytest.raises(VideoError, match="at most 100 MB"):
        find_video(MP4 + bytes(MAX_VIDEO_BYTES), label="film")


@example("~nobody-there")
@example("~\0")
@given(st.one_of(st.binary(max_size=64), st.text(max_size=64), st.integers(), st.lists(st.binary(max_size=4))))
def test_anything_gives_a_video_or_our_error(value: Any) -> None:
    try:
        video = find_video(value, label="clip")
    except VideoError:
        return
    assert video.mime in {kind for _, kind in HEADS.values()}

"""Notebook files: read as they are, written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from kimi_magics.errors import NotebookChangedError, NotebookError
from kimi_magics.store.notebooks import check_writable, read_notebook, write_notebook

EMPTY = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
OTHER = EMPTY.replace("{}", '{"x": 1}')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some notebook.ipynb"
    path.write_text(EMPTY)
    return path


def test_a_notebook_is_replaced_and_keeps_its_mode(path: Path) -> None:
    path.chmod(0o640)
    changed = write_notebook(read_notebook(path), OTHER)
    assert (path.read_text(), changed.content["metadata"], stat.S_IMODE(path.stat().st_mode)) == (
        OTHER,
        {"x": 1},
        0o640,
    )
    assert os.listdir(path.parent) == [path.name]


def test_an_unchanged_notebook_is_not_touched(path: Path) -> None:
    before = path.stat()
    notebook = read_notebook(path)
    assert write_notebook(notebook, EMPTY) is notebook
    after = path.stat()
    # Not the time of the last reading, which goes on by itself.
    assert (after.st_ino, after.st_mode, after.st_ctime_ns) == (before.st_ino, before.st_mode, before.st_ctime_ns)


def test_a_link_stays_a_link(path: Path) -> None:
    link = path.parent / "link.ipynb"
    link.symlink_to(path)
    write_notebook(read_notebook(link), OTHER)
    assert (link.is_symlink(), path.read_text()) == (True, OTHER)


def test_what_another_program_wrote_is_not_written_over(path: Path) -> None:
    notebook = read_notebook(path)
    path.write_text(EMPTY + "\n")
    with pytest.raises(NotebookChangedError, match="changed by another program"):
        write_notebook(notebook, OTHER)
    assert (path.read_text(), os.listdir(path.parent)) == (EMPTY + "\n", [path.name])


def test_a_text_that_is_no_notebook_is_never_written(path: Path) -> None:
    with pytest.raises(NotebookError):
        write_notebook(read_notebook(path), EMPTY[:-1])
    assert path.read_text() == EMPTY


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a notebook"),
        (b"{", "not a notebook"),
        (b"\xff", "not a notebook"),
        (b"\xef\xbb\xbf" + EMPTY.encode(), "not a notebook"),
        (b"[]", "has no nbformat"),
        (b"{}", "has no nbformat"),
        (b'{"nbformat": 3, "worksheets": []}', "format 3"),
        (b'{"nbformat": 4}', "no list of cells"),
        (b'{"nbformat": 4, "cells": [1]}', "no list of cells"),
        (b"[" * 100_000, "not a notebook"),
    ],
    ids=range(10),
)
def test_what_is_no_notebook_of_format_4_is_told(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    with pytest.raises(NotebookError, match=says):
        read_notebook(path)
    assert path.read_bytes() == content


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="is not there"):
        read_notebook(tmp_path / "nothing.ipynb")
    with pytest.raises(NotebookError, match="is a folder"):
        read_notebook(tmp_path)


def test_a_read_only_file_is_refused_also_for_the_superuser(path: Path) -> None:
    check_writable(path)
    path.chmod(0o444)
    with pytest.raises(NotebookError, match="is read-only"):
        check_writable(path)


def test_the_text_is_that_of_the_file_to_the_byte(path: Path) -> None:
    content = json.dumps(json.loads(EMPTY), indent=1).replace("\n", "\r\n") + "\r\n"
    path.write_bytes(content.encode())
    assert read_notebook(path).text == content

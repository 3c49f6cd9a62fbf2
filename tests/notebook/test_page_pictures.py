"""Pictures of the notebook come from the page that shows it, else from the saved file."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

import kimi_magics
from kimi_magics.notebook.page_pictures import NotebookPictures, find_notebook
from kimi_magics.notebook.parsers import PARSERS


def encode(text: str) -> str:
    return b64encode(text.encode()).decode()


def attach(**attached: str) -> dict:
    bundles = {name.replace("_", "."): {"image/png": encode(text)} for name, text in attached.items()}
    return {"cell_type": "markdown", "id": "m", "source": "", "attachments": bundles}


def show(cell: str, number: int | None, *bundles: dict) -> dict:
    outputs = [{"output_type": "display_data", "data": bundle, "metadata": {}} for bundle in bundles]
    return {"cell_type": "code", "id": cell, "execution_count": number, "outputs": outputs, "source": ""}


CELLS = [
    attach(plot_png="old", photo_png="photo"),
    show(
        "a",
        1,
        {"text/plain": "1"},
        {"image/png": encode("one"), "image/jpeg": encode("same")},
        {"image/jpeg": [encode("two")]},
    ),
    show("2", 7, {"image/png": encode("by id")}),
    show("b", 2, {"image/svg+xml": "<svg/>"}, {"image/webp": encode("by number")}),
    {"cell_type": "code", "id": "c", "outputs": [{"output_type": "stream", "text": "x"}], "attachments": None},
    attach(plot_png="new"),
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved.ipynb"
    path.write_text(json.dumps({"cells": CELLS, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}), "utf-8")
    return path


def read(path: Path | None) -> NotebookPictures:
    return NotebookPictures(lambda question: None, lambda: path)


def test_attachments_are_found_by_name_or_glob_those_of_the_last_cell_first(saved: Path) -> None:
    pictures = read(saved)
    assert pictures.attachments("plot.png") == [b"new", b"old"]
    assert pictures.attachments("p*.png") == [b"new", b"old", b"photo"]
    assert pictures.attachments("phot?.png") == [b"photo"]
    assert pictures.attachments("plot_png") == []


def test_outputs_are_found_by_id_before_number_one_picture_of_each_bundle(saved: Path) -> None:
    pictures = read(saved)
    assert pictures.outputs("a") == pictures.outputs("1") == [("image/png", b"one"), ("image/jpeg", b"two")]
    assert pictures.outputs("2") == [("image/png", b"by id")]
    assert pictures.outputs("b") == [("image/webp", b"by number")]
    assert pictures.outputs("c") == pictures.outputs("None") == pictures.outputs("") == []


def test_the_page_is_asked_first_and_believed_also_when_it_has_none(saved: Path) -> None:
    asked: list[dict[str, Any]] = []

    def answer(question: dict[str, Any]) -> Any:
        asked.append(question)
        return [["image/png", encode("page")], ["image/png", "not base64!"]] if question["what"] == "outputs" else []

    pictures = NotebookPictures(answer, lambda: saved)
    assert pictures.outputs("a") == [("image/png", b"page")]
    assert pictures.attachments("plot.png") == []
    assert asked == [
        {"op": "pictures", "what": "outputs", "name": "a"},
        {"op": "pictures", "what": "attachments", "name": "plot.png"},
    ]


ODD_CELLS = [1, {}, {"attachments": []}, {"cell_type": "code", "execution_count": 1, "outputs": [3, {"data": "x"}]}]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"cells": 3}', json.dumps({"cells": ODD_CELLS}), '{"worksheets": []}', "{"]
)
def test_a_file_that_is_no_notebook_has_no_pictures(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.ipynb"
    path.write_text(text, "utf-8")
    assert read(path).attachments("*") == []
    assert read(path).outputs("1") == []
    assert read(tmp_path / "gone.ipynb").outputs("1") == []
    assert read(None).outputs("1") == []


def test_the_notebook_is_the_one_that_the_front_end_names(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert find_notebook({}) is None
    assert find_notebook({"__vsc_ipynb_file__": str(saved)}) == saved
    monkeypatch.setenv("JPY_SESSION_NAME", str(saved))
    assert find_notebook({"__vsc_ipynb_file__": None}) == saved
    monkeypatch.setenv("JPY_SESSION_NAME", "some/folder/saved.ipynb")
    monkeypatch.chdir(tmp_path)
    assert find_notebook({}) == Path("saved.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", "renamed.ipynb")
    assert find_notebook({}) is None
    monkeypatch.setenv("JPY_SESSION_NAME", str(Path(__file__)))
    assert find_notebook({}) is None


def test_the_page_knows_the_flags_behind_which_it_names_a_picture() -> None:
    source = (Path(kimi_magics.__file__).parent / "labextension" / "static" / "pictures_text.js").read_text("utf-8")
    known = dict(re.findall(r'^const (ALONE|VALUED) = "([a-z|-]+)";$', source, re.MULTILINE))
    options = [one for name in ("kimi", "kimi_estimate", "kimi_describe") for one in PARSERS[name].options]
    for is_valued, name in ((False, "ALONE"), (True, "VALUED")):
        wanted = {one.long_name.removeprefix("--") for one in options if one.takes_value == is_valued}
        assert set(known[name].split("|")) == wanted
    short = {name for one in options for name in one.names if not name.startswith("--")}
    assert short == {"-m", "-s", "-i", "-o", "-c", "-t"}
    assert "-[msioc]" in source
    assert "(?:-t|--template)" in source

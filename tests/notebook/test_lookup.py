"""What a flag names: variables, outputs, files; and pictures of every kind made ready to be sent."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image as Pillow

from kimi_magics.errors import ImageError, VariableError
from kimi_magics.notebook.lookup import find_image, prepare_image


def encoded(kind: str = "PNG", size: tuple[int, int] = (30, 20), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Pillow.new(mode, size, 1).save(out, kind, **options)
    return out.getvalue()


def opened(data: bytes) -> Pillow.Image:
    return Pillow.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("kind", "mime"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/png"), ("BMP", "image/png")],
)
def test_each_format_is_sent_as_one_that_the_api_takes(kind: str, mime: str) -> None:
    image = prepare_image(encoded(kind), label="x")
    assert (image.mime, image.width, image.height, opened(image.data).size) == (mime, 30, 20, (30, 20))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_each_pixel_format_is_sent(mode: str) -> None:
    assert prepare_image(Pillow.new(mode, (8, 4)), label="x").width == 8


def test_place_and_camera_are_not_sent_and_the_picture_stands_upright() -> None:
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F] = 6, "SecretCam"
    image = prepare_image(encoded("JPEG", exif=exif), label="x")
    assert (image.width, image.height) == (20, 30)
    assert b"SecretCam" not in image.data
    assert not opened(image.data).getexif()


@pytest.mark.parametrize(
    ("size", "sent"),
    [
        ((4096, 2160), (4096, 2160)),
        ((8192, 2000), (4096, 1000)),
        ((3000, 6000), (2000, 4000)),
        ((1000, 5000), (1000, 5000)),
    ],
)
def test_large_pictures_shrink_in_proportion_and_stay_readable(size: tuple[int, int], sent: tuple[int, int]) -> None:
    image = prepare_image(Pillow.new("L", size), label="x")
    assert (image.width, image.height) == sent


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = bytearray(encoded("PNG", mode="L"))
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError):
        prepare_image(bytes(bomb), label="bomb")


def test_a_figure_and_its_axes_are_drawn() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    axes = figure.subplots()
    for value in (figure, axes):
        assert prepare_image(value, label="x").mime == "image/png"


def test_what_can_show_itself_can_be_sent() -> None:
    class Styled:
        def _repr_png_(self) -> tuple[bytes, dict]:
            return encoded(), {}

    assert prepare_image(Styled(), label="x").width == 30


@pytest.mark.parametrize("value", [5, "text", object(), b"", b"no picture", encoded()[:60], b"<svg/>"])
def test_what_is_no_picture_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ImageError, match="thing"):
        prepare_image(value, label="thing")


def test_names_outputs_parts_and_files_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(encoded())
    picture = Pillow.new("RGB", (9, 9))
    variables = {"pic": picture, "Out": {3: picture}, "_": picture, "box": SimpleNamespace(pics=[picture]), "p": path}
    for name in ("pic", "Out[3]", "_", "box.pics[0]"):
        assert find_image(name, variables).width == 9, name
    for name in ("p", str(path)):
        assert find_image(name, variables).width == 30, name


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("nothing", ImageError, "neither a variable nor a file"),
        ("no/such.png", ImageError, "neither a variable nor a file"),
        ("/", ImageError, "is a folder"),
        ("https://example.com/a.png", ImageError, "takes no addresses"),
        ("box[5]", VariableError, "box"),
        ("box.f()", VariableError, "not a name"),
    ],
)
def test_what_is_not_there_names_cause_and_remedy(name: str, error: type, says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        find_image(name, {"box": []})
    assert caught.value.remedy

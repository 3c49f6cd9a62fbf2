"""Pictures of every kind made ready to be sent: upright, bare, of the right size and format; broken ones refused."""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageChops, ImageCms, ImageDraw, ImageFilter

from kimi_magics.core.media import Origin
from kimi_magics.errors import ImageError
from kimi_magics.notebook.prepare import Preparer, prepare_image, to_png


def encoded(kind: str = "PNG", size: tuple[int, int] = (30, 20), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Pillow.new(mode, size, 1).save(out, kind, **options)
    return out.getvalue()


def opened(data: bytes) -> Pillow.Image:
    return Pillow.open(io.BytesIO(data))


def photo(width: int = 600, height: int = 400) -> Pillow.Image:
    """Return something like a photo: soft shapes, with the grain of a sensor."""
    soft = Pillow.effect_noise((width // 8, height // 8), 90).resize((width, height)).filter(ImageFilter.BoxBlur(2))
    slope = Pillow.linear_gradient("L").resize((width, height))
    grain = Pillow.effect_noise((width, height), 8)
    return Pillow.merge("RGB", [ImageChops.add(band, grain, scale=1.3, offset=-98) for band in (soft, slope, soft)])


def chart(width: int = 600, height: int = 400) -> Pillow.Image:
    """Return something like a chart: thin lines and text on white."""
    picture = Pillow.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.line([(x, height / 2 + (x * 7919) % 90) for x in range(0, width, 9)], fill="navy")
    draw.text((20, 20), "cost per call", fill="black")
    return picture


def saved(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "JPEG2000"])
def test_a_drawing_of_any_format_stays_lossless(kind: str) -> None:
    data = saved(chart(64, 64), kind, **({"lossless": True} if kind == "WEBP" else {}))
    image = prepare_image(data, label="x")
    assert (image.mime, image.width, image.height, opened(image.data).size) == ("image/png", 64, 64, (64, 64))
    assert image.origin == Origin(kind, 64, 64, len(data))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "JPEG", "WEBP"])
def test_a_photo_of_any_format_is_sent_small_and_looks_the_same(kind: str) -> None:
    given = photo()
    image = prepare_image(saved(given, kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {})), label="x")
    assert image.mime in ("image/jpeg", "image/webp")
    assert len(image.data) < len(saved(given, "PNG")) / 2
    difference = numpy.abs(numpy.asarray(opened(image.data), dtype=int) - numpy.asarray(given, dtype=int))
    assert difference.mean() < 8


def test_a_large_photo_is_sent_as_jpeg_and_a_large_chart_as_png() -> None:
    assert prepare_image(photo(2400, 1600), label="x").mime == "image/jpeg"
    assert prepare_image(chart(2400, 1600), label="x").mime == "image/png"


def test_alpha_is_kept_in_a_drawing_and_flattened_onto_white_in_a_photo() -> None:
    drawing = chart().convert("RGBA")
    drawing.putalpha(Pillow.linear_gradient("L").resize(drawing.size))
    assert opened(prepare_image(drawing, label="x").data).mode == "RGBA"
    clear = photo(1800, 1200)
    clear.putalpha(0)
    clear.paste(photo(1800, 600), (0, 0))
    image = prepare_image(clear, label="x")
    assert image.mime == "image/jpeg"
    assert opened(image.data).getpixel((900, 1100)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_each_pixel_format_is_sent(mode: str) -> None:
    image = prepare_image(Pillow.new(mode, (8, 4)), label="x")
    assert (image.width, image.height, image.origin) == (8, 4, Origin("pixels", 8, 4, None))


def test_16_bits_keep_their_shades() -> None:
    values = numpy.arange(0, 65536, 256, dtype=numpy.uint16).reshape(16, 16)
    image = prepare_image(saved(Pillow.fromarray(values), "PNG"), label="x")
    assert numpy.array_equal(numpy.asarray(opened(image.data)).ravel(), numpy.arange(256))
    assert image.notes == ("16-bit values as 8-bit",)


def test_a_palette_with_a_clear_colour_stays_clear() -> None:
    picture = Pillow.new("P", (9, 9), 3)
    picture.putpalette([value for shade in range(256) for value in (shade, 0, 0)])
    image = prepare_image(saved(picture, "GIF", transparency=3), label="x")
    assert opened(image.data).getpixel((4, 4))[3] == 0


def test_an_animation_is_its_first_frame_and_says_so() -> None:
    frames = [Pillow.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        image = prepare_image(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options), label="x")
        assert image.notes == ("the first of 3 frames",), kind
        assert opened(image.data).convert("RGB").getpixel((4, 4)) == (255, 0, 0), kind


# ---------------------------------------------------------------- what is beside the pixels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_place_and_camera_are_not_sent(kind: str) -> None:
    exif = Pillow.Exif()
    exif[0x010F] = "SecretCam"
    exif.get_ifd(0x8825)[1] = "N"
    image = prepare_image(saved(photo(), kind, exif=exif), label="x")
    assert b"SecretCam" not in image.data
    assert b"Exif" not in image.data
    assert not opened(image.data).getexif()


def test_comments_and_texts_are_not_sent() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", "SecretName")
    assert b"SecretName" not in prepare_image(saved(chart(), "PNG", pnginfo=info), label="x").data
    assert b"SecretName" not in prepare_image(saved(photo(), "JPEG", comment="SecretName"), label="x").data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_stands_upright(orientation: int) -> None:
    from PIL import ImageOps

    exif = Pillow.Exif()
    exif[0x0112] = orientation
    picture = Pillow.new("RGB", (60, 40), "white")
    picture.paste("red", (0, 0, 20, 10))
    data = saved(picture, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(opened(data))
    assert numpy.array_equal(numpy.asarray(opened(prepare_image(data, label="x").data)), numpy.asarray(upright))


def test_a_large_turned_photo_is_shrunk_upright() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    image = prepare_image(saved(photo(6000, 3000), "JPEG", exif=exif), label="x")
    assert (image.width, image.height) == (2000, 4000)
    assert image.origin is not None
    assert (image.origin.width, image.origin.height) == (3000, 6000)


def test_a_profile_is_used_and_not_sent() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for one in (profile, srgb, b"broken"):
        image = prepare_image(saved(chart(), "PNG", icc_profile=one), label="x")
        assert "icc_profile" not in opened(image.data).info


def test_the_picture_that_was_given_is_not_changed() -> None:
    picture = photo(100, 100)
    picture.info["comment"] = "mine"
    before = picture.tobytes()
    prepare_image(picture, label="x")
    assert (picture.info, picture.tobytes() == before, picture.size) == ({"comment": "mine"}, True, (100, 100))


def test_a_picture_that_is_not_decoded_yet_keeps_its_size() -> None:
    lazy = opened(saved(photo(5000, 2500), "JPEG"))
    assert prepare_image(lazy, label="x", size="low").width == 512
    assert lazy.size == lazy.copy().size == (5000, 2500)


def test_an_animation_of_the_user_stays_at_its_frame() -> None:
    frames = [Pillow.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    given = opened(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    for frame in (2, 0):
        given.seek(frame)
        image = prepare_image(given, label="x")
        assert opened(image.data).convert("RGB").getpixel((4, 4)) == (255, 0, 0)
        assert given.tell() == frame


# ---------------------------------------------------------------- sizes


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


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("low", (512, 256)), ("none", (6000, 3000)), ("300x300", (300, 150)), ("9000x9000", (6000, 3000))],
)
def test_a_size_that_was_asked_for_holds_and_nothing_grows(asked: str, sent: tuple[int, int]) -> None:
    image = prepare_image(Pillow.new("L", (6000, 3000)), label="x", size=asked)
    assert (image.width, image.height) == sent


# ---------------------------------------------------------------- once


def test_the_same_content_is_prepared_once(tmp_path: Path) -> None:
    preparer, data = Preparer(), encoded()
    path = tmp_path / "x.png"
    path.write_bytes(data)
    first = preparer.prepare(data, label="a")
    assert preparer.prepare(bytes(bytearray(data)), label="a") is first
    assert preparer.prepare(path, label="b").data is first.data
    assert preparer.prepare(data, label="a", size="low") is not first
    path.write_bytes(encoded(size=(31, 20)))
    assert preparer.prepare(path, label="b").width == 31


def test_what_is_kept_of_prepared_pictures_is_bounded() -> None:
    preparer = Preparer()
    for number in range(12):
        generator = numpy.random.default_rng(number)
        noise = generator.integers(0, 255, (1000, 1500, 3), dtype=numpy.uint8)
        preparer.prepare(saved(Pillow.fromarray(noise), "BMP"), label="x", size="none")
    kept = sum(len(image.data) for image in preparer._kept.values())
    assert 0 < kept <= 32_000_000
    assert len(preparer._known) == len(preparer._kept)


def test_a_png_of_the_picture_keeps_every_pixel() -> None:
    given = photo(80, 60)
    assert numpy.array_equal(numpy.asarray(opened(to_png(given, label="x"))), numpy.asarray(given))


# ---------------------------------------------------------------- what cannot be used


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """Return a PNG whose header promises more than anybody has."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1_000_000))), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"no picture", "cannot be read as a picture"),
        (encoded()[:60], "cannot be read as a picture"),
        (saved(photo(), "JPEG")[:2000], "truncated"),
        (bomb(), "too many pixels to be opened safely"),
        (bomb(20_000, 10_000), "to be opened safely"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG"),
        (b"<?xml version='1.0'?>\n<!-- plot -->\n<svg/>", "is an SVG"),
        (b"%PDF-1.7 ...", "is a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture"),
    ],
)
def test_bytes_that_cannot_be_sent_are_refused_with_a_remedy(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    for value in (data, path):
        with pytest.raises(ImageError, match="thing") as caught:
            prepare_image(value, label="thing")
        assert says in str(caught.value)
        assert caught.value.remedy
        assert "0x" not in str(caught.value)


def test_a_folder_a_missing_and_a_locked_file_are_refused(tmp_path: Path) -> None:
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "no.png", "cannot be opened")):
        with pytest.raises(ImageError, match=says):
            prepare_image(path, label="thing")


_SEEDS = [
    saved(photo(40, 30), kind, **options)
    for kind, options in [
        ("PNG", {}),
        ("JPEG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("ICO", {}),
        ("JPEG2000", {}),
        ("TGA", {}),
        ("PCX", {}),
    ]
] + [saved(chart(40, 30).convert("P"), "PNG"), saved(Pillow.new("I;16", (40, 30), 9), "PNG")]


def try_it(data: bytes) -> None:
    """Prepare the bytes: a picture comes out that can be opened, or our error with a remedy."""
    problem = None
    try:
        image = prepare_image(data, label="thing")
    except ImageError as error:
        problem = error
    if problem is None:
        assert opened(image.data).size == (image.width, image.height)
    else:
        assert "thing" in problem.message
        assert problem.remedy


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_SEEDS), st.integers(0, 2**32), st.integers(0, 12), st.floats(0.02, 1.0))
def test_broken_files_give_a_picture_or_our_error(data: bytes, seed: int, flips: int, part: float) -> None:
    broken = bytearray(data[: max(1, int(len(data) * part))])
    chance = random.Random(seed)
    for _ in range(flips):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    try_it(bytes(broken))


_HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"qoif", b"P6\n"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(_HEADS))
def test_noise_gives_our_error(noise: bytes, head: bytes) -> None:
    try_it(head + noise)


def test_a_heic_picture_is_read_where_the_plugin_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"

    def register() -> None:
        """Do what the plugin does: teach Pillow a format."""
        Pillow.register_open(
            "HEIF", lambda _file, _name: Pillow.new("RGB", (7, 5), "red"), lambda head: b"heic" in head
        )

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    # Put back when the test is done.
    monkeypatch.setitem(Pillow.OPEN, "HEIF", None)
    monkeypatch.setattr(Pillow, "ID", [*Pillow.ID])
    image = prepare_image(heic, label="x")
    assert (image.width, image.height) == (7, 5)

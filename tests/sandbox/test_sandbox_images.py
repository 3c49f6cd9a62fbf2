from __future__ import annotations

import base64
import io

import pytest
from PIL import Image, ImageDraw


def describe(caller, url, **parameters):
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Describe this image"}]
    return caller.text([{"role": "user", "content": parts}], **parameters)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_an_answer_states_the_format_and_size(caller, draw, kind):
    text = describe(caller, draw(size=(120, 80), format=kind))
    assert f"| format | {kind} |" in text
    assert "| size | 120 × 80 pixels |" in text


@pytest.mark.parametrize("colour", ["red", "blue", "black", "white", "yellow", "grey"])
def test_an_answer_names_the_main_colour(caller, draw, colour):
    assert f"| main colours | {colour} (100 %) |" in describe(caller, draw(colour))


def test_an_answer_measures_the_brightness(caller, draw):
    assert "| mean brightness | 102 of 255 |" in describe(caller, draw((102, 102, 102)))


@pytest.mark.parametrize(
    ("mode", "colour"), [("RGBA", (0, 0, 0, 0)), ("LA", (9, 0)), ("P", 0), ("1", 1), ("L", 7), ("I;16", 9)]
)
def test_images_of_any_mode_are_read(caller, draw, mode, colour):
    assert "| size | 64 × 48 pixels |" in describe(caller, draw(colour, mode=mode))


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (0, 0, 0, 0)), ("P", 0), ("L", 7)])
def test_an_answer_states_the_mode(caller, draw, mode, colour):
    assert f"| mode | {mode} |" in describe(caller, draw(colour, mode=mode))


def test_what_is_see_through_counts_as_white(caller, draw):
    assert "white (100 %)" in describe(caller, draw((0, 0, 0, 0), mode="RGBA"))


def test_a_chart_is_seen_to_be_mostly_white(caller):
    chart = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(chart).line([(0, 300), (200, 100), (400, 50)], fill="blue", width=9)
    buffer = io.BytesIO()
    chart.save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert "It is mostly white, as a chart or a page is." in describe(caller, url)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_that_breaks_off_is_refused(caller, draw, kind):
    head, _, data = draw((1, 2, 3), size=(400, 400), format=kind).partition(",")
    broken = base64.b64encode(base64.b64decode(data)[:-80]).decode()
    part = {"type": "image_url", "image_url": f"{head},{broken}"}
    status, _, message = caller.error(caller.post([{"role": "user", "content": [part]}]))
    assert (status, message) == (400, "Invalid request: failed to decode image, the data is broken")


def test_an_image_of_another_format_is_refused(caller, draw):
    url = draw(format="TIFF").replace("image/tiff", "image/png")
    part = {"type": "image_url", "image_url": url}
    status, _, message = caller.error(caller.post([{"role": "user", "content": [part]}]))
    assert (status, message) == (400, "Invalid request: unsupported image format or invalid image data")


def test_a_heic_image_is_taken_though_it_cannot_be_read(caller):
    data = base64.b64encode(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic").decode()
    assert "| format | HEIF |" in describe(caller, f"data:image/heic;base64,{data}")


def test_a_video_is_weighed(caller):
    data = base64.b64encode(bytes(5_000)).decode()
    part = {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}}
    assert "- video 1: 5,000 bytes" in caller.text([{"role": "user", "content": [part]}])


def test_one_sentence_about_an_image_holds_its_size(caller, draw):
    parts = [
        {"type": "image_url", "image_url": draw("black")},
        {"type": "text", "text": "What is it, in one sentence?"},
    ]
    assert "a PNG of 64×48 pixels, dark." in caller.text([{"role": "user", "content": parts}])

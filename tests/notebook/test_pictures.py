"""What a Python value shows: figures, arrays, tensors, and whatever can draw itself; each kind from each source."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy
import pytest
from IPython.display import SVG
from IPython.display import Image as DisplayImage
from matplotlib.figure import Figure
from PIL import Image as Pillow

from kimi_magics.errors import ImageError
from kimi_magics.notebook.prepare import prepare_image


def picture(mode: str) -> Pillow.Image:
    """Return a picture with a red left half; in grey modes the half is darker."""
    whole = Pillow.new("RGB", (40, 20), "white")
    whole.paste("red", (0, 0, 20, 20))
    return whole.convert(mode)


def encoded(value: Pillow.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    value.save(out, kind)
    return out.getvalue()


def opened(value: Any, **options: Any) -> Pillow.Image:
    return Pillow.open(io.BytesIO(prepare_image(value, label="thing", **options).data))


class Tensor:
    """What torch's tensor has: channels first, on a device, with a gradient."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._array


class Drawn:
    """Shows itself in the way that `method` names."""

    def __init__(self, method: str, answer: Any) -> None:
        setattr(self, method, lambda **_kinds: answer)


class PillowLike:
    """Has what a picture of Pillow has, and is none."""

    def __init__(self, picture: Pillow.Image) -> None:
        self.size, self.mode, self._picture = picture.size, picture.mode, picture

    def save(self, file: Any, format: str) -> None:  # noqa: A002 Pillow's word
        self._picture.save(file, format)


def as_floats(value: Pillow.Image) -> Any:
    return numpy.asarray(value) / 255.0


def as_channels_first(value: Pillow.Image) -> Any:
    array = numpy.asarray(value)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


SOURCES = {
    "pillow": lambda value, _folder: value,
    "like pillow": lambda value, _folder: PillowLike(value),
    "bytes": lambda value, _folder: encoded(value),
    "bytearray": lambda value, _folder: bytearray(encoded(value)),
    "memoryview": lambda value, _folder: memoryview(encoded(value)),
    "tiff": lambda value, _folder: encoded(value, "TIFF"),
    "file": lambda value, folder: _write(folder, value),
    "name of a file": lambda value, folder: str(_write(folder, value)),
    "data url": lambda value, _folder: "data:image/png;base64," + base64.b64encode(encoded(value)).decode(),
    "display": lambda value, _folder: DisplayImage(encoded(value)),
    "uint8 array": lambda value, _folder: numpy.asarray(value),
    "float array": lambda value, _folder: as_floats(value),
    "float32 array": lambda value, _folder: as_floats(value).astype("float32"),
    "16-bit array": lambda value, _folder: numpy.asarray(value).astype(numpy.uint16) * 257,
    "tensor": lambda value, _folder: Tensor(as_channels_first(value)),
    "batch of one": lambda value, _folder: Tensor(as_channels_first(value)[None]),
    "_repr_png_": lambda value, _folder: Drawn("_repr_png_", encoded(value)),
    "_repr_png_ with metadata": lambda value, _folder: Drawn("_repr_png_", (encoded(value), {"width": 3})),
    "_repr_png_ as text": lambda value, _folder: Drawn("_repr_png_", base64.b64encode(encoded(value)).decode()),
    "_repr_mimebundle_": lambda value, _folder: Drawn("_repr_mimebundle_", {"image/png": encoded(value)}),
}


def _write(folder: Path, value: Pillow.Image) -> Path:
    path = folder / "a picture.png"
    path.write_bytes(encoded(value))
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("source", SOURCES)
def test_each_kind_arrives_from_each_source_with_every_pixel(source: str, mode: str, tmp_path: Path) -> None:
    given = picture(mode)
    arrived = opened(SOURCES[source](given, tmp_path))
    assert arrived.size == (40, 20)
    assert numpy.array_equal(numpy.asarray(arrived.convert("RGBA")), numpy.asarray(given.convert("RGBA")))


def test_a_figure_is_drawn_whole_and_axes_are_drawn_alone() -> None:
    figure = Figure(figsize=(4, 2), dpi=100, facecolor="white")
    left, right = figure.subplots(1, 2)
    left.set_facecolor("red")
    right.set_facecolor("blue")
    whole, alone = opened(figure), opened(left)
    assert {(255, 0, 0), (0, 0, 255)} <= {colour for _, colour in whole.convert("RGB").getcolors(1 << 20)}
    colours = {colour for _, colour in alone.convert("RGB").getcolors(1 << 20)}
    assert (255, 0, 0) in colours
    assert (0, 0, 255) not in colours
    assert alone.width < whole.width


def test_what_belongs_to_a_figure_stands_for_it() -> None:
    figure = Figure(figsize=(2, 1))
    axes = figure.subplots()
    (line,) = axes.plot([1, 2])
    subfigure = Figure(figsize=(2, 1)).subfigures(1, 2)[0]

    class Grid:
        """As seaborn's."""

        @property
        def figure(self) -> Figure:
            return figure

    for value in (axes, line, Grid(), subfigure):
        assert opened(value).format == "PNG"


def test_a_figure_that_fails_to_draw_is_told_with_the_reason() -> None:
    figure = Figure()
    figure.subplots().set_title(r"$\frac{1}$")
    with pytest.raises(ImageError, match="thing could not be drawn"):
        opened(figure)


def test_a_plotly_figure_needs_kaleido_and_says_so() -> None:
    class Plot:
        def to_image(self, format: str) -> bytes:  # noqa: A002 plotly's word
            return encoded(picture("RGB"), format)

    Plot.__module__ = "plotly.graph_objs._figure"
    assert opened(Plot()).size == (40, 20)

    def fail(self: Any, format: str) -> bytes:  # noqa: A002
        raise ValueError("Image export requires the kaleido package.\nmore")

    Plot.to_image = fail
    with pytest.raises(ImageError, match="requires the kaleido package") as caught:
        opened(Plot())
    assert "pip install kaleido" in caught.value.remedy


def test_what_the_shell_can_draw_is_sent() -> None:
    data = encoded(picture("RGB"))
    assert opened(object(), render=lambda _value: {"image/png": data}).size == (40, 20)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (numpy.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (numpy.array([[-1.0, 0.0, 3.0]]), [0, 64, 255]),
        (numpy.array([[0.0, numpy.nan, 1.0]]), [0, 0, 255]),
        (numpy.array([[0, 100, 255]]), [0, 100, 255]),
        (numpy.array([[0, 1000, 2000]]), [0, 127, 255]),
        (numpy.array([[False, True, False]]), [0, 255, 0]),
        (numpy.array([[0, 2048, 4095]], dtype="uint16"), [0, 128, 255]),
    ],
)
def test_grey_values_keep_their_order(array: Any, expected: list[int]) -> None:
    assert list(numpy.asarray(opened(array)).ravel()) == expected


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (numpy.zeros((0, 5)), r"shape \(0, 5\)"),
        (numpy.zeros(5), r"shape \(5,\)"),
        (numpy.zeros((2, 5, 7)), r"shape \(2, 5, 7\)"),
        (numpy.zeros((2, 3, 5, 5)), r"shape \(2, 3, 5, 5\)"),
        (numpy.array([["a"]]), "array of <U1"),
        (numpy.array([[numpy.inf, 1.0]]), "infinite values"),
        (numpy.full((2, 2, 3), 300.0), "colours from 300 to 300"),
        (numpy.full((2, 2), 1 + 2j), "complex"),
    ],
)
def test_an_array_that_is_no_picture_says_which_are(array: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        opened(array)
    assert "(height, width, 3 or 4)" in caught.value.remedy


class Table:
    iloc = columns = shape = dtype = None


class Failing:
    def _repr_png_(self) -> bytes:
        raise RuntimeError("no canvas")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (5, "of type int, which has no picture"),
        (None, "of type NoneType"),
        ("text", "names no file"),
        ("x" * 9000, "names no file"),
        ("~nobody-there", "names no file"),
        ("~\0", "names no file"),
        ("data:image/png;base64,AAA", "not base64"),
        (object(), "of type object"),
        (SVG("<svg xmlns='http://www.w3.org/2000/svg'/>"), "is an SVG"),
        (Drawn("_repr_mimebundle_", {"application/vnd.plotly.v1+json": {"data": []}}), "plotly figure"),
        (Table(), "plot it, or write {{name}}"),
        (Failing(), "no canvas"),
        (Pillow.new("L", (0, 4)), "0 × 4 pixels"),
    ],
)
def test_what_has_no_picture_is_refused_by_name(value: Any, says: str) -> None:
    with pytest.raises(ImageError, match="thing") as caught:
        opened(value)
    assert says in str(caught.value)

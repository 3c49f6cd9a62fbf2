"""Arrays and tensors as pictures: grey, RGB or RGBA, of NumPy or of anything that can become a NumPy array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kimi_magics.errors import ImageError

if TYPE_CHECKING:
    import PIL.Image

_REMEDY = "shape (height, width), or (height, width, 3 or 4); uint8 from 0 to 255, or floats from 0 to 1"


def is_array(value: Any) -> bool:
    """Tell whether `value` is an array or a tensor; a table of pandas or polars is not taken for one."""
    is_table = hasattr(value, "iloc") or hasattr(value, "columns")
    has_shape = hasattr(value, "shape") and hasattr(value, "dtype")
    return has_shape and not is_table and (hasattr(value, "__array__") or hasattr(value, "detach"))


def draw_array(value: Any, *, label: str) -> PIL.Image.Image:
    """Return an array as a picture. Raises ImageError.

    Shapes are (height, width), (height, width, 1, 3 or 4), or with the channels first as torch has them. Integers are
    0 to 255 (16 bits are scaled down), floats are 0 to 1; grey floats beyond that are scaled from least to largest.
    """
    import numpy
    import PIL.Image

    try:
        array = _to_numpy(value)
        if array.size == 0 or array.dtype.kind not in "buif":
            raise ImageError(f"{label} is an array of {array.dtype} with shape {array.shape}", remedy=_REMEDY)
        array = _arrange(array, label)
        array = numpy.ascontiguousarray(_to_bytes(array, label))
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 — a tensor on a device that is gone, a lazy array that fails
        raise ImageError(f"{label} cannot be read as an array: {type(error).__name__}: {error}") from None
    return PIL.Image.fromarray(array)


def _to_numpy(value: Any) -> Any:
    import numpy

    if hasattr(value, "detach"):
        value = value.detach()
    if hasattr(value, "cpu"):
        value = value.cpu()
    if "bfloat16" in str(getattr(value, "dtype", "")) and hasattr(value, "float"):
        value = value.float()  # NumPy has no such type
    return numpy.asarray(value)


def _arrange(array: Any, label: str) -> Any:
    """Return (height, width) or (height, width, 3 or 4)."""
    shape = array.shape
    if len(shape) == 4 and shape[0] == 1:  # a batch of one
        array = array[0]
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)):
        return array
    raise ImageError(f"{label} is an array with shape {shape}", remedy=_REMEDY)


def _to_bytes(array: Any, label: str) -> Any:
    import numpy

    kind = array.dtype.kind
    if kind == "b":
        return array.astype(numpy.uint8) * numpy.uint8(255)
    if array.dtype == numpy.uint8:
        return array
    if kind == "f":
        # A copy of ours; NaN, as in a masked picture, is black.
        array = numpy.nan_to_num(array.astype(numpy.float32), nan=0.0, posinf=numpy.inf, neginf=-numpy.inf)
    low, high = float(array.min()), float(array.max())
    if not high - low < float("inf"):
        raise ImageError(f"{label} holds infinite values", remedy=_REMEDY)
    if kind == "f" and low >= 0 and high <= 1:
        array *= 255
        array += 0.5
        return array.astype(numpy.uint8)
    if low >= 0 and high <= 255:
        return array.astype(numpy.uint8)
    if kind == "u" and array.dtype.itemsize == 2:
        return (array >> (4 if high < 4096 else 8)).astype(numpy.uint8)
    if array.ndim == 2:
        scaled = (array - numpy.float32(low)) * numpy.float32(255 / ((high - low) or 1))
        return numpy.clip(scaled + 0.5, 0, 255).astype(numpy.uint8)
    raise ImageError(f"{label} holds colours from {low:g} to {high:g}", remedy=_REMEDY)

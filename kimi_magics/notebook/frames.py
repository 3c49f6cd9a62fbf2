"""Tables and arrays as text: shape and types first, then a sample within bounds, and a line that says what is left out.

Pandas, polars and NumPy are recognised by what they offer and never imported. Whatever the value, nothing is raised.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kimi_magics.notebook.arrays import is_array
from kimi_magics.notebook.samples import Bounds, find_runs, pick_places

#: About 3,000 tokens: enough to see what a table is like, little enough to be sent again with every later step.
MOST_LETTERS = 10_000
_ROWS, _COLUMNS, _CELL_LETTERS = 20, 30, 80
_LEFT_OUT = "…"


class _Gap:
    """Stands in a row for the cells that are left out; None is a value that is missing."""

    def __str__(self) -> str:
        return _LEFT_OUT


_GAP = _Gap()


def write_frame(value: Any, *, rows: int = _ROWS, everything: bool = False) -> str | None:
    """Return a DataFrame or Series of pandas or polars, or an array, as text; None for anything else.

    The text is a line with the shape and the types, a sample of at most `rows` rows as CSV, half of it from the end,
    and a line with what was left out. With `everything` nothing is left out, and numbers are written in full.
    """
    try:
        write = _find_writer(value)
        if write is None:
            return None
        bounds = Bounds() if everything else Bounds(max(2, rows), _COLUMNS, _CELL_LETTERS)
        text = write(bounds)
        while len(text) > MOST_LETTERS and not bounds.are_smallest:
            bounds = bounds.shrink()
            text = write(bounds)
    except Exception:  # noqa: BLE001 — a lazy or broken table may raise anything; it is then no table for us
        return None
    return text


def _find_writer(value: Any) -> Callable[[Bounds], str] | None:
    if isinstance(value, type) or hasattr(value, "collect"):  # a lazy table has no rows yet
        return None
    is_column = hasattr(value, "to_frame") and hasattr(value, "dtype")
    name = _name(value)
    if is_column:
        table = value.to_frame()
        if hasattr(table, "iloc") and not hasattr(value, "iloc"):
            table = value.to_frame(index=False)  # an index of pandas, which would stand there twice
        value = table
    if all(hasattr(value, part) for part in ("iloc", "columns", "dtypes", "index")):
        return lambda bounds: _write_pandas(value, name, bounds)
    if all(hasattr(value, part) for part in ("height", "columns", "schema", "rows", "slice")):
        return lambda bounds: _write_polars(value, name, bounds)
    if is_array(value):
        return lambda bounds: _write_array(value, name, bounds)
    return None


def _name(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__.partition('.')[0]} {kind.__name__}"


# ---------------------------------------------------------------- tables


def _write_pandas(table: Any, name: str, bounds: Bounds) -> str:
    height, width = (int(count) for count in table.shape)
    columns = pick_places(width, bounds.columns)
    labels = [_write_label(label) for label in table.columns]
    kinds = [str(kind) for kind in table.dtypes]
    index = table.index
    # The plain count of the rows tells nothing.
    is_counted = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1 and index.name is None
    header = [] if is_counted else [_write_label(part) for part in _index_names(index)]
    places = pick_places(height, bounds.rows)
    part = table.iloc[[place for place in places if place is not None], [at for at in columns if at is not None]]
    rows: list[list[Any] | None] = []
    found = part.itertuples(index=True, name=None)
    for place in places:
        if place is None:
            rows.append(None)
            continue
        label, *cells = next(found)
        leading = [] if is_counted else list(label) if isinstance(label, tuple) and len(header) > 1 else [label]
        rows.append([*leading, *_spread(cells, columns)])
    return _write_table(
        name, (height, width), [*header, *_spread_labels(labels, columns)], kinds, rows, columns, bounds
    )


def _write_polars(table: Any, name: str, bounds: Bounds) -> str:
    height, width = int(table.height), len(table.columns)
    columns = pick_places(width, bounds.columns)
    labels, kinds = [str(label) for label in table.columns], [str(kind) for kind in table.schema.values()]
    rows: list[list[Any] | None] = []
    for start, stop in find_runs(pick_places(height, bounds.rows)):
        if start is None:
            rows.append(None)
        else:
            rows += [[_GAP if at is None else row[at] for at in columns] for row in table[start:stop].rows()]
    return _write_table(name, (height, width), _spread_labels(labels, columns), kinds, rows, columns, bounds)


def _write_table(
    name: str,
    shape: tuple[int, int],
    header: Sequence[str],
    kinds: Sequence[str],
    rows: Sequence[Sequence[Any] | None],
    columns: Sequence[int | None],
    bounds: Bounds,
) -> str:
    named = header[len(header) - len(columns) :]
    types = ", ".join(
        _LEFT_OUT if at is None else f"{_shorten(label, bounds.letters)} ({kinds[at]})"
        for label, at in zip(named, columns, strict=True)
    )
    lines = [f"{name}, {_count(shape[0], 'row')} × {_count(shape[1], 'column')}: {types}", ""]
    if not header:
        return lines[0].removesuffix(": ")
    cells, is_cut = _write_cells([header, *rows], bounds)
    lines.append(cells)
    shown = sum(row is not None for row in rows), sum(at is not None for at in columns)
    notes = [f"{shown[0]:,} of {shape[0]:,} rows"] * (shown[0] < shape[0])
    notes += [f"{shown[1]:,} of {shape[1]:,} columns"] * (shown[1] < shape[1])
    notes += [f"cells of at most {bounds.letters} characters"] * is_cut
    if notes:
        lines.append(f"(a sample: {', '.join(notes)})")
    return "\n".join(lines)


def _write_cells(rows: Sequence[Sequence[Any] | None], bounds: Bounds) -> tuple[str, bool]:
    """Return the rows as CSV, and whether a cell was cut."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    is_cut = False
    for row in rows:
        if row is None:
            out.write(_LEFT_OUT + "\n")
            continue
        texts = [_write_cell(cell, is_full=bounds.letters is None) for cell in row]
        short = [_shorten(text, bounds.letters) for text in texts]
        is_cut = is_cut or short != texts
        writer.writerow(short)
    return out.getvalue().rstrip("\n"), is_cut


def _write_cell(cell: Any, *, is_full: bool) -> str:
    if isinstance(cell, float):  # also those of NumPy with 64 bits
        return _write_number(float(cell), is_full=is_full)
    if cell is None or type(cell).__name__ in ("NaTType", "NAType"):
        return ""
    try:
        text = str(cell)
    except Exception as error:  # noqa: BLE001 — str() of a cell runs foreign code
        text = f"({type(error).__name__})"
    return " ".join(text.split("\n")) if "\n" in text and not is_full else text


def _write_number(number: float, *, is_full: bool) -> str:
    if math.isnan(number):
        return ""
    text = repr(number)
    if is_full or len(text) <= 8 or number == int(number if math.isfinite(number) else 0):
        return text
    # Six figures tell what a column is like; of larger numbers no figure before the point is lost.
    return f"{number:.6g}" if abs(number) < 100_000 or abs(number) >= 1e15 else f"{number:.1f}"


# ---------------------------------------------------------------- arrays


def _write_array(array: Any, name: str, bounds: Bounds) -> str:
    shape = tuple(int(count) for count in array.shape)
    kind = str(array.dtype)
    size = math.prod(shape)
    head = f"{name}, shape {shape}, {kind if len(kind) <= 200 else kind[:199] + _LEFT_OUT}"
    if len(shape) == 0:
        return f"{head}: {_write_cell(array.tolist(), is_full=bounds.rows is None)}"
    if size == 0:
        return f"{head}, empty"
    if hasattr(array, "detach"):
        array = array.detach()
    if len(shape) == 1:
        # One row of figures takes little room.
        places = pick_places(shape[0], bounds.rows and 5 * bounds.rows)
        text, _ = _write_cells([_take(array, places)], bounds)
        shown = sum(place is not None for place in places)
        return f"{head}\n\n{text}" + (f"\n(a sample: {shown:,} of {size:,} values)" if shown < size else "")
    if bounds.rows is None and len(shape) > 2:
        return f"{head}\n\n{array.tolist()}"
    first = ""
    if len(shape) > 2:
        first = f"[{', '.join('0' for _ in shape[:-2])}]"
        for _ in shape[:-2]:
            array = array[0]
    return _write_matrix(
        array, f"{head}{f'; {first} of it:' if first else ''}", bounds, is_part=math.prod(shape[:-2]) > 1
    )


def _write_matrix(array: Any, head: str, bounds: Bounds, *, is_part: bool) -> str:
    height, width = (int(count) for count in array.shape)
    columns = pick_places(width, bounds.columns)
    rows = [None if place is None else _take(array[place], columns) for place in pick_places(height, bounds.rows)]
    text, _ = _write_cells(rows, bounds)
    shown = sum(row is not None for row in rows), sum(at is not None for at in columns)
    notes = ["the first matrix only"] * is_part
    notes += [f"{shown[0]:,} of {height:,} rows"] * (shown[0] < height)
    notes += [f"{shown[1]:,} of {width:,} columns"] * (shown[1] < width)
    return f"{head}\n\n{text}" + (f"\n(a sample: {', '.join(notes)})" if notes else "")


def _take(row: Any, places: Sequence[int | None]) -> list[Any]:
    """Return what stands at the places of an array with one dimension, as values of Python."""
    values: list[Any] = []
    for start, stop in find_runs(places):
        values += [_GAP] if start is None else row[start:stop].tolist()
    return values


# ---------------------------------------------------------------- small parts


def _spread(cells: Iterable[Any], columns: Sequence[int | None]) -> list[Any]:
    """Return the cells of the shown columns with a place for those left out."""
    found = iter(cells)
    return [_GAP if at is None else next(found) for at in columns]


def _spread_labels(labels: Sequence[str], columns: Sequence[int | None]) -> list[str]:
    return [_LEFT_OUT if at is None else labels[at] for at in columns]


def _index_names(index: Any) -> list[Any]:
    names = list(index.names)
    return [(f"index {at}" if len(names) > 1 else "index") if name is None else name for at, name in enumerate(names)]


def _write_label(label: Any) -> str:
    return " / ".join(str(part) for part in label) if isinstance(label, tuple) else str(label)


def _shorten(text: str, letters: int | None) -> str:
    return text if letters is None or len(text) <= letters else text[: letters - 1] + _LEFT_OUT


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

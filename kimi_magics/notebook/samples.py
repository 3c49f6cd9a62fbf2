"""How much of a table or an array is shown: bounds that shrink, and the places that stand for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is shown: rows, columns and letters of a cell; None is no bound."""

    rows: int | None = None
    columns: int | None = None
    letters: int | None = None

    @property
    def are_smallest(self) -> bool:
        """Whether there is nothing left to shrink."""
        return self.rows is None or (self.rows <= 2 and (self.columns or 0) <= 5 and (self.letters or 0) <= 20)

    def shrink(self) -> Bounds:
        """Return tighter bounds: fewer rows first, then fewer columns and shorter cells."""
        rows, columns, letters = self.rows or 0, self.columns or 0, self.letters or 0
        if rows > 4:
            return Bounds(rows // 2, columns, letters)
        return Bounds(max(2, rows // 2), max(5, columns // 2), max(20, letters // 2))


def pick_places(count: int, most: int | None) -> list[int | None]:
    """Return the places that are shown, half of them from the end; None stands for those between."""
    if most is None or count <= most:
        return list(range(count))
    first = (most + 1) // 2
    return [*range(first), None, *range(count - (most - first), count)]


def find_runs(places: Sequence[int | None]) -> list[tuple[int | None, int]]:
    """Return the places as slices; (None, 0) stands for those left out."""
    if None not in places:
        return [(0, len(places))]
    middle = places.index(None)
    last = places[-1]
    tail = len(places) - middle - 1
    end: list[tuple[int | None, int]] = [] if last is None else [(last - tail + 1, last + 1)]
    return [(0, middle), (None, 0), *end]

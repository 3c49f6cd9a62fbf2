"""Tables of the reporting magics: Markdown where it is rendered, aligned text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_magics.notebook.bundles import display_bundle


def show_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "", figures: Sequence[str] = ()
) -> None:
    """Display a table, and a sentence below it; the columns named in `figures` are aligned to the right."""
    from tabulate import tabulate

    # tabulate before 0.10 aligns no columns that have no rows.
    align = ["right" if header in figures else "left" for header in headers] if rows else None
    plain = tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)
    safe_rows = [[_escape(cell) for cell in row] for row in rows]
    markdown = tabulate(safe_rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)
    if note:
        plain, markdown = f"{plain}\n\n{note}", f"{markdown}\n\n{_escape(note)}"
    display_bundle({"text/plain": plain, "text/markdown": markdown})


def _escape(cell: str) -> str:
    """Keep a name or a price what it is: dollars would begin a formula, a bar another column."""
    for mark in "\\`*_[]<|$~":
        cell = cell.replace(mark, f"\\{mark}")
    return cell

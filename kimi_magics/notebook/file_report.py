"""What %kimi_files shows and does: the files of the account at the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kimi_magics.core.ask import Ask
from kimi_magics.core.media import Upload, format_bytes
from kimi_magics.errors import MagicLineError, NotFoundError
from kimi_magics.notebook.reports import print_json
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.tables import show_table


def report_files(session: Session, ask: Ask) -> None:
    """List the files, or delete those that `--delete` names or `--delete-all` means. Raises CallError."""
    if ask.text.strip():
        raise MagicLineError(
            f"%kimi_files takes flags only, not {ask.text.strip()[:40]!r}", remedy="to delete a file: --delete ID"
        )
    names: Sequence[str] = [name.removeprefix("ms://") for name in ask.extra["delete"]]
    if ask.extra["delete_all"]:
        if names:
            raise MagicLineError("--delete and --delete-all were both given", remedy="give one of them")
        _delete(session, _ours(session), as_json=ask.json, must_be_there=False)
    elif names:
        _delete(session, names, as_json=ask.json, must_be_there=True)
    else:
        _list(session, as_json=ask.json)


def _ours(session: Session) -> list[str]:
    """Return the ids of what was uploaded from here to the host of the moment."""
    return [known.id for known in session.uploads.store.all(session.client.site)]


def _delete(session: Session, names: Sequence[str], *, as_json: bool, must_be_there: bool) -> None:
    """Delete files one after the other; what is gone is told, also when an error ends it before the last one."""
    client, deleted = session.client, list[str]()
    try:
        for name in dict.fromkeys(names):
            try:
                client.files.delete(name)
            except NotFoundError:
                if must_be_there:
                    raise
                continue  # deleted elsewhere, or of another account of the same user
            session.uploads.forget(client.site, name)
            deleted.append(name)
    finally:
        if as_json:
            print_json({"deleted": deleted})
        else:
            print("\n".join(f"deleted {name}" for name in deleted) or "nothing was deleted")  # noqa: T201 — the output


def _list(session: Session, *, as_json: bool) -> None:
    files, ours = session.client.files.all(), set(_ours(session))
    if as_json:
        print_json([_facts(file, is_ours=file.id in ours) for file in files])
        return
    headers = ["id", "name", "purpose", "size", "uploaded"]
    rows = [
        [
            file.id,
            file.name,
            file.purpose,
            "unknown" if file.size_bytes is None else format_bytes(file.size_bytes),
            "unknown" if file.created is None else f"{file.created.astimezone():%Y-%m-%d %H:%M}",
        ]
        for file in files
    ]
    if not rows:
        print(f"no files at {session.client.host}")  # noqa: T201 — this is the output
        return
    count = sum(file.id in ours for file in files)
    note = f"At {session.client.host}. {count} of {len(files)} went up from here: --delete-all deletes those."
    show_table(headers, rows, note=note, figures=["size"])


def _facts(file: Upload, *, is_ours: bool) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "purpose": file.purpose,
        "size_bytes": file.size_bytes,
        "uploaded": file.created.isoformat() if file.created else None,
        "from_here": is_ours,
    }

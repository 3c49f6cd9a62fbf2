"""A PostgreSQL server of the tests' own, on loopback and a free port, that lasts as long as the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_SECONDS = 60


def find_programs() -> Path | None:
    """Return the folder of the newest installed server; its programs are not on the path in Debian."""
    found = [Path(shutil.which("initdb") or "/nowhere/initdb").parent, *Path("/usr/lib/postgresql").glob("*/bin")]
    whole = [folder for folder in found if (folder / "initdb").exists() and (folder / "pg_ctl").exists()]
    return max(whole, key=lambda folder: [int(part) if part.isdigit() else 0 for part in folder.parts], default=None)


@contextmanager
def serve(programs: Path) -> Iterator[str]:
    """Start a server and return the address of its databases, without the name of one; stop it afterwards."""
    # It refuses to run as root.
    account = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="kimi-pg-"))
    if account is not None:
        os.chown(home, account.pw_uid, account.pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), *arguments],
            check=True,
            cwd=home,
            timeout=_SECONDS,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home)},
        )

    data, port = str(home / "data"), _find_port()
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home} -c fsync=off"
    try:
        run("initdb", "--auth=trust", "--username=kimi", "--no-sync", "--encoding=UTF8", "--pgdata", data)
        run("pg_ctl", "start", "--wait", "--pgdata", data, "--log", str(home / "log"), "--options", options)
        try:
            yield f"postgresql+psycopg://kimi@127.0.0.1:{port}/"
        finally:
            run("pg_ctl", "stop", "--mode=immediate", "--pgdata", data)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _find_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port

"""What all tests share: a sandbox that speaks the Kimi API, and an environment that is nobody's own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimi_magics.sandbox import Sandbox, SandboxOptions

KEY = "sandbox"


@pytest.fixture(scope="session", autouse=True)
def home_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what starts before a test, as a kernel that several share, away from the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIMI_MAGICS_HOME", str(tmp_path_factory.mktemp("shared") / "kimi_magics"))
        yield


@pytest.fixture(autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests away from the user's settings, keys, profiles and proxies; return the folder used instead."""
    home = tmp_path_factory.mktemp("home")
    for name in ("MOONSHOT_API_KEY", "MOONSHOT_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("KIMI_MAGICS_HOME", str(home / "kimi_magics"))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    return home


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Let interrupts come: a process that a shell started in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    """One server for all tests that need no options of their own."""
    with Sandbox(options=SandboxOptions(key=KEY)) as server:
        yield server


@pytest.fixture
def sandbox(shared_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The shared server, fresh, and the environment that leads to it."""
    shared_sandbox.clear()
    monkeypatch.setenv("MOONSHOT_BASE_URL", shared_sandbox.base_url)
    monkeypatch.setenv("MOONSHOT_API_KEY", KEY)
    yield shared_sandbox
    shared_sandbox.clear()

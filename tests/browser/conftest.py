"""A real JupyterLab and a real Notebook 7 in a real Chromium, for the tests of what a user sees.

The promise: whatever is started here is ended here, by its own id, and all files stay in temporary folders. The browser
lives as long as one module of tests: Playwright keeps an event loop on the main thread, which would disturb others.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import driver
import pytest

from kimi_magics.sandbox import Sandbox, SandboxOptions

if TYPE_CHECKING:
    from driver import Frontend, JupyterServer, NotebookPage
    from playwright.sync_api import Browser

    BuildStream = Callable[..., tuple[bytes, ...]]
    Answer = Callable[..., NotebookPage]
    Answering = Callable[..., AbstractContextManager[NotebookPage]]
    OpenFrontend = Callable[..., AbstractContextManager[Frontend]]
    StartServer = Callable[..., JupyterServer]
    WaitFor = Callable[..., None]


_TOKENS_PER_SECOND = 150
_STOP_SECONDS = 15
_MODULES = {"lab": "jupyterlab", "notebook7": "notebook"}
_VIEWPORT = {"width": 1280, "height": 1000}
# Without the background flags Chromium calls its maker's hosts at every start.
_CHROMIUM_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
_OPEN_FRONTENDS = pytest.StashKey[list["Frontend"]]()


# ---------------------------------------------------------------- server


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The distribution's Chromium; without it the tests fail in CI and are skipped elsewhere."""
    path = shutil.which("chromium")
    if path is None:
        reason = "the browser tests need `chromium` on the PATH; remedy: apt install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return path


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    """The sandbox that the environment of every kernel names."""
    with Sandbox(SandboxOptions(tokens_per_second=_TOKENS_PER_SECOND)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    """The sandbox that the environment of every kernel names; it has forgotten the tests before."""
    shared_sandbox.clear()
    return shared_sandbox


@pytest.fixture(scope="session")
def start_server(
    chromium_path: str, shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartServer]:
    """Start the server of a front end at its first use; each stays until the last test.

    `python` is the interpreter of another environment that has the front end and this project.

    One server could show both front ends, but Jupyter Server then refuses one of them the fonts of its formulas: it
    looks for static files of the same name in the folder where it found the first.
    """
    with contextlib.ExitStack() as running:

        @functools.cache
        def start(frontend: str, python: str = sys.executable) -> JupyterServer:
            root = tmp_path_factory.mktemp(frontend)
            server = _run_server(_MODULES[frontend], root, shared_sandbox.base_url, python=python)
            return running.enter_context(server)

        yield start


@contextlib.contextmanager
def _run_server(module: str, root: Path, base_url: str, *, python: str = sys.executable) -> Iterator[JupyterServer]:
    """Run a Jupyter server that keeps all its files below `root`."""
    environment, port = _build_environment(root, base_url), _find_free_port()
    if python != sys.executable:
        # Another environment has packages of its own.
        environment.pop("PYTHONPATH", None)
    # JupyterLab asks whether it may fetch its news also when `news_url` is None, and the question hides the notebook.
    answer = root / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    answer.parent.mkdir(parents=True)
    answer.write_text('{"fetchNews": "false"}', "utf-8")
    folder, log = root / "notebooks", root / "server.log"
    folder.mkdir()
    jupyter = driver.JupyterServer(folder, port)
    with log.open("wb") as output, contextlib.closing(jupyter):
        process = subprocess.Popen(
            _build_command(python, module, folder, port),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C reaches pytest alone, which then ends the server in order.
            start_new_session=True,
        )
        try:
            _wait_until_served(jupyter, process, log)
            yield jupyter
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _build_environment(root: Path, base_url: str) -> dict[str, str]:
    """Return an environment in which Jupyter keeps everything below `root` and Kimi means the sandbox."""
    folders = {
        "HOME": "home",
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "KIMI_MAGICS_HOME": "kimi_magics",
        "MPLCONFIGDIR": "matplotlib",
    }
    for name in folders.values():
        (root / name).mkdir()
    return {
        **os.environ,
        **{variable: str(root / name) for variable, name in folders.items()},
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_TOKEN": driver.TOKEN,
        "MOONSHOT_API_KEY": "sandbox",
        "MOONSHOT_BASE_URL": base_url,
    }


def _build_command(python: str, module: str, folder: Path, port: int) -> list[str]:
    return [
        *(python, "-m", module, "--no-browser", f"--ServerApp.root_dir={folder}"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        # Should the tests be killed, the server ends by itself.
        *("--MappingKernelManager.cull_idle_timeout=600", "--ServerApp.shutdown_no_activity_timeout=900"),
        *("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]


def _wait_until_served(jupyter: JupyterServer, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_served() -> bool:
        if process.poll() is not None:
            pytest.fail(f"the Jupyter server ended:\n{log.read_text('utf-8', errors='replace')[-2000:]}")
        return jupyter.is_up()

    driver.wait_for(is_served, what="the Jupyter server answers")


# ---------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """A headless Chromium; its event loop stays on the main thread until the module is done."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=driver.WAIT_SECONDS * 1000)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium_path, args=_CHROMIUM_FLAGS) as chromium,
    ):
        yield chromium


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the screenshots: the one that KIMI_SCREENSHOTS names, else a temporary one."""
    chosen = os.environ.get("KIMI_SCREENSHOTS")
    if not chosen:
        return tmp_path_factory.mktemp("screenshots")
    folder = Path(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def open_frontend(
    start_server: StartServer, browser: Browser, screenshots: Path, pytestconfig: pytest.Config
) -> OpenFrontend:
    """Open a front end by name, `with open_frontend("lab") as lab`, where the fixtures of one test are too short.

    `python` is the interpreter of another environment than that of the tests.
    """
    is_open = pytestconfig.stash.setdefault(_OPEN_FRONTENDS, [])

    @contextlib.contextmanager
    def open_named(name: str, *, python: str = sys.executable) -> Iterator[Frontend]:
        server = start_server(name, python)
        with browser.new_context(viewport=_VIEWPORT) as context:
            frontend = driver.Frontend(name, context, server, screenshots)
            is_open.append(frontend)
            try:
                yield frontend
            except BaseException as error:
                error.add_note(f"Screenshots of the failure: {frontend.keep_pictures('failed')}")
                raise
            finally:
                is_open.remove(frontend)
                frontend.close()

    return open_named


@pytest.fixture
def lab(open_frontend: OpenFrontend) -> Iterator[Frontend]:
    """JupyterLab; `lab.open(["1 + 1"])` opens a notebook with that cell."""
    with open_frontend("lab") as frontend:
        yield frontend


@pytest.fixture
def notebook7(open_frontend: OpenFrontend) -> Iterator[Frontend]:
    """Notebook 7, used like `lab`."""
    with open_frontend("notebook7") as frontend:
        yield frontend


@pytest.fixture(params=["lab", "notebook7"])
def frontend(request: pytest.FixtureRequest, open_frontend: OpenFrontend) -> Iterator[Frontend]:
    """Each front end in turn."""
    with open_frontend(request.param) as opened:
        yield opened


@pytest.fixture(scope="session")
def build_stream() -> BuildStream:
    """Return the events of a stream that sends a text in small pieces, for `SandboxOptions(replay=…)`."""
    return driver.build_stream


@contextlib.contextmanager
def _open_answerer(frontend: Frontend) -> Iterator[Answer]:
    """Open a notebook whose cell 1 is answered with texts of one's own, one after the other."""
    stream = driver.PacedStream()
    with Sandbox(SandboxOptions(replay=stream)) as host:
        begin = f"%load_ext kimi_magics\n%env MOONSHOT_BASE_URL={host.base_url}"
        notebook = frontend.open([begin, "%%kimi\nGo on."])
        notebook.stream = stream
        notebook.run(0)
        notebook.wait_until_done(0)

        def answer(
            text: str, *, thinking: str = "", delay_seconds: float = 0.02, size: int = 7, is_held: bool = False
        ) -> NotebookPage:
            """Return the notebook while its cell runs; `delay_seconds` lie between two pieces of `size` characters.

            With `is_held` the answer begins, after the reasoning, when the test calls `notebook.stream.go_on()`.
            """
            events = driver.build_stream(text, thinking=thinking, size=size)
            stream.set(events, delay_seconds, held_at=-(-len(thinking) // size) if is_held else None)
            notebook.run(1)
            notebook.wait_until_running(1)
            return notebook

        yield answer


@pytest.fixture(scope="module")
def find_answerer(open_frontend: OpenFrontend) -> Iterator[Callable[[str], Answer]]:
    """Return the answerer of a front end by name; its notebook stays open until the module is done."""
    with contextlib.ExitStack() as opened:

        @functools.cache
        def find(name: str) -> Answer:
            return opened.enter_context(_open_answerer(opened.enter_context(open_frontend(name))))

        yield find


@contextlib.contextmanager
def _finish(answer: Answer) -> Iterator[Answer]:
    """Let what was asked during one test end with it."""
    asked: list[NotebookPage] = []

    def note(*args: Any, **options: Any) -> NotebookPage:
        asked.append(answer(*args, **options))
        return asked[-1]

    yield note
    for notebook in asked:
        notebook.stream.hurry()
        notebook.wait_until_done(1)


@pytest.fixture(params=["lab", "notebook7"])
def answer(request: pytest.FixtureRequest, find_answerer: Callable[[str], Answer]) -> Iterator[Answer]:
    """Run cell 1 of a notebook and have it answered with a text of one's own: `notebook = answer(text)`.

    The notebook is one for all such tests of a front end: opening it takes longer than most of them.
    """
    with _finish(find_answerer(request.param)) as answer:
        yield answer


@pytest.fixture
def answer_in_lab(find_answerer: Callable[[str], Answer]) -> Iterator[Answer]:
    """The same in JupyterLab alone."""
    with _finish(find_answerer("lab")) as answer:
        yield answer


@pytest.fixture(scope="session")
def answering() -> Answering:
    """The same in a notebook of its own, for tests that load its page again or alter it: `answering(lab, text)`."""

    @contextlib.contextmanager
    def answer_alone(frontend: Frontend, text: str, **options: Any) -> Iterator[NotebookPage]:
        with _open_answerer(frontend) as answer:
            notebook = answer(text, **options)
            try:
                yield notebook
            finally:
                notebook.stream.hurry()

    return answer_alone


@pytest.fixture(scope="session")
def wait_for() -> WaitFor:
    """Wait until a function of no arguments returns true: `wait_for(is_done, what="it is done")`."""
    return driver.wait_for


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep a picture of what a failed test saw, and say where it is."""
    report = yield
    if report.when == "call" and report.failed:
        for frontend in item.config.stash.get(_OPEN_FRONTENDS, []):
            pictures = frontend.keep_pictures(f"failed-{item.name}")
            report.sections.append(("Screenshots of the failure", "\n".join(map(str, pictures))))
    return report

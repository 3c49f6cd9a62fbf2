"""What goes by the id of an upload: it arrives whole, once, and only when a call that may be made is made."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image as Picture

from kimi_magics.core.ask import Ask
from kimi_magics.core.budget import USEFUL_TOKENS, Budget
from kimi_magics.core.events import Event, Uploading, Waiting
from kimi_magics.core.media import Image, Media, Video
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Usage
from kimi_magics.errors import (
    BadRequestError,
    BudgetError,
    ContextError,
    InterruptedReplyError,
    KimiError,
    MissingKeyError,
    PromptError,
    RequestTooLargeError,
    ServerFaultError,
)
from kimi_magics.notebook.chats import Chats
from kimi_magics.notebook.draft import Drafts
from kimi_magics.notebook.parsers import PARSERS
from kimi_magics.notebook.requests import RequestBuilder
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.uploads import INLINE_VIDEO_BYTES
from kimi_magics.sandbox import Fault, Sandbox, SandboxOptions

CHAT, FILES, COUNT = "/v1/chat/completions", "/v1/files", "/v1/tokenizers/estimate-token-count"
HEAD = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2mp41"
SMALL = Video(HEAD + os.urandom(5_000), "video/mp4", "small.mp4")
LARGE = Video(HEAD + os.urandom(INLINE_VIDEO_BYTES), "video/mp4", "large.mp4")


def draw(colour: str) -> Image:
    buffer = io.BytesIO()
    Picture.new("RGB", (90, 60), colour).save(buffer, "PNG")
    return Image(buffer.getvalue(), "image/png", 90, 60, colour)


GREEN = draw("green")


@pytest.fixture(autouse=True)
def host(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The shared server without files."""
    sandbox.files.clear()
    yield sandbox
    sandbox.files.clear()


class Screen:
    """A view that keeps what it is shown; `stop_at` makes it end an upload as an interrupt would."""

    def __init__(self, *, stop: bool = False) -> None:
        self.events: list[Event] = []
        self._stop = stop

    def begin(self, reply: Reply) -> None:
        pass

    def show(self, reply: Reply, event: Event) -> None:
        self.events.append(event)
        if self._stop and isinstance(event, Uploading):
            raise KeyboardInterrupt

    def end(self, reply: Reply, error: KimiError | None) -> None:
        pass


class Kernel:
    """The session of one kernel."""

    def __init__(self) -> None:
        self.session = Session()

    def build(self, *media: Image | Video, **flags: Any) -> Prompt:
        images = tuple(medium for medium in media if isinstance(medium, Image))
        videos = tuple(medium for medium in media if isinstance(medium, Video))
        ask = Ask(**{"text": "What is this?", **flags})
        return self.session.build(ask, variables={}, media=Media(images, videos))

    def call(self, *media: Image | Video, screen: Screen | None = None, **flags: Any) -> Reply:
        prompt = self.build(*media, **flags)
        reply = self.session.open_reply(prompt)
        self.session.call(prompt, reply=reply, view=screen or Screen())
        return reply


@pytest.fixture
def kernels() -> Iterator[Any]:
    """Make kernels, one after the other; closed with the test."""
    made: list[Kernel] = []

    def make() -> Kernel:
        made.append(Kernel())
        return made[-1]

    yield make
    for kernel in made:
        kernel.session.close()


@pytest.fixture
def kernel(kernels: Any) -> Kernel:
    return kernels()


def urls(sandbox: Sandbox, path: str = CHAT) -> list[str]:
    """Return the addresses of the media in the requests to `path`, oldest first."""
    found = []
    for request in sandbox.requests:
        if request.path == path:
            for message in request.body["messages"]:
                for part in message["content"] if isinstance(message["content"], list) else ():
                    found += [part[kind]["url"] for kind in ("image_url", "video_url") if kind in part]
    return found


def asked(sandbox: Sandbox) -> list[tuple[str, str]]:
    """Return what was asked about files: method and path, an id as ID."""
    rows = [(request.method, request.path) for request in sandbox.requests if request.path.startswith(FILES)]
    return [(method, FILES if path == FILES else f"{FILES}/ID") for method, path in rows]


UPLOADED, CONFIRMED = ("POST", FILES), ("GET", f"{FILES}/ID")


# ---------------------------------------------------------------- what goes how


def test_a_small_video_goes_with_the_request(kernel: Kernel, sandbox: Sandbox) -> None:
    kernel.call(SMALL)
    [url] = urls(sandbox)
    head, _, data = url.partition(",")
    assert (head, base64.b64decode(data)) == ("data:video/mp4;base64", SMALL.data)
    assert asked(sandbox) == []


def test_a_large_video_goes_up_once_and_then_by_its_id(kernel: Kernel, sandbox: Sandbox) -> None:
    kernel.call(LARGE)
    kernel.call(LARGE)
    [file] = sandbox.files.list()
    assert (file.data, file.purpose, file.name) == (LARGE.data, "video", "large.mp4")
    assert urls(sandbox) == [f"ms://{file.id}"] * 2
    assert asked(sandbox) == [UPLOADED]


def test_with_upload_everything_goes_by_ids_and_the_right_picture_is_seen(kernel: Kernel, sandbox: Sandbox) -> None:
    reply = kernel.call(GREEN, SMALL, upload=True)
    assert [file.data for file in sandbox.files.list()] == [GREEN.data, SMALL.data]
    assert [file.purpose for file in sandbox.files.list()] == ["image", "video"]
    assert urls(sandbox) == [f"ms://{file.id}" for file in sandbox.files.list()]
    assert "90 × 60" in reply.text
    assert "green" in reply.text


def test_an_image_is_never_uploaded_unasked(kernel: Kernel, sandbox: Sandbox) -> None:
    pixels = Picture.frombytes("RGB", (1800, 1800), os.urandom(1800 * 1800 * 3))
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    assert len(buffer.getvalue()) > INLINE_VIDEO_BYTES
    kernel.call(Image(buffer.getvalue(), "image/png", 1800, 1800, "noise"))
    assert urls(sandbox)[0].startswith("data:image/png;base64,")
    assert asked(sandbox) == []


def test_the_same_content_under_two_names_goes_up_once(kernel: Kernel, sandbox: Sandbox) -> None:
    kernel.call(GREEN, Image(GREEN.data, "image/png", 90, 60, "the same"), upload=True)
    assert asked(sandbox) == [UPLOADED]
    assert len(set(urls(sandbox))) == 1


def test_two_cells_at_once_upload_it_once(kernel: Kernel, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(delay_seconds=0.3, path="files"))
    threads = [threading.Thread(target=kernel.call, args=(LARGE,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked(sandbox) == [UPLOADED]
    assert len(urls(sandbox)) == 2


def test_what_is_left_in_the_request_is_measured_before_anything_goes_up(kernel: Kernel, sandbox: Sandbox) -> None:
    scan = Image(bytes(80_000_000), "image/png", 9, 9, "scan.png")
    with pytest.raises(RequestTooLargeError) as caught:
        kernel.call(scan, LARGE)
    assert "scan.png" in caught.value.remedy
    assert sandbox.requests == []


# ---------------------------------------------------------------- used again


def test_another_kernel_makes_sure_that_it_is_there_and_uses_it(kernels: Any, sandbox: Sandbox) -> None:
    kernels().call(LARGE)
    other = kernels()
    other.call(LARGE)
    other.call(LARGE)
    assert asked(sandbox) == [UPLOADED, CONFIRMED]
    assert len(set(urls(sandbox))) == 1


def test_what_is_gone_at_the_host_goes_up_again(kernels: Any, sandbox: Sandbox) -> None:
    kernels().call(LARGE)
    sandbox.files.clear()
    other = kernels()
    other.call(LARGE)
    other.call(LARGE)
    assert asked(sandbox) == [UPLOADED, CONFIRMED, UPLOADED]
    assert urls(sandbox)[1:] == [f"ms://{sandbox.files.list()[0].id}"] * 2


def test_what_is_deleted_between_two_runs_fails_once_and_goes_up_again(kernel: Kernel, sandbox: Sandbox) -> None:
    kernel.call(LARGE)
    sandbox.files.clear()
    with pytest.raises(BadRequestError):
        kernel.call(LARGE)
    kernel.call(LARGE)
    assert asked(sandbox) == [UPLOADED, CONFIRMED, UPLOADED]


def test_each_host_gets_its_own(kernel: Kernel, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.call(LARGE)
    with Sandbox(options=SandboxOptions(key="sandbox")) as second:
        monkeypatch.setenv("MOONSHOT_BASE_URL", second.base_url)
        kernel.call(LARGE)
        assert asked(second) == [UPLOADED]
        assert urls(second) == [f"ms://{second.files.list()[0].id}"]
    monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
    kernel.call(LARGE)
    assert len(set(urls(sandbox))) == 1
    assert asked(sandbox) == [UPLOADED]


def test_with_another_key_the_file_is_looked_for_again(
    kernel: Kernel, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.call(LARGE)
    monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox ")  # the same for the host, another one for us
    kernel.call(LARGE)
    assert asked(sandbox) == [UPLOADED, CONFIRMED]


@pytest.mark.parametrize("content", ["", "{", '{"version": 1, "uploads": 5}'])
def test_a_broken_record_only_means_that_it_goes_up_again(kernels: Any, sandbox: Sandbox, content: str) -> None:
    first = kernels()
    first.call(LARGE)
    first.session.uploads.store.path.write_text(content)
    kernels().call(LARGE)
    assert asked(sandbox) == [UPLOADED, UPLOADED]
    kernels().call(LARGE)
    assert asked(sandbox) == [UPLOADED, UPLOADED, CONFIRMED]


def test_the_record_holds_no_key_no_name_and_no_content(kernel: Kernel) -> None:
    kernel.call(LARGE)
    text = kernel.session.uploads.store.path.read_text()
    assert "large" not in text
    assert "Bearer" not in text
    [row] = json.loads(text)["uploads"]
    assert sorted(row) == ["digest", "id", "purpose", "site", "size_bytes", "uploaded"]


# ---------------------------------------------------------------- how far it is, and how it ends


def test_the_view_is_told_how_far_it_is_and_nothing_of_what_is_there(kernel: Kernel) -> None:
    first, second = Screen(), Screen()
    kernel.call(LARGE, screen=first)
    kernel.call(LARGE, screen=second)
    told = [event for event in first.events if isinstance(event, Uploading)]
    assert told[-1] == Uploading("large.mp4", len(LARGE.data), len(LARGE.data))
    assert [event.sent_bytes for event in told] == sorted(event.sent_bytes for event in told)
    assert not any(isinstance(event, Uploading) for event in second.events)


def test_the_view_is_told_nothing_of_a_tiny_file(kernel: Kernel) -> None:
    screen = Screen()
    kernel.call(GREEN, upload=True, screen=screen)
    assert not any(isinstance(event, Uploading) for event in screen.events)


def test_a_wait_before_another_try_is_shown(kernel: Kernel, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(429, "engine_overloaded_error", "busy", path="files"))
    screen = Screen()
    kernel.call(LARGE, screen=screen)
    assert any(isinstance(event, Waiting) for event in screen.events)
    assert len(sandbox.files.list()) == 1


def test_an_interrupt_ends_the_upload_and_nothing_is_asked(kernel: Kernel, sandbox: Sandbox) -> None:
    with pytest.raises(InterruptedReplyError) as caught:
        kernel.call(LARGE, screen=Screen(stop=True))
    assert caught.value.message == "interrupted while large.mp4 was being uploaded; nothing was asked"
    assert urls(sandbox) == []
    assert kernel.session.history.totals().calls == 0
    kernel.call(LARGE)
    assert len(urls(sandbox)) == 1


def test_an_upload_that_fails_says_which_and_nothing_is_asked(kernel: Kernel, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(500, "server_error", "broken", path="files"))
    with pytest.raises(ServerFaultError, match=r"large\.mp4 could not be uploaded: 127\.0\.0\.1 failed"):
        kernel.call(LARGE)
    assert asked(sandbox) == [UPLOADED]
    assert urls(sandbox) == []


# ---------------------------------------------------------------- calls that are not made upload nothing


def test_a_refused_call_uploads_nothing(kernel: Kernel, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContextError):
        kernel.call(LARGE, text="word " * 600_000)
    with pytest.raises(PromptError, match="does not read videos"):
        kernel.build(LARGE, model="moonshot-v1-8k")
    kernel.session.spending.set(Budget(Decimal("0.0000001")), save=False)
    with pytest.raises(BudgetError):
        kernel.call(LARGE)
    with pytest.raises(BudgetError):
        kernel.call(GREEN, upload=True)
    monkeypatch.delenv("MOONSHOT_API_KEY")
    with pytest.raises(MissingKeyError):
        kernel.call(LARGE)
    assert asked(sandbox) == []
    assert urls(sandbox) == []


def test_a_budget_is_asked_again_when_the_video_can_be_counted(kernel: Kernel, sandbox: Sandbox) -> None:
    # Enough for the words alone, not for a video beside them.
    estimate = kernel.session.estimate(kernel.build(LARGE))
    assert estimate.price is not None
    enough = estimate.price.cost_of(Usage(estimate.prompt_tokens * 2, USEFUL_TOKENS))
    kernel.session.spending.set(Budget(enough), save=False)
    with pytest.raises(BudgetError):
        kernel.call(LARGE)
    assert asked(sandbox) == [UPLOADED]
    assert urls(sandbox) == []
    # Now it is counted, so that the next try is refused before anything is sent.
    sandbox.clear()
    with pytest.raises(BudgetError):
        kernel.call(LARGE)
    assert sandbox.requests == []
    kernel.session.spending.set(Budget(Decimal(5)), save=False)
    kernel.call(LARGE)


# ---------------------------------------------------------------- estimates, drafts and previews


def test_an_estimate_uploads_nothing_and_says_what_is_missing(kernel: Kernel, sandbox: Sandbox) -> None:
    prompt = kernel.build(LARGE)
    estimate = kernel.session.estimate(prompt)
    words = kernel.session.estimate(kernel.build())
    assert (estimate.prompt_tokens, estimate.is_counted) == (words.prompt_tokens, False)
    assert estimate.note == "large.mp4 is counted once it has been uploaded, which a run does"
    assert (asked(sandbox), urls(sandbox, COUNT)) == ([], [])


def test_after_a_run_the_video_is_counted_by_its_id(kernel: Kernel, sandbox: Sandbox) -> None:
    reply = kernel.call(LARGE)
    estimate = kernel.session.estimate(kernel.build(LARGE))
    assert (estimate.prompt_tokens, estimate.is_counted, estimate.note) == (reply.usage.prompt_tokens, True, "")
    assert urls(sandbox, COUNT) == [f"ms://{sandbox.files.list()[0].id}"]
    kernel.session.estimate(kernel.build(LARGE, text="Something else?"))
    assert len(urls(sandbox, COUNT)) == 1


def test_another_kernel_counts_it_by_its_id_or_says_that_it_is_gone(kernels: Any, sandbox: Sandbox) -> None:
    reply = kernels().call(LARGE)
    there = kernels()
    assert there.session.estimate(there.build(LARGE)).prompt_tokens == reply.usage.prompt_tokens
    sandbox.files.clear()
    sandbox.clear()
    gone = kernels()
    assert "once it has been uploaded" in gone.session.estimate(gone.build(LARGE)).note
    assert (asked(sandbox), urls(sandbox, COUNT)) == ([CONFIRMED], [])


def test_a_small_video_is_sent_to_be_counted_once(kernel: Kernel, sandbox: Sandbox) -> None:
    for text in ("What is this?", "And this?"):
        assert kernel.session.estimate(kernel.build(SMALL, text=text)).is_counted
    assert len(urls(sandbox, COUNT)) == 1
    assert asked(sandbox) == []


def test_a_draft_uploads_nothing_and_is_counted_as_far_as_it_can_be(kernel: Kernel, sandbox: Sandbox) -> None:
    media = Media(videos=(LARGE,))
    requests = RequestBuilder(
        kernel.session, Chats(), find_media=lambda ask, variables: media, peek_media=lambda ask, variables: media
    )
    drafts = Drafts(kernel.session, PARSERS, variables=dict, requests=requests)
    source = "%%kimi --video clip\nWhat is this?"
    first, asked_of = drafts.report(source, may_ask=False), drafts.report(source)
    assert (first.state, first.is_final) == ("local", False)
    assert (asked_of.state, asked_of.is_final) == ("local", True)
    assert "once it has been uploaded" in asked_of.message
    assert asked_of.estimate is not None
    assert asked_of.estimate.prompt_tokens == kernel.session.count(kernel.build())
    assert (asked(sandbox), urls(sandbox, COUNT)) == ([], [])
    reply = kernel.call(LARGE)
    after = drafts.report(source)
    assert after.estimate is not None
    assert (after.state, after.estimate.prompt_tokens) == ("counted", reply.usage.prompt_tokens)


def test_a_preview_asks_nothing_and_shows_ids_as_far_as_they_are_known(kernel: Kernel, sandbox: Sandbox) -> None:
    def preview() -> list[str]:
        body = kernel.session.preview(kernel.build(SMALL, LARGE))
        return [part["video_url"]["url"] for part in body["messages"][0]["content"][:2]]

    size = len(base64.b64encode(SMALL.data))
    inline = f"data:video/mp4;base64,… ({size:,} characters)"
    assert preview() == [inline, "ms://… (once large.mp4 is uploaded)"]
    assert sandbox.requests == []
    kernel.call(LARGE)
    assert preview() == [inline, f"ms://{sandbox.files.list()[0].id}"]


# ---------------------------------------------------------------- as the user types it


def test_the_flags_reach_the_host(cells: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(LARGE.data)
    cells.run(f"small, folder = {SMALL.data!r}, {str(tmp_path)!r}")
    ran = cells.run(f"%%kimi --video {tmp_path}/clip.mp4 --video small -o answer\nWhat is this?")
    assert ran.error is None, ran.shown_error
    [file] = sandbox.files.list()
    assert file.data == LARGE.data
    assert [url[:10] for url in urls(sandbox)] == [f"ms://{file.id}"[:10], "data:video"]
    cells.run("%kimi --video small --upload What is this?")
    assert [file.data for file in sandbox.files.list()][1:] == [SMALL.data]


def test_a_dry_run_and_an_estimate_upload_nothing(cells: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(LARGE.data)
    shown = cells.run(f"%kimi --dry-run --video {tmp_path}/clip.mp4 What is this?")
    assert "ms://… (once" in shown.stdout
    assert sandbox.requests == []
    ran = cells.run(f"%kimi_estimate --video {tmp_path}/clip.mp4 What is this?")
    assert ran.error is None
    assert "once it has been uploaded" in ran.bundles[0]["text/plain"]
    assert (asked(sandbox), urls(sandbox, COUNT)) == ([], [])


def test_a_refused_video_fails_the_cell_and_nothing_is_sent(cells: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(GREEN.data)
    ran = cells.run(f"%kimi --video {tmp_path}/plot.png What is this?")
    assert "is a picture, not a video" in ran.shown_error
    assert "-i" in ran.shown_error
    for name, message in [(tmp_path, "is a folder"), (tmp_path / "none.mp4", "there is no file"), ("clip", "no file")]:
        ran = cells.run(f"%kimi --video {name} What is this?")
        assert ran.shown_error.startswith("VideoError")
        assert message in ran.shown_error
    assert sandbox.requests == []


def test_an_answer_that_could_not_be_asked_for_leaves_the_variables_alone(
    cells: Any, sandbox: Sandbox, shell: InteractiveShell
) -> None:
    shell.user_ns["clip"] = LARGE.data
    cells.run("answer = 1")
    sandbox.fault(Fault(500, "server_error", "broken", path="files"))
    ran = cells.run("%kimi --video clip -o answer What is this?")
    assert "clip could not be uploaded" in ran.shown_error
    assert len(ran.shown_error.splitlines()) < 6
    assert cells["answer"] == 1

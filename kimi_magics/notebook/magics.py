"""The magics: each reads its line, runs, and returns; the work is done in the rooms behind.

Loading the extension is cheap: what is heavy (HTTP, JSON, Markdown, prices) is imported by the first call.
"""

from __future__ import annotations

import atexit
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, needs_local_scope, no_var_expand

from kimi_magics.core.ask import Ask, HelpRequested
from kimi_magics.errors import ImageError, InterruptedReplyError, KimiError, RefusedError, ToolError
from kimi_magics.notebook import complete
from kimi_magics.notebook.cell_runs import CellRuns, cell_id
from kimi_magics.notebook.gallery import Gallery
from kimi_magics.notebook.parsers import PARSERS
from kimi_magics.notebook.questions import keep_questions

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from kimi_magics.core.events import Uploading, Waiting
    from kimi_magics.core.ports import View
    from kimi_magics.core.prompt import Prompt
    from kimi_magics.core.reply import Reply
    from kimi_magics.notebook.bundles import Outlet
    from kimi_magics.notebook.cells import NotebookCells
    from kimi_magics.notebook.chats import Chats
    from kimi_magics.notebook.composers import Composers
    from kimi_magics.notebook.documents import Documents
    from kimi_magics.notebook.draft import Drafts
    from kimi_magics.notebook.fix import Failures
    from kimi_magics.notebook.gauge import Gauge
    from kimi_magics.notebook.lookup import Lookup
    from kimi_magics.notebook.requests import Request, RequestBuilder, Use
    from kimi_magics.notebook.session import Session
    from kimi_magics.notebook.toolbar import Toolbar


def _guard(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Show the help that was asked for, and let an interrupt fail the cell in one line like any other error."""

    @functools.wraps(magic)
    def guarded(self: KimiMagics, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        try:
            return magic(self, line, cell, local_ns)
        except HelpRequested as help_text:
            print(help_text)  # noqa: T201 — this is the output
            return None
        except KeyboardInterrupt:
            raise InterruptedReplyError("interrupted", remedy="run the cell again") from None

    guarded.__doc__ = PARSERS[magic.__name__].format_help()
    return guarded


# The docstrings of the magics are their help, put in place by `_guard`.
@magics_class
class KimiMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        # Magics.shell is typed as optional.
        self._shell = shell
        self._session: Session | None = None
        self._lookup: Lookup | None = None
        self._chats: Chats | None = None
        self._requests: RequestBuilder | None = None
        self._drafts: Drafts | None = None
        self._making = threading.RLock()
        self._runs = CellRuns(shell)
        #: Where the upload of a document is shown, in the cell that runs.
        self._progress: Outlet | None = None
        self._gallery = Gallery(shell, limit_bytes=self._find_gallery_bytes)
        self._failures: Failures | None = None
        self._gauge: Gauge | None = None
        self._toolbar: Toolbar | None = None
        self._composers: Composers | None = None

    @property
    def session(self) -> Session:
        """What is kept between cells; made, with its imports, at the first use."""
        with self._making:  # a cell and the gauge may need it at the same time
            if self._session is None:
                from kimi_magics.notebook.comms import find_main_loop
                from kimi_magics.notebook.session import Session

                self._session = Session(notebook=self._find_notebook, run_on_main=find_main_loop(self._shell))
            return self._session

    @property
    def lookup(self) -> Lookup:
        """What finds the images and videos that flags name."""
        with self._making:
            if self._lookup is None:
                from kimi_magics.notebook.lookup import Lookup
                from kimi_magics.notebook.page_pictures import NotebookPictures, find_notebook
                from kimi_magics.notebook.sources import Sources

                notebook = NotebookPictures(self._ask_page, lambda: find_notebook(self._shell.user_ns))
                sources = Sources(gallery=self._gallery, notebook=notebook)
                self._lookup = Lookup(self._runs, sources, render=self._render)
            return self._lookup

    @property
    def chats(self) -> Chats:
        """The conversations of this kernel."""
        with self._making:
            if self._chats is None:
                from kimi_magics.notebook.chats import Chats

                self._chats = Chats(self._runs, find_order=self._find_order)
            return self._chats

    @property
    def requests(self) -> RequestBuilder:
        """What builds the whole request of a cell, for runs and for drafts."""
        with self._making:
            if self._requests is None:
                from kimi_magics.notebook.context import Context
                from kimi_magics.notebook.requests import RequestBuilder

                self._requests = RequestBuilder(
                    self.session,
                    self.chats,
                    find_media=self.lookup.find,
                    peek_media=self.lookup.peek,
                    context=Context(self._make_documents, self._make_cells, tell=self._tell_upload),
                )
            return self._requests

    @property
    def drafts(self) -> Drafts:
        """What reports on prompts that are being written."""
        with self._making:
            if self._drafts is None:
                from kimi_magics.notebook.draft import Drafts

                self._drafts = Drafts(
                    self.session,
                    PARSERS,
                    variables=self._find_variables,
                    requests=self.requests,
                )
            return self._drafts

    def open(self) -> None:
        """Let pages ask about drafts, where there is a kernel to ask."""
        # A kernel that ends unloads nothing.
        atexit.register(self._keep_learnt)
        self._runs.open()
        self._gallery.open()
        if getattr(self._shell, "kernel", None) is not None:
            from kimi_magics.notebook.gauge import Gauge

            self._gauge = Gauge(self._shell, session=lambda: self.session, drafts=lambda: self.drafts)
            self._gauge.open()
        if getattr(self._shell, "pt_app", None) is not None:
            from kimi_magics.notebook.toolbar import install

            self._toolbar = install(self._shell, lambda: self.drafts)

    def close(self) -> None:
        """Let the pages and the connections go."""
        atexit.unregister(self._keep_learnt)
        self._runs.close()
        self._gallery.close()
        for part in (self._gauge, self._toolbar, self._composers):
            if part is not None:
                part.close()
        if self._session is not None:
            self._session.close()

    def _keep_learnt(self) -> None:
        if self._session is not None:
            self._session.counting.save()

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    @_guard
    def kimi(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> None:  # noqa: D102
        self._run(self._read("kimi", line, cell), local_ns)

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    @_guard
    def kimi_estimate(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.reports import report_estimate

        ask = self._read("kimi_estimate", line, cell)
        # Here the flag is about the report, not about an answer.
        request = self._build(replace(ask, json=False), local_ns, use="look")
        pending = request.media.pending
        if ask.dry_run:
            self._show_body(request.prompt, pending=pending)
        else:
            compare: bool = ask.extra["compare"]
            report_estimate(self.session, request.prompt, compare=compare, as_json=ask.json, pending=pending)

    @no_var_expand
    @needs_local_scope
    @line_magic
    @_guard
    def kimi_describe(self, line: str, cell: None = None, local_ns: Mapping[str, Any] | None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.describe import AltWriter, Steps, read_wish
        from kimi_magics.notebook.views import is_kernel, is_live

        ask, names = PARSERS["kimi_describe"].parse_names(line)
        variables = self._find_variables(local_ns)
        wish = read_wish(ask, names, session=self.session, variables=variables)
        if wish.is_alt:
            steps = Steps(self.lookup.find_pictures, self._show_body, self._call_prompt, self._bind)
            looked_at = is_kernel(self._shell) and is_live(self._shell)
            AltWriter(self.session, steps, is_live=looked_at).write(wish, variables)
            return
        self._run(wish.ask, local_ns)

    @no_var_expand
    @needs_local_scope
    @line_magic
    @_guard
    def kimi_fix(self, line: str, cell: None = None, local_ns: Mapping[str, Any] | None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.fix import Failures, build_fix_ask
        from kimi_magics.notebook.values import write_value

        if self._failures is None:
            self._failures = Failures(self._shell)
        asked = build_fix_ask(
            self._read("kimi_fix", line, None),
            self._failures.describe(),
            variables=self._find_variables(local_ns),
            system=self.session.config.get("system"),
            write=write_value,
        )
        self._run(asked, local_ns)

    @no_var_expand
    @line_cell_magic
    @_guard
    def kimi_draft(self, line: str, cell: str | None = None, local_ns: None = None) -> None:  # noqa: D102
        ask = self._read("kimi_draft", line, cell)
        if getattr(self._shell, "kernel", None) is None:
            raise RefusedError(
                "a terminal has no composer", remedy="type %%kimi: the line below it shows the same gauge"
            )
        if self._composers is None:
            self._composers = self._make_composers()
        self._composers.open(ask, typed=f"{line}\n{cell}")

    @no_var_expand
    @line_magic
    @_guard
    def kimi_models(self, line: str, cell: None = None, local_ns: None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.reports import report_models

        ask = self._read("kimi_models", line, "")
        report_models(self.session, as_json=ask.json, with_retired=ask.extra["all"])

    @no_var_expand
    @line_magic
    @_guard
    def kimi_config(self, line: str, cell: None = None, local_ns: None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.reports import report_config

        report_config(self.session, self._read("kimi_config", line, None))
        self._tell_settings()

    @no_var_expand
    @line_magic
    @_guard
    def kimi_budget(self, line: str, cell: None = None, local_ns: None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.budget_report import report_budget

        # An amount is no prompt: flags may come after it.
        ask, words = PARSERS["kimi_budget"].parse_names(line)
        report_budget(self.session, replace(ask, text=" ".join(words)))
        self._tell_settings()

    @no_var_expand
    @line_magic
    @_guard
    def kimi_usage(self, line: str, cell: None = None, local_ns: None = None) -> Any:  # noqa: D102
        from kimi_magics.notebook.usage_report import report_usage

        ask, names = PARSERS["kimi_usage"].parse_names(line)
        return report_usage(self.session, ask, names)

    @no_var_expand
    @line_magic
    @_guard
    def kimi_files(self, line: str, cell: None = None, local_ns: None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.file_report import report_files

        report_files(self.session, self._read("kimi_files", line, None))

    @no_var_expand
    @line_magic
    @_guard
    def kimi_chat(self, line: str, cell: None = None, local_ns: None = None) -> None:  # noqa: D102
        from kimi_magics.notebook.chat_report import report_chat

        ask, names = PARSERS["kimi_chat"].parse_names(line)
        report_chat(self.chats, ask, names, session=self.session, cell=cell_id(self._shell))
        self._tell_settings()

    # ------------------------------------------------------------ steps

    def chat_names(self) -> list[str]:
        """Return the names of the conversations; before there is one, nothing is made for it."""
        return self._chats.names() if self._chats is not None else []

    def _read(self, name: str, line: str, cell: str | None) -> Ask:
        parser = PARSERS[name]
        return parser.parse_line(line) if cell is None else parser.parse_cell(line, cell)

    def _run(self, ask: Ask, local_ns: Mapping[str, Any] | None) -> None:
        request = self._build(ask, local_ns)
        if ask.dry_run:
            self._show_body(request.prompt, pending=request.media.pending)
            self._tell_kept(request)
        else:
            self._call(request, out=ask.out)

    def _build(self, ask: Ask, local_ns: Mapping[str, Any] | None, *, use: Use | None = None) -> Request:
        variables = self._find_variables(local_ns)
        use = use or ("look" if ask.dry_run else "run")
        self._progress = None
        return self.requests.build(ask, variables=variables, cell=cell_id(self._shell), use=use)

    def _find_variables(self, local_ns: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        from kimi_magics.notebook.values import user_variables

        # Outside of a function IPython gives the notebook's own variables as the local ones.
        return user_variables(self._shell, None if local_ns is self._shell.user_ns else local_ns)

    @functools.cached_property
    def _documents(self) -> Documents:
        from kimi_magics.notebook.documents import Documents

        return Documents(lambda: self.session.client, self.session.uploads)

    def _make_documents(self) -> Documents:
        with self._making:
            return self._documents

    def _make_cells(self) -> NotebookCells:
        from kimi_magics.notebook.cells import NotebookCells
        from kimi_magics.notebook.page_pictures import find_notebook

        return NotebookCells(self._ask_page, lambda: find_notebook(self._shell.user_ns), self._shell)

    def _tell_upload(self, event: Uploading | Waiting) -> None:
        """Show how far the upload of a document is, before there is an answer to show it in."""
        from kimi_magics.notebook.bundles import Outlet, describe_progress, small_bundle
        from kimi_magics.notebook.views import is_kernel, is_live

        if not is_kernel(self._shell) or not is_live(self._shell):
            return
        if self._progress is None:
            self._progress = Outlet(is_live=True)
        self._progress.put(small_bundle(describe_progress(event)))

    def _ask_page(self, question: dict[str, Any]) -> Any:
        """Return what a page that shows the notebook answers, or None."""
        return self._gauge.ask_page(question) if self._gauge is not None else None

    def _find_order(self, cell: str, *, may_ask: bool) -> Sequence[str] | None:
        """Return the ids of the notebook's cells from top to bottom, where a page tells them."""
        return self._gauge.find_order(cell, may_ask=may_ask) if self._gauge is not None else None

    def _render(self, value: Any) -> dict[str, Any]:
        """Return what the shell would show of a value as a picture."""
        formatter = self._shell.display_formatter
        kinds = ["image/png", "image/jpeg"]
        return dict(formatter.format(value, include=kinds)[0]) if formatter else {}  # type: ignore[no-untyped-call]

    def _find_gallery_bytes(self) -> int:
        from kimi_magics.store.config import Config

        # Showing a figure is no reason to make a session.
        config = self._session.config if self._session is not None else Config()
        return 1_000_000 * int(config.get("gallery_mb"))

    def _make_composers(self) -> Composers:
        from kimi_magics.notebook.composer import Services
        from kimi_magics.notebook.composers import Composers

        services = Services(self.session, self.drafts, self._build_source, self._call, self._insert_cell, _model_names)
        return Composers(self._shell, services)

    def _build_source(self, source: str, cell: str) -> tuple[Ask, Request]:
        """Read and build a whole cell, as one that the composer named `cell` sends."""
        line, _, body = source.removeprefix("%%kimi").partition("\n")
        ask = self._read("kimi", line, body)
        if (ask.image or ask.video) and self._runs.is_busy:
            # The cell that runs may draw on the same figure.
            raise ImageError("no image can be prepared while a cell runs", remedy="press Send again when it is done")
        if ask.tool:
            # Functions of the user work on what the cells work on, and may ask him.
            raise ToolError("the composer makes no calls of tools", remedy="press Insert and run the cell")
        use: Use = "look" if ask.dry_run else "run"
        return ask, self.requests.build(ask, variables=self._find_variables(), cell=cell, use=use)

    def _show_body(self, prompt: Prompt, *, pending: Sequence[str] = ()) -> None:
        from kimi_magics.notebook.reports import print_json, show_media

        print_json(self.session.preview(prompt))
        show_media(self.session, prompt)
        if pending:
            self._say(f"what {', '.join(pending)} says is read when the cell runs, and is not in it yet")

    def _tell_kept(self, request: Request) -> None:
        """Say whether a run would be sent, where answers are kept."""
        from kimi_magics.notebook.footer import format_first

        if request.recall.is_on:
            kept = self.session.find_kept(request.prompt, request.recall)
            self._say("a run would be sent" if kept is None else f"a run would be replayed · $0 · {format_first(kept)}")

    def _say(self, text: str) -> None:
        from kimi_magics.notebook.bundles import display_bundle, small_bundle

        display_bundle(small_bundle(text))

    def _tell_settings(self) -> None:
        if self._gauge is not None:
            self._gauge.tell_settings()

    def _call_prompt(self, prompt: Prompt, *, out: str | None, view: View) -> None:
        from kimi_magics.notebook.requests import Request

        self._call(Request(prompt), out=out, view=view)

    def _call(self, request: Request, *, out: str | None, view: View | None = None, cell: str | None = None) -> None:
        from kimi_magics.notebook.views import choose_view

        prompt = request.prompt
        # A composer names itself in the place of a cell.
        is_in_cell = cell is None
        config, cell = self.session.config, cell or cell_id(self._shell)
        expected = self.session.expect_tokens(prompt) if self._gauge is not None else 0
        view = view or choose_view(
            self._shell,
            prompt,
            chosen=config.get("view"),
            has_footer=config.get("footer") == "on",
            count=self.session.counting.recall_medium,
        )
        reply = self.session.open_reply(prompt)
        is_kept = is_whole = False
        try:
            self.session.call(
                prompt,
                reply=reply,
                view=view,
                cell=cell,
                follow=request.follow,
                allow=request.allow,
                recall=request.recall,
            )
            is_kept = is_whole = True
        except KimiError as error:
            # A refused call leaves the variables alone; one that was stopped leaves what had arrived.
            is_kept = reply.has_begun or isinstance(error, InterruptedReplyError)
            raise
        finally:
            if is_whole:
                request.record(reply)
            else:
                request.record_failure()
            if is_kept:
                self._bind(reply, out)
            if self._gauge is not None:
                self._gauge.tell_run(reply, cell=cell, expected=expected)
            for notice in self.session.take_notices():
                self._say(notice)
        self._end(request, reply, is_in_cell=is_in_cell)

    def _end(self, request: Request, reply: Reply, *, is_in_cell: bool) -> None:
        """Say what else is to be said of a call that is done, and propose the cell that was asked for."""
        said = [request.describe_dropped()]
        if request.makes_cell:
            from kimi_magics.notebook.code_blocks import propose_code

            said.append(propose_code(self._shell, reply.text, insert=self._insert_cell, is_in_cell=is_in_cell))
        if is_in_cell and any(said):
            self._say("\n".join(filter(None, said)))

    def _find_notebook(self) -> str:
        from kimi_magics.notebook.page_pictures import find_notebook

        path = find_notebook(self._shell.user_ns)
        return "" if path is None else str(path.resolve())

    def _insert_cell(self, source: str) -> bool:
        return self._gauge is not None and self._gauge.insert_cell(source)

    def _bind(self, reply: Reply, out: str | None) -> None:
        self._shell.user_ns["_kimi"] = reply
        if out:
            self._shell.user_ns[out] = reply


def _foreign_transformers(shell: InteractiveShell) -> list[Callable[[list[str]], list[str]]]:
    """Return the transformers of others: a reloaded module's function is not the one that it registered before."""
    return [
        other for other in shell.input_transformers_cleanup if getattr(other, "__name__", "") != keep_questions.__name__
    ]


def _model_names() -> list[str]:
    """Return the live models; without a session, whose imports would make the first Tab wait."""
    from kimi_magics.store.catalog import load_catalog

    return [model.name for model in load_catalog().live()]


def _template_names() -> list[str]:
    from kimi_magics.store.config import Config
    from kimi_magics.store.templates import Templates

    try:
        return Templates(Config()).names()
    except KimiError:
        return []


def _setting_names() -> list[str]:
    from kimi_magics.store.config import Config

    return Config().names()


def load(shell: InteractiveShell) -> None:
    """Register the magics and their completion."""
    magics = KimiMagics(shell)
    shell.register_magics(magics)
    # IPython reads a line that ends with a question mark as a call for help, also `%kimi what is a token?`.
    shell.input_transformers_cleanup[:] = [*_foreign_transformers(shell), keep_questions]
    words = {
        "kimi_config": _setting_names,
        "kimi_describe": lambda: complete.picture_names(shell.user_ns),
        "kimi_chat": magics.chat_names,
    }
    complete.install(
        shell, PARSERS, models=_model_names, words=words, own={"chat": magics.chat_names, "template": _template_names}
    )
    magics.open()


def unload(shell: InteractiveShell) -> None:
    """Take the magics away and close the connections."""
    registry = shell.magics_manager
    shell.input_transformers_cleanup[:] = _foreign_transformers(shell)
    complete.uninstall(shell)
    magics = registry.registry.pop(KimiMagics.__name__, None)
    for kind in ("line", "cell"):
        for name in PARSERS:
            registry.magics[kind].pop(name, None)
    if isinstance(magics, KimiMagics):
        magics.close()

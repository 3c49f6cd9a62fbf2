"""The composer: a prompt, its gauge and its answer in widgets, for front ends without the lab extension.

The promise: what is counted, sent and inserted is one and the same text; opening a composer asks nothing of the host;
no error and no second run of its cell takes the draft away; a composer that is closed leaves no widget and no thread.
"""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ipywidgets  # type: ignore[import-untyped]

from kimi_magics.core.ask import Ask, HelpRequested
from kimi_magics.errors import KimiError
from kimi_magics.notebook.bundles import Bundle, display_bundle
from kimi_magics.notebook.comms import CellParents, tame_widget
from kimi_magics.notebook.composer_parts import (
    AnswerView,
    Fields,
    answer_outputs,
    error_output,
    gauge_html,
    insert_in_colab,
    plain_html,
    text_output,
    write_cell,
)
from kimi_magics.notebook.draft import Drafts, Report
from kimi_magics.notebook.gauge import run_message
from kimi_magics.notebook.gauge_text import describe_run
from kimi_magics.notebook.newest import NewestOnly
from kimi_magics.notebook.requests import Request
from kimi_magics.notebook.session import Session

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_WAIT_SECONDS = 0.25
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_LEFT_OVER = "The composer of this notebook; run the cell again to open it."


@dataclass(frozen=True, slots=True)
class Services:
    """What a composer needs of the magics."""

    session: Session
    drafts: Drafts
    #: Reads a `%%kimi` cell, for a composer of this id. Raises RefusedError and HelpRequested.
    build: Callable[[str, str], tuple[Ask, Request]]
    #: Sends a request as the cell does; with `out`, `view` and `cell` by name. Raises KimiError.
    call: Callable[..., None]
    #: Has a page insert a cell; False when no page is there.
    insert: Callable[[str], bool]
    #: The names of the live models.
    models: Callable[[], Iterable[str]]


class Composer:
    """The widgets of one composer, in `box`; `fields` is what they start with."""

    def __init__(self, shell: InteractiveShell, services: Services, fields: Fields, *, parents: CellParents) -> None:
        self._shell = shell
        self._services = services
        #: Stands where a run names its cell.
        self.id = f"composer-{uuid4().hex}"
        self._counter: NewestOnly[str] = NewestOnly(self._count, name="kimi-composer", wait_seconds=_WAIT_SECONDS)
        # Guards what follows; messages of the page, the count and the answer come in threads of their own.
        self._lock = threading.RLock()
        self._asked: str | None = None
        self._last_run = ""
        self._is_touched = False
        self._is_running = False
        self._is_closed = False
        self._must_stop = threading.Event()
        #: The answer, or what was said in its place.
        self._shown: tuple[Bundle, ...] = ()
        self._make_widgets(fields)
        for widget in _family(self.box):
            tame_widget(widget, parents=parents)
        self._tell_here()

    def _make_widgets(self, fields: Fields) -> None:
        wide = {"layout": ipywidgets.Layout(width="auto")}
        self.text = ipywidgets.Textarea(
            value=fields.text,
            placeholder="The prompt; {{name}} is filled in",
            layout=ipywidgets.Layout(width="auto", height="9em"),
        )
        self.model = ipywidgets.Combobox(
            value=fields.model, options=tuple(self._services.models()), description="Model", **wide
        )
        self.flags = ipywidgets.Text(
            value=fields.flags,
            description="Flags",
            placeholder="those of %%kimi, as --effort low -o answer",
            **wide,
        )
        self._name_default_model()
        self.gauge = ipywidgets.HTML()
        self.send = ipywidgets.Button(description="Send", button_style="primary", tooltip="Run the prompt")
        self.stop = ipywidgets.Button(description="Stop", disabled=True, tooltip="End the answer with its next piece")
        self.insert = ipywidgets.Button(description="Insert", tooltip="Make a %%kimi cell of it")
        self.live = ipywidgets.HTML()
        self.output = ipywidgets.Output()
        buttons = ipywidgets.HBox([self.send, self.stop, self.insert])
        self.box = ipywidgets.VBox([self.text, self.model, self.flags, self.gauge, buttons, self.live, self.output])
        for field in (self.text, self.model, self.flags):
            field.observe(self._take_edit, "value")
        self.send.on_click(self._press_send)
        self.stop.on_click(self._press_stop)
        self.insert.on_click(self._press_insert)

    @property
    def fields(self) -> Fields:
        """What stands in the fields now."""
        return Fields(self.text.value, self.model.value, self.flags.value)

    @property
    def source(self) -> str:
        """The cell that the fields make."""
        return write_cell(self.fields)

    def display(self) -> None:
        """Show it as an output of the running cell."""
        model = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        display_bundle({_WIDGET_VIEW: model, "text/plain": _LEFT_OVER})

    def close(self) -> None:
        """Take the widgets away; an answer that is on its way ends with its next piece."""
        with self._lock:
            self._is_closed = True
        self._counter.close()
        self._must_stop.set()
        for widget in list(_family(self.box)):
            widget.close()

    # ------------------------------------------------------------ the gauge

    def _take_edit(self, _change: object) -> None:
        with self._lock:
            self._is_touched, self._last_run = True, ""
        source, report = self._tell_here()
        if report.is_final or (source == self._asked and not report.depends):
            self._counter.drop()
        else:
            self._counter.take(source)

    def take_cell_end(self) -> None:
        """Take note that a cell has run: variables and settings may have changed."""
        self._name_default_model()
        self._counter.take(self.source)

    def _name_default_model(self) -> None:
        self.model.placeholder = f"{self._services.session.config.get('model')}, as set"

    def _tell_here(self) -> tuple[str, Report]:
        """Report what is known here; at once, and without a request."""
        source = self.source
        report = self._services.drafts.report(source, cell=self.id, may_ask=False)
        self._tell(source, report)
        return source, report

    def _count(self, source: str) -> None:
        """Have the API count `source`, in the counter's thread."""
        try:
            if source != self.source:
                return
            with self._lock:
                self._asked = source if self._is_touched else None
            self._tell(source, self._services.drafts.report(source, cell=self.id, may_ask=self._is_touched))
        except Exception:
            self._shell.log.warning("the gauge of kimi_magics failed", exc_info=True)

    def _tell(self, source: str, report: Report) -> None:
        with self._lock:
            # Meanwhile the user may have typed on: the newest text has its own report.
            if source == self.source and not self._is_closed:
                self.gauge.value = gauge_html(report, last_run=self._last_run)

    # ------------------------------------------------------------ Send

    def _press_send(self, _button: object) -> None:
        with self._lock:
            if self._is_running or self._is_closed:
                return
            self._is_running = True
        self._must_stop.clear()
        self.send.disabled, self._last_run = True, ""
        thread: threading.Thread | None = None
        try:
            # Here and not in the thread: variables and pictures are those of the moment.
            ask, request = self._services.build(self.source, self.id)
            if ask.dry_run:
                body = self._services.session.preview(request.prompt)
                self._put(text_output(json.dumps(body, indent=2, ensure_ascii=False)))
                return
            run, arguments = copy_context().run, (self._run, ask, request)
            thread = threading.Thread(target=run, args=arguments, name="kimi-composer-answer", daemon=True)
            self.stop.disabled = False
            thread.start()
        except HelpRequested as help_text:
            self._put(text_output(str(help_text)))
        except KimiError as error:
            self._put(error_output(error))
        finally:
            if thread is None:
                self._finish()

    def _run(self, ask: Ask, request: Request) -> None:
        """Send the prompt and show its answer, in a thread of its own."""
        try:
            outputs = self._ask_host(ask, request)
        except Exception:  # noqa: BLE001 — a fault of ours is shown as what it is, where the answer would stand
            outputs = [text_output(traceback.format_exc(), name="stderr")]
        try:
            self._put(*outputs)
            self._tell_here()
        finally:
            self._finish()

    def _ask_host(self, ask: Ask, request: Request) -> list[Bundle]:
        """Return the answer, and what ended it, as outputs of a notebook."""
        view, session = AnswerView(self._show_live, must_stop=self._must_stop.is_set), self._services.session
        expected = session.expect_tokens(request.prompt)
        failure: KimiError | None = None
        try:
            self._services.call(request, out=ask.out, view=view, cell=self.id)
        except KimiError as error:
            failure = error
        outputs: list[Bundle] = []
        if (reply := view.reply) is not None:
            outputs += answer_outputs(reply, failure, has_footer=session.config.get("footer") == "on")
            if reply.has_usage or reply.is_replayed:
                self._last_run = describe_run(run_message(reply, cell=self.id, expected=expected))
        return outputs if failure is None else [*outputs, error_output(failure)]

    def _finish(self) -> None:
        with self._lock:
            self._is_running = False
        self.live.value = ""
        self.stop.disabled, self.send.disabled = True, False

    def _show_live(self, text: str) -> None:
        self.live.value = plain_html(text)

    def _press_stop(self, _button: object) -> None:
        self.stop.disabled = True
        self._must_stop.set()

    # ------------------------------------------------------------ Insert

    def _press_insert(self, _button: object) -> None:
        source = self.source
        if self._services.insert(source):
            note = "The cell stands below the active one."
        elif insert_in_colab(source):
            note = "Colab offered the cell below."
        else:
            note = f"No page here can insert a cell; copy this into a new one:\n\n{source}"
        self._put(*self._shown, text_output(note), is_note=True)

    def _put(self, *outputs: Bundle, is_note: bool = False) -> None:
        """Show outputs in place of those before; setting them, unlike capturing, works in every thread."""
        with self._lock:
            if not is_note:
                self._shown = outputs
            if not self._is_closed:
                self.output.outputs = outputs


def _family(widget: Any) -> Iterable[Any]:
    """Yield a widget and all that belongs to it: layouts and styles have comms of their own."""
    for child in getattr(widget, "children", ()):
        yield from _family(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
        if part is not None:
            yield part

"""The gauge's half in the kernel: reports on the drafts that a page asks about, while cells run too.

A page opens a comm of the target `kimi_magics.gauge`; `hello` tells a page that is there already that it may. Each
question has a number and a cell and gets one or two answers: at once what is known here, then, where that is wanted,
what the API counted. The messages are held in `tests/gauge_golden.json`.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kimi_magics.errors import KimiError
from kimi_magics.notebook.cell_runs import CellOrders, cell_id
from kimi_magics.notebook.comms import LatestParents, end_quiet, has_subshells, keep_quiet, mend_replies, tame
from kimi_magics.notebook.gauge_text import message_of
from kimi_magics.notebook.page_questions import WAIT_SECONDS, PageQuestions

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from kimi_magics.core.budget import Standing
    from kimi_magics.core.reply import Reply
    from kimi_magics.notebook.draft import Drafts
    from kimi_magics.notebook.session import Session

TARGET = "kimi_magics.gauge"
HELLO = "kimi_magics.hello"
Message = dict[str, Any]

#: Questions to the API, which may be slow to answer, in threads of their own.
_ASKERS = 3
#: A page that was closed without a word leaves its comm behind.
_MOST_PAGES = 16
#: How long a page may take to say how the cells stand.
_ORDER_SECONDS = 1.0


class Gauge:
    """Answers the pages of one kernel. What is heavy is made, in a thread, at the first question."""

    def __init__(
        self, shell: InteractiveShell, *, session: Callable[[], Session], drafts: Callable[[], Drafts]
    ) -> None:
        self._shell = shell
        self._session = session
        self._drafts = drafts
        self._pages: dict[str, Any] = {}
        self._questions = PageQuestions(lambda: self._pages.values(), call=self._call_pages)
        self._orders = CellOrders(most=_MOST_PAGES)
        #: Whether pages are known to be absent: nobody came who was called.
        self._has_no_page = False
        self._latest: dict[tuple[str, str], int] = {}
        # Totals are told by the thread that runs a cell and by others: none may tell what another has outdated.
        self._telling = threading.Lock()
        self._quick = _Workers(shell, 1)
        self._slow = _Workers(shell, _ASKERS)
        self._parents = LatestParents(shell)
        self._is_quiet = False

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Take pages, and tell those that are there."""
        from comm import create_comm, get_comm_manager

        get_comm_manager().register_target(TARGET, self._accept)
        self._parents.open()
        self._shell.events.register("post_run_cell", self._after_cell)
        mend_replies(self._parents.kernel)
        self._is_quiet = keep_quiet(self._parents.kernel, TARGET)
        create_comm(target_name=HELLO).close()

    def _call_pages(self) -> bool:
        """Call a page that has not come yet, where there may be one; VS Code and scripts have none."""
        from comm import create_comm

        cell = cell_id(self._shell)
        is_there = cell is not None and not cell.startswith("vscode")
        if is_there:
            create_comm(target_name=HELLO, data={"is_call": True}).close()
        return is_there

    def close(self) -> None:
        """Let the pages go."""
        from comm import get_comm_manager

        with contextlib.suppress(KeyError):
            get_comm_manager().unregister_target(TARGET, self._accept)
        with contextlib.suppress(ValueError):
            self._shell.events.unregister("post_run_cell", self._after_cell)
        self._parents.close()
        end_quiet(self._parents.kernel)
        for page in list(self._pages.values()):
            page.close()
        self._pages.clear()
        self._quick.end()
        self._slow.end()

    def _after_cell(self, _result: object = None) -> None:
        # Variables may have changed, and with them what drafts would send.
        self._tell_all({"op": "ran"})

    # ------------------------------------------------------------ pages

    def _accept(self, page: Any, _message: Mapping[str, Any]) -> None:
        if not self._is_quiet:
            # The message that opens a comm becomes the parent of what threads print, too.
            self._parents.restore()
        tame(page, lambda data: self._take(page, data), parents=self._parents)
        page.on_close(lambda _message: self._forget(page))
        self._pages[page.comm_id] = page
        self._has_no_page = False
        if len(self._pages) > _MOST_PAGES:
            self._pages.pop(next(iter(self._pages))).close()
        self._quick.do(lambda: self._send_settings([page]))
        self._questions.welcome(page)

    def _forget(self, page: Any) -> None:
        self._pages.pop(page.comm_id, None)
        # In place: the subshell of another page may write to it at the same time.
        for key in [key for key in list(self._latest) if key[0] == page.comm_id]:
            self._latest.pop(key, None)

    def _take(self, page: Any, data: Mapping[str, Any]) -> None:
        """Take a question of a page; runs on a subshell while a cell runs, so that it must be quick."""
        match data.get("op"):
            case "estimate":
                key = (page.comm_id, str(data["cell"]))
                self._latest[key] = data["seq"]
                self._quick.do(lambda: self._answer(page, data))
            case "set":
                self._quick.do(lambda: self._set(str(data["gauge"])))
            case "balance":
                self._slow.do(lambda: page.send({"op": "balance", **self._find_balance()}))
            case "pictures" | "answer":
                self._questions.take(page, data)
            case "order":
                self._orders.take(page.comm_id, int(data["seq"]), [str(cell) for cell in data["cells"]])

    def _answer(self, page: Any, data: Mapping[str, Any]) -> None:
        """Tell what is known here, and have the API asked where that is wanted and needed."""
        from kimi_magics.notebook.draft import report_message

        cell, drafts = str(data["cell"]), self._drafts()
        head = {"op": "report", "seq": data["seq"], "cell": cell}
        is_wanted = bool(data.get("now"))
        if is_wanted:
            drafts.forget_trouble()
        report = drafts.report(data["text"], cell=cell, may_ask=False, is_wanted=is_wanted)
        is_last = report.is_final or bool(data.get("passive"))
        page.send({**head, **report_message(report), "final": is_last})
        if is_last:
            return

        def ask() -> None:
            # Meanwhile the user may have typed on: the latest wins.
            if self._latest.get((page.comm_id, cell)) == data["seq"]:
                counted = drafts.report(data["text"], cell=cell, is_wanted=is_wanted)
                page.send({**head, **report_message(counted), "final": True})

        self._slow.do(ask)

    def _set(self, value: str) -> None:
        with contextlib.suppress(KimiError):
            self._session().config.set("gauge", value)
        self.tell_settings()

    def _find_balance(self) -> Message:
        """Return the account's balance, asked for at most once a minute."""
        session = self._session()
        try:
            look = session.balances.ask()
        except KimiError as error:
            return {"amount": None, "currency": session.currency, "error": error.message}
        return {"amount": str(look.amount), "currency": look.currency, "error": ""}

    # ------------------------------------------------------------ what pages are told

    def tell_settings(self) -> None:
        """Tell every page the settings and totals as they are now."""
        if self._pages:
            self._quick.do(self._send_settings)

    def tell_run(self, reply: Reply, *, cell: str | None, expected: int) -> None:
        """Tell every page what a run took, beside the `expected` prompt tokens; `cell` is the cell's id."""
        if not self._pages:
            return
        if cell and (reply.has_usage or reply.is_replayed):
            self._tell_all(run_message(reply, cell=cell, expected=expected, budget=_find_budget(self._session())))
        self._send_settings()

    def _send_settings(self, pages: Iterable[Any] | None = None) -> None:
        session = self._session()
        with self._telling:
            message = {"op": "settings", "gauge": session.config.get("gauge"), "totals": totals_message(session)}
            for page in list(self._pages.values()) if pages is None else pages:
                page.send(message)

    def insert_cell(self, source: str) -> bool:
        """Ask a page to insert a cell below the active one; False when no page is there."""
        for page in list(self._pages.values())[-1:]:
            page.send({"op": "insert", "source": source})
        return bool(self._pages)

    def ask_page(self, question: Message, *, wait_seconds: float = WAIT_SECONDS) -> Any:
        """Return what a page answers while the cell runs; None when none can or does."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and not has_subshells(self._shell):
            return None
        return self._questions.ask(question, wait_seconds=wait_seconds)

    def find_order(self, cell: str, *, may_ask: bool) -> Sequence[str] | None:
        """Return the ids of the cells of the notebook that holds `cell`, from top to bottom; None when nobody tells.

        Pages tell when the order changes, and before a cell runs. With `may_ask` they are asked for what they did not
        tell; where no page comes, as behind a client without one, only once.
        """
        order = self._orders.find(cell)
        if order is not None or not may_ask or (self._has_no_page and not self._pages):
            return order
        answer = self.ask_page({"op": "order", "cell": cell}, wait_seconds=_ORDER_SECONDS)
        self._has_no_page = answer is None and not self._pages
        return [str(one) for one in answer] if answer else self._orders.find(cell)

    def _tell_all(self, message: Message) -> None:
        for page in list(self._pages.values()):
            page.send(message)


class _Workers:
    """Does jobs in threads, so that neither the cell that runs nor the page's messages wait for them."""

    def __init__(self, shell: InteractiveShell, count: int) -> None:
        self._shell = shell
        self._count = count
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def do(self, job: Callable[[], None]) -> None:
        """Do `job` soon."""
        while len(self._threads) < self._count:
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(self._work,), name="kimi-gauge", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def end(self) -> None:
        """End the threads once what they do is done."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                self._shell.log.warning("the gauge of kimi_magics failed", exc_info=True)


def _find_budget(session: Session) -> Standing | None:
    """Return the budget that is nearest its end; one for each call begins anew, and so has none."""
    from kimi_magics.core.budget import tightest

    with contextlib.suppress(KimiError):
        return tightest(None, [one for one in session.spending.standings() if one.budget.scope != "call"])
    return None


def run_message(reply: Reply, *, cell: str, expected: int, budget: Standing | None = None) -> Message:
    """Return what a run took, and what it left of a budget, as JSON-ready values."""
    from kimi_magics.notebook.draft import budget_message

    usage = reply.usage
    return {
        "op": "run",
        "cell": cell,
        "expected": expected,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "estimated": usage.estimated,
        "cost": None if reply.cost is None else str(reply.cost),
        "currency": reply.currency,
        "seconds": round(reply.seconds or 0, 3),
        "steps": reply.steps,
        "budget": budget_message(budget),
        # Nothing was sent then; else the figures are those of what was.
        "replayed": message_of(reply.replayed) if reply.replayed and reply.is_replayed else None,
    }


def totals_message(session: Session) -> Message:
    """Return what the session's calls took together, as JSON-ready values."""
    totals = session.history.totals()
    return {
        "calls": totals.calls,
        "tokens": totals.prompt_tokens + totals.completion_tokens,
        "costs": [[currency, str(amount)] for currency, amount in sorted(totals.costs.items()) if amount > Decimal(0)],
        "unpriced": totals.unpriced,
    }

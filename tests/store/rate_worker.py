"""One kernel among several of an account: sends calls through the gate, and tells when each came and went.

Arguments: the folder of the ledger, the address, how many calls, the limits that are stated, the host's minute.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from kimi_magics.client.http import KimiClient
from kimi_magics.core.events import Sending, Started, Waiting
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.rates import NO_LIMITS, read_limits
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.rate_gate import RateGate


def main(home: str, url: str, count: str, stated: str, minute: str) -> None:
    """Send the calls once a line comes in."""
    ledger = Ledger(home=Path(home), user="ada", tell=lambda text: print(text, file=sys.stderr))
    limits = read_limits(stated) if stated else NO_LIMITS
    catalog = load_catalog()

    def open_gate(account: str) -> RateGate:
        return RateGate(lambda: ledger, account, count=lambda _: 100, limits=lambda: limits, minute=float(minute))

    client = KimiClient(url, "sandbox", catalog=catalog, open_gate=open_gate)
    prompt = Prompt(catalog.get("kimi-k2.6"), (Message("user", "Hi"),), max_tokens=4)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(count)):
        came, turns, went = time.time(), 0, 0.0
        tries = set()
        for event in client.send(prompt):
            if isinstance(event, Waiting) and event.is_for_turn:
                # By now it has its place in the row.
                came, turns = came if turns else time.time(), turns + 1
            elif isinstance(event, Waiting):
                tries.add(event.attempt)
            elif isinstance(event, Sending | Started):
                went = went or time.time()
        print(json.dumps({"came": came, "went": went, "refused": len(tries), "turns": turns}), flush=True)
    if ledger.trouble:
        sys.exit(ledger.trouble)


if __name__ == "__main__":
    main(*sys.argv[1:])

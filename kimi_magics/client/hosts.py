"""How the hosts that speak this API differ: Kimi's own two, and the words in which these and others say what is wrong.

Other hosts answer in OpenAI's words or in their own; advice that is about Kimi's accounts and models is not given for
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kimi_magics.core.media import DocumentFile, Image, Video
from kimi_magics.core.models import Catalog
from kimi_magics.core.prompt import Prompt
from kimi_magics.errors import redact

#: Kimi's two hosts have separate accounts: a key of one gives 401 on the other.
OTHER_HOST = {"api.moonshot.ai": "api.moonshot.cn", "api.moonshot.cn": "api.moonshot.ai"}

# How hosts say that they lack a model ("Invalid model name passed in model=x" of LiteLLM is a 400), or a field.
NO_MODEL = re.compile(
    r"(?:invalid|unknown|no such) model\b|\bmodel\b.{0,80}\b(?:not found|not exist|doesn't exist)", re.IGNORECASE
)
_NO_FIELD = re.compile(
    r"support|recogni[sz]ed|(?:unknown|extra|invalid) (?:parameter|argument|field|input)", re.IGNORECASE
)
NO_CONTEXT = re.compile(r"exceed\w* model token limit|context (?:length|window|size)", re.IGNORECASE)
#: Fields that not every host has: the attribute of the prompt that sends each, and what the user wrote for it.
_FIELDS = {
    "thinking": ("thinking", "--thinking"),
    "reasoning_effort": ("effort", "--effort"),
    "max_completion_tokens": ("max_tokens", "--max-tokens"),
    "stop": ("stop", "--stop"),
    "response_format": ("format", "--json or --schema"),
    "tools": ("tools", "--tool and --web"),
}
#: LiteLLM without a database knows its master key alone, and says this of any other (1.72 and 1.106, 2026-11-23).
REFUSES_KEY = "no_db_connection"
NO_BALANCE = ("exceeded_current_quota_error", "insufficient_quota")
#: Kimi's, LiteLLM's and the usual one.
RATE_LIMIT = ("rate_limit_reached_error", "throttling_error", "rate_limit_error")

# "Your account org-…/proj-…<ak-…> request reached …" reads better without.
_REDACTED_IDS = re.compile(r" ?(?:[<(/]?(?:org|proj|ak)-\[redacted\][>)]?)+")


@dataclass(frozen=True, slots=True)
class Situation:
    """What a good message needs to know: where the request went, for which model, with which key (to redact it)."""

    host: str
    catalog: Catalog
    key: str = field(default="", repr=False)
    prompt: Prompt | None = None
    #: The file that is asked about, and the medium that is being uploaded.
    file_id: str = ""
    medium: Image | Video | DocumentFile | None = None
    #: What was asked for that a host may do without: it completes "HOST does not …".
    service: str = ""

    @property
    def is_kimi(self) -> bool:
        """Whether the host is one of Kimi's own."""
        return self.host in OTHER_HOST

    def clean(self, text: str, *, limit: int = 300) -> str:
        """Return a text of the host as one line without secrets, and without the marks where ids stood."""
        line = _REDACTED_IDS.sub("", " ".join(redact(text, self.key).split()))
        return line if len(line) <= limit else line[: limit - 1] + "…"


def find_refused(said: str, situation: Situation) -> str:
    """Return the flags for the fields that were sent and that the host says it does not know; empty for none."""
    if situation.is_kimi or situation.prompt is None or not _NO_FIELD.search(said):
        return ""
    sent = ((field, flag) for field, (name, flag) in _FIELDS.items() if getattr(situation.prompt, name))
    return " and ".join(flag for field, flag in sent if re.search(rf"\b{field}\b", said))

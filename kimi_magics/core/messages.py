"""Messages of a conversation, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from kimi_magics.core.media import Image, Video
from kimi_magics.core.tools import ToolKind
from kimi_magics.errors import PromptError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model makes: `arguments` is the JSON text as it came."""

    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its role, its text, and the images and videos that stand before the text.

    Raises PromptError for a role that the API does not know, for a message without content, and for text that is not
    Unicode: half of a surrogate pair, as `errors="surrogateescape"` leaves it, has no place in JSON.
    """

    role: Role
    text: str
    images: tuple[Image, ...] = ()
    videos: tuple[Video, ...] = ()
    #: The reasoning before the text of an assistant; it is sent only where the model needs it again.
    thinking: str = ""
    #: What an assistant calls.
    calls: tuple[ToolCall, ...] = ()
    #: The call that a tool answers.
    call_id: str = ""
    #: The tool that answers, or the name that an answer begun by us carries.
    name: str = ""
    #: The beginning of an answer, which the model goes on with.
    is_partial: bool = False

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise PromptError(f"{self.role!r} is not a role", remedy=f"the roles are {', '.join(ROLES)}")
        if not self.text.strip() and not self.media and not self.calls:
            where = "the prompt" if self.role == "user" else f"the {self.role} message"
            raise PromptError(
                f"{where} is empty", remedy="write the prompt below the %%kimi line, or after the flags of %kimi"
            )
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"character {error.start + 1:,} of the {self.role} message is half a character and cannot be sent",
                remedy='repair it with text.encode("utf-8", "replace").decode(), or read the file in its real encoding',
            ) from None

    @property
    def media(self) -> tuple[Image | Video, ...]:
        """The images, then the videos."""
        return (*self.images, *self.videos)

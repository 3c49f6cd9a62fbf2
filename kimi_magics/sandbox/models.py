"""The models the sandbox knows: the live ones of November 2026, and the retired ones, which it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from kimi_magics.sandbox.refusal import RefusalError

Thinking = Literal["none", "switchable", "always"]


@dataclass(frozen=True)
class Model:
    """One model: its limits in tokens and what it takes."""

    id: str
    context_length: int = 262_144
    default_output: int = 32_768
    created: int = 1_767_225_600
    has_images: bool = True
    has_videos: bool = True
    thinking: Thinking = "always"
    takes_effort: bool = False
    fixes_sampling: bool = True
    has_web_search: bool = False
    patch_limit: int = 16_384
    is_live: bool = True

    def to_row(self) -> dict[str, Any]:
        """Return the row of `GET /models`."""
        return {
            "id": self.id,
            "object": "model",
            "owned_by": "moonshot",
            "created": self.created,
            "context_length": self.context_length,
            "supports_image_in": self.has_images,
            "supports_video_in": self.has_videos,
            "supports_reasoning": self.thinking != "none",
        }


def _build_k3(name: str, created: int) -> Model:
    return Model(name, 1_048_576, 131_072, created, takes_effort=True, patch_limit=65_536)


def _build_retired(name: str, context_length: int = 262_144, *, has_images: bool = False) -> Model:
    return Model(
        name,
        context_length,
        1_024 if name.startswith("moonshot") else 32_768,
        created=1_719_792_000,
        has_images=has_images,
        has_videos=False,
        thinking="always" if "thinking" in name else "none",
        fixes_sampling=False,
        has_web_search=True,
        is_live=False,
    )


_LIVE = (
    Model("kimi-k2.6", created=1_776_643_200, thinking="switchable", has_web_search=True),
    Model("kimi-k2.7-code", created=1_781_222_400),
    Model("kimi-k2.7-code-highspeed", created=1_781_222_400),
    _build_k3("kimi-k3", 1_784_505_600),
    _build_k3("kimi-k3.1-pro", 1_791_417_600),
    _build_k3("kimi-k3.1-pro-highspeed", 1_791_417_600),
)

_RETIRED = (
    Model("kimi-k2.5", created=1_769_472_000, thinking="switchable", has_web_search=True, is_live=False),
    _build_retired("kimi-k2-0905-preview"),
    _build_retired("kimi-k2-0711-preview", 131_072),
    _build_retired("kimi-k2-turbo-preview"),
    _build_retired("kimi-k2-thinking"),
    _build_retired("kimi-k2-thinking-turbo"),
    _build_retired("kimi-latest", 131_072, has_images=True),
    _build_retired("kimi-thinking-preview", 131_072, has_images=True),
    _build_retired("moonshot-v1-auto", 131_072),
    *(_build_retired(f"moonshot-v1-{size}k", size * 1024) for size in (8, 32, 128)),
    *(_build_retired(f"moonshot-v1-{size}k-vision-preview", size * 1024, has_images=True) for size in (8, 32, 128)),
)

MODELS = {model.id: model for model in (*_LIVE, *_RETIRED)}


def list_models(revived: tuple[str, ...] = ()) -> list[Model]:
    """Return the models that answer: the live ones and those revived by an option."""
    return [
        model if model.is_live else replace(model, is_live=True)
        for model in MODELS.values()
        if model.is_live or model.id in revived
    ]


def find_model(name: object, revived: tuple[str, ...] = ()) -> Model:
    """Return the model of this name, or refuse as the API does for unknown and retired ones."""
    for model in list_models(revived):
        if model.id == name:
            return model
    raise RefusalError(f"Not found the model {name} or Permission denied", status=404, type="resource_not_found_error")

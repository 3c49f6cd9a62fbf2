"""The catalogue of models from `models.toml`, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from kimi_magics.core.models import Catalog, Model
from kimi_magics.core.usage import Price


@cache
def _read() -> dict[str, Any]:
    text = files("kimi_magics.store").joinpath("models.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def load_catalog() -> Catalog:
    """Return what is known of the models."""
    facts = _read()
    return Catalog({name: _model(name, row) for name, row in facts["models"].items()}, checked=facts["checked"])


def _model(name: str, row: Mapping[str, Any]) -> Model:
    return Model(
        name=name,
        context_tokens=row.get("context"),
        default_output_tokens=row.get("output"),
        supports_images=row.get("images"),
        supports_video=row.get("video"),
        thinking=row["thinking"],
        has_web_search=row.get("web_search"),
        retired=row.get("retired"),
        replacement=row.get("replacement"),
        priced_as=row.get("priced_as"),
        image_patch_limit=row.get("image_patch_limit", 16_384),
    )


@cache
def cny_price(name: str) -> Price | None:
    """Return the CNY price of a model per million tokens, or None when it is not known."""
    facts = _read()
    row = facts["models"].get(name, {}).get("cny")
    if row is None:
        return None
    figures = {kind: Decimal(amount) for kind, amount in row.items()}
    return Price(**figures, currency="CNY", as_of=facts["checked"], source="models.toml")


def web_search_price(currency: str) -> Decimal | None:
    """Return what one search of the web costs, or None when it is not known."""
    amount = _read()["web_search"].get(currency)
    return None if amount is None else Decimal(amount)

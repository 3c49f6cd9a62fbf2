"""Temporary."""


def safe_markdown(text: str) -> str:
    """Escape."""
    return text.replace("<", "&lt;").replace("![", "\\![")

"""Characters that no database and no wire takes: NUL and surrogates become U+FFFD, and are counted."""

from typing import Any

__all__ = ["sanitize", "sanitize_metadata"]

REPLACEMENT = "\ufffd"


def sanitize(text: str) -> tuple[str, int]:
    """The text without NULs and surrogates, and how many were replaced. Pairs become the character they encode."""
    replaced = 0
    if "\x00" in text:
        replaced = text.count("\x00")
        text = text.replace("\x00", REPLACEMENT)
    if not text.isascii() and _has_surrogates(text):
        known = text.count(REPLACEMENT)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        replaced += text.count(REPLACEMENT) - known
    return text, replaced


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()  # several times as fast as to search for them
    except UnicodeEncodeError:
        return True
    return False


def sanitize_metadata(value: Any) -> tuple[Any, int]:
    """The same for every string in a JSON value, keys included."""
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, list | tuple):
        items = [sanitize_metadata(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = [(sanitize_metadata(key), sanitize_metadata(item)) for key, item in value.items()]
        return {key: item for (key, _), (item, _) in pairs}, sum(first + second for (_, first), (_, second) in pairs)
    return value, 0

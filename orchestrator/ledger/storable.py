"""Text that a database takes: messages of errors come from anybody, and quote anything."""

__all__ = ["storable"]

MAX_CHARACTERS = 2000  # more of a message helps nobody


def storable(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The text without NUL and lone surrogates, cut to `limit` characters."""
    clean = text[: limit + 1].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"

"""Hashes that name what a document says and what was done to it.

Every hash is injective over its fields: each field goes in behind its length, so no two lists of fields meet.
"""

import hashlib
import json
from typing import Any

__all__ = ["canonical_json", "digest"]

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
_DIGEST_BYTES = 20  # 160 bits: no collision by chance in any corpus; 40 characters in SQL


def digest(*fields: bytes | str) -> str:
    """BLAKE2b over the fields, each behind its length. Returns 40 hex characters."""
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for field in fields:
        data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text.

    Raises:
        TypeError, ValueError: the value holds what JSON cannot (objects, NaN, cycles, keys that are not strings).
    """
    return _canonical.encode(value)

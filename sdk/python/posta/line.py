"""The line protocol as bytes: one JSON object a line."""

from __future__ import annotations

import json
from typing import Any, Dict, List

# MAX_LINE is the most bytes that a server accepts in one line, unless it is told otherwise.
MAX_LINE = 1 << 20

# MAX_DEPTH is how deep the value of a member may be nested: the line's own object is the 64th level.
MAX_DEPTH = 63

# A server refuses NaN and infinity. Text stays UTF-8, so that a lone surrogate is found here.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class NotJSON(ValueError):
    """A value that cannot be sent. The text says why."""


def encode(value: Any) -> bytes:
    """Return value as JSON, as strict as a server reads it. It raises NotJSON."""
    try:
        text = _encode(value)
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSON("the value is not JSON: %s" % error) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise NotJSON("the value is nested more than %d deep" % MAX_DEPTH)
    return data


def _deeper(value: Any, depth: int) -> bool:
    """Report whether value is nested deeper than depth."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list, tuple))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(value, (dict, list, tuple)) for value in level)


def named(name: str, **fields: Any) -> bytes:
    """Return a line with name as its id."""
    return encode({"id": name, **fields}) + b"\n"


def members(fields: Dict[str, Any]) -> bytes:
    """Return a line without its beginning, which with_id adds."""
    return encode(fields)[1:] + b"\n"


def with_id(number: int, rest: bytes) -> bytes:
    """Return a line with number as its id."""
    return b'{"id":%d,%b' % (number, rest)


def has_duplicate_keys(data: bytes) -> bool:
    """Report whether an object in the JSON text has a key twice, which a server refuses.

    Python writes such text for a dict that has, for example, both 1 and "1" as keys.
    """
    found = False

    def look(pairs: List[Any]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)

    json.loads(data, object_pairs_hook=look)
    return found


class Splitter:
    """Splits a stream of bytes into lines. The time it takes is linear, however the bytes are cut."""

    def __init__(self) -> None:
        self._rest: List[bytes] = []

    def feed(self, data: bytes) -> List[bytes]:
        """Return the lines that data completes, without their ends; blank lines are left out."""
        if self._rest:
            self._rest.append(data)
            if b"\n" not in data:
                return []
            data = b"".join(self._rest)
            self._rest.clear()
        lines = data.split(b"\n")
        last = lines.pop()
        if last:
            self._rest.append(last)
        return [line for line in lines if line and line != b"\r"]

"""Server-sent events, parsed as the bytes come; only what ``data:`` lines say is kept.

The format is that of the WHATWG HTML standard, section 9.2 (server-sent events), with lines that end in LF or
CRLF, as every server of this field writes them.
"""

from __future__ import annotations

MOST_EVENT_BYTES = 1 << 20
"""An event may be so large. Ours: a token with all its log-probabilities is some 10 KB; more is no answer."""


class BadAnswer(Exception):
    """What the server sent is not an answer: garbage, an error amid the stream, or no end of it."""


class EventParser:
    """Cuts a stream of bytes into the data of its events; holds one event at most."""

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that end within ``data``; raises ``BadAnswer`` for one without end."""
        self._rest += data
        if b"\n" not in data:
            self._check(len(self._rest))
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        events = []
        for line in lines:
            if line.endswith(b"\r"):
                del line[-1]
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                value = bytes(line[6:] if line[5:6] == b" " else line[5:])
                self._size += len(value)
                self._check(self._size)
                self._data.append(value)
        self._check(len(rest))
        return events

    def _check(self, size: int) -> None:
        if size > MOST_EVENT_BYTES:
            raise BadAnswer(f"an event of more than {MOST_EVENT_BYTES:,} bytes")

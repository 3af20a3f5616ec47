"""WebSocket frames (RFC 6455 5.2) as they pass: headers are judged, payloads are skipped.

A scanner is fed one direction's bytes and gives back those that may go on, unchanged and mostly the very
same object. A header that is not whole yet is held back, and so is a close frame; so what went on always
ends inside a payload or at a frame's end, and there a frame of our own can be put in.
"""

from __future__ import annotations

import os
from functools import lru_cache

from attrs import frozen

NO_STATUS = 1005  # what a close frame without a code means; never on the wire
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
TOO_BIG = 1009
INTERNAL_ERROR = 1011

_FIN, _RSV, _RSV1, _MASKED = 0x80, 0x70, 0x40, 0x80
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_LONGEST_CONTROL = 125
_VALID_CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))  # RFC 6455 7.4, IANA

# What a frame's first byte makes of it.
_BAD, _WHOLE, _FIRST, _MIDDLE, _LAST, _CONTROL, _END = range(7)


@frozen
class Violation:
    """What ended a direction: the close code (RFC 6455 7.4.1) that tells of it, and a few words."""

    code: int
    reason: str


@lru_cache(maxsize=4)
def _kinds(extensions: frozenset[bytes]) -> bytes:
    """The kind of a frame by its first byte, with the reserved bits that the extensions may set.

    permessage-deflate marks a message at its first frame (RFC 7692 6); of one that we don't know we can't
    say what it does with them.
    """
    unknown = bool(extensions - {b"permessage-deflate"})
    deflate = b"permessage-deflate" in extensions
    table = bytearray(256)
    for first in range(256):
        reserved, opcode, final = first & _RSV, first & 0x0F, first & _FIN
        begins = opcode in (_TEXT, _BINARY)
        if reserved and not unknown and not (deflate and begins and reserved == _RSV1):
            continue
        if begins:
            table[first] = _WHOLE if final else _FIRST
        elif opcode == _CONTINUATION:
            table[first] = _LAST if final else _MIDDLE
        elif final and opcode in (_CLOSE, _PING, _PONG):
            table[first] = _END if opcode == _CLOSE else _CONTROL
    return bytes(table)


class FrameScanner:
    """One direction of a WebSocket. `masked` says which side speaks: a client masks, a server does not.

    `max_message` bounds the payload bytes of a message, all its fragments together. `over` turns true
    when nothing more may go on: behind a close frame (`close_code` is its code), before what breaks the
    protocol or a limit (`violation`), or at the boundary that `stop` asked for.
    """

    __slots__ = (
        "_held",
        "_kinds",
        "_left",
        "_mask_bit",
        "_max_message",
        "_message",
        "_stopping",
        "close_code",
        "over",
        "violation",
    )

    def __init__(self, *, masked: bool, max_message: int, extensions: frozenset[bytes]) -> None:
        self._kinds = _kinds(extensions)
        self._mask_bit = _MASKED if masked else 0
        self._max_message = max_message
        self._held = b""
        self._left = 0  # payload bytes that the frame at hand still has to come
        self._message = -1  # payload bytes so far of a message in fragments; -1 when there is none
        self._stopping = False
        self.over = False
        self.close_code: int | None = None
        self.violation: Violation | None = None

    @property
    def at_boundary(self) -> bool:
        """What went on ends with a frame."""
        return not self._left

    def stop(self) -> None:
        """Let no frame begin any more; the one at hand may go on to its end."""
        self._stopping = True
        self.over = self.over or self.at_boundary

    def feed(self, data: bytes) -> bytes:
        """The bytes that may go on."""
        if self.over:
            return b""
        if self._stopping:
            return self._rest(data)
        if self._held:
            data, self._held = self._held + data, b""
        size, at, self._left = len(data), self._left, 0
        while at < size:
            end = self._judge(data, at, size)
            if end < 0:
                return data[:at]
            at = end
            if self.over:  # a close frame: what is behind it goes nowhere
                return data[:at]
        self._left = at - size
        return data

    def _rest(self, data: bytes) -> bytes:
        rest = data[: self._left]
        self._left -= len(rest)
        self.over = not self._left
        return rest

    def _judge(self, data: bytes, at: int, size: int) -> int:
        """The offset behind the frame that begins at `at`; -1 when no further byte may go on yet."""
        if size - at < 2:
            return self._hold(data, at)
        kind = self._kinds[data[at]]
        length = data[at + 1] ^ self._mask_bit
        payload = at + 2
        if length >= 126:
            if length > 127:
                return self._break(PROTOCOL_ERROR, "masked by a server, or not masked by a client")
            payload += 2 if length == 126 else 8
            if payload > size:
                return self._hold(data, at)
            shortest = 126 if length == 126 else 1 << 16
            length = int.from_bytes(data[at + 2 : payload], "big")
            if length < shortest or length >> 63:
                return self._break(PROTOCOL_ERROR, "a malformed length")
        if kind < _CONTROL:
            if not self._continue(kind, length):
                return -1
        elif length > _LONGEST_CONTROL:
            return self._break(PROTOCOL_ERROR, "a control frame too long")
        elif kind == _END:
            return self._close(data, at, payload, length)
        return payload + length + (4 if self._mask_bit else 0)

    def _continue(self, kind: int, length: int) -> bool:
        """Judge a data frame by its place in the message; whether it may go on."""
        before = self._message
        if kind == _BAD:
            self._break(PROTOCOL_ERROR, "a reserved bit or opcode, or a control frame in fragments")
            return False
        if (before >= 0) is (kind in (_WHOLE, _FIRST)):
            self._break(PROTOCOL_ERROR, "a frame out of its message's order")
            return False
        message = length if before < 0 else before + length
        if message > self._max_message:
            self._break(TOO_BIG, "message too big")
            return False
        self._message = message if kind in (_FIRST, _MIDDLE) else -1
        return True

    def _close(self, data: bytes, at: int, payload: int, length: int) -> int:
        """Judge a close frame, once it is whole; it is the last that goes on."""
        key = b""
        if self._mask_bit:
            key = data[payload : payload + 4]
            payload += 4
        end = payload + length
        if end > len(data):
            return self._hold(data, at)
        code = NO_STATUS
        if length:
            code = int.from_bytes(data[payload : payload + 2], "big")
            if key:
                code ^= int.from_bytes(key[:2], "big")
            if length == 1 or code not in _VALID_CODES:
                return self._break(PROTOCOL_ERROR, "an invalid close code")
        self.close_code = code
        self.over = True
        return end

    def _hold(self, data: bytes, at: int) -> int:
        self._held = data[at:]
        return -1

    def _break(self, code: int, reason: str) -> int:
        self.violation = Violation(code, reason)
        self.over = True
        return -1


def close_frame(code: int, reason: str = "", *, masked: bool) -> bytes:
    """A close frame of our own; one for NO_STATUS is empty. Masked for a server, with a key of its own."""
    payload = b"" if code == NO_STATUS else code.to_bytes(2, "big") + reason.encode()
    head = bytes((_FIN | _CLOSE, len(payload) | (_MASKED if masked else 0)))
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(octet ^ key[index % 4] for index, octet in enumerate(payload))

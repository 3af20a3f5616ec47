"""WebSocket frames as they stand on the wire, well-formed or not, and a reader of them by wsproto."""

from __future__ import annotations

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = bytes.fromhex("37fa213d")  # RFC 6455 5.7


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    masked: bool,
    fin: bool = True,
    rsv: int = 0,
    length: int | None = None,
    width: int | None = None,
) -> bytes:
    """One frame. `length` is what its header says, `width` the octets that it takes for that: 0, 2 or 8."""
    length = len(payload) if length is None else length
    if width is None:
        width = 0 if length < 126 else 2 if length < 1 << 16 else 8
    short = {0: length, 2: 126, 8: 127}[width]
    head = bytes(((0x80 if fin else 0) | rsv << 4 | opcode, (0x80 if masked else 0) | short))
    head += length.to_bytes(width, "big") if width else b""
    if not masked:
        return head + payload
    return head + KEY + bytes(octet ^ KEY[index % 4] for index, octet in enumerate(payload))


def close(code: int | None = None, reason: bytes = b"", *, masked: bool) -> bytes:
    """A close frame."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason, masked=masked)


class Reader:
    """Reads one direction with wsproto, which judges frames like an endpoint does."""

    def __init__(self, *, from_client: bool) -> None:
        self._protocol = FrameProtocol(client=not from_client, extensions=[])
        self.frames: list[Frame] = []
        self.failed: ParseFailed | None = None

    def feed(self, data: bytes) -> Reader:
        """Take bytes; what is wrong with them is kept in `failed`."""
        try:
            if self.failed is None:
                self._protocol.receive_bytes(data)
                self.frames.extend(self._protocol.received_frames())
        except ParseFailed as error:
            self.failed = error
        return self

    @property
    def close(self) -> tuple[int, str] | None:
        """Code and reason of the close frame, when one came; its code is 1005 without one."""
        for each in self.frames:
            if each.opcode is Opcode.CLOSE:
                code, reason = each.payload
                return int(code), reason
        return None

    @property
    def messages(self) -> list[bytes]:
        """The whole data messages so far."""
        found, payload = [], b""
        for each in self.frames:
            if not each.opcode.iscontrol():
                data = each.payload
                payload += data.encode() if isinstance(data, str) else bytes(data)
                if each.message_finished:
                    found.append(payload)
                    payload = b""
        return found

"""h2's connection, tamed for a gateway, and the account that floods overdraw.

h2 keeps the protocol's state. Three of its habits don't suit: it ends the connection where one stream is
at fault, it ends it at the client's first GOAWAY, and it has no bound on frames that cost the peer
nothing. Windows are large enough that the connection's never binds: each stream is held back alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, H2Connection
from h2.events import Event
from h2.exceptions import DenialOfServiceError
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream
from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

STREAM_WINDOW = 256 * 1024
MAX_STREAMS = 100

_CONNECTION_WINDOW = 2 * MAX_STREAMS * STREAM_WINDOW
_CREDIT_STEP = 1024 * 1024
_DEFAULT_WINDOW = 65_535
_MAX_TABLE = 4096  # of our encoder, whose look-ups take time in proportion
_LAST_STREAM = 2**31 - 1
_BURST = 200  # frames that cost a peer nothing, at once
_FREE_FRAMES = (PingFrame, PriorityFrame, RstStreamFrame, SettingsFrame)


class ClientConnection(H2Connection):
    """The server's end of one HTTP/2 connection.

    `max_head` is what clients are told a field section may have, in bytes. One that takes twice as many on
    the wire, or unpacks to more than `decoded`, ends the connection.

    Beyond what h2 does: fields and lengths are left to the caller, to be judged by stream; every DATA
    frame is credited to the connection as it comes; a GOAWAY without error lets open streams finish.
    """

    MAX_CLOSED_STREAMS = 1024

    def __init__(self, max_head: int, *, decoded: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.decoder.max_header_list_size = decoded
        self.encoder = _PlainEncoder()
        self._longest_section = 2 * max_head
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: max_head,
            },
        )
        del self.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]
        self.frames = 0  # whole ones that came; a field section over several counts as one
        self._uncredited = 0
        self._free_frames = 0

    def initiate_connection(self) -> None:
        """Send our settings and open the connection's window."""
        super().initiate_connection()
        self.increment_flow_control_window(_CONNECTION_WINDOW - _DEFAULT_WINDOW)

    def bound_encoder(self) -> None:
        """Cut the peer's idea of our compression table to size; call it when settings changed."""
        if self.encoder.header_table_size > _MAX_TABLE:
            self.encoder.header_table_size = _MAX_TABLE

    def goaway(self, *, final: bool) -> bytes:
        """A GOAWAY without error: first to announce, then, `final`, with the last stream that counts.

        h2's own closes the connection in both directions at once (RFC 9113 6.8 lets streams finish).
        """
        last = self.highest_inbound_stream_id if final else _LAST_STREAM
        return GoAwayFrame(0, last_stream_id=last).serialize()

    def count_open(self, stream_ids: Iterable[int]) -> int:
        """How many of these streams are not closed."""
        return sum(stream.open for id_ in stream_ids if (stream := self.streams.get(id_)) is not None)

    # ---- hooks into h2

    @property
    def open_inbound_streams(self) -> int:
        """As many less as clients may have: h2 ends the connection for one above (RFC 9113 5.1.2)."""
        return super().open_inbound_streams - MAX_STREAMS

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        # Its check of lengths ends the connection, and forgets the length when trailers come.
        stream._initialize_content_length = _leave_lengths  # type: ignore[method-assign]
        return stream

    def receive_data(self, data: Any) -> list[Event]:
        """See H2Connection. A flood that one call would overdraw the account with is not read to its end."""
        self._free_frames = 0
        return super().receive_data(data)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        self.frames += 1
        if isinstance(frame, _FREE_FRAMES):
            self._free_frames += 1
            if self._free_frames > _BURST:
                raise DenialOfServiceError("too many frames that cost nothing")
        return super()._receive_frame(frame)

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        if len(frame.data) > self._longest_section:  # Huffman's code takes 0.7 us a byte to read
            raise DenialOfServiceError("a field section is too long")
        return super()._receive_headers_frame(frame)

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        found = super()._receive_data_frame(frame)
        self._uncredited += frame.flow_controlled_length
        if self._uncredited >= _CREDIT_STEP:
            self.increment_flow_control_window(self._uncredited)
            self._uncredited = 0
        return found

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        return super()._receive_goaway_frame(frame) if frame.error_code else ([], [])


class _PlainEncoder(Encoder):
    """Says strings as they are: hpack's Huffman coder needs 3 s for a value of 64 KiB, all on the loop."""

    def encode(self, headers: Any, huffman: bool = False) -> bytes:
        """See Encoder."""
        return super().encode(headers, huffman)


def _leave_lengths(headers: object) -> None:
    """Nothing: see above."""


class FloodAccount:
    """What a peer may spend on frames that cost it nothing and us something: pings, settings, resets.

    `burst` frames at once and `rate` a second are free, and useful work earns more.
    """

    __slots__ = ("_balance", "_burst", "_rate", "_since")

    def __init__(self, now: float, burst: int = _BURST, rate: float = 20.0) -> None:
        self._burst = burst
        self._rate = rate
        self._balance = float(burst)
        self._since = now

    def spend(self, now: float) -> bool:
        """Count one such frame; False when the account is overdrawn."""
        self._balance = min(self._burst, self._balance + (now - self._since) * self._rate) - 1
        self._since = now
        return self._balance >= 0

    def earn(self, frames: int = 1) -> None:
        """Count useful work."""
        self._balance = min(self._burst, self._balance + frames)

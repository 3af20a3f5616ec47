"""One end of a TLS connection: a link whose bytes pass through OpenSSL on their way.

OpenSSL never sees the socket; it works between two buffers in memory. So what the kernel did not take is
ciphertext in our own hands, and a write waits, and is judged, like a plain link's, to the byte. What came
is decrypted in the call that received it, so nothing stays inside for which no socket would ever become
readable. And the plain link below can still answer a client that speaks no TLS.

These buffers grow and never shrink, so they are filled in slices: that is what an idle connection costs.
Records of that size can also be read sooner than large ones.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from trio_gateway.proxy.link import READ_SIZE, Link

_SLICE = 3072
_RECORD = 16 * 1024  # the most that a record holds (RFC 8446 5.1)
_MOST_UNASKED = 16 * 1024  # of OpenSSL's own words that wait for our next write


class TlsLink(Link):
    """A link over TLS, on the socket of the link `below`; `handshake` comes first.

    It is the server's end without a `server_name`, the client's with one.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls", "alpn", "client_certificate")

    tls = True

    def __init__(self, below: Link, context: ssl.SSLContext, server_name: str | None = None) -> None:
        super().__init__(below._sock, below.peer, below.local, below.write_timeout)
        below._deregister()  # whoever of both waits is told: the one below again if this is no TLS
        self.alpn: str | None = None
        self.client_certificate = b""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )

    async def handshake(self) -> None:
        """Shake hands. Raises ssl.SSLError (an OSError) and tells the peer. The caller bounds the time.

        When it fails, or is cancelled, the socket is the link's below again.
        """
        try:
            while not await self._shaken():
                await self.readable()
                received = super().receive_nowait(_SLICE)
                if received:
                    self._incoming.write(received)
                elif received is not None:
                    self._incoming.write_eof()
        except BaseException:
            self._deregister()
            raise
        self.alpn = self._tls.selected_alpn_protocol()

    async def _shaken(self) -> bool:
        """Go on with what came; whether that was the last step."""
        try:
            self._tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLError:
            self._flush()  # the alert
            raise
        if rest := super().send_nowait(self._outgoing.read()):
            await self.send_rest(rest)
        return done

    @property
    def version(self) -> str:
        """The protocol's version that both agreed on, as in `TLSv1.3`."""
        return self._tls.version() or ""

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's verified certificate in DER; None when it showed none."""
        return self._tls.getpeercert(binary_form=True)

    # ---- reading

    def receive_nowait(self, size: int = READ_SIZE) -> bytes | None:
        """See Link. A peer that ends without close_notify raises: it could be a truncation."""
        received = super().receive_nowait(size)
        if received is None:
            return self._decrypted(b"") if self._incoming.pending else None  # behind the handshake
        if not received:
            self._incoming.write_eof()
            with contextlib.suppress(ssl.SSLZeroReturnError):  # both sides have said goodbye
                return self._tls.read(_RECORD)
            return b""
        return self._decrypted(received)

    def _decrypted(self, received: bytes) -> bytes | None:
        """The data in all that came; b"" at the peer's close_notify, None when no record is complete."""
        pieces: list[bytes] = []
        for at in range(0, len(received) or 1, _SLICE):
            self._incoming.write(received[at : at + _SLICE])
            try:
                while self._incoming.pending:
                    if not (piece := self._tls.read(_RECORD)):
                        return self._last(pieces)
                    pieces.append(piece)
            except ssl.SSLZeroReturnError:
                return self._last(pieces)
            except ssl.SSLWantReadError:
                pass
        if self._outgoing.pending > _MOST_UNASKED:
            raise ConnectionAbortedError("the peer asks for key updates and reads none")
        return b"".join(pieces) if pieces else None

    def _last(self, pieces: list[bytes]) -> bytes:
        """The data before a close_notify, which then ends the socket for every reader."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
        return b"".join(pieces)

    def is_quiet(self) -> bool:
        """See Link. Session tickets make a client's raw socket readable: there it is judged through TLS.

        That takes what came, so such a connection can only be given up.
        """
        if super().is_quiet():
            return not self._incoming.pending
        if self._tls.server_side or self.closed:
            return False
        try:
            return self.receive_nowait() is None
        except OSError:
            return False

    # ---- writing

    def send_nowait(self, data: bytes) -> bytes:
        """See Link. The rest is ciphertext."""
        records: list[bytes] = []
        for at in range(0, len(data), _SLICE):
            self._tls.write(data[at : at + _SLICE])
            records.append(self._outgoing.read())
        return super().send_nowait(b"".join(records))

    # ---- ending

    def shutdown_write(self) -> None:
        """See Link."""
        self._say_goodbye()
        super().shutdown_write()

    def close(self) -> None:
        """See Link. The peer gets a close_notify if its socket takes it at once."""
        if not self.closed:
            self._say_goodbye()
            super().close()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(OSError):  # it wants the peer's answer, or the handshake is not done
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            super().send_nowait(self._outgoing.read())

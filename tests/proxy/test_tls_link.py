"""A link over TLS: the same promises as a plain one, and nothing that stays inside."""

from __future__ import annotations

import gc
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
import trustme

from trio_gateway.proxy.link import Link, LinkStalled
from trio_gateway.proxy.tls_link import TlsLink

NAME = "gateway.example"
DATA = bytes(range(256)) * 8_000
_authority = trustme.CA()
_leaf = _authority.issue_cert(NAME)


def server_context() -> ssl.SSLContext:
    """What shows the certificate, for both protocols."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    _leaf.configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """What trusts it."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    _authority.configure_trust(context)
    return context


class Ends:
    """Two links over one pair of sockets: `near` is the server's end, `far` the client's."""

    def __init__(self, *, buffer: int | None = None, name: str = NAME) -> None:
        self.sockets = socket.socketpair()
        for end in self.sockets:
            end.setblocking(False)
            if buffer:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        near, far = (Link(end, ("peer", 1), ("here", 2), write_timeout=9.0) for end in self.sockets)
        self.near = TlsLink(near, server_context())
        self.far = TlsLink(far, client_context(), name)

    async def shake_hands(self) -> Ends:
        """Both sides."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.near.handshake)
            nursery.start_soon(self.far.handshake)
        return self

    def close(self) -> None:
        """Both ends."""
        self.near.close()
        self.far.close()


async def collect(link: Link, size: int) -> bytes:
    """So many bytes."""
    got = bytearray()
    while len(got) < size:
        data = await link.receive()
        assert data
        got += data
    return bytes(got)


# ---- the handshake ----------------------------------------------------------------------------------


async def test_a_tls_link_is_a_link() -> None:
    """It keeps what was known below, speaks TLS, and knows which protocol was agreed on."""
    ends = await Ends().shake_hands()
    for link in (ends.near, ends.far):
        assert (link.tls, link.alpn, link.peer, link.write_timeout) == (True, "http/1.1", ("peer", 1), 9.0)
    await ends.far.send(b"ping")
    assert await ends.near.receive() == b"ping"
    await ends.near.send(b"pong")
    assert await ends.far.receive() == b"pong"
    assert ends.near.receive_nowait() is None
    assert ends.near.peer_certificate is None
    assert ends.far.peer_certificate is not None
    ends.close()


async def test_a_wrong_name_fails_the_handshake_on_both_sides() -> None:
    """As an OSError like every failure to connect; the alert tells the other side why."""
    ends = Ends(name="other.example")

    async def serve() -> None:
        with pytest.raises(ssl.SSLError, match="ALERT"):
            await ends.near.handshake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ssl.SSLCertVerificationError):
            await ends.far.handshake()
    ends.close()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
async def test_a_peer_that_leaves_in_mid_handshake_is_an_error(said: bytes) -> None:
    """Whether it said something or nothing."""
    ends = Ends()
    ends.sockets[1].send(said)
    ends.sockets[1].close()
    with pytest.raises(OSError):
        await ends.near.handshake()
    ends.near.close()


async def test_a_handshake_that_fails_leaves_nothing() -> None:
    """No buffers of OpenSSL's wait until somebody gets a descriptor of the same number."""

    class Kept(TlsLink):  # it can be referred to weakly
        pass

    near, far = socket.socketpair()
    near.setblocking(False)
    below = Link(near, ("peer", 1), ("here", 2))
    secure = Kept(below, server_context())
    kept = weakref.ref(secure)
    far.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await secure.handshake()
    below.close()
    far.close()
    del secure
    gc.collect()
    assert kept() is None


async def test_what_is_no_tls_is_told_apart() -> None:
    """Plain HTTP has a reason of its own, and the plain link below can still answer it."""
    ends = Ends()
    ends.sockets[1].send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError) as error:
        await ends.near.handshake()
    assert error.value.reason == "HTTP_REQUEST"
    Link(ends.sockets[0], ("peer", 1), ("here", 2)).send_nowait(b"HTTP/1.1 400")
    assert ends.sockets[1].recv(100) == b"HTTP/1.1 400"
    ends.close()


# ---- reading ----------------------------------------------------------------------------------------


async def test_what_came_with_the_end_of_the_handshake_is_there_at_once() -> None:
    """No socket becomes readable for it."""
    ends = Ends()

    async def ask() -> None:
        await ends.far.handshake()
        ends.far.send_nowait(b"GET")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await ends.near.handshake()
    assert ends.near.receive_nowait() == b"GET"
    assert ends.near.receive_nowait() is None
    ends.close()


@pytest.mark.parametrize("size", [1, 4096, 16 * 1024, 16 * 1024 + 1, 200_000])
async def test_all_that_came_is_given_in_one_call(size: int) -> None:
    """Nothing stays inside for a reader that waits for the socket."""
    ends = await Ends(buffer=1_000_000).shake_hands()
    assert ends.far.send_nowait(DATA[:size]) == b""
    got = b""
    while len(got) < size:
        data = ends.near.receive_nowait()
        assert data is not None, "the rest stayed inside"
        got += data
    assert got == DATA[:size]
    ends.close()


@pytest.mark.parametrize("cut", [1, 5, 20])
async def test_a_part_of_a_record_is_nothing_yet(cut: int) -> None:
    """None, as when nothing came; the rest completes it."""
    ends = await Ends().shake_hands()
    record = ends.far._tls.write(b"abc") and ends.far._outgoing.read()
    ends.sockets[1].send(record[:cut])
    assert ends.near.receive_nowait() is None
    ends.sockets[1].send(record[cut:])
    assert ends.near.receive_nowait() == b"abc"
    ends.close()


async def test_large_messages_pass_in_both_directions_at_once() -> None:
    """Far beyond what a record or a socket's buffer holds, and no byte changes."""
    ends = await Ends(buffer=4096).shake_hands()
    async with trio.open_nursery() as nursery:
        for sender, receiver in ((ends.near, ends.far), (ends.far, ends.near)):
            nursery.start_soon(sender.send, DATA)

            async def check(receiver: Link = receiver) -> None:
                assert await collect(receiver, len(DATA)) == DATA

            nursery.start_soon(check)
    ends.close()


async def test_bytes_that_are_no_record_end_the_connection() -> None:
    """As an OSError, and the peer hears an alert at the close."""
    ends = await Ends().shake_hands()
    ends.sockets[1].send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        await ends.near.receive()
    ends.near.close()
    with pytest.raises(ssl.SSLError, match="ALERT"):
        await ends.far.receive()
    ends.close()


async def test_a_peer_that_only_asks_for_answers_is_cut() -> None:
    """OpenSSL's own words wait for our next write: they may not grow without bound."""
    ends = await Ends().shake_hands()
    near = ends.near
    near._outgoing.write(bytes(20_000))
    await ends.far.send(b"x")
    with pytest.raises(ConnectionAbortedError):
        near.receive_nowait()
    ends.close()


# ---- quiet ------------------------------------------------------------------------------------------


async def test_tickets_don_t_disturb_a_client_s_quiet() -> None:
    """Session tickets make its socket readable, and yet nobody said anything."""
    ends = await Ends().shake_hands()
    assert ends.sockets[1].recv(1, socket.MSG_PEEK)
    assert ends.far.is_quiet()
    ends.near.send_nowait(b"stray")
    assert not ends.far.is_quiet()
    ends.close()
    assert not ends.far.is_quiet()


async def test_a_server_s_quiet_takes_nothing() -> None:
    """A request that just came is not lost by asking."""
    ends = await Ends().shake_hands()
    assert ends.near.is_quiet()
    ends.far.send_nowait(b"GET")
    assert not ends.near.is_quiet()
    assert ends.near.receive_nowait() == b"GET"
    ends.close()


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_client_s_quiet_sees_the_server_leave(end: str) -> None:
    """Politely or not."""
    ends = await Ends().shake_hands()
    assert ends.far.is_quiet()
    getattr(ends.near, end)()
    assert not ends.far.is_quiet()
    ends.close()


# ---- writing ----------------------------------------------------------------------------------------


class Sipping:
    """A server's link with a small buffer, whose client takes `sip` bytes every four seconds."""

    def __init__(self, sip: int) -> None:
        self.size = sip
        self.ends = Ends(buffer=4096)

    async def sip(self) -> None:
        while True:
            await trio.sleep(4)
            self.ends.sockets[1].recv(self.size)

    def play(self, main: Callable[[TlsLink], Awaitable[None]]) -> float:
        """Run `main` beside the sipping client; how long it took."""

        async def run() -> float:
            await self.ends.shake_hands()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sip)
                began = trio.current_time()
                await main(self.ends.near)
                nursery.cancel_scope.cancel()
            self.ends.close()
            return trio.current_time() - began

        return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_pace_counts_what_the_kernel_took_inside_one_message() -> None:
    """A client that is slow, but faster than `min_rate`, gets all of a message of many records."""

    async def main(link: TlsLink) -> None:
        link.min_rate = 240
        link.begin_message(None)
        await link.send(bytes(300_000))

    assert Sipping(8192).play(main) > 60


def test_below_min_rate_a_message_stalls() -> None:
    """The same judgement as on a plain link."""

    async def main(link: TlsLink) -> None:
        link.min_rate = 100_000
        link.begin_message(None)
        with pytest.raises(LinkStalled):
            await link.send(bytes(1_000_000))

    assert Sipping(8192).play(main) < 13


async def test_one_small_message_is_one_record_and_one_write() -> None:
    """Head and first piece leave together."""
    ends = await Ends().shake_hands()
    assert ends.far.is_quiet()
    ends.near.send_nowait(b"x" * 3000)
    record = ends.sockets[1].recv(100_000)
    assert int.from_bytes(record[3:5]) == len(record) - 5
    ends.close()


# ---- ending -----------------------------------------------------------------------------------------


async def test_an_end_is_said_or_it_is_a_cut() -> None:
    """Anybody on the way could end the connection below (RFC 8446 6.1)."""
    for polite in (True, False):
        ends = await Ends().shake_hands()
        ends.near.send_nowait(b"bye")
        if polite:
            ends.near.close()
        else:
            ends.sockets[0].close()
        assert await ends.far.receive() == b"bye"
        if polite:
            assert await ends.far.receive() == b""
            assert await ends.far.receive() == b""
        else:
            with pytest.raises(ssl.SSLError):
                await ends.far.receive()
        ends.close()


async def test_an_end_that_comes_with_data_wakes_who_waits_for_more() -> None:
    """Though the socket below stays open."""
    ends = await Ends().shake_hands()
    ends.far.send_nowait(b"last")
    ends.far._say_goodbye()
    await trio.testing.wait_all_tasks_blocked()
    assert await ends.near.receive() == b"last"
    await ends.near.readable()
    assert ends.near.receive_nowait() == b""
    ends.close()


async def test_an_aborted_connection_says_no_goodbye() -> None:
    """What was cut must not look like an end."""
    ends = await Ends().shake_hands()
    ends.near.abort()
    with pytest.raises(OSError):
        await ends.far.receive()
    ends.close()


async def test_shutdown_write_ends_our_direction_alone() -> None:
    """The peer reads an end, and we read on."""
    ends = await Ends().shake_hands()
    ends.near.shutdown_write()
    assert await ends.far.receive() == b""
    with trio.fail_after(1):
        record = ends.far._tls.write(b"still here") and ends.far._outgoing.read()
        ends.sockets[1].send(record)
        assert await ends.near.receive() == b"still here"
    ends.close()


async def test_ends_of_both_sides_are_an_end() -> None:
    """Who said goodbye first hears the other's, and no error."""
    ends = await Ends().shake_hands()
    ends.near.shutdown_write()
    assert await ends.far.receive() == b""
    ends.far.close()
    assert await ends.near.receive() == b""
    assert await ends.near.receive() == b""
    ends.close()


async def test_closing_before_or_after_anything_never_waits() -> None:
    """Before the handshake, twice, and before a peer that takes no byte."""
    ends = Ends()
    ends.near.close()
    ends.close()
    ends = await Ends(buffer=4096).shake_hands()
    while not ends.near.send_nowait(bytes(4000)):
        pass
    ends.near.close()
    assert ends.near.fileno() == -1
    ends.close()

"""h2's connection as we tame it, and the account of floods."""

from __future__ import annotations

import h2.connection
import pytest
from h2.config import H2Configuration
from h2.events import ConnectionTerminated, DataReceived, RemoteSettingsChanged, StreamEnded, WindowUpdated
from h2.exceptions import DenialOfServiceError
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from trio_gateway.server.h2_connection import MAX_STREAMS, STREAM_WINDOW, ClientConnection, FloodAccount

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]


def opened() -> tuple[h2.connection.H2Connection, ClientConnection]:
    """A client and a server that know each other's settings."""
    client = h2.connection.H2Connection(
        H2Configuration(validate_outbound_headers=False, header_encoding=None)
    )
    server = ClientConnection(32_768, decoded=262_144)
    client.initiate_connection()
    server.initiate_connection()
    for _ in range(2):
        server.receive_data(client.data_to_send())
        client.receive_data(server.data_to_send())
    return client, server


def test_settings_say_what_is_allowed() -> None:
    """Streams, windows and head size are announced; extended CONNECT is not mentioned."""
    client = h2.connection.H2Connection(H2Configuration())
    server = ClientConnection(32_768, decoded=262_144)
    client.initiate_connection()
    server.initiate_connection()
    events = client.receive_data(server.data_to_send())
    (settings,) = [event for event in events if isinstance(event, RemoteSettingsChanged)]
    announced = {code: change.new_value for code, change in settings.changed_settings.items()}
    assert announced[SettingCodes.MAX_CONCURRENT_STREAMS] == MAX_STREAMS
    assert announced[SettingCodes.INITIAL_WINDOW_SIZE] == STREAM_WINDOW
    assert announced[SettingCodes.MAX_HEADER_LIST_SIZE] == 32_768
    assert SettingCodes.ENABLE_CONNECT_PROTOCOL not in announced


def test_the_connections_window_never_binds() -> None:
    """Every stream can fill its own window at once, and DATA is credited to the connection by itself."""
    client, server = opened()
    assert client.outbound_flow_control_window >= MAX_STREAMS * STREAM_WINDOW
    client.send_headers(1, HEAD)
    before = client.outbound_flow_control_window
    updates = 0
    for _ in range(64):
        client.send_data(1, b"x" * 16_384)
        server.receive_data(client.data_to_send())
        server.increment_flow_control_window(16_384, 1)
        events = client.receive_data(server.data_to_send())
        updates += sum(isinstance(event, WindowUpdated) and event.stream_id == 0 for event in events)
    assert (client.outbound_flow_control_window, updates) == (before, 1)


@pytest.mark.parametrize("length", [b"3", b"5", b"x", b"1" * 5000])
def test_lengths_are_left_to_the_caller(length: bytes) -> None:
    """Neither a wrong length nor one that is none ends the connection."""
    client, server = opened()
    client.send_headers(1, [*HEAD, (b"content-length", length)])
    client.send_data(1, b"body", end_stream=True)
    events = server.receive_data(client.data_to_send())
    assert {DataReceived, StreamEnded} <= {type(event) for event in events}


def test_a_friendly_goaway_changes_nothing() -> None:
    """Streams that are open can still be answered; a GOAWAY with an error ends the connection."""
    client, server = opened()
    client.send_headers(1, HEAD, end_stream=True)
    server.receive_data(client.data_to_send())
    client.close_connection()
    assert server.receive_data(client.data_to_send()) == []
    server.send_headers(1, [(b":status", b"200")], end_stream=True)
    assert server.data_to_send()

    client, server = opened()
    client.close_connection(1)
    (event,) = server.receive_data(client.data_to_send())
    assert isinstance(event, ConnectionTerminated)


def test_goaway_goes_out_twice() -> None:
    """First it announces, with all streams still welcome; then it names the last one."""
    client, server = opened()
    client.send_headers(1, HEAD)
    server.receive_data(client.data_to_send())
    for final, last in ((False, 2**31 - 1), (True, 1)):
        (event,) = opened()[0].receive_data(server.goaway(final=final))
        assert isinstance(event, ConnectionTerminated)
        assert (event.last_stream_id, event.error_code) == (last, 0)


def test_frames_are_counted_whole() -> None:
    """A part of a frame is none, nor is a field section before its end."""
    client, server = opened()
    before = server.frames
    client.ping(b"01234567")
    data = client.data_to_send()
    server.receive_data(data[:12])
    assert server.frames == before
    server.receive_data(data[12:])
    assert server.frames == before + 1


def test_the_encoders_table_is_bounded() -> None:
    """A peer that offers a large table gets a small one."""
    client, server = opened()
    client.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**24})
    server.receive_data(client.data_to_send())
    server.bound_encoder()
    assert server.encoder.header_table_size == 4096


def test_long_values_are_not_compressed() -> None:
    """Huffman's code in Python takes seconds for a head that an upstream may send: ours is plain."""
    client, server = opened()
    client.send_headers(1, HEAD, end_stream=True)
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(b":status", b"200"), (b"x", b"\xff" * 64_000)])
    sent = server.data_to_send()
    assert 64_000 < len(sent) < 64_200
    assert b"\xff" * 16_000 in sent


@pytest.mark.parametrize(("length", "taken"), [(2 * 32_768 - 100, True), (2 * 32_768 + 1, False)])
def test_a_section_is_not_unpacked_beyond_a_length(length: int, taken: bool) -> None:
    """Reading Huffman's code takes time in proportion: a section over several frames has a limit, too."""
    _, server = opened()
    section = Encoder().encode([*HEAD, (b"x", b"y" * length)], huffman=False)
    pieces = [section[at : at + 16_384] for at in range(0, len(section), 16_384)]
    frames: list[Frame] = [HeadersFrame(1, pieces[0])]
    frames += [ContinuationFrame(1, piece) for piece in pieces[1:]]
    frames[-1].flags.add("END_HEADERS")
    data = b"".join(frame.serialize() for frame in frames)
    if taken:
        assert server.receive_data(data)
    else:
        with pytest.raises(DenialOfServiceError):
            server.receive_data(data)


@pytest.mark.parametrize(
    "frame",
    [PingFrame(0, b"12345678"), SettingsFrame(0), PriorityFrame(3), RstStreamFrame(1)],
    ids=lambda frame: type(frame).__name__,
)
def test_a_flood_in_one_piece_is_not_read_to_its_end(frame: Frame) -> None:
    """Thousands of frames may come in one read: what overdraws any account holds up nobody else meanwhile."""
    client, server = opened()
    client.send_headers(1, HEAD)
    server.receive_data(client.data_to_send())
    server.receive_data(frame.serialize() * 200)
    before = server.frames
    with pytest.raises(DenialOfServiceError):
        server.receive_data(frame.serialize() * 5000)
    assert server.frames == before + 201


def test_the_account_is_overdrawn_by_a_burst() -> None:
    """So many frames at once are free, and not one more."""
    account = FloodAccount(0.0, burst=10, rate=1.0)
    assert [account.spend(0.0) for _ in range(11)] == [True] * 10 + [False]


def test_the_account_fills_with_time_and_work() -> None:
    """The rate is free for ever, useful work earns more, and neither beyond the burst."""
    account = FloodAccount(0.0, burst=10, rate=1.0)
    assert all(account.spend(float(second)) for second in range(1000))
    account = FloodAccount(0.0, burst=10, rate=0.0)
    assert all(account.spend(0.0) for _ in range(10))
    account.earn(3)
    assert [account.spend(0.0) for _ in range(4)] == [True, True, True, False]
    account = FloodAccount(0.0, burst=2, rate=1.0)
    account.earn(100)
    assert [account.spend(100.0) for _ in range(3)] == [True, True, False]

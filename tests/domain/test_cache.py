"""The cache behind `cached_response`: what is kept, for whom, how long, and within how many bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config.model import FallbackCacheConfig
from trio_gateway.domain.cache import CachedReply, FallbackCache, Recording
from trio_gateway.domain.headers import RawHeaders

HOST = (b"Host", b"gateway.example")
REQUEST: RawHeaders = [HOST]
REPLY: RawHeaders = [(b"Content-Type", b"text/plain")]


def cache(**config: object) -> FallbackCache:
    return FallbackCache(FallbackCacheConfig(**config))  # type: ignore[arg-type]


def cache_control(value: bytes) -> RawHeaders:
    return [(b"cache-control", value)]


def fields(reply: CachedReply | None) -> dict[bytes, bytes]:
    assert reply is not None
    return dict(reply.headers)


# ---- what is kept ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        (b"GET", [], True),
        (b"GET", cache_control(b"no-cache"), True),
        (b"GET", cache_control(b"max-age=0, No-Store"), False),
        (b"HEAD", [], False),
        (b"POST", [], False),
    ],
)
def test_only_gets_are_kept(method: bytes, headers: RawHeaders, expected: bool) -> None:
    """A GET is a candidate unless its client forbids storing (RFC 9111 5.2.1.5)."""
    assert cache().wants(method, [HOST, *headers]) is expected
    assert not cache().wants(method, [HOST, *headers], has_body=True)


@pytest.mark.parametrize("status", [200, 203, 204, 206, 301, 304, 404, 500])
def test_only_200_is_kept(status: int) -> None:
    """Complete 200 replies alone are kept."""
    assert cache().storable(REQUEST, status, REPLY) is (status == 200)


@pytest.mark.parametrize(
    "headers",
    [
        cache_control(b"no-store"),
        cache_control(b"private"),
        cache_control(b"no-cache"),
        cache_control(b"must-revalidate"),
        cache_control(b"proxy-revalidate"),
        cache_control(b"public, max-age=60 , PRIVATE"),
        cache_control(b'private="set-cookie"'),
        cache_control(b"public") + cache_control(b"no-store"),
        [(b"Vary", b"Accept, *")],
        [(b"Vary", b"Accept, x-forwarded-FOR")],
        [(b"Vary", b"Via")],
        [(b"SET-COOKIE", b"a=b")],
        [(b"Content-Range", b"bytes 0-1/2")],
        [(b"Content-Length", b"262145")],
    ],
)
def test_what_forbids_keeping(headers: RawHeaders) -> None:
    """Each of these, in any case and on any line, keeps a reply out."""
    assert not cache().storable(REQUEST, 200, REPLY + headers)


@pytest.mark.parametrize(
    "value", [b"max-age=60", b'ext="no-store, private"', b'"no-store"', b"x-private", b""]
)
def test_what_does_not_forbid_keeping(value: bytes) -> None:
    """Other directives, and words inside quotes, forbid nothing."""
    assert cache().storable(REQUEST, 200, cache_control(value))


@pytest.mark.parametrize("credential", [(b"authorization", b"Bearer x"), (b"COOKIE", b"sid=1")])
def test_replies_to_credentials_are_private(credential: tuple[bytes, bytes]) -> None:
    """With credentials a reply is kept only if it says public or the field is part of the key."""
    request = [HOST, credential]
    assert not cache().storable(request, 200, REPLY)
    assert not cache().storable(request, 200, cache_control(b'ext="public"'))
    assert cache().storable(request, 200, cache_control(b"Public"))
    assert cache(vary=(credential[0].decode(),)).storable(request, 200, REPLY)


def test_every_credential_must_be_part_of_the_key() -> None:
    """A Cookie is not covered by a key of Authorization."""
    request = [HOST, (b"Authorization", b"x"), (b"Cookie", b"y")]
    assert not cache(vary=("authorization",)).storable(request, 200, REPLY)
    assert cache(vary=("authorization", "cookie")).storable(request, 200, REPLY)


def test_replies_to_client_certificates_are_private() -> None:
    """A client certificate can't be part of the key: only public replies are kept and given."""
    kept = cache()
    assert not kept.storable(REQUEST, 200, REPLY, client_certificate=True)
    assert kept.storable(REQUEST, 200, cache_control(b"public"), client_certificate=True)
    kept.store(b"/a", REQUEST, REPLY, b"x", 0.0)
    assert kept.lookup(b"/a", REQUEST, 0.0, client_certificate=True) is None


# ---- what is given back ------------------------------------------------------------------------------


def test_a_kept_reply_comes_back_marked() -> None:
    """Status, body and end-to-end fields as they came, with Age and Cache-Status behind them."""
    kept = cache()
    upstream = [
        (b"X-Dup", b"1"),
        (b"Connection", b"X-Hop"),
        (b"X-Hop", b"gone"),
        (b"Content-Length", b"4"),
        (b"x-dup", b"2"),
        (b"Age", b"20"),
        (b"Cache-Status", b"origin; hit"),
    ]
    kept.store(b"/a?b", REQUEST, upstream, b"body", 100.0)
    assert kept.lookup(b"/a?b", REQUEST, 107.9) == CachedReply(
        200,
        [
            (b"X-Dup", b"1"),
            (b"x-dup", b"2"),
            (b"Cache-Status", b"origin; hit"),
            (b"Age", b"27"),
            (b"Cache-Status", b"trio-gateway; hit; detail=circuit-open"),
        ],
        b"body",
    )


def test_only_the_same_get_is_answered() -> None:
    """Another target, query or host is another resource; a host's case is not."""
    kept = cache()
    kept.store(b"/a?x=1", REQUEST, REPLY, b"x", 0.0)
    for target, host in [(b"/a", HOST[1]), (b"/a?x=2", HOST[1]), (b"/a?x=1", b"other.example")]:
        assert kept.lookup(target, [(b"Host", host)], 0.0) is None
    assert kept.lookup(b"/a?x=1", [(b"host", b"GATEWAY.example")], 0.0) is not None


def test_vary_tells_replies_apart() -> None:
    """Each value of a field that Vary names has its own reply; a missing field is a value too."""
    kept = cache()
    reply = [(b"Vary", b"Accept-Language"), *REPLY]
    for language in (b"de", b"fr"):
        kept.store(b"/", [HOST, (b"Accept-Language", language)], reply, language, 0.0)
    found = kept.lookup(b"/", [HOST, (b"accept-language", b"de")], 0.0)
    assert found is not None
    assert found.body == b"de"
    assert kept.lookup(b"/", REQUEST, 0.0) is None


def test_a_new_vary_replaces_the_old_replies() -> None:
    """When a resource names other fields than before, its earlier replies are forgotten."""
    kept = cache()
    kept.store(b"/", REQUEST, REPLY, b"all", 0.0)
    kept.store(b"/", [HOST, (b"Accept", b"a")], [(b"Vary", b"Accept")], b"a", 0.0)
    assert kept.lookup(b"/", REQUEST, 0.0) is None
    assert len(kept) == 1


def test_configured_fields_are_part_of_the_key() -> None:
    """Users told apart by `cache.vary` never see each other's replies."""
    kept = cache(vary=("Authorization",))
    alice, bob = ([HOST, (b"authorization", name)] for name in (b"alice", b"bob"))
    kept.store(b"/me", alice, REPLY, b"alice", 0.0)
    assert kept.lookup(b"/me", bob, 0.0) is None
    assert kept.lookup(b"/me", alice, 0.0) is not None


def test_users_do_not_get_what_strangers_got() -> None:
    """A request with credentials is not answered with a reply made without, unless that is public."""
    kept, user = cache(), [HOST, (b"Cookie", b"sid=1")]
    kept.store(b"/login", REQUEST, REPLY, b"please log in", 0.0)
    kept.store(b"/news", REQUEST, cache_control(b"public"), b"news", 0.0)
    assert kept.lookup(b"/login", user, 0.0) is None
    assert kept.lookup(b"/news", user, 0.0) is not None


@pytest.mark.parametrize(
    ("headers", "oldest"),
    [
        ([], 300),
        ([(b"Age", b"100")], 200),
        (cache_control(b"s-maxage=50"), 50),
        ([(b"Cache-Control", b's-maxage="50"'), (b"Age", b"20")], 30),
        (cache_control(b"s-maxage=5000"), 300),
        (cache_control(b"max-age=1"), 300),
        ([(b"Age", b"soon")], 300),
    ],
)
def test_nothing_older_than_stale_if_error(headers: RawHeaders, oldest: int) -> None:
    """Its age when it came counts, and `s-maxage` forbids to serve it stale (RFC 9111 4.2.4)."""
    kept = cache()
    kept.store(b"/", REQUEST, REPLY + headers, b"x", 1000.0)
    assert kept.lookup(b"/", REQUEST, 1000.0 + oldest) is not None
    assert kept.lookup(b"/", REQUEST, 1000.5 + oldest) is None


def test_the_last_good_reply_wins() -> None:
    """A newer reply to the same GET takes the older one's place."""
    kept = cache()
    kept.store(b"/", REQUEST, REPLY, b"old", 0.0)
    size = kept.size
    kept.store(b"/", REQUEST, REPLY, b"new", 100.0)
    found = kept.lookup(b"/", REQUEST, 350.0)
    assert (found is not None and found.body, fields(found)[b"Age"], kept.size) == (b"new", b"250", size)


@pytest.mark.parametrize(
    ("method", "status", "forgotten"),
    [(b"PUT", 204, True), (b"POST", 303, True), (b"DELETE", 404, False), (b"HEAD", 200, False)],
)
def test_a_successful_change_forgets_the_target(method: bytes, status: int, forgotten: bool) -> None:
    """A write that succeeded makes what was kept untrue (RFC 9111 4.4)."""
    kept = cache()
    kept.store(b"/a", REQUEST, REPLY, b"x", 0.0)
    kept.invalidate(method, b"/a", REQUEST, status)
    assert (kept.lookup(b"/a", REQUEST, 0.0) is None) is forgotten
    assert (kept.size == 0) is forgotten


# ---- bytes -------------------------------------------------------------------------------------------


def test_the_least_lately_used_goes_first() -> None:
    """When the bytes run out, what was asked for lately stays."""
    kept = cache(max_bytes=4000)
    for target in (b"/a", b"/b", b"/c"):
        kept.store(target, REQUEST, REPLY, bytes(500), 0.0)
    kept.lookup(b"/a", REQUEST, 0.0)
    kept.store(b"/d", REQUEST, REPLY, bytes(500), 0.0)
    assert [kept.lookup(target, REQUEST, 0.0) is not None for target in (b"/a", b"/b", b"/c", b"/d")] == [
        True,
        False,
        True,
        True,
    ]


def test_too_large_replies_are_not_kept() -> None:
    """Neither a body above `max_entry` nor a reply above `max_bytes` pushes the others out."""
    kept = cache(max_bytes=3000, max_entry=1000)
    kept.store(b"/small", REQUEST, REPLY, bytes(1000), 0.0)
    kept.store(b"/large", REQUEST, REPLY, bytes(1001), 0.0)
    kept.store(b"/fields", REQUEST, [(b"X", bytes(3000))], b"", 0.0)
    assert len(kept) == 1
    assert kept.lookup(b"/small", REQUEST, 0.0) is not None


STORES = st.lists(st.tuples(st.sampled_from([b"/a", b"/b", b"/c"]), st.integers(0, 3), st.integers(0, 900)))


@given(STORES)
def test_the_bytes_are_bounded_and_counted(stores: list[tuple[bytes, int, int]]) -> None:
    """Whatever is stored, the size never passes `max_bytes` and is that of the replies inside."""
    kept = cache(max_bytes=4000)
    for number, (target, variant, size) in enumerate(stores):
        vary = (b"Vary", b"X-Other" if variant == 3 else b"X-Variant")
        kept.store(target, [HOST, (b"X-Variant", b"%d" % variant)], [vary], bytes(size), float(number))
        inside = [entry.size for resource in kept._resources.values() for entry in resource.replies.values()]
        assert kept.size == sum(inside) <= 4000
        assert all(resource.replies for resource in kept._resources.values())


def test_a_recording_is_the_whole_body_or_nothing() -> None:
    """Up to the limit all bytes come back; beyond it none are held."""
    recording = Recording(6)
    for chunk in (b"abc", memoryview(b"def")):
        recording.add(chunk)  # type: ignore[arg-type]
    assert recording.body() == b"abcdef"
    recording.add(b"g")
    recording.add(b"")
    assert recording.body() is None
    assert recording._chunks == []

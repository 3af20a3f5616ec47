"""Sans-IO HTTP/1.1 (RFC 9112) and WebSocket frames (RFC 6455): bytes in, bytes out. Nothing here waits.

A parser sees one head and is thrown away: httptools has no pause, and one that is used again after a
reply to HEAD takes the next reply for its body.
"""

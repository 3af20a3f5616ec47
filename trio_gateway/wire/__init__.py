"""Sans-IO HTTP/1.1 (RFC 9112): bytes in, heads and body pieces out. Nothing here waits.

A parser sees one head and is thrown away: httptools has no pause, and one that is used again after a
reply to HEAD takes the next reply for its body.
"""

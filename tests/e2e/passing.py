"""What systemd does for a service with a socket unit: open it as descriptor 3, say so, become the gateway."""

from __future__ import annotations

import os
import socket
import sys

_FIRST = 3


def main() -> None:
    """Listen on a free port and go on as `trio_gateway run` with our own arguments."""
    sock = socket.create_server(("127.0.0.1", 0))
    if sock.fileno() != _FIRST:
        os.dup2(sock.fileno(), _FIRST)
    os.set_inheritable(_FIRST, True)
    environ = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    os.execve(sys.executable, [sys.executable, "-m", "trio_gateway", "run", *sys.argv[1:]], environ)


if __name__ == "__main__":
    main()

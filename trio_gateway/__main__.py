"""`python -m trio_gateway`: the same as the `trio-gateway` command."""

from __future__ import annotations

from trio_gateway.cli import main

if __name__ == "__main__":
    main(prog_name="python -m trio_gateway")

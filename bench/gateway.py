"""trio-gateway beside the gateways that users would pick instead: CPU per request on one core, in one run.

The backend (nginx) and the load generator (wrk) share one core, the gateway under test has the other. CPU
comes from /proc and is compared within the run, so a busy machine costs speed but not the ratio. The method
and the latest table stand in README.md.

    python bench/gateway.py [--peers caddy,nginx] [--rows small-32] [--seconds 4] [--repeat 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import trustme
from exchanges import DEFAULT_ROWS, Row, backend_http
from load import SETTLE, Wrk, measure
from peers import CADDY, PEERS, Site, nginx, program_version
from process import Launch, Server, StartError, free_ports, serving
from report import AGAIN, Run, as_json, markdown


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=_names, default=list(PEERS), help=f"comma list of {', '.join(PEERS)}")
    parser.add_argument("--rows", type=_rows, default=list(map(Row.of, DEFAULT_ROWS)),
                        help=f"comma list of KIND-CLIENTS (default {','.join(DEFAULT_ROWS)})")  # fmt: skip
    parser.add_argument("--seconds", type=_count, default=4, help="length of a measurement (default 4)")
    parser.add_argument("--warmup", type=_count, default=1, help="seconds of load before it (default 1)")
    parser.add_argument(
        "--repeat", type=_count, default=1, help="rounds a row; medians are shown (default 1)"
    )
    parser.add_argument("--cores", type=_cores, default=None, help="LOAD,GATEWAY (default: first and last)")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known: {', '.join(PEERS)}")
    return names


def _rows(text: str) -> list[Row]:
    try:
        return [Row.of(name) for name in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _cores(text: str) -> tuple[int, int]:
    load, gateway = map(int, text.split(","))
    return load, gateway


def facts(cores: tuple[int, int], options: argparse.Namespace) -> dict[str, str]:
    """What a reader must know to repeat the run."""
    versions = {name: version for name in options.peers if (version := PEERS[name].version())}
    return {
        "command": command(options),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "cores": f"backend and wrk on {cores[0]}, gateway on {cores[1]}; "
        f"load average {os.getloadavg()[0]:.1f} at the start",
        "python": platform.python_version(),
        "backend": program_version("nginx", "-v") or "",
        "load": program_version("wrk", "-v") or "",
        **versions,
    }


def command(options: argparse.Namespace) -> str:
    """The command that measures the same again, defaults spelt out."""
    rows = ",".join(row.name for row in options.rows)
    return (
        f"python bench/gateway.py --peers {','.join(options.peers)} --rows {rows} "
        f"--seconds {options.seconds} --warmup {options.warmup} --repeat {options.repeat}"
    )


def processor() -> str:
    """The processor's name, as the kernel gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def start(
    stack: ExitStack, run: Run, names: Sequence[str], core: int, backend: int, root: Path
) -> dict[str, Server]:
    """Start every peer that is installed; the others are noted as missing, with the reason."""
    servers, ports, certificate = {}, free_ports(2 * len(names)), root / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    for name, port, tls_port in zip(names, ports[::2], ports[1::2], strict=True):
        if PEERS[name].version() is None:
            run.missing[name] = "not installed"
            continue
        directory = _directory(root, name)
        launch = PEERS[name].launch(Site(directory, port, tls_port, backend, certificate))
        try:
            servers[name] = stack.enter_context(serving(launch, port, core, directory, tls_port))
        except StartError as error:
            run.missing[name] = str(error)
    return servers


def _directory(root: Path, name: str) -> Path:
    directory = root / name
    directory.mkdir()
    return directory


def measure_all(run: Run, servers: dict[str, Server], options: argparse.Namespace, wrk: Wrk) -> None:
    """Row by row, round by round: Caddy first, the others in turn, Caddy again."""
    others = [name for name in servers if name != CADDY]
    first, last = ([(CADDY, CADDY)], [(AGAIN, CADDY)]) if CADDY in servers else ([], [])
    for row in options.rows:
        for number in range(options.repeat):
            turn = others[::-1] if number % 2 else others  # no peer always follows the same one
            for label, name in [*first, *((other, other) for other in turn), *last]:
                sample = measure(servers[name], row, wrk)
                run.add(row.name, label, sample)
                print(f"{row.name:<12} {label:<14} {sample}", file=sys.stderr, flush=True)


def bench(options: argparse.Namespace, cores: tuple[int, int]) -> Run:
    """Start backend and peers, measure, stop them all."""
    run = Run(facts(cores, options))
    wrk = Wrk(cores[0], options.seconds, options.warmup)
    turns = len(options.rows) * options.repeat * (len(options.peers) + 1)
    estimate = turns * (options.seconds + options.warmup + 2 * SETTLE)
    print(f"about {estimate / 60:.1f} minutes", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        directory, [port] = _directory(root, "backend"), free_ports(1)
        launch = Launch(nginx(directory, backend_http(directory, port)), directory / "output.log")
        stack.enter_context(serving(launch, port, cores[0], directory))
        servers = start(stack, run, options.peers, cores[1], port, root)
        measure_all(run, servers, options, wrk)
    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 0 when it was measured, 2 when it can't be on this machine."""
    options = arguments(argv)
    available = sorted(os.sched_getaffinity(0))
    missing = [name for name in ("nginx", "wrk", "taskset") if program_version(name, "-v") is None]
    if missing or len(available) < 2:
        print(f"missing on this machine: {', '.join(missing) or 'a second core'}", file=sys.stderr)
        return 2
    cores = options.cores or (available[0], available[-1])
    os.sched_setaffinity(0, {cores[0]})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what we started ends with us
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        run = bench(options, cores)
    except StartError as error:
        print(f"the backend did not start: {error}", file=sys.stderr)
        return 2
    print(markdown(run))
    if options.json:
        options.json.write_text(as_json(run) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Samples into ratios, and ratios into the table that people read and the JSON that machines keep.

Within a repeat each peer's CPU is divided by the mean of Caddy's two runs around it; a row shows the median
over the repeats. Caddy's last run against its first is the A/A control: a difference below it means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from statistics import mean, median
from typing import Any

from attrs import asdict, field, frozen
from load import Sample
from peers import CADDY, OURS

CLAIM_ROW = "small-32"
CLAIM = 1.2
AGAIN = "caddy again"


@frozen
class Run:
    """Everything measured: samples[row][peer] is a list, one Sample a repeat."""

    facts: dict[str, str]
    samples: dict[str, dict[str, list[Sample]]] = field(factory=dict)
    missing: dict[str, str] = field(factory=dict)

    def add(self, row: str, peer: str, sample: Sample) -> None:
        """Note one sample."""
        self.samples.setdefault(row, {}).setdefault(peer, []).append(sample)

    def refused(self, row: str, peer: str) -> str | None:
        """Why this peer does not count in this row, or None when every repeat was sound."""
        samples = self.samples[row].get(peer)
        if not samples:
            return self.missing.get(peer, "not measured")
        return next((sample.refused for sample in samples if sample.refused), None)

    def ratio(self, row: str, peer: str) -> float | None:
        """The median over the repeats of CPU relative to Caddy's, or None when either does not count."""
        if any(self.refused(row, name) for name in (peer, CADDY, AGAIN)):
            return None
        if peer == CADDY:
            return 1.0
        taken = self.samples[row]
        rounds = zip(taken[peer], taken[CADDY], taken[AGAIN], strict=True)
        return median(mine.cpu_us / mean((first.cpu_us, last.cpu_us)) for mine, first, last in rounds)

    def noise(self, row: str) -> float | None:
        """The A/A control: the median of |last / first - 1| of Caddy's own two runs."""
        if self.refused(row, CADDY) or self.refused(row, AGAIN):
            return None
        rounds = zip(self.samples[row][CADDY], self.samples[row][AGAIN], strict=True)
        return median(abs(last.cpu_us / first.cpu_us - 1) for first, last in rounds)

    def middle(self, row: str, peer: str, name: str) -> float:
        """The median of one field of the samples; Caddy's are those of both its runs."""
        taken = self.samples[row][peer] + (self.samples[row].get(AGAIN, []) if peer == CADDY else [])
        return float(median(getattr(sample, name) for sample in taken))


def claim(run: Run) -> str:
    """One sentence: is our CPU in the claimed row within the promised ratio to Caddy's?"""
    promise = f"Claim (row {CLAIM_ROW}, at most {CLAIM} times Caddy's CPU)"
    if CLAIM_ROW not in run.samples:
        return f"{promise}: not shown, the row was not run."
    ratio, noise = run.ratio(CLAIM_ROW, OURS), run.noise(CLAIM_ROW)
    if ratio is None or noise is None:
        name, why = next((n, w) for n in (CADDY, AGAIN, OURS) if (w := run.refused(CLAIM_ROW, n)))
        return f"{promise}: not shown, {name}: {why}."
    verdict = "shown" if ratio <= CLAIM else "NOT met"
    return f"{promise}: {verdict}, {ratio:.2f} (A/A {noise:.1%})."


def markdown(run: Run) -> str:
    """The two tables, what did not count and why, and the facts of the machine."""
    peers = list(dict.fromkeys(peer for taken in run.samples.values() for peer in taken if peer != AGAIN))
    parts = [
        "CPU of the gateway, us per request (ratio to Caddy):\n",
        _table(["row", *peers, "A/A noise"], [[row, *(_cpu(run, row, p) for p in peers), _noise(run, row)]
                                              for row in run.samples]),
        "\nRequests per second; latency p50 / p99 in ms:\n",
        _table(["row", *peers], [[row, *(_speed(run, row, p) for p in peers)] for row in run.samples]),
        "",
        *(f"- not counted: {row}, {peer}: {why}" for row, taken in run.samples.items()
          for peer in taken if (why := run.refused(row, peer))),
        *(f"- left out: {peer}: {why}" for peer, why in run.missing.items()),
        *(f"- {name}: {text}" for name, text in run.facts.items()),
        "",
        claim(run),
    ]  # fmt: skip
    return "\n".join(parts)


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cpu(run: Run, row: str, peer: str) -> str:
    if run.refused(row, peer):
        return "not counted"
    ratio = run.ratio(row, peer)
    return f"{run.middle(row, peer, 'cpu_us'):.1f} ({'-' if ratio is None else f'{ratio:.2f}'})"


def _noise(run: Run, row: str) -> str:
    noise = run.noise(row)
    return "-" if noise is None else f"{noise:.1%}"


def _speed(run: Run, row: str, peer: str) -> str:
    if run.refused(row, peer):
        return "not counted"
    rate, p50, p99 = (run.middle(row, peer, name) for name in ("rate", "p50", "p99"))
    return f"{rate:.0f}; {p50 * 1e3:.2f} / {p99 * 1e3:.2f}"


def as_json(run: Run) -> str:
    """The whole run: facts, every sample, and per row the ratios, the noise and what did not count."""
    return json.dumps(
        {
            "facts": run.facts,
            "missing": run.missing,
            "claim": claim(run),
            "rows": {row: _row_json(run, row) for row in run.samples},
        },
        indent=1,
    )


def _row_json(run: Run, row: str) -> dict[str, Any]:
    peers = run.samples[row]
    return {
        "noise": run.noise(row),
        "ratio": {peer: run.ratio(row, peer) for peer in peers},
        "refused": {peer: why for peer in peers if (why := run.refused(row, peer))},
        "samples": {peer: [asdict(sample) for sample in taken] for peer, taken in peers.items()},
    }

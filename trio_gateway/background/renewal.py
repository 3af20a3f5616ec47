"""Certificate files while the gateway runs: new ones are for new handshakes, and no connection ends for it.

Broken files change nothing; that is said in the log, in the metrics and among the events.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from attrs import define

from trio_gateway.background.changes import FileChanges
from trio_gateway.errors import ConfigError
from trio_gateway.proxy.aside import Aside, beside_the_loop
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.termination import Termination, digest_of, files_of, load_termination

log = structlog.get_logger("trio_gateway.tls")


@define(eq=False)
class CertificateWatcher:
    """Has the certificate files read when they change."""

    runtime: Runtime
    aside: Aside = beside_the_loop

    async def run(self) -> None:
        """Look each second, until cancelled."""
        changes = FileChanges(self._files)
        while True:
            await changes.next()
            if (current := self.runtime.termination) is not None:
                await self._renew(current)

    def _files(self) -> Iterable[str]:
        termination = self.runtime.termination
        return files_of(termination.config) if termination is not None else ()

    async def _renew(self, current: Termination) -> None:
        if digest_of(current.config) == current.digest:  # touched, or back to what is in use
            self.runtime.metrics.tls.is_broken = False
            return
        try:
            renewed = await self.aside(load_termination, current.config)
        except ConfigError as error:
            self._failed(error)
            return
        if self.runtime.termination is current and self.runtime.terminate_with(renewed):
            log.info("certificates renewed", files=list(renewed.certificates))

    def _failed(self, error: ConfigError) -> None:
        stats = self.runtime.metrics.tls
        stats.renewal_failures += 1
        stats.is_broken = True
        for problem in error.problems:
            log.error("the certificate files are not used", problem=problem)
        self.runtime.events.record("tls", "broken certificate files", first=error.problems[0])

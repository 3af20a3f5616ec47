"""A memory network whose connections are narrow, some more than others: every write may have to wait."""

from __future__ import annotations

import random
import socket

from attrs import define, field

from tests.support.stage import StageNetwork
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import Address, Listener

_SIZES = (4_000, 4_000, 40_000, 0)  # of the kernel's buffer; 0 leaves it


@define
class NarrowNetwork(StageNetwork):
    """Each end of each connection gets a buffer of a size drawn for it."""

    chance: random.Random = field(factory=random.Random)

    async def connect(self, host: str, port: int) -> Link:
        """See Network."""
        return self.narrowed(await StageNetwork.connect(self, host, port))

    async def listen(self, host: str, port: int, backlog: int = 4096) -> list[Listener]:
        """See Network."""
        listeners = await StageNetwork.listen(self, host, port, backlog)
        return [_NarrowListener(self, listener) for listener in listeners]

    def narrowed(self, link: Link) -> Link:
        """The link, with its own buffer."""
        if size := self.chance.choice(_SIZES):
            link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        return link


@define
class _NarrowListener:
    """What it accepts is narrow."""

    network: NarrowNetwork
    listener: Listener

    @property
    def address(self) -> Address:
        return self.listener.address

    async def accept(self) -> Link:
        return self.network.narrowed(await self.listener.accept())

    def accept_nowait(self) -> Link | None:
        link = self.listener.accept_nowait()
        return None if link is None else self.network.narrowed(link)

    def close(self) -> None:
        self.listener.close()

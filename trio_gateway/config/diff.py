"""What changed from one config to the next, so that a reload touches nothing else."""

from __future__ import annotations

import attrs
from attrs import frozen

from trio_gateway.config.model import EndpointConfig, GatewayConfig


@frozen
class ConfigDiff:
    """Endpoints by id, inherited defaults counted as their own; `sections` are the other top-level blocks."""

    added: tuple[EndpointConfig, ...] = ()
    changed: tuple[tuple[EndpointConfig, EndpointConfig], ...] = ()
    """Pairs of the endpoint before and after."""
    removed: tuple[EndpointConfig, ...] = ()
    sections: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.changed or self.removed or self.sections)


def diff(old: GatewayConfig, new: GatewayConfig) -> ConfigDiff:
    """Compare two configs; each tuple keeps the order of the config that its endpoints come from."""
    before = {endpoint.id: endpoint for endpoint in old.endpoints}
    after = {endpoint.id: endpoint for endpoint in new.endpoints}
    return ConfigDiff(
        added=tuple(endpoint for id_, endpoint in after.items() if id_ not in before),
        changed=tuple(
            (before[id_], endpoint)
            for id_, endpoint in after.items()
            if id_ in before and before[id_] is not endpoint and before[id_] != endpoint
        ),
        removed=tuple(endpoint for id_, endpoint in before.items() if id_ not in after),
        sections=tuple(
            field.name
            for field in attrs.fields(GatewayConfig)
            if field.name != "endpoints" and getattr(old, field.name) != getattr(new, field.name)
        ),
    )

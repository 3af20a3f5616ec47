"""One cancel scope for exchange after exchange on a connection.

To make, enter and leave a scope costs as much as to parse a head. So the lane's stays entered while all is
well; it is replaced only when it was cancelled or an error went through it.
"""

from __future__ import annotations

from types import TracebackType

import trio


class StandingScope:
    """A cancel scope that one task enters again and again.

    Each `with` block is like one of a `trio.CancelScope` of its own, which it gives: cancelled, it ends, and
    the next block gets a fresh one. Nobody may cancel it, or leave it a deadline, behind its block: the next
    one may have the same. Whoever owns it ends it by `end` in the same task, inside the scopes that it was
    first entered in.
    """

    __slots__ = ("_scope",)

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None

    def __enter__(self) -> trio.CancelScope:
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._scope.__enter__()
        return self._scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scope = self._scope
        assert scope is not None
        if error is None and not scope.cancel_called:
            return False
        self._scope = None
        return scope.__exit__(kind, error, traceback)

    def end(self) -> None:
        """Leave the scope for good. Safe to repeat."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(None, None, None)

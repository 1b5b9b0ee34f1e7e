"""Records that no order here vouches for: they cost their sender nothing, so there is little room for them.

They are counted by the neighbourhood that brought them. Whoever brings too many loses his oldest; when there are too
many in all, whoever has most does.
"""

from dhtex import limits
from dhtex.store.held import Held


class Orphans:
    """The orphans of one node, of each source as they came."""

    def __init__(self) -> None:
        self._by_source: dict[str, dict[Held, None]] = {}
        self._count = 0

    def note(self, held: Held) -> Held | None:
        """One came; which has to go because of it, if any."""
        own = self._by_source.setdefault(held.source, {})
        own[held] = None
        self._count += 1
        if self._count > limits.ORPHANS_HELD_MAX:
            crowder = max(self._by_source, key=lambda source: len(self._by_source[source]))
            return next(iter(self._by_source[crowder]))
        return next(iter(own)) if len(own) > limits.ORPHANS_PER_SOURCE_MAX else None

    def forget(self, held: Held) -> None:
        """One is gone, or its order has come."""
        own = self._by_source.get(held.source, {})
        if held in own:
            del own[held]
            self._count -= 1
            if not own:
                del self._by_source[held.source]

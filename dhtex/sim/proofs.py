"""Where the ends are that two-faced makers have signed, and which of them went with the last machine that had them.

Nobody puts such an end again: its maker has no node. So what the last holder loses by a fault of its machine is gone
for good, and no reader can be asked for it. Only a loss is an excuse: an end that a running node lets go of, or that it
does not bring back from a disk which was not touched, is still due.
"""

from collections.abc import Iterable

from dhtex.market.ids import RecordId
from dhtex.sim.host import Host


class Proofs:
    """Hears from the machines when they end and when their disks lose something."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._hosts = list(hosts)
        self._ends: dict[RecordId, list[bytes]] = {}
        self._on_disk: dict[int, set[bytes]] = {}  # of machines that are off, by their index
        self._lost: set[bytes] = set()

    def follow(self, order_id: RecordId, ends: list[bytes]) -> None:
        """Two ends of an order are about to be said."""
        self._ends[order_id] = ends

    def ended(self, host: Host) -> None:
        """A machine ends: what its node holds is what its disk has."""
        self.look()
        if host.up:
            self._on_disk[host.index] = self._held(host)

    def lost(self, host: Host) -> None:
        """The disk of a machine that is off has lost something, for all we know everything."""
        gone = self._on_disk.pop(host.index, set())
        for other in self._hosts:
            gone -= set() if other is host or other.lies else self._kept(other)
        self._lost |= set() if host.lies else gone

    def look(self) -> None:
        """Notice what has turned up again: a disk had it after all, or it was on its way."""
        for host in self._hosts:
            if self._lost and host.up and not host.lies:
                self._lost -= self._held(host)

    def left(self, order_id: RecordId) -> list[bytes]:
        """The ends of an order that must be known to somebody."""
        self.look()
        return [end for end in self._ends[order_id] if end not in self._lost]

    def is_whole_at(self, host: Host, order_id: RecordId) -> bool:
        """Whether a machine holds both ends of an order where readers look."""
        return self._held_of(host, order_id) >= set(self._ends[order_id])

    def _kept(self, host: Host) -> set[bytes]:
        return self._held(host) if host.up else self._on_disk.get(host.index, set())

    def _held(self, host: Host) -> set[bytes]:
        return {end for order_id in self._ends for end in self._held_of(host, order_id)}

    def _held_of(self, host: Host, order_id: RecordId) -> set[bytes]:
        return {end for end in self._ends[order_id] if host.holds(order_id, end)}

"""What others tell about us: the address that they see, their time, and whether they reach us unasked.

Theory of operation. Every marked answer carries the sender's clock and the address that it answers to. The address that
most of the latest voters see is ours; one voter alone is believed only while there is no other. The median difference
of their clocks to ours is our skew: clocks that lie must be half of those that we asked. A node of both families has
an address in each; who sees the one says nothing against the other.

Who saw us at our address and now sees us elsewhere raises a doubt, at most one in DOUBT_PAUSE_S: all peers are asked,
and DOUBT_S later only those count that have spoken since. So a move shows with the first answer after it, and one liar
costs some pings.

A request from an address to which we never sent anything proves that strangers reach us: no NAT or firewall lets it
through by chance. The opposite can only be concluded from silence, so it takes long, and is said of public addresses
only. Who is not reached serves as a *client*: it uses the network, and says so in its answers, so nobody routes to it.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from dhtex import limits
from dhtex.clock import Clock
from dhtex.overlay.addresses import Address, is_local, subnet
from dhtex.overlay.wire import View, encode_view


@dataclass(frozen=True, slots=True)
class _Vote:
    """What a voter said last: our address, how far its clock is ahead of ours, and when it said so."""

    seen: Address
    ahead_s: float
    at: float


class SelfView:
    """The mirror of one node. Driven by `heard`, `unasked` and `judge`."""

    def __init__(self, clock: Clock) -> None:
        self.on_moved: Callable[[], None] = lambda: None
        self.on_doubt: Callable[[], None] = lambda: None  # asks all peers
        self.always_client = False
        self.client = False
        self._addresses: dict[bool, Address] = {}  # by whether they are IPv6
        self.reached_at: float | None = None
        self._clock = clock
        self._votes: dict[Address, _Vote] = {}
        self._tally: Counter[Address] = Counter()  # of the addresses that the votes name
        self._public_since: float | None = None
        self._doubted_at = -math.inf
        self._in_doubt = False

    def heard(self, voter: Address, view: View, now: float) -> None:
        """A peer's answer came, with its view of us."""
        before = self._drop(voter)
        self._votes[voter] = _Vote(view.seen, view.time + 0.5 - self._clock.now(), now)
        self._tally[view.seen] += 1
        if len(self._votes) > limits.VOTERS_MAX:
            self._drop(next(iter(self._votes)))
        family = ":" in view.seen[0]
        believed = self._addresses.get(family)
        if view.seen == believed:
            return
        if believed is not None and before is not None and before.seen == believed and before.seen[0] != view.seen[0]:
            self._doubt(now)
        self._elect(family, now)

    def _doubt(self, now: float) -> None:
        if now - self._doubted_at >= limits.DOUBT_PAUSE_S:
            self._doubted_at, self._in_doubt = now, True
            self.on_doubt()

    def _elect(self, family: bool, now: float) -> None:
        """Believe the address that most voters see, if it is not the one that we believe in."""
        believed = self._addresses.get(family)
        rivals = Counter({seen: count for seen, count in self._tally.items() if (":" in seen[0]) == family})
        if not rivals:
            return
        (first, count), *others = rivals.most_common(2)
        if first == believed or (others and others[0][1] == count):
            return
        if believed is not None and count < limits.VOTERS_MIN:
            return
        self._addresses[family] = first
        self._public_since = None if all(is_local(ip) for ip, _ in self._addresses.values()) else now
        self.reached_at = None
        if believed is not None and believed[0] != first[0]:
            self.on_moved()

    @property
    def address(self) -> Address | None:
        """Our address as others see it: that of IPv4 if there is one."""
        return self._addresses.get(False) or self._addresses.get(True)

    def _drop(self, voter: Address) -> _Vote | None:
        vote = self._votes.pop(voter, None)
        if vote is not None:
            self._tally[vote.seen] -= 1
            if not self._tally[vote.seen]:
                del self._tally[vote.seen]
        return vote

    def tell(self, asker: Address) -> bytes:
        """Our own view of things, for the trailer of an answer."""
        return encode_view(self.client, int(self._clock.now()), asker)

    def unasked(self, now: float) -> None:
        """A stranger to whom we never sent anything has reached us."""
        self.reached_at = now
        self.client = self.always_client

    def judge(self, now: float, peers: int) -> None:
        """Decide whether we are a client, and what becomes of a doubt. Call now and then."""
        if self._in_doubt and now - self._doubted_at >= limits.DOUBT_S:
            self._in_doubt = False
            for voter in [voter for voter, vote in self._votes.items() if vote.at < self._doubted_at]:
                self._drop(voter)
            for family in (False, True):
                self._elect(family, now)
        since = self._public_since
        if self.always_client:
            self.client = True
        elif self.reached_at is not None or since is None:
            self.client = False
        elif peers >= limits.HOLDERS and now - since >= limits.UNREACHED_S:
            self.client = True

    def forget(self) -> None:
        """The network may be another one now: start with no votes."""
        self._votes.clear()
        self._tally.clear()
        self._in_doubt = False

    @property
    def reachable(self) -> bool | None:
        """Whether strangers reach us; None while that is not known."""
        if self.reached_at is not None:
            return True
        return False if self.client and not self.always_client else None

    def public_ip(self) -> str | None:
        """Our global address, as far as peers of PUBLIC_VOTERS_MIN networks agree: one liar must not choose it."""
        for _, (ip, _) in sorted(self._addresses.items()):
            agreed = {subnet(voter[0]) for voter, vote in self._votes.items() if vote.seen[0] == ip} - {None}
            if not is_local(ip) and len(agreed) >= limits.PUBLIC_VOTERS_MIN:
                return ip
        return None

    def skew_s(self) -> float | None:
        """How far the clocks of others are ahead of ours (negative: behind), at the median; None with too few."""
        if len(self._votes) < limits.VOTERS_MIN:
            return None
        return median(vote.ahead_s for vote in self._votes.values())

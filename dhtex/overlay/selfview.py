"""What others tell about us: the address that they see, their time, and whether they reach us unasked.

Theory of operation. Every marked answer carries the sender's clock and the address that it answers to; each network of
peers (a /24 or /64; a local address for itself) has one vote, its latest, for VOTE_S. The median difference of their
clocks to ours is our skew: clocks that lie must be half of those.

The first voter is believed while there is no other. An address that is believed changes only when more than half of all
votes name another one, two at least. To be at another IP means to meet the network again, which costs requests at all
peers: so that is done at most once in MOVED_PAUSE_S, and not at all if the votes have turned back by then.

A datagram from where we never sent anything proves that strangers reach us: no NAT or firewall lets it through by
chance. `probing` asks for one, and reports when none came. Who is not reached serves as a *client*: it uses the
network, and says so in its answers, so nobody routes to it.
"""

import math
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from dhtex import limits
from dhtex.clock import Clock
from dhtex.overlay.addresses import Address, is_local, subnet
from dhtex.overlay.wire import View, encode_view


class _Vote(NamedTuple):
    """What a network saw last: our address, how far its clock is ahead, and when that was."""

    seen: Address
    ahead_s: float
    at: float


class SelfView:
    """The mirror of one node. Driven by `heard`, `unasked`, `unreached` and `tick`."""

    def __init__(self, clock: Clock) -> None:
        self.on_moved: Callable[[], None] = lambda: None
        self.always_client = False
        self.client = False
        self.address: Address | None = None
        self.reached_at: float | None = None
        self._clock = clock
        self._votes: dict[bytes | Address, _Vote] = {}  # oldest first
        self._home = ""  # the IP at which we met the network last
        self._may_move_at = -math.inf

    def heard(self, voter: Address, view: View, now: float) -> None:
        """A peer's answer came, with its view of us."""
        place = subnet(voter[0]) or voter
        self._votes.pop(place, None)
        self._votes[place] = _Vote(view.seen, view.time + 0.5 - self._clock.now(), now)
        while len(self._votes) > limits.VOTERS_MAX or now - next(iter(self._votes.values())).at > limits.VOTE_S:
            del self._votes[next(iter(self._votes))]
        if view.seen == self.address:
            return
        if self.address is None:
            self._home = view.seen[0]
        elif not self._agreed(view.seen, elsewhere=view.seen[0] != self.address[0]):
            return
        self.address = view.seen
        self.reached_at = None
        self.client = self.always_client
        self.tick(now)

    def _agreed(self, seen: Address, *, elsewhere: bool) -> bool:
        """Whether most voters see us there; at another IP, whatever the port: some routers give each peer its own."""
        count = sum(seen[0] == vote.seen[0] if elsewhere else seen == vote.seen for vote in self._votes.values())
        return count >= limits.VOTERS_MIN and 2 * count > len(self._votes)

    def tick(self, now: float) -> None:
        """Tell of a move, once it is time. Call now and then."""
        if self.address is None or self.address[0] == self._home or now < self._may_move_at:
            return
        self._home = self.address[0]
        self._may_move_at = now + limits.MOVED_PAUSE_S
        self.on_moved()

    def tell(self, asker: Address) -> bytes:
        """Our own view of things, for the trailer of an answer."""
        return encode_view(self.client, int(self._clock.now()), asker)

    def unasked(self, now: float) -> None:
        """A stranger to whom we never sent anything has reached us."""
        self.reached_at = now
        self.client = self.always_client

    def unreached(self) -> None:
        """Many tried to have us reached, and nobody came."""
        self.reached_at = None
        self.client = True

    def doubted(self) -> None:
        """Somebody came whom a NAT might have let in: that we are not reached is no longer believed."""
        self.client = self.always_client

    def forget(self) -> None:
        """The network may be another one now: start with no votes."""
        self._votes.clear()

    @property
    def public(self) -> bool:
        """Whether our address is a global one, as far as we know."""
        return self.address is not None and not is_local(self.address[0])

    @property
    def reachable(self) -> bool | None:
        """Whether strangers reach us; None while that is not known."""
        if self.reached_at is not None:
            return True
        return False if self.client and not self.always_client else None

    def public_ip(self) -> str | None:
        """Our global address, as far as peers of PUBLIC_VOTERS_MIN networks agree: one liar must not choose it."""
        if self.address is None or not self.public:
            return None
        ip = self.address[0]
        agreed = sum(isinstance(place, bytes) and vote.seen[0] == ip for place, vote in self._votes.items())
        return ip if agreed >= limits.PUBLIC_VOTERS_MIN else None

    def skew_s(self) -> float | None:
        """How far the clocks of others are ahead of ours (negative: behind), at the median; None with too few."""
        if len(self._votes) < limits.VOTERS_MIN:
            return None
        return median(vote.ahead_s for vote in self._votes.values())

"""What others tell about us: the address that they see, their time, and whether they reach us unasked.

Theory of operation. Every marked answer carries the sender's clock and the address that it answers to; each network of
peers (a /24 or /64; a local address for itself) has one vote, its latest, for VOTE_S. The median difference of their
clocks to ours is our skew: clocks that lie must be half of those. A node of both families has an address in each; who
sees the one says nothing against the other.

The first voter of a family is believed while there is no other. An address that is believed changes only when more than
half of all votes name another one, two at least. Who saw us there and now sees us elsewhere raises a doubt, at most one
in DOUBT_PAUSE_S: all peers are asked, and DOUBT_S later only those count that have spoken since. So a move shows soon,
and one liar costs some pings. To be at another IP means to meet the network again, which costs requests at all peers:
so that is done at most once in MOVED_PAUSE_S, and not at all if the votes have turned back by then.

A datagram from an IP to which we never sent anything proves that strangers reach us: a NAT or firewall lets through
what comes from where something was sent, some all that comes from that IP. A local address proves it only to a node
that is at one too, as nothing need have stood between. `probing` asks for such a datagram, and reports when none came.
Who is not reached serves as a *client*: it uses the network, and says so in its answers, so nobody routes to it.
"""

import math
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from dhtex import limits
from dhtex.clock import Clock
from dhtex.overlay.addresses import Address, is_local, subnet
from dhtex.overlay.trailer import View, encode_view


class _Vote(NamedTuple):
    """What a network saw last: our address, how far its clock is ahead, and when that was."""

    seen: Address
    ahead_s: float
    at: float


def _is_v6(address: Address) -> bool:
    return ":" in address[0]


class SelfView:
    """The mirror of one node. Driven by `heard`, `unasked`, `unreached` and `tick`."""

    def __init__(self, clock: Clock) -> None:
        self.on_moved: Callable[[], None] = lambda: None
        self.on_doubt: Callable[[], None] = lambda: None  # asks all peers
        self.always_client = False
        self.client = False
        self.reached_at: float | None = None
        self._clock = clock
        self._addresses: dict[bool, Address] = {}  # by whether they are IPv6
        self._home: dict[bool, str] = {}  # the IPs at which we met the network last
        self._votes: dict[bytes | Address, _Vote] = {}  # oldest first
        self._may_move_at = -math.inf
        self._doubted_at = -math.inf
        self._in_doubt = False

    @property
    def address(self) -> Address | None:
        """Our address as others see it: a global one if there is one, and IPv4 rather than IPv6."""
        return min(self._addresses.values(), key=lambda one: (is_local(one[0]), _is_v6(one)), default=None)

    def heard(self, voter: Address, view: View, now: float) -> None:
        """A peer's answer came, with its view of us."""
        if _is_v6(voter) != _is_v6(view.seen):
            return  # it answers to the family in which it was asked, or lies
        place = subnet(voter[0]) or voter
        before = self._votes.pop(place, None)
        self._votes[place] = _Vote(view.seen, view.time + 0.5 - self._clock.now(), now)
        while len(self._votes) > limits.VOTERS_MAX or now - next(iter(self._votes.values())).at > limits.VOTE_S:
            del self._votes[next(iter(self._votes))]
        believed = self._addresses.get(_is_v6(view.seen))
        if view.seen == believed:
            return
        if believed is None:
            self._home[_is_v6(view.seen)] = view.seen[0]
            self._believe(view.seen, now)
        elif self._agreed(view.seen, elsewhere=view.seen[0] != believed[0]):
            self._believe(view.seen, now)
        elif before is not None and before.seen[0] == believed[0] != view.seen[0]:
            self._doubt(now)

    def _agreed(self, seen: Address, *, elsewhere: bool) -> bool:
        """Whether most voters see us there; at another IP, whatever the port: some routers give each peer its own."""
        votes = [vote.seen for vote in self._votes.values() if _is_v6(vote.seen) == _is_v6(seen)]
        count = sum(seen[0] == vote[0] if elsewhere else seen == vote for vote in votes)
        return count >= limits.VOTERS_MIN and 2 * count > len(votes)

    def _believe(self, seen: Address, now: float) -> None:
        before = self.address
        self._addresses[_is_v6(seen)] = seen
        if self.address != before:
            self.reached_at = None
            self.client = self.always_client
        self._move(now)

    def _move(self, now: float) -> None:
        """Tell of a move, once it is time."""
        ips = {family: ip for family, (ip, _) in self._addresses.items()}
        if ips != self._home and now >= self._may_move_at:
            self._home = ips
            self._may_move_at = now + limits.MOVED_PAUSE_S
            self.on_moved()

    def _doubt(self, now: float) -> None:
        if now - self._doubted_at >= limits.DOUBT_PAUSE_S:
            self._doubted_at, self._in_doubt = now, True
            self.on_doubt()

    def tick(self, now: float) -> None:
        """See what became of a doubt, and tell of a move. Call now and then."""
        if self._in_doubt and now - self._doubted_at >= limits.DOUBT_S:
            self._in_doubt = False
            self._votes = {place: vote for place, vote in self._votes.items() if vote.at >= self._doubted_at}
            for believed in list(self._addresses.values()):
                self._elect(believed, now)
        self._move(now)

    def _elect(self, believed: Address, now: float) -> None:
        """Believe what most voters of this family see, if that is another IP."""
        votes = {vote.seen[0]: vote.seen for vote in self._votes.values() if _is_v6(vote.seen) == _is_v6(believed)}
        counts = Counter(vote.seen[0] for vote in self._votes.values() if vote.seen[0] in votes)
        for ip, _ in counts.most_common(1):
            if ip != believed[0] and self._agreed(votes[ip], elsewhere=True):
                self._believe(votes[ip], now)

    def tell(self, asker: Address) -> bytes:
        """Our own view of things, for the trailer of an answer."""
        return encode_view(self.client, int(self._clock.now()), asker)

    def unasked(self, ip: str, now: float) -> None:
        """A stranger has reached us from an IP to which we never sent anything."""
        if is_local(ip) and (self.address is None or self.public):
            return
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
        self._in_doubt = False

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
        for _, (ip, _) in sorted(self._addresses.items()):
            agreed = sum(isinstance(place, bytes) and vote.seen[0] == ip for place, vote in self._votes.items())
            if not is_local(ip) and agreed >= limits.PUBLIC_VOTERS_MIN:
                return ip
        return None

    def skew_s(self) -> float | None:
        """How far the clocks of others are ahead of ours (negative: behind), at the median; None with too few."""
        if len(self._votes) < limits.VOTERS_MIN:
            return None
        return median(vote.ahead_s for vote in self._votes.values())

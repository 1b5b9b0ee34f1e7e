"""Which of IPv4 and IPv6 this machine can use, told from who answers.

Theory of operation. A node without IPv6, or behind a router that drops it, hears of IPv6 contacts all the same, and
each would cost every search a soft timeout. So a family of which the last FAMILY_FAILURES requests in a row went
unanswered is left out by searches, if the other family answers: only one stranger of it is tried each FAMILY_RETRY_S.
Any answer brings it back. Peers that answered lately are asked in any case, so who invents silent contacts cuts nobody
off from them.
"""

from dhtex import limits
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Peer


class Families:
    """What one node knows of both families. Each is named by whether it is IPv6."""

    def __init__(self) -> None:
        self._heard = {False: False, True: False}
        self._unanswered = {False: 0, True: 0}  # in a row
        self._retry_at = {False: 0.0, True: 0.0}

    def answered(self, address: Address) -> None:
        """An answer came from there."""
        family = ":" in address[0]
        self._unanswered[family] = 0
        self._heard[family] = True

    def silent(self, address: Address) -> None:
        """A request to there was given up."""
        self._unanswered[":" in address[0]] += 1

    def worth_asking(self, peer: Peer, now: float) -> bool:
        """Whether an answer may be expected from a peer, as far as that depends on its family."""
        family = ":" in peer.address[0]
        if (
            not self._fails(family)
            or peer.verified_until > now
            or not self._heard[not family]
            or self._fails(not family)
        ):
            return True
        if self._retry_at[family] > now:
            return False
        self._retry_at[family] = now + limits.FAMILY_RETRY_S
        return True

    def _fails(self, family: bool) -> bool:
        return self._unanswered[family] >= limits.FAMILY_FAILURES

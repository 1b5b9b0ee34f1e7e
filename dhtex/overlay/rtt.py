"""How long to wait for a peer: the estimator of RFC 6298, with bounds that fit datagrams of our own pace.

Never less than twice the usual time: after some even answers the variation is believed to be so small that each tenth
answer of an ordinary line would come too late, and a holder that is only counted as slow is missing in a listing.

An answer to a repeated request is no sample, as nobody knows which copy it is to. So a line that has become slower than
we wait would never be known for what it is, and all its peers would seem dead: after a silence we wait twice as long
before we repeat ourselves, until an answer comes to the first copy. Whoever may turn to somebody else does so after the
usual time all the same.
"""

from dhtex import limits


class Rtt:
    """Smoothed round trip time and its variation, seconds; `usual_s` is as long as an answer may take by these, and
    `timeout_s` for how long we wait. Feed it no sample of a repeated request (Karn's rule)."""

    __slots__ = ("backed_off_at", "smooth_s", "timeout_s", "usual_s", "vary_s")

    def __init__(self) -> None:
        self.smooth_s: float | None = None
        self.vary_s = 0.0
        self.usual_s: float = limits.REQUEST_TIMEOUT_S_FIRST
        self.timeout_s = self.usual_s
        self.backed_off_at = 0.0

    def sample(self, rtt_s: float) -> None:
        """Learn from one answered request."""
        if self.smooth_s is None:
            self.smooth_s = rtt_s
            self.vary_s = rtt_s / 2
        else:
            self.vary_s += (abs(self.smooth_s - rtt_s) - self.vary_s) / 4
            self.smooth_s += (rtt_s - self.smooth_s) / 8
        usual_s = self.smooth_s + max(4 * self.vary_s, self.smooth_s)
        if usual_s < limits.REQUEST_TIMEOUT_S_MIN:
            usual_s = limits.REQUEST_TIMEOUT_S_MIN
        elif usual_s > limits.REQUEST_TIMEOUT_S_MAX:
            usual_s = limits.REQUEST_TIMEOUT_S_MAX
        self.usual_s = self.timeout_s = usual_s

    def back_off(self, sent_at: float, now: float) -> None:
        """A request was not answered in time (RFC 6298, section 5.5). Those that were under way together count once."""
        if sent_at >= self.backed_off_at and self.smooth_s is not None:
            self.backed_off_at = now
            self.timeout_s = max(self.timeout_s, min(2 * self.timeout_s, limits.REQUEST_TIMEOUT_S_BACKED_OFF))

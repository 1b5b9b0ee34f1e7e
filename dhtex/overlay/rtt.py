"""How long to wait for a peer: the estimator of RFC 6298, with bounds that fit datagrams of our own pace.

Never less than twice the usual time: after some even answers the variation is believed to be so small that each tenth
answer of an ordinary line would come too late, and a holder that is only counted as slow is missing in a listing.
"""

from dhtex import limits


class Rtt:
    """Smoothed round trip time and its variation, seconds. Feed it no sample of a repeated request (Karn's rule)."""

    __slots__ = ("smooth_s", "timeout_s", "vary_s")

    def __init__(self) -> None:
        self.smooth_s: float | None = None
        self.vary_s = 0.0
        self.timeout_s: float = limits.REQUEST_TIMEOUT_S_FIRST

    def sample(self, rtt_s: float) -> None:
        """Learn from one answered request."""
        if self.smooth_s is None:
            self.smooth_s = rtt_s
            self.vary_s = rtt_s / 2
        else:
            self.vary_s += (abs(self.smooth_s - rtt_s) - self.vary_s) / 4
            self.smooth_s += (rtt_s - self.smooth_s) / 8
        timeout_s = self.smooth_s + max(4 * self.vary_s, self.smooth_s)
        if timeout_s < limits.REQUEST_TIMEOUT_S_MIN:
            timeout_s = limits.REQUEST_TIMEOUT_S_MIN
        elif timeout_s > limits.REQUEST_TIMEOUT_S_MAX:
            timeout_s = limits.REQUEST_TIMEOUT_S_MAX
        self.timeout_s = timeout_s

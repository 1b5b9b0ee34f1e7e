"""How many bits of work a holder asks of a new order: more as room gets scarce, and of makers who have much of it.

Theory of operation. Up to half of its room a holder asks what the network asks; from there one bit more for each
sixteenth of its room. A maker pays what the network asks for its first MAKER_ORDERS_FREE orders at a holder, twice as
much per order up to twice as many, and so on; an honest maker notices nothing. Both fall by themselves when orders end
or expire. Together they are STAMP_BITS_MORE_MAX at most, sixteen times the price: that is what a maker's node mints, so
that who is honest is let in whatever a flood does, and who floods pays as much for each order.

A holder says what it asks in its refusal (`stamp_too_low`, and the bits); the maker mints anew, as the stamp stands
outside the order's id. Where the network asks for no work at all nobody asks for any.
"""

from typing import Final

from dhtex import limits

FREE_SHARE: Final = 0.5
STEPS: Final = 16  # of all room; each beyond the free share costs a bit


def asked_bits(network_bits: int, held: int, of_maker: int) -> int:
    """The bits that a holder of `held` records asks of a new order whose maker has `of_maker` orders there."""
    if network_bits == 0:
        return 0
    crowd = max(0.0, held / limits.RECORDS_HELD_MAX - FREE_SHARE)
    more = round(crowd * STEPS) + (of_maker // limits.MAKER_ORDERS_FREE).bit_length()
    return min(network_bits + min(more, limits.STAMP_BITS_MORE_MAX), limits.STAMP_BITS_MAX)

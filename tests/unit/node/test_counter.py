"""The counter between desk and network: a key is watched as long as anybody has a reason to."""

from typing import Any

from dhtex.market.ids import RecordId, order_key
from dhtex.node.counter import Counter
from dhtex.trading.ports import RECEIPTS

ORDER = RecordId(bytes(32))


class Directory:
    def __init__(self) -> None:
        self.watched: list[str] = []

    def watch_order(self, order_id: RecordId) -> None:
        self.watched.append("watch")

    def unwatch_order(self, order_id: RecordId) -> None:
        self.watched.append("unwatch")


def test_a_key_is_watched_until_the_last_reason_is_gone() -> None:
    directory: Any = Directory()
    nothing: Any = None
    counter = Counter(directory, nothing, nothing, nothing)
    counter.watch(ORDER)
    counter.watch(ORDER, RECEIPTS)
    counter.unwatch(ORDER)
    assert counter.order_at(order_key(ORDER)) == ORDER
    assert "unwatch" not in directory.watched
    counter.unwatch(ORDER, RECEIPTS)
    counter.unwatch(ORDER, RECEIPTS)
    assert counter.order_at(order_key(ORDER)) is None
    assert directory.watched == ["watch", "watch", "unwatch"]

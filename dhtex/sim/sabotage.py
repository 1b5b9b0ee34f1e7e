"""Bugs to plant into the product, each of which the simulator must find: so it is known to look.

Each is a context manager that takes one protection away and puts it back. What a real bug of that kind would do is
done by replacing a function of the product; nothing of the simulator is changed. With each stand the faults, and what
people do more often, under which it shows in half of the histories, most of them in nearly all.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from dhtex import limits
from dhtex.market import admission, merge
from dhtex.market.keyring import Keyring
from dhtex.market.merge import Meeting
from dhtex.market.records import Code
from dhtex.node import market, offers
from dhtex.overlay import watching
from dhtex.sim.disk import Disk
from dhtex.store import held, holdings, journal, statements
from dhtex.store.database import Database
from dhtex.store.shelf import Shelf
from dhtex.trading import buying, maker, selling, taker

Bug = Callable[[], Any]


def _patched(*changes: tuple[object, str, object]) -> Any:
    stack = contextlib.ExitStack()
    for target, name, value in changes:
        stack.enter_context(patch.object(target, name, value))
    return stack


def unsynced_decisions() -> Any:
    """An answer is given before it is on disk: a loss of power undoes what was promised."""

    @contextlib.contextmanager
    def decision(self: Database) -> Iterator[Any]:
        with self.batch() as connection:
            yield connection

    return _patched((Disk, "decision", decision))


def reply_before_write() -> Any:
    """An answer is sent first and written a moment later."""
    real = journal.Journal.decide_fill

    def decide_fill(self: Any, *arguments: Any) -> bool:
        asyncio.get_running_loop().call_later(0.5, real, self, *arguments)
        return True

    return _patched((journal.Journal, "decide_fill", decide_fill))


def no_idempotency() -> Any:
    """An accept that comes again is decided again, and copies are not dropped on the way either."""
    again = statements.PUT_ANSWER.replace("INSERT", "INSERT OR REPLACE")
    return _patched(
        (journal.Journal, "answer", lambda self, accept_id: None),
        (statements, "is_answered", lambda connection, accept_id: False),
        (statements, "PUT_ANSWER", again),
        (watching.Watching, "_heard", lambda self, key, record: key in self._keys and self.on_record(key, record)),
    )


def two_fills() -> Any:
    """The order's state is looked at neither when deciding nor when writing."""
    real = maker.objection

    def objection(accept: Any, order: Any, state: str, rules: Any, now: float) -> Any:
        return real(accept, order, "open", rules, now)

    def close(connection: Any, order_id: bytes, state: str, status_wire: bytes, replaced_by: bytes = b"") -> bool:
        sql = "UPDATE orders SET state = ?, seq = seq + ?, status_wire = ?, replaced_by = ? WHERE order_id = ?"
        values = (state, 1 if status_wire else 0, status_wire, replaced_by, order_id)
        return bool(connection.execute(sql, values).rowcount)

    return _patched((maker, "objection", objection), (selling, "objection", objection), (statements, "close", close))


def tombstone_dropped_early() -> Any:
    """Holders forget how an order ended after half a minute."""
    real = admission.keep_until

    def keep_until(record: Any) -> int:
        return int(record.body.at) + 30 if type(record.body).__name__ == "Status" else real(record)

    return _patched((held, "keep_until", keep_until))


def trades_forgotten_early() -> Any:
    """A journal that is opened again has forgotten what strangers did not get, though its order may still be open."""
    real = journal.Journal.prune
    return _patched((journal.Journal, "prune", lambda self, now: real(self, now + 2 * limits.ORDER_LIFE_S_MAX)))


def no_tombstone_check() -> Any:
    """A holder to whom an old order is handed on looks at no tombstone: it takes the order, and drops its end."""
    real = holdings.Holdings._settle

    def settle(self: Any, shelf: Shelf, record: Any, now: float, source: str) -> Any:
        if type(record.body).__name__ == "Order":
            for held in shelf.statuses(record.id):
                self._drop(held)
        return real(self, shelf, record, now, source)

    return _patched((holdings.Holdings, "_settle", settle))


def statuses_by_time() -> Any:
    """The later of two ends counts, whatever their numbers: a maker that signs two can choose."""

    def meet_statuses(new: Any, old: Any) -> Meeting:
        return Meeting.NEW_WINS if new.at > old.at else Meeting.OLD_STAYS

    def order_state(order: Any, statuses: Any, now: float) -> Any:
        own = [s for s in statuses if s.body.order_id == order.id and s.body.maker == order.body.maker]
        return merge.order_state(order, sorted(own, key=lambda s: (s.body.at, s.id))[-1:], now)

    readers = [(module, "order_state", order_state) for module in (market, buying, selling, taker)]
    return _patched((merge, "_meet_statuses", meet_statuses), *readers)


def group_outside_transaction() -> Any:
    """The other orders of a group are closed a moment after one of them was filled."""
    real = journal.Journal.decide_fill

    def decide_fill(
        self: Any, order_id: Any, accept_id: Any, wire: bytes, trade: Any, sequel: Any = journal._NO_SEQUEL
    ) -> bool:
        def later() -> None:
            with self._database.decision() as connection:
                statements.close_others(connection, sequel.others)

        filled = real(self, order_id, accept_id, wire, trade, replace(sequel, others=()))
        if filled and sequel.others:
            asyncio.get_running_loop().call_later(1.0, later)
        return filled

    return _patched(
        (journal.Journal, "decide_fill", decide_fill), (statements, "are_all_open", lambda *arguments: True)
    )


def deadline_not_checked() -> Any:
    """The maker confirms accepts however late they come."""
    real = maker.decide

    def decide(accept: Any, standing: Any, rules: Any, now: float) -> Any:
        return real(accept, standing, rules, min(now, accept.body.deadline))

    return _patched((selling, "decide", decide))


def self_accept() -> Any:
    """Of a node's keys only the one that an order bears is taken for its own: by another it takes what it offers."""
    real = maker.objection

    def objection(accept: Any, order: Any, *more: Any) -> Any:
        code = real(accept, order, *more)
        return None if code is Code.SELF_TRADE and accept.body.taker != order.body.maker else code

    return _patched(
        (maker, "objection", objection),
        (selling, "objection", objection),
        (Keyring, "is_own_trade", lambda self, order: order.maker == self.main.public),
    )


def no_replay() -> Any:
    """After a restart, answers that may not have been heard are not sent again."""
    real = selling.Selling.consider

    def consider(self: Any, accept: Any, *more: Any) -> Any:
        return [] if self._journal.answer(accept.id) else real(self, accept, *more)

    return _patched(
        (journal.Journal, "unpublished", lambda self: []),
        (selling.Selling, "consider", consider),
        (offers.Offers, "_keep_status", lambda self, wire, within_s: None),
    )


def signature_not_checked() -> Any:
    """Whoever claims to be the maker is believed."""
    return _patched((admission.Verifier, "check", lambda self, record: True))


NAMES: Final[dict[str, tuple[Bug, str, str]]] = {
    bug.__name__: (bug, faults, emphasis)
    for bug, faults, emphasis in (
        (unsynced_decisions, "power", ""),
        (reply_before_write, "crashes", ""),
        (no_idempotency, "liar", "races,pushes"),
        (statuses_by_time, "two_faced", ""),
        (group_outside_transaction, "none", ""),
        (two_fills, "none", "races"),
        (tombstone_dropped_early, "none", ""),
        (trades_forgotten_early, "crashes", "races"),
        (no_tombstone_check, "none", ""),
        (deadline_not_checked, "flood", ""),
        (self_accept, "none", "own"),
        (no_replay, "crashes,cuts", "races"),
        (signature_not_checked, "none", "forgery"),
    )
}


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The product with a bug, for a while; without one for an empty name."""
    with NAMES[name][0]() if name else contextlib.nullcontext():
        yield

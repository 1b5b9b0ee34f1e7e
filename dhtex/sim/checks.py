"""The judge: what must hold in every history, whatever goes wrong in it.

    one_winner       of one order, one accept is ever confirmed; its maker signs one end of it, once; of one group one
                     order is filled, and of a part fill there is one remainder; who signs two ends is shown as disputed
    no_lost_outcome  every accept ends confirmed, refused or void, and both sides hold the same; who was away until
                     nobody remembers says so; a trade stays in the journal, but for what a stranger did not get, which
                     its maker forgets when holders have forgotten the order
    no_resurrection  what has ended stays ended: in journals at once, in listings once there is peace
    no_overwrite     what others sign about an order changes nothing
    listed_or_gone   in peace, every open order is in every listing, and nothing else
    complete         a listing that lacks something says so; in peace, one of a few is complete, or, where a holder
                     lies, lacks nothing
    bounded          datagrams, requests under way, records held
    no_exception     nothing is raised that nobody expects, nothing hangs

Journals are looked at whenever something is decided, datagrams as they are sent, listings as they are made.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.errors import DhtexError
from dhtex.market.admission import signature_holds
from dhtex.market.ids import RecordId
from dhtex.market.records import AnyRecord, Order, Record, Refusal, Status, is_a, parse_record
from dhtex.market.trade import TAKER, MakerState, TakerState
from dhtex.sim.clock import EPOCH_S
from dhtex.sim.faults import SKEW_S
from dhtex.sim.history import History
from dhtex.sim.host import NETWORK, GoneError, Host
from dhtex.sim.ledger import Ledger
from dhtex.sim.proofs import Proofs
from dhtex.store.rows import Role, Trade
from dhtex.trading.taker import UNHEARD
from dhtex.views import ListingView, OrderQuery

PAUSES_S: Final = (0, 0, 0, 0, 1, 5, 15, 30)  # a holder slower than usual is not waited for, but named as missing
NOTICED_S: Final = 60.0  # after an event, in peace
DATAGRAMS_PER_NODE_S_MAX: Final = 400.0
UNHEARD_EARLY_S_MAX: Final = 300.0  # a node's clock may be wrong, and it is careful
_LIVE: Final = {MakerState.PUBLISHING.value, MakerState.OPEN.value}
_MOVES: Final = {(row.state.value, row.to.value) for row in TAKER}


class Judge:
    """Watches one history. Listings must be right after `settled_s` of peace."""

    def __init__(self, history: History, hosts: list[Host], time: Callable[[], float], settled_s: float) -> None:
        self.settled_s = settled_s
        self.ledger = Ledger()
        self.calm_since: float | None = None
        self.shady: set[bytes] = set()  # makers who sign what they like
        self.two_faced: list[RecordId] = []
        self.proofs = Proofs(hosts)
        self.closed_at: dict[RecordId, float] = {}
        self.opened: dict[RecordId, float] = {}
        self._history = history
        self._hosts = hosts
        self._time = time
        self._orders: dict[RecordId, str] = {}
        self._journaled: dict[int, set[RecordId]] = {}
        self._trades: dict[tuple[int, RecordId], Trade] = {}
        self._group_winners: dict[bytes, RecordId] = {}
        self._children: dict[bytes, RecordId] = {}
        self._datagrams = (0, 0.0)

    def _violation(self, which: str, text: str) -> None:
        self._history.violation(self._time(), which, text)

    # --- datagrams ----------------------------------------------------------------------------------------------------

    def overhear(self, host: Host, data: bytes) -> bool:
        """Listen to a datagram; whether its sender says an answer of its own for the first time."""
        record = self.ledger.hear(data)
        if record is None:
            return False
        own = self._is_answer_of(host, record)
        if is_a(record, Order):
            self.opened[record.id] = self._time()
            if record.body.parent and self._children.setdefault(record.body.parent, record.id) != record.id:
                self._violation("one_winner", f"{_short(record.body.parent)} has two remainders")
        if is_a(record, Status) and self._by_maker(record):
            self._ended(record)
        if is_a(record, Refusal):
            self._answered(RecordId(record.body.accept_id), RecordId(record.body.order_id))
        return own

    def _is_answer_of(self, host: Host, record: AnyRecord) -> bool:
        """Whether a machine says an end or a refusal that it has signed itself."""
        if not (is_a(record, Status) or is_a(record, Refusal)):
            return False
        order = self.ledger.orders.get(RecordId(record.body.order_id))
        return order is not None and order.body.maker == record.body.author and host.made(order.body)

    def _maker_of(self, order: Record[Order]) -> Host | None:
        return next((host for host in self._hosts if host.made(order.body)), None)

    def _answered(self, accept_id: RecordId, order_id: RecordId) -> None:
        """An accept was answered: for the first time, or with the same bytes."""
        order = self.ledger.orders.get(order_id)
        if order is None or order.body.maker in self.shady:
            return
        said: list[Record[Status] | Record[Refusal]] = [
            status for status in self.ledger.statuses.get(order_id, {}).values() if status.body.accept_id == accept_id
        ]
        said += self.ledger.refusals.get(accept_id, {}).values()
        answers = [record for record in said if record.body.author == order.body.maker]
        if len(answers) > 1:
            self._violation("one_winner", f"accept {_short(accept_id)} got {len(answers)} different answers")

    def _by_maker(self, status: Record[Status]) -> bool:
        order = self.ledger.orders.get(RecordId(status.body.order_id))
        return order is not None and order.body.maker == status.body.maker

    def _ended(self, status: Record[Status]) -> None:
        order_id = RecordId(status.body.order_id)
        self.closed_at.setdefault(order_id, self._time())
        self._history.counts["ends"] += 1
        if status.body.maker in self.shady:
            return
        if status.body.accept_id:
            self._group_filled(self.ledger.orders[order_id])
        said = [other for other in self.ledger.statuses[order_id].values() if self._by_maker(other)]
        if len(said) > 1:
            ends = ", ".join(sorted(f"{s.body.closing} {s.body.accept_id.hex()[:8]}" for s in said))
            self._violation("one_winner", f"the maker of {_short(order_id)} signed {len(said)} ends: {ends}")
        if status.body.accept_id:
            self._answered(RecordId(status.body.accept_id), order_id)
            accept = self.ledger.accepts.get(RecordId(status.body.accept_id))
            maker = self._maker_of(self.ledger.orders[order_id])
            if accept is not None and maker is not None and accept.body.taker == maker.public:
                self._violation("one_winner", f"the maker of {_short(order_id)} sold to itself")
            if accept is not None and status.body.at > accept.body.deadline:
                self._violation("no_lost_outcome", f"{_short(accept.id)} is confirmed when it was void already")

    def _group_filled(self, order: Record[Order]) -> None:
        body = order.body
        maker = self._maker_of(order)
        if body.group and maker is not None and not self._is_remainder(order):
            winner = self._group_winners.setdefault(body.group, order.id)
            # Who was restored cannot know of what it made since its backup.
            if winner != order.id and (not maker.restores or winner in self._journaled.get(maker.index, ())):
                self._violation("one_winner", f"{_short(winner)} and {_short(order.id)} of one group are filled")

    def _is_remainder(self, order: Record[Order]) -> bool:
        """Whether it is what a part fill left, changed or not: it stays in the group that was decided by the fill."""
        seen: Record[Order] | None = order
        while seen is not None and not seen.body.parent:
            seen = self.ledger.orders.get(RecordId(seen.body.replaces)) if seen.body.replaces else None
        return seen is not None

    def open_orders(self) -> list[Record[Order]]:
        """Orders that were said and, as far as was overheard, not ended."""
        now = EPOCH_S + self._time()
        return [o for o in self.ledger.orders.values() if o.id not in self.closed_at and o.body.expires > now]

    def restored(self, host: Host) -> None:
        """A machine's state was put back: its journal begins anew, what was said stays said."""
        self._trades = {at: trade for at, trade in self._trades.items() if at[0] != host.index}
        for order_id in self._journaled.pop(host.index, ()):  # not all of them were ever said
            self._orders.pop(order_id, None)

    # --- journals -----------------------------------------------------------------------------------------------------

    def look_at(self, host: Host) -> None:
        """Compare the journal of a machine with what it held before."""
        if host.up and not host.lies:
            self._look_at_orders(host)
            self._look_at_trades(host)

    def look(self) -> None:
        """Compare all journals with what they held before, and what there is with its bounds."""
        self.proofs.look()
        for host in self._hosts:
            self.look_at(host)
            if host.up and not host.lies:
                self._look_at_bounds(host)
        sent, then = self._history.counts["datagrams"], self._time()
        rate = (sent - self._datagrams[0]) / max(1.0, then - self._datagrams[1]) / len(self._hosts)
        self._history.counts["rate_max"] = max(self._history.counts["rate_max"], round(rate))
        self._datagrams = (sent, then)
        if rate > DATAGRAMS_PER_NODE_S_MAX:
            self._violation("bounded", f"{rate:.0f} datagrams a second from each node")

    def _look_at_orders(self, host: Host) -> None:
        for own in host.parts.journal.orders():
            before = self._orders.get(own.order_id, own.state)
            self._orders[own.order_id] = own.state
            self._journaled.setdefault(host.index, set()).add(own.order_id)
            if before != own.state and before not in _LIVE:
                self._violation("no_resurrection", f"order {_short(own.order_id)} was {before}, is {own.state}")
            status = parse_record(own.status_wire, NETWORK) if own.status_wire and before != own.state else None
            if isinstance(status, Record) and not signature_holds(status):
                self._violation("no_overwrite", f"{host.ip} took a stranger's word on {_short(own.order_id)}")
            if own.state == MakerState.DISPUTED:
                self._violation("one_winner", f"order {_short(own.order_id)} is disputed")

    def _look_at_trades(self, host: Host) -> None:
        seen: set[RecordId] = set()
        for trade in host.parts.journal.trades():
            seen.add(trade.accept_id)
            before = self._trades.get((host.index, trade.accept_id), trade)
            self._trades[host.index, trade.accept_id] = trade
            if before.state != trade.state:
                self._history.counts["decisions"] += 1
                self._history.note(self._time(), f"{host.ip} {trade.role} {trade.state} {trade.code}", trade.accept_id)
                if trade.code == UNHEARD and EPOCH_S + self._time() < _forgotten(trade) - UNHEARD_EARLY_S_MAX:
                    self._violation("no_lost_outcome", f"{_short(trade.accept_id)} is unheard while holders remember")
                if not _reachable(before.state, trade.state):
                    name = f"{trade.role}'s trade {_short(trade.accept_id)}"
                    self._violation("no_lost_outcome", f"{name} went from {before.state} to {trade.state}")
        for (index, accept_id), trade in self._trades.items():
            if index == host.index and accept_id not in seen and not self._may_be_gone(trade):
                self._violation("no_lost_outcome", f"{trade.role}'s trade {_short(accept_id)} is gone from the journal")

    def _may_be_gone(self, trade: Trade) -> bool:
        """Whether a maker may have forgotten a trade: a stranger's that came to nothing, and when holders have too."""
        came_to_nothing = trade.role == Role.MAKER and trade.state in (TakerState.REFUSED, TakerState.VOID)
        return came_to_nothing and EPOCH_S + self._time() > _forgotten(trade) - SKEW_S

    def _look_at_bounds(self, host: Host) -> None:
        overlay = host.parts.overlay
        if len(overlay.protocol.requests) > limits.REQUESTS_OUTSTANDING_MAX:
            self._violation("bounded", f"{host.ip} awaits {len(overlay.protocol.requests)} answers")
        if host.parts.holdings.count > limits.RECORDS_HELD_MAX:
            self._violation("bounded", f"{host.ip} holds {host.parts.holdings.count} records")
        if overlay.protocol.counts.get("unexpected"):
            self._violation("no_exception", f"a datagram raised at {host.ip}")

    # --- listings -----------------------------------------------------------------------------------------------------

    def judge_listing(self, host: Host, view: ListingView, asked_at: float) -> None:
        """Look at what a node was shown of a pair: when there is peace, nothing in it may have ended."""
        if self.calm_since is None or asked_at - self.calm_since < self.settled_s:
            return
        for order_id in _shown(view):
            ended, state = self.closed_at.get(order_id), self._orders.get(order_id)
            if state is None:
                continue  # no honest maker stands for it: a stranger's, or made by one who was restored and forgot it
            if ended is not None and asked_at - ended > NOTICED_S:
                self._violation("no_resurrection", f"{host.ip} shows {_short(order_id)}, {state} at {ended:.0f} s")

    def _missing(self, pair: str, view: ListingView, asked_at: float) -> list[RecordId]:
        shown = _shown(view)
        listed = [order for order in self.ledger.orders.values() if order.body.pair == pair and order.id not in shown]
        return [order.id for order in listed if self._must_be_listed(order, asked_at)]

    def _must_be_listed(self, order: Record[Order], asked_at: float) -> bool:
        if self._orders.get(order.id) not in _LIVE or order.id in self.closed_at:
            return False
        old = asked_at - self.opened[order.id] > NOTICED_S
        return old and order.body.expires - EPOCH_S > asked_at + NOTICED_S

    async def look_everywhere(self, pairs: tuple[str, ...]) -> None:
        """Every node lists every pair, and must see the same; and who contradicted himself is known to all."""
        self.look()
        for host in self._honest():
            for pair in pairs:
                await self._look_at_listing(host, pair)
            for order_id in self.two_faced:
                await self._look_at_two_faced(host, order_id)

    def _honest(self) -> list[Host]:
        return [host for host in self._hosts if not host.lies]

    async def _look_at_listing(self, host: Host, pair: str) -> None:
        missing: list[RecordId] = []
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            asked_at = self._time()
            try:
                view = await host.ask(lambda node: node.list_orders(OrderQuery(pair=pair, limit=5000)))
            except (GoneError, DhtexError) as error:
                self._violation("no_exception", f"{host.ip} cannot list {pair}: {error!r}")
                return
            self.judge_listing(host, view, asked_at)
            missing = self._missing(pair, view, asked_at)
            complete = view.coverage.complete and view.coverage.answered == view.coverage.asked
            for order_id in missing if complete else ():
                self._violation("listed_or_gone", f"{host.ip} does not show {_short(order_id)}: hidden {view.hidden}")
            if complete or (not missing and len(self._honest()) < len(self._hosts)):
                return
        lacks = f", lacks {', '.join(map(_short, missing))}" if missing else ""
        self._violation("complete", f"{host.ip} reads {pair} with {view.coverage}, again and again{lacks}")

    async def _look_at_two_faced(self, host: Host, order_id: RecordId) -> None:
        order = self.ledger.orders.get(order_id)
        if order is None or order.body.expires - EPOCH_S < self._time() + NOTICED_S:
            return
        self._history.counts["proofs_due"] += 1
        self._history.counts["proofs_held"] += self.proofs.is_whole_at(host, order_id)
        try:
            view = await host.ask(lambda node: node.show_order(order_id.hex()))
        except (GoneError, DhtexError) as error:
            self._violation("one_winner", f"{host.ip} cannot show {_short(order_id)}: {error!r}")
            return
        left = self.proofs.left(order_id)
        self._history.counts["proofs_lost"] += len(left) < 2
        if view.status != MakerState.DISPUTED and (len(left) == 2 or (left and view.status == MakerState.OPEN)):
            text = f"{host.ip} shows {_short(order_id)} as {view.status}, of which its maker signed {len(left)} ends"
            self._violation("one_winner", text)

    # --- the end ------------------------------------------------------------------------------------------------------

    def last_end(self) -> float:
        """When the last order or accept that anybody said is over, virtual seconds."""
        ends = [order.body.expires for order in self.ledger.orders.values()]
        ends += [accept.body.deadline for accept in self.ledger.accepts.values()]
        return max(ends, default=EPOCH_S) - EPOCH_S

    def final(self) -> None:
        """All machines are up and everything is over: each accept has one outcome, and both sides hold it."""
        for host in self._honest():
            if not host.up:
                self._violation("no_exception", f"{host.ip} does not run")
                continue
            self._look_at_keys(host)
            for trade in host.parts.journal.trades():
                self._look_at_outcome(trade)

    def _look_at_keys(self, host: Host) -> None:
        keys = Counter(key for key, prefix, _ in host.parts.holdings.replicas(EPOCH_S + self._time()) if prefix is None)
        if keys and max(keys.values()) > limits.RECORDS_PER_ORDER_KEY_MAX:
            self._violation("bounded", f"{host.ip} holds {max(keys.values())} records at one order's key")

    def _look_at_outcome(self, trade: Trade) -> None:
        name = f"accept {_short(trade.accept_id)} of {_short(trade.order_id)}"
        if trade.state in (TakerState.SENT, TakerState.PENDING):
            text = f"{name} is still {trade.state} at the {trade.role} when all is over"
            self._violation("no_lost_outcome", text)
        if trade.role == Role.TAKER:
            self._history.counts[f"accepts_{trade.state}"] += 1
            self._history.counts[f"code_{trade.code or 'none'}"] += 1
            order = parse_record(trade.order_wire, NETWORK)
            assert is_a(order, Order), "the journal holds what was once valid"
            if (maker := self._maker_of(order)) is not None and maker.up:
                self._compare(trade, order, maker, name)

    def _compare(self, taken: Trade, order: Record[Order], maker: Host, name: str) -> None:
        if taken.code == UNHEARD:  # it says itself that it cannot know
            return
        given = maker.parts.journal.trade(taken.accept_id)
        state = None if given is None else given.state
        sold, bought = state == TakerState.CONFIRMED, taken.state == TakerState.CONFIRMED
        if maker.restores:  # its journal may have forgotten; what it signed counts
            ends = self.ledger.statuses.get(order.id, {}).values()
            sold = any(end.body.accept_id == taken.accept_id and end.body.maker == order.body.maker for end in ends)
        if sold != bought:
            kind = f"{order.body.liveness}/{order.body.confirm}"
            text = f"{name} is {taken.state} {taken.code} at the taker, {state} at the maker ({kind})"
            self._violation("no_lost_outcome", text)
        if sold and (own := maker.parts.journal.order(order.id)) is not None and own.state != MakerState.FILLED:
            self._violation("one_winner", f"{name} is confirmed, but the order is {own.state}")
        if given is not None and given.state == TakerState.CONFIRMED and given.reply != taken.reply and given.reply:
            self._violation("no_lost_outcome", f"{name}: the taker reads {taken.reply!r}, not {given.reply!r}")


def _forgotten(trade: Trade) -> float:
    """When holders let go of what was said about an order, Unix seconds."""
    order = parse_record(trade.order_wire, NETWORK)
    assert is_a(order, Order), "the journal holds what was once valid"
    return order.body.expires + limits.TOMBSTONE_S


def _shown(view: ListingView) -> set[RecordId]:
    return {RecordId(bytes.fromhex(order.id)) for order in view.orders}


def _reachable(old: str, new: str) -> bool:
    """Whether the table leads from one state to another, in any number of steps."""
    reached, before = {old}, 0
    while len(reached) > before:
        before = len(reached)
        reached |= {to for state, to in _MOVES if state in reached}
    return new in reached


def _short(identifier: bytes) -> str:
    return identifier.hex()[:10]

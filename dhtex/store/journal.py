"""This node's own life: identity, orders, decisions, trades, known peers. What is written here exists nowhere else.

Theory of operation. Every change of an order or a trade is a compare-and-swap on its state inside one transaction that
is on disk before the method returns; losing the swap changes nothing and returns False. So a decision is taken at most
once, whoever races for it, and nobody is told of one that a crash could undo. The answer to each accept is kept as
signed bytes: asked again, the node says the same again.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from typing import Final

from dhtex import limits
from dhtex.market.ids import ID_DIGITS, NodeId, RecordId
from dhtex.market.trade import MakerEvent, MakerState, TakerState
from dhtex.store import statements
from dhtex.store.database import Database
from dhtex.store.rows import Answer, Closed, KeptReceipt, NodeIdentity, OwnOrder, Pending, Sequel, Trade

_NO_SEQUEL: Final = Sequel()
_LIVE: Final = statements.leading_to(MakerEvent.CANCEL)
_BY_AGE: Final = "ORDER BY created, rowid"
_OLDER: Final = "WHERE (created, rowid) < (SELECT created, rowid FROM trades WHERE accept_id = ?)"
_NAMES_MAX: Final = 1000  # in one statement


class Journal:
    """The journal in an open `Database`. Methods raise StateError when the disk refuses; then nothing has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- who we are ---------------------------------------------------------------------------------------------

    def identity(self, entropy: random.Random) -> NodeIdentity:
        """This node's secret seed (32 bytes), id in the overlay (20 bytes) and epoch; made when first asked for."""
        facts = dict(self._database.rows("SELECT name, value FROM facts"))
        if not facts:
            facts = {"seed": entropy.randbytes(32), "node_id": entropy.randbytes(20), "epoch": 1}
            with self._database.decision() as connection:
                connection.executemany("INSERT INTO facts VALUES(?, ?)", facts.items())
        return NodeIdentity(facts["seed"], NodeId(facts["node_id"]), facts["epoch"])

    def network(self) -> tuple[str, int] | None:
        """The network that this state belongs to, and the bits of work of its stamps; None for a new node."""
        facts = dict(self._database.rows("SELECT name, value FROM facts WHERE name IN ('network', 'pow_bits')"))
        return (str(facts["network"]), int(facts["pow_bits"])) if len(facts) == 2 else None

    def set_network(self, network: str, pow_bits: int) -> None:
        """Remember the network for the next life."""
        with self._database.decision() as connection:
            facts = (("network", network), ("pow_bits", pow_bits))
            connection.executemany("INSERT OR REPLACE INTO facts VALUES(?, ?)", facts)

    def public_ip(self) -> str | None:
        """The global address at which this node was seen last."""
        rows = self._database.rows("SELECT value FROM facts WHERE name = 'public_ip'")
        return str(rows[0][0]) if rows else None

    def set_public_ip(self, ip: str) -> None:
        """Remember the address for the next life."""
        with self._database.batch() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES('public_ip', ?)", (ip,))

    def set_node_id(self, node_id: NodeId) -> None:
        """Bear another id in the overlay. Only for a node that does not run."""
        with self._database.decision() as connection:
            connection.execute("UPDATE facts SET value = ? WHERE name = 'node_id'", (node_id,))

    # --- own orders ---------------------------------------------------------------------------------------------

    def add_order(self, order: OwnOrder) -> bool:
        """Keep a new order. False when one of its group was filled and has not expired: this one comes too late."""
        with self._database.decision() as connection:
            if order.group_id and statements.is_decided(connection, order):
                return False
            connection.execute(statements.PUT_ORDER, astuple(order))
            return True

    def order(self, order_id: RecordId) -> OwnOrder | None:
        """One of our orders."""
        return next(iter(self._orders("WHERE order_id = ?", order_id)), None)

    def orders(self, state: str | None = None) -> list[OwnOrder]:
        """Our orders, oldest first; all, or those in one state."""
        return self._orders("") if state is None else self._orders("WHERE state = ?", state)

    def orders_named(self, order_ids: Sequence[RecordId]) -> list[OwnOrder]:
        """Those of these orders that are ours."""
        parts = (order_ids[start : start + _NAMES_MAX] for start in range(0, len(order_ids), _NAMES_MAX))
        return [own for ids in parts for own in self._orders(f"WHERE order_id IN ({', '.join('?' * len(ids))})", *ids)]

    def orders_after(self, row: int, ending_after: float) -> tuple[int, list[tuple[RecordId, int, bytes]]]:
        """Of the orders that were kept after the row of this number those that expire later than a time: id, end and
        bytes; and the number of the last row. What these say never changes, so nobody has to ask for them again."""
        last = self._database.rows("SELECT max(rowid) FROM orders")[0][0] or 0
        sql = "SELECT order_id, expires, wire FROM orders WHERE ? < rowid AND rowid <= ? AND expires > ? ORDER BY rowid"
        rows = self._database.rows(sql, row, last, ending_after)
        return last, [(RecordId(one), end, wire) for one, end, wire in rows]

    def open_wires(self, now: float) -> list[bytes]:
        """The bytes of our orders that may still be filled, or will be published soon, and have not expired."""
        sql = f"SELECT wire FROM orders WHERE state IN ({_LIVE}) AND expires > ? ORDER BY state, rowid"
        return [wire for (wire,) in self._database.rows(sql, now)]

    def count_open(self, now: float) -> int:
        """How many `open_wires` are."""
        sql = f"SELECT count(*) FROM orders WHERE state IN ({_LIVE}) AND expires > ?"
        return int(self._database.rows(sql, now)[0][0])

    def find_orders(self, hex_prefix: str) -> list[OwnOrder]:
        """Our orders whose id begins with these hex digits."""
        return self._orders("WHERE order_id BETWEEN ? AND ?", *_from_to(hex_prefix))

    def others_open(self, order: OwnOrder) -> list[OwnOrder]:
        """The other orders of a group that may still be filled."""
        if not order.group_id:
            return []
        return self._orders(f"WHERE {statements.OTHERS_OPEN}", order.group_id, order.order_id)

    def overdue(self, now: float) -> list[OwnOrder]:
        """Orders that may still be filled and that nobody has renewed in time."""
        return self._orders(f"WHERE 0 < cancel_at AND cancel_at <= ?1 AND ?1 < expires AND state IN ({_LIVE})", now)

    def switched(self, now: float) -> list[OwnOrder]:
        """Orders that may still be filled and have a dead man's switch."""
        return self._orders(f"WHERE cancel_at > 0 AND expires > ? AND state IN ({_LIVE})", now)

    def next_switch(self, now: float) -> int | None:
        """When the first of their switches goes off."""
        sql = f"SELECT min(cancel_at) FROM orders WHERE cancel_at > 0 AND expires > ? AND state IN ({_LIVE})"
        found: int | None = self._database.rows(sql, now)[0][0]
        return found

    def renew(self, now: float) -> None:
        """Let the time of all dead man's switches begin again. What was due before this stays due."""
        self._decide(
            "UPDATE orders SET cancel_at = ? + cancel_after WHERE cancel_after > 0 AND cancel_at > ?", int(now), now
        )

    def child(self, order_id: RecordId) -> OwnOrder | None:
        """The order of what a part fill has left of another."""
        return next(iter(self._orders("WHERE parent = ? AND parent != x''", order_id)), None)

    def stamp_order(self, order_id: RecordId, wire: bytes) -> bool:
        """Keep an order that has got its stamp: now it can be published. False when it has ended meanwhile."""
        with self._database.decision() as connection:
            return statements.changed(
                connection,
                "UPDATE orders SET wire = ?, state = ? WHERE order_id = ? AND state = ?",
                (wire, MakerState.OPEN, order_id, MakerState.PUBLISHING),
            )

    def stamp_again(self, order_id: RecordId, wire: bytes) -> bool:
        """Keep an open order with another stamp. False when it has ended meanwhile."""
        with self._database.decision() as connection:
            return statements.changed(
                connection,
                "UPDATE orders SET wire = ? WHERE order_id = ? AND state = ?",
                (wire, order_id, MakerState.OPEN),
            )

    def close_order(self, order_id: RecordId, state: str, status_wire: bytes) -> bool:
        """End an order that is open: canceled, or expired (with no Status). False when it has ended already."""
        with self._database.decision() as connection:
            return statements.close(connection, order_id, MakerState(state), status_wire)

    def forget_order(self, order_id: RecordId) -> None:
        """Drop an order that is open."""
        self._decide("DELETE FROM orders WHERE order_id = ? AND status_wire = x''", order_id)

    def cancel_orders(self, ends: Sequence[Closed]) -> set[RecordId]:
        """Cancel many orders in one transaction; which of them were open till now."""
        with self._database.decision() as connection:
            return {
                end.order_id
                for end in ends
                if statements.close(connection, end.order_id, MakerState.CANCELED, end.status_wire)
            }

    def replace_order(self, old_id: RecordId, new: OwnOrder, status_wire: bytes) -> bool:
        """End an open order and keep its successor, in one transaction. False, and no successor, when it has ended."""
        with self._database.decision() as connection:
            if not statements.close(connection, old_id, MakerState.REPLACED, status_wire, replaced_by=new.order_id):
                return False
            connection.execute(statements.PUT_ORDER, astuple(new))
            return True

    def adopt_status(
        self, order_id: RecordId, state: str, seq: int, status_wire: bytes, others: Sequence[Closed] = ()
    ) -> bool:
        """Take over what the network says of an order of ours: closed, or disputed, by another holder of our key.

        `others` end in the same step, if it was filled. False when the state does not change.
        """
        with self._database.decision() as connection:
            changed = statements.changed(
                connection,
                "UPDATE orders SET state = ?, seq = ?, status_wire = ?"
                " WHERE order_id = ? AND (state != ? OR status_wire = x'')",
                (state, seq, status_wire, order_id, state),
            )
            if changed:
                statements.close_others(connection, others)
            return changed

    def _decide(self, sql: str, *parameters: object) -> None:
        with self._database.decision() as connection:
            connection.execute(sql, parameters)

    def _orders(self, where: str, *parameters: object) -> list[OwnOrder]:
        rows = self._database.rows(f"SELECT {statements.ORDER} FROM orders {where} ORDER BY rowid", *parameters)
        return [OwnOrder(*row) for row in rows]

    # --- decisions ----------------------------------------------------------------------------------------------

    def answer(self, accept_id: RecordId) -> bytes | None:
        """What was answered to an accept, as the signed bytes that were sent."""
        rows = self._database.rows("SELECT wire FROM answers WHERE accept_id = ?", accept_id)
        return rows[0][0] if rows else None

    def accepts_count(self, order_id: RecordId) -> int:
        """How many accepts of an order are kept: answered, waiting, or void because nobody decided."""
        return int(self._database.rows("SELECT count(*) FROM trades WHERE order_id = ?", order_id)[0][0])

    def unpublished(self) -> list[Answer]:
        """Decisions of which no other node is known to have heard."""
        rows = self._database.rows(f"SELECT {statements.ANSWER} FROM answers WHERE published = 0")
        return [Answer(*row) for row in rows]

    def mark_published(self, accept_id: RecordId) -> None:
        """Note that another node holds an answer. Lost in a crash it does no harm: the same bytes are sent again."""
        with self._database.batch() as connection:
            connection.execute("UPDATE answers SET published = 1 WHERE accept_id = ?", (accept_id,))

    def pending(self, order_id: RecordId | None = None) -> list[Pending]:
        """Accepts that wait for a person, oldest first; of one order, or all."""
        where, parameters = ("WHERE order_id = ?", (order_id,)) if order_id is not None else ("", ())
        rows = self._database.rows(f"SELECT {statements.PENDING} FROM pending {where} ORDER BY rowid", *parameters)
        return [Pending(*row) for row in rows]

    def add_pending(self, pending: Pending, trade: Trade) -> bool:
        """Keep an accept for a person to decide. False when it waits already."""
        with self._database.decision() as connection:
            added = statements.changed(
                connection,
                f"INSERT OR IGNORE INTO pending({statements.PENDING}) VALUES({statements.marks(Pending)})",
                astuple(pending),
            )
            if added:
                connection.execute(statements.PUT_TRADE, astuple(trade))
            return added

    def drop_pending(self, accept_id: RecordId, trade: Trade) -> bool:
        """Stop waiting for a decision whose deadline is over. False when it was not waiting."""
        with self._database.decision() as connection:
            dropped = statements.changed(connection, "DELETE FROM pending WHERE accept_id = ?", (accept_id,))
            if dropped:
                connection.execute(statements.PUT_TRADE, astuple(trade))
            return dropped

    def decide_fill(
        self,
        order_id: RecordId,
        accept_id: RecordId,
        status_wire: bytes,
        trade: Trade,
        sequel: Sequel = _NO_SEQUEL,
    ) -> bool:
        """Give an open order to one accept, for ever, and in the same step do what follows from it.

        False, and nothing changed, when it has ended or was answered, or when another order of its group is open of
        which the sequel does not know.
        """
        with self._database.decision() as connection:
            if statements.is_answered(connection, accept_id) or not statements.are_all_open(
                connection, order_id, sequel.others
            ):
                return False
            if not statements.close(connection, order_id, MakerState.FILLED, status_wire):
                return False
            statements.close_others(connection, sequel.others)
            if sequel.child is not None:
                connection.execute(statements.PUT_ORDER, astuple(sequel.child))
            statements.keep_answer(connection, Answer(accept_id, order_id, status_wire), trade)
            return True

    def keep_answer(self, order_id: RecordId, accept_id: RecordId, wire: bytes, trade: Trade | None) -> bool:
        """Say no to an accept, for ever, or repeat what another copy of this node has signed; without a trade, if the
        accept itself is not known. False, and nothing changed, when it was answered before.
        """
        with self._database.decision() as connection:
            if statements.is_answered(connection, accept_id):
                return False
            statements.keep_answer(connection, Answer(accept_id, order_id, wire), trade)
            return True

    # --- trades -------------------------------------------------------------------------------------------------

    def add_trade(self, trade: Trade) -> None:
        """Keep a new trade, on disk before the accept is sent."""
        self._decide(f"INSERT INTO trades({statements.TRADE}) VALUES({statements.marks(Trade)})", *astuple(trade))

    def update_trade(self, accept_id: RecordId, expected_state: str, trade: Trade) -> bool:
        """Change a trade that is still in the expected state. False, and nothing changed, when it is not."""
        assert trade.accept_id == accept_id, "a trade keeps its id"
        assignments = ", ".join(f"{field.name} = ?" for field in fields(Trade))
        with self._database.decision() as connection:
            return statements.changed(
                connection,
                f"UPDATE trades SET {assignments} WHERE accept_id = ? AND state = ?",
                (*astuple(trade), accept_id, expected_state),
            )

    def trade(self, accept_id: RecordId) -> Trade | None:
        """The trade of one accept."""
        return next(iter(self._trades("WHERE accept_id = ?", accept_id)), None)

    def trades(self) -> list[Trade]:
        """All trades, oldest first."""
        return self._trades(_BY_AGE)

    def trades_behind(self, last: RecordId | None, count: int) -> list[Trade]:
        """The newest so many trades, or the newest of those that are older than the `last` one; newest first."""
        older, place = ("", ()) if last is None else (_OLDER, (last,))
        return self._trades(f"{older} ORDER BY created DESC, rowid DESC LIMIT ?", *place, count)

    def trades_of(self, order_id: RecordId) -> list[Trade]:
        """The trades of one order, oldest first."""
        return self._trades(f"WHERE order_id = ? {_BY_AGE}", order_id)

    def find_trades(self, hex_prefix: str) -> list[Trade]:
        """Trades whose accept or order has an id that begins with these hex digits."""
        ends = _from_to(hex_prefix)
        return self._trades(f"WHERE accept_id BETWEEN ? AND ? OR order_id BETWEEN ? AND ? {_BY_AGE}", *ends, *ends)

    def _trades(self, which: str, *parameters: object) -> list[Trade]:
        rows = self._database.rows(f"SELECT {statements.TRADE} FROM trades {which}", *parameters)
        return [Trade(*row) for row in rows]

    def receipt(self, accept_id: RecordId, role: str) -> KeptReceipt | None:
        """What one side of a trade last said about it."""
        return next((row for row in self.receipts_of(accept_id) if row.role == role), None)

    def receipts_of(self, accept_id: RecordId) -> list[KeptReceipt]:
        """What the sides of a trade last said about it, the maker first."""
        sql = f"SELECT {statements.RECEIPT} FROM receipts WHERE accept_id = ? ORDER BY role"
        return [KeptReceipt(*row) for row in self._database.rows(sql, accept_id)]

    def keep_receipt(self, receipt: KeptReceipt, before: KeptReceipt | None) -> bool:
        """Keep the newer word of a side. False, and nothing changed, when its last is not the one that was read."""
        insert = f"INSERT OR IGNORE INTO receipts({statements.RECEIPT}) VALUES({statements.marks(KeptReceipt)})"
        with self._database.decision() as connection:
            if before is not None:
                sql = "DELETE FROM receipts WHERE accept_id = ? AND role = ? AND wire = ?"
                if not statements.changed(connection, sql, (before.accept_id, before.role, before.wire)):
                    return False
            return statements.changed(connection, insert, astuple(receipt))

    def mark_receipt_published(self, accept_id: RecordId, wire: bytes) -> None:
        """Note that another node holds a receipt of ours. Lost in a crash it does no harm: it is put again."""
        with self._database.batch() as connection:
            connection.execute("UPDATE receipts SET published = 1 WHERE accept_id = ? AND wire = ?", (accept_id, wire))

    def prune(self, now: float) -> None:
        """Forget accepts of strangers that came to nothing, and refusals that none can ask for again: of orders that
        ended long ago. Fills stay for ever."""
        ended = "SELECT order_id FROM orders WHERE expires < ?"
        before = (int(now) - limits.TOMBSTONE_S,)
        with self._database.batch() as connection:
            connection.execute(
                "DELETE FROM trades WHERE role = 'maker'"
                f" AND state IN ('{TakerState.REFUSED}', '{TakerState.VOID}') AND order_id IN ({ended})",
                before,
            )
            connection.execute(
                f"DELETE FROM answers WHERE order_id IN ({ended}) AND accept_id NOT IN (SELECT accept_id FROM trades)",
                before,
            )

    # --- peers --------------------------------------------------------------------------------------------------

    def save_peers(self, peers: Iterable[tuple[NodeId, str, int]]) -> None:
        """Remember these peers (node id, IP, port) instead of the former ones."""
        with self._database.batch() as connection:
            connection.execute("DELETE FROM peers")
            connection.executemany("INSERT OR REPLACE INTO peers VALUES(?, ?, ?)", peers)

    def peers(self) -> list[tuple[NodeId, str, int]]:
        """The peers known when last saved."""
        rows = self._database.rows("SELECT node_id, ip, port FROM peers")
        return [(NodeId(bytes(node_id)), str(ip), int(port)) for node_id, ip, port in rows]


def _from_to(hex_prefix: str) -> tuple[bytes, bytes]:
    """The first and the last id that begin with these digits: between them an index finds all others."""
    digits = hex_prefix.lower()
    assert all(digit in "0123456789abcdef" for digit in digits), "a prefix has been checked where it was typed"
    return bytes.fromhex(digits.ljust(ID_DIGITS, "0")), bytes.fromhex(digits.ljust(ID_DIGITS, "f"))

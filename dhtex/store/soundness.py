"""Whether the rows of a journal say what they said when they were written: SQLite's own quick check sees pages only."""

from collections.abc import Callable
from typing import Final

from dhtex import limits
from dhtex.config import NETWORK_NAME
from dhtex.errors import StateError
from dhtex.market.admission import signature_holds
from dhtex.market.records import Kind, Record, parse_record
from dhtex.market.trade import MakerState, TakerState
from dhtex.store.database import Database

_ANSWERS: Final = (Kind.STATUS, Kind.REFUSAL)
# Table, the column with the id of the record, its bytes, what it may be; records without an id may be missing.
_RECORDS: Final = (
    ("orders", "order_id", "wire", (Kind.ORDER,)),
    ("orders", "x''", "status_wire", (Kind.STATUS,)),
    ("answers", "x''", "wire", _ANSWERS),
    ("pending", "accept_id", "wire", (Kind.ACCEPT,)),
    ("trades", "order_id", "order_wire", (Kind.ORDER,)),
    ("trades", "accept_id", "accept_wire", (Kind.ACCEPT,)),
    ("trades", "x''", "answer_wire", _ANSWERS),
    ("receipts", "x''", "wire", (Kind.RECEIPT,)),
)
_SAID_AGAIN: Final = frozenset({"orders", "answers", "pending", "receipts"})  # to others, who would refuse forgeries
_STATES: Final[dict[str, frozenset[str]]] = {"orders": frozenset(MakerState), "trades": frozenset(TakerState)}
_EPOCH_MAX: Final = 1 << 32


def _bytes_of(length: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, bytes) and len(value) == length


def _number_below(bound: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and 0 <= value < bound


_FACTS: Final[dict[str, Callable[[object], bool]]] = {
    "seed": _bytes_of(32),
    "node_id": _bytes_of(20),
    "epoch": _number_below(_EPOCH_MAX),
    "network": lambda value: isinstance(value, str) and NETWORK_NAME.fullmatch(value) is not None,
    "pow_bits": _number_below(limits.STAMP_BITS_MAX + 1),
    "public_ip": lambda value: isinstance(value, str),
}
_FACTS_ALWAYS: Final = frozenset({"seed", "node_id", "epoch"})


def check_rows(database: Database) -> str:
    """The network of the journal's records, empty if it has none. Raises StateError when a row cannot be what this
    program wrote."""
    networks: set[str] = set()
    for table in dict.fromkeys(("facts", *(table for table, *_ in _RECORDS))):
        if database.rows(f"PRAGMA integrity_check({table})") != [("ok",)]:
            raise _damaged(table)
    for table, names, wires, kinds in _RECORDS:
        for name, wire in database.rows(f"SELECT {names}, {wires} FROM {table}"):
            record = parse_record(wire, None) if isinstance(wire, bytes) else None
            if name == wire == b"":
                continue
            if not isinstance(record, Record) or record.kind not in kinds or (name and name != record.id):
                raise _damaged(table)
            if table in _SAID_AGAIN and not signature_holds(record):
                raise _damaged(table)
            networks.add(record.body.network)
            if len(networks) > 1:
                raise _damaged(table)
    for table, states in _STATES.items():
        if not {state for (state,) in database.rows(f"SELECT DISTINCT state FROM {table}")} <= states:
            raise _damaged(table)
    facts = dict(database.rows("SELECT name, value FROM facts"))
    sound = all(is_sound(facts[name]) for name, is_sound in _FACTS.items() if name in facts)
    if not sound or ((facts or networks) and not facts.keys() >= _FACTS_ALWAYS):
        raise _damaged("facts")
    return "".join(networks)


def _damaged(table: str) -> StateError:
    return StateError(
        f"the state file is damaged: its table {table} holds what nobody wrote",
        hint="put back a backup, or move the file away, with its -wal, -shm and -journal if any, and begin anew",
    )

"""What an omniscient listener hears in all datagrams sent: which records were ever said, and by whom."""

from dhtex.market.admission import signature_holds
from dhtex.market.ids import RecordId
from dhtex.market.records import Accept, AnyRecord, Fault, Order, Record, Refusal, Status, is_a, parse_record
from dhtex.overlay import wire
from dhtex.overlay.wire import PUSH, PUT

_REQUEST = 0


class Ledger:
    """All records that were put or pushed. The first time that an answer is said can be told from later ones."""

    def __init__(self) -> None:
        self.orders: dict[RecordId, Record[Order]] = {}
        self.accepts: dict[RecordId, Record[Accept]] = {}
        self.statuses: dict[RecordId, dict[RecordId, Record[Status]]] = {}
        self.refusals: dict[RecordId, dict[RecordId, Record[Refusal]]] = {}
        self._heard: set[bytes] = set()

    def hear(self, data: bytes) -> AnyRecord | None:
        """The record in a datagram, if it was never said before."""
        if data[0] != _REQUEST or (found := wire.verb_of(data)) is None:
            return None
        verb, start = found
        if verb is not PUT and verb is not PUSH:
            return None
        said: bytes = verb.args.decode(data[start:]).wire
        if said in self._heard:
            return None
        self._heard.add(said)
        record = parse_record(said, None)
        if isinstance(record, Fault) or not signature_holds(record):
            return None
        self._file(record)
        return record

    def _file(self, record: AnyRecord) -> None:
        if is_a(record, Order):
            self.orders[record.id] = record
        elif is_a(record, Accept):
            self.accepts[record.id] = record
        elif is_a(record, Status):
            self.statuses.setdefault(RecordId(record.body.order_id), {})[record.id] = record
        elif is_a(record, Refusal):
            self.refusals.setdefault(RecordId(record.body.accept_id), {})[record.id] = record

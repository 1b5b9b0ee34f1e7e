"""Signed records out of the network and into it again: a book as a file, for an archive or for another network's end.

A record proves itself, so it does not matter where it was in between. What is imported is checked like what a stranger
sends, and put once; this node does not keep it in the network as it does its own.
"""

import asyncio
import binascii
from base64 import b64decode, b64encode
from typing import Final

from dhtex.directory.reading import Check
from dhtex.directory.service import Directory
from dhtex.market.ids import RecordId
from dhtex.market.money import Pair
from dhtex.market.present import milliseconds
from dhtex.market.records import Fault, Order, Record, Status, is_a, parse_record
from dhtex.marketviews import ExportView, ImportedView, ImportView, RecordView
from dhtex.node.market import Market

PUTS_PARALLEL: Final = 8
MISPLACED: Final = "misplaced"


async def export_orders(market: Market, pair: str) -> ExportView:
    """The shown orders of a pair. Raises UsageError."""
    orders, listing = await market.copy(str(Pair.parse(pair)))
    return ExportView(records=list(map(_record_view, orders)), coverage=listing.coverage, hidden=listing.hidden)


def _record_view(order: Record[Order]) -> RecordView:
    body = order.body
    return RecordView(
        kind="order",
        id=order.id.hex(),
        symbol=body.pair,
        side=body.side.value,
        price=body.price,
        amount=body.amount,
        maker=body.maker.hex(),
        expires=milliseconds(body.expires),
        record=b64encode(order.wire).decode(),
    )


async def import_records(directory: Directory, network: str, check: Check, records: list[str]) -> ImportView:
    """Put the sound ones of these records, orders and statuses in base64."""
    gate = asyncio.Semaphore(PUTS_PARALLEL)

    async def one(text: str) -> ImportedView:
        try:
            wire = b64decode(text.encode(), validate=True)
        except (binascii.Error, ValueError):
            return ImportedView(state="invalid", code=Fault.MALFORMED)
        record = parse_record(wire, network)
        if isinstance(record, Fault):
            return ImportedView(state="invalid", code=record)
        name = record.id.hex()
        if not (is_a(record, Order) or is_a(record, Status)):
            return ImportedView(state="invalid", id=name, code=MISPLACED)
        if (code := check(record)) is not None:
            return ImportedView(state="invalid", id=name, code=code)
        async with gate:
            holders = await _put(directory, record)
        return ImportedView(state="stored" if holders else "refused", id=name, holders=holders)

    return ImportView(results=await asyncio.gather(*map(one, records)))


async def _put(directory: Directory, record: Record[Order] | Record[Status]) -> int:
    """How many other nodes hold a record at the worse of its two keys."""
    body = record.body
    order_id = record.id if isinstance(body, Order) else RecordId(body.order_id)
    at_order, at_index = await asyncio.gather(
        directory.put_at_order(order_id, record.wire), directory.put_in_tree(record)
    )
    return min(at_order.holders, at_index)

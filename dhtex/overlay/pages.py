"""Pulling a long listing in pages from several holders at once: pure bookkeeping of what to ask and what is missing.

Theory of operation. A listing has `total` records in an order that its holders agree on, and a page is "as many as fit
from this rank on", so a page's length is not known beforehand. The ranks are cut into spans of a few pages, as long as
the records seen let expect; spans are asked in parallel, each page by page, since where a page ends the next begins
without a gap or an overlap. Whether the parts fit together is proven at the end by the digest over all ids.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from dhtex import limits
from dhtex.market.holding import NO_DIGEST, SHORT_ID_BYTES, WIRE_HEAD_BYTES
from dhtex.market.records import Kind, record_id

LOSSES_MAX: Final = 4
ID_STRIDE: Final = 128  # short ids that a page has, rather too few than too many
PAGES_PER_SPAN_MAX: Final = 8  # a lost page holds up no more than these
_STRIDE: Final = 3  # records that a page may have, before one was seen
_PAGE_BYTES: Final = limits.DATAGRAM_BYTES_MAX - 80  # for records, beside what an answer says else


class _Envelope(msgspec.Struct, array_like=True, gc=False):
    kind: int
    body: bytes


_ENVELOPES: Final = msgspec.msgpack.Decoder(_Envelope)
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


def wire_id(wire: bytes) -> bytes:
    """The id that a record's bytes claim, without checking more than its envelope; a hash of junk if it has none."""
    try:
        envelope = _ENVELOPES.decode(wire)
        return record_id(Kind(envelope.kind), envelope.body)
    except _DECODE_ERRORS:
        return hashlib.sha256(wire).digest()


def digest_of(wires: Iterable[bytes]) -> bytes:
    """The exclusive or of the first 8 bytes of the ids of different records."""
    digest = 0
    for identifier in {wire_id(wire) for wire in wires}:
        digest ^= int.from_bytes(identifier[:8])
    return digest.to_bytes(len(NO_DIGEST))


def split_ids(wires: list[bytes]) -> list[bytes]:
    """The short ids of a page of ids; none if it is no such page."""
    if len(wires) != 1 or len(wires[0]) % SHORT_ID_BYTES:
        return []
    return [wires[0][place : place + SHORT_ID_BYTES] for place in range(0, len(wires[0]), SHORT_ID_BYTES)]


class PagePlan:
    """What to ask of a listing of `total` records, of which the first `limit` are wanted (None: all). `stride` is how
    many records a page may have."""

    def __init__(self, total: int, limit: int | None = None, stride: int = _STRIDE) -> None:
        most = total if limit is None else min(total, limit)
        self.wanted = min(most, limits.RECORDS_PER_INDEX_KEY_MAX)
        self.cut_short = most > self.wanted
        self._rows: list[bytes | None] = [None] * self.wanted
        self._missing = self.wanted
        self.stride = stride
        self._frontier = 0
        self._gaps: list[tuple[int, int]] = []
        self._awaited: dict[int, int] = {}
        self._losses = 0

    @property
    def in_flight(self) -> int:
        return len(self._awaited)

    @property
    def finished(self) -> bool:
        """Whether all is there, or nothing more can be expected."""
        return not self._missing or self._losses > LOSSES_MAX

    @property
    def full(self) -> bool:
        """Whether every wanted rank was filled."""
        return not self._missing

    def next(self) -> int | None:
        """The next rank to ask from, or None if all that is missing is awaited. Report back once for each."""
        if self.finished:
            return None
        while self._gaps:
            start, end = self._gaps.pop()
            start = self._first_missing(start, end)
            if start in self._awaited:
                self._awaited[start] = max(end, self._awaited[start])
            elif start < end:
                self._awaited[start] = end
                return start
        while self._frontier < self.wanted:
            start = self._first_missing(self._frontier, self.wanted)
            self._frontier = min(start + self._span, self.wanted)
            if start < self.wanted and start not in self._awaited:
                self._awaited[start] = self._frontier
                return start
        return None

    @property
    def _span(self) -> int:
        """How many ranks to ask for one after the other: few enough that all who may be asked at once are."""
        pages = self.wanted // (self.stride * limits.PAGES_IN_FLIGHT_MAX)
        return self.stride * max(1, min(pages, PAGES_PER_SPAN_MAX))

    def _first_missing(self, start: int, end: int) -> int:
        return next((place for place in range(start, end) if self._rows[place] is None), end)

    def on_page(self, rank: int, wires: list[bytes]) -> None:
        """A page from `rank` on. An empty one counts as lost."""
        end = self._awaited.pop(rank, rank)
        for place, wire in enumerate(wires[: self.wanted - rank], rank):
            if self._rows[place] is None:
                self._rows[place] = wire
                self._missing -= 1
        after = min(rank + len(wires), self.wanted)
        self._frontier = max(self._frontier, after)
        if wires:
            bytes_each = sum(map(len, wires)) // len(wires) + WIRE_HEAD_BYTES
            self.stride = max(len(wires), _PAGE_BYTES // bytes_each)
        else:
            self._losses += 1
        if after < end:
            self._gaps.append((after, end))

    def fill(self, rows: list[bytes | None]) -> None:
        """Take what is known already; only the runs between are asked for."""
        self._rows = rows[: self.wanted]
        self._frontier = self.wanted
        self._missing = self._rows.count(None)
        start = None
        for place, row in enumerate([*self._rows, b""]):
            if start is not None and (row is not None or place - start >= self._span):
                self._gaps.append((start, place))
                start = None
            if row is None and start is None:
                start = place

    def rows(self) -> list[bytes | None]:
        """What came, by rank."""
        return self._rows

    def on_lost(self, rank: int) -> None:
        """No page came; it is asked again, elsewhere if possible."""
        self.on_page(rank, [])

    def wires(self) -> tuple[bytes, ...]:
        """What came, in listing order, without repetitions."""
        return tuple(dict.fromkeys(row for row in self._rows if row is not None))

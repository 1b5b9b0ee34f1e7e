"""Streams of events from the node to its faces: bounded, numbered, and honest about what they lost."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.errors import RefusedError
from dhtex.market.present import iso_time, milliseconds
from dhtex.views import EventView, OrderView

ALL: Final = ""  # the topic of those who follow everything


class Stream:
    """One reader's queue. A reader that is too slow loses events and is told so by an event of type `lost`."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._queue: asyncio.Queue[EventView | None] = asyncio.Queue()
        self._room = limits.EVENTS_BUFFERED_MAX
        self._sequence = 0
        self._lost = 0

    def offer(self, **fields: Any) -> None:
        """Append an event, or count it as lost when the buffer is full."""
        if self._queue.qsize() >= self._room:
            self._lost += 1
            return
        if self._lost and self._queue.qsize() < limits.EVENTS_BUFFERED_MAX // 2:
            self._sequence += self._lost
            self._put(type="lost", text=f"{self._lost} events were dropped: this reader is too slow")
            self._lost = 0
        self._put(**fields)

    def snapshot(self, orders: Iterable[OrderView]) -> None:
        """Append how things stand: this much is never too much, and takes no room from what happens next."""
        for order in orders:
            self._put(type="order", order=order)
            self._room += 1

    def _put(self, **fields: Any) -> None:
        now = self._hub.clock.now()
        self._sequence += 1
        self._queue.put_nowait(
            EventView(sequence=self._sequence, timestamp=milliseconds(now), datetime=iso_time(now), **fields)
        )

    def end(self) -> None:
        """Let the reader finish: the node stops."""
        self._queue.put_nowait(None)

    async def changed(self) -> bool:
        """Wait until there are events, and forget them; False when the node stops."""
        event = await self._queue.get()
        while event is not None and not self._queue.empty():
            event = self._queue.get_nowait()
        return event is not None

    async def read(self) -> AsyncIterator[EventView]:
        """Yield events until the node stops; leaving the loop unsubscribes."""
        try:
            while (event := await self._queue.get()) is not None:
                yield event
        finally:
            self._hub.leave(self)


class Hub:
    """All open streams of a node. `topics` are pairs being watched, or the empty text for everything."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._streams: dict[Stream, str] = {}

    def join(self, topic: str) -> Stream:
        """Open a stream. Raises RefusedError when too many are open."""
        if len(self._streams) >= limits.CONTROL_STREAMS_MAX:
            raise RefusedError("too many open event streams", reason="rate_limited", hint="close one of them first")
        stream = Stream(self)
        self._streams[stream] = topic
        return stream

    def leave(self, stream: Stream) -> None:
        """Close a stream. Leaving twice is no error."""
        self._streams.pop(stream, None)

    def readers(self, topic: str) -> int:
        """How many streams follow exactly this topic."""
        return sum(1 for followed in self._streams.values() if followed == topic)

    def tell(self, topics: tuple[str, ...], **fields: Any) -> None:
        """Append an event to every stream of these topics."""
        for stream, topic in list(self._streams.items()):
            if topic in topics:
                stream.offer(**fields)

    def end(self) -> None:
        """Finish all streams."""
        for stream in list(self._streams):
            stream.end()

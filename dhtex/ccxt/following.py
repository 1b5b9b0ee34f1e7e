"""One stream of the node, read in the event loop: only the newest event is kept for whoever asks next."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from dhtex.control.client import error_from
from dhtex.errors import DhtexError, NotRunningError

LINE_BYTES_MAX: Final = 1 << 24  # a ladder of 100,000 prices is one line
STATUS_OK: Final = b" 200 "


class Follower:
    """Follows a path of the control interface from its first use until it is closed."""

    def __init__(self, find_address: Callable[[], str], path: str) -> None:
        self._fresh = asyncio.Event()
        self._event: Any = None
        self._error: DhtexError | None = None
        self._task = asyncio.create_task(self._run(find_address, path))

    async def next(self) -> Any:
        """The newest event that was not given out yet. Raises DhtexError when the stream has ended."""
        await self._fresh.wait()
        if self._error is not None:
            raise self._error
        self._fresh.clear()
        return self._event

    async def close(self) -> None:
        """End the stream, also for those who wait for it. Closing twice is no error."""
        self._task.cancel()
        self._end(NotRunningError("the stream was closed"))
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, find_address: Callable[[], str], path: str) -> None:
        try:
            await self._read(await asyncio.to_thread(find_address), path)
            self._end(NotRunningError("the node has ended the stream", hint="see whether it runs: dhtex nodes"))
        except DhtexError as error:
            self._end(error)
        except (OSError, ValueError):
            self._end(NotRunningError("the node does not answer", hint="see whether it runs: dhtex nodes"))

    def _end(self, error: DhtexError) -> None:
        self._error = self._error or error
        self._fresh.set()

    async def _read(self, address: str, path: str) -> None:
        """Take in events. The node writes each as one chunk of whole lines, so lines of chunk sizes stand between."""
        reader, writer = await asyncio.open_unix_connection(address, limit=LINE_BYTES_MAX)
        try:
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            if STATUS_OK not in await reader.readline():
                body = (await reader.read()).partition(b"\r\n\r\n")[2]
                raise error_from(json.loads(body))
            name = b""
            while line := await reader.readline():
                field, _, text = line.rstrip(b"\r\n").partition(b": ")
                if field == b"event":
                    name = text
                elif field == b"data" and name == b"error":
                    raise error_from(json.loads(text))
                elif field == b"data":
                    self._event = json.loads(text)
                    self._fresh.set()
        finally:
            writer.close()

"""A machine with one production node on it: started, ended without warning, and started again from its disk."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from dhtex import limits
from dhtex.config import NodeConfig
from dhtex.errors import StateError
from dhtex.market.holding import ANY_KIND
from dhtex.market.ids import PublicKey, RecordId, order_key
from dhtex.market.keyring import Keyring
from dhtex.market.records import Order
from dhtex.node import Node
from dhtex.node.parts import Parts
from dhtex.sim.clock import EPOCH_S, NodeClock
from dhtex.sim.disk import HELD, Disk, roll_back_held
from dhtex.sim.history import History
from dhtex.sim.loop import Crash, Life, VirtualLoop
from dhtex.sim.network import Network
from dhtex.store import copying
from dhtex.store.database import Database

NETWORK: Final = "sim"
PORT: Final = 4000
_ROOM_BYTES: Final = 1_000_000
_NEVER: Final = 0.0  # a time at which nothing is over: looking must not let a node drop anything
CALL_S_MAX: Final = 900.0  # of virtual time; whatever takes longer hangs
Result = TypeVar("Result")


class GoneError(Exception):
    """The machine ended before the call did."""


class Surroundings(Protocol):
    """What a machine needs of its world."""

    seed: int
    history: History
    network: Network
    folder: Path


class Host:
    """One machine. `fuses` says after how many more events of a kind it ends.

    Kinds: a transaction is about to begin (decision, batch), written but not synced (decision_unsynced) or done
    (decision_done, batch_done), a datagram was sent (send), one with a new answer of its own was sent (answer), or a
    step of any task or timer is about to begin (step).
    """

    def __init__(self, world: Surroundings, index: int) -> None:
        self.index = index
        self.ip = f"10.0.{index // 250}.{index % 250 + 1}"
        self.public: PublicKey | None = None
        self._keys: Keyring | None = None
        self.fuses: dict[str, int] = {}
        self.power = False
        self.disk_full = False
        self.lies = False  # its owner means harm: what it says is not judged
        self.restores = 0
        self.on_up: Callable[[Host], None] = lambda host: None
        self.on_end: Callable[[Host], None] = lambda host: None  # what it holds can still be looked at
        self.on_loss: Callable[[Host], None] = lambda host: None  # it is off, and its disk is not what it was
        self.on_decision: Callable[[Host], None] = lambda host: None
        self.skew_s = 0.0
        self.lives = 0
        self.started_s = 0.0
        self.life: Life | None = None
        self._world = world
        self._loop = asyncio.get_running_loop()
        self._folder = world.folder / str(index)
        self._node: Node | None = None
        self._disk: Disk | None = None
        self._clock: NodeClock | None = None
        self._backup: Path | None = None
        self._held_once: list[tuple[object, ...]] = []
        self._over: asyncio.Future[None] = self._loop.create_future()

    @property
    def up(self) -> bool:
        """Whether its node runs and can be asked."""
        return self._node is not None and self._node._parts is not None

    @property
    def up_for_s(self) -> float:
        """How long ago it was switched on."""
        return self._loop.time() - self.started_s

    def made(self, order: Order) -> bool:
        """Whether an order is its own, whichever of its keys signed it."""
        return self._keys is not None and self._keys.of(order) is not None

    @property
    def node(self) -> Node:
        """The running node."""
        assert self._node is not None
        return self._node

    @property
    def parts(self) -> Parts:
        """The inside of the running node."""
        assert self._node is not None
        return self._node._running

    def _home(self) -> Path:
        return self._folder / f"life-{self.lives}"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self, bootstrap: tuple[str, ...]) -> bool:
        """Switch the machine on and start its node; False when it did not come up."""
        assert self.life is None, "it is on already"
        seed = f"{self._world.seed}/{self.index}/{self.lives}"
        self.life = Life(self.ip)
        self._over = self._loop.create_future()
        self.started_s = self._loop.time()
        self._clock = NodeClock(self._loop.time, 1000.0 * (self.index + 1), self.skew_s)
        config = NodeConfig(
            port=PORT, host=self.ip, network=NETWORK, pow_bits=0, bootstrap=bootstrap, home=self._home(),
            contact=f"call machine {self.index}",
        )  # fmt: skip
        self._node = Node(
            config,
            clock=self._clock,
            entropy=random.Random(seed),
            locked=True,
            open_endpoint=self._world.network.opener(self.life),
            open_database=self._open,
        )
        self._note("start")
        try:
            await self.ask(lambda node: node.start())
        except GoneError:
            return False
        except StateError:
            self.crash(power=False)
            return False
        if self._keys is None:  # beside the node's own, which must find its keys itself
            self._keys = Keyring(self.parts.journal.identity(random.Random(0)).seed)
            self.public = self._keys.main.public
        self.on_up(self)
        return True

    def _open(self, path: Path | None, *, fresh: bool = False) -> Database:
        assert path is not None
        assert self.life is not None
        disk = Disk.open(path, fresh=fresh)
        assert isinstance(disk, Disk)
        disk.attach(path, self.life, self._before_write, self._after_write, self._unsynced_write)
        self._disk = disk
        return disk

    def crash(self, power: bool) -> None:
        """End the machine at this moment: nothing is finished, nothing is said, what was not synced may be lost."""
        life, self.life = self.life, None
        if life is None:
            return
        self.on_end(self)
        self._note("power lost" if power else "killed")
        self._world.history.counts["power_losses" if power else "kills"] += 1
        self._world.network.vanish(life)
        self._node = None
        self.fuses.clear()
        old, self.lives = self._home(), self.lives + 1
        self._home().mkdir(parents=True)
        if self._disk is not None:
            chance = random.Random(f"{self._world.seed}/{self.index}/{self.lives}/disk")
            self._disk.salvage(self._home() / "node.db", power, chance)
            self._disk = None
            for left in old.iterdir():
                left.unlink()
        elif (old / "node.db").exists():  # it ended before it had opened its file
            for left in old.iterdir():
                left.rename(self._home() / left.name)
        if power or self.disk_full:  # of a full disk: what could not be written yet
            self.on_loss(self)
        self._loop_end(life)
        if not self._over.done():
            self._over.set_result(None)

    def _loop_end(self, life: Life) -> None:
        assert isinstance(self._loop, VirtualLoop)
        self._loop.end(life)

    def burn(self, fuse: str) -> bool:
        """Something happened that a fuse may wait for; whether it has burnt down."""
        left = self.fuses.get(fuse)
        if left is None:
            return False
        self.fuses[fuse] = left - 1
        return left <= 1

    def end_here(self) -> None:
        """End the machine in the middle of what it does."""
        self.crash(self.power)
        raise Crash

    def _before_write(self, kind: str) -> bool:
        if self.burn(kind):
            self.end_here()
        return not self.disk_full

    def _unsynced_write(self, kind: str) -> None:
        if self.burn(f"{kind}_unsynced"):
            self.end_here()

    def _after_write(self, kind: str) -> None:
        self._note(kind)
        self._world.history.counts[f"writes_{kind}"] += 1
        if kind == "decision" and self.up:
            self.on_decision(self)
        if self.burn(f"{kind}_done"):
            self.end_here()

    # --- old states ---------------------------------------------------------------------------------------------------

    def remember_held(self) -> None:
        """Note what it holds for others now."""
        self._held_once = self.parts.database.rows(HELD)

    def forget_since(self) -> bool:
        """While it is off: let it hold again what was noted once, as a disk that was away for long."""
        path = self._home() / "node.db"
        if self.life is not None or not self._held_once or not path.exists():
            return False
        roll_back_held(path, self._held_once)
        self.on_loss(self)
        self._note("is stale")
        return True

    def back_up(self) -> None:
        """Copy its state, as `dhtex backup` does."""
        target = self._folder / "backup.db"
        target.unlink(missing_ok=True)
        copying.back_up(self._home() / "node.db", target)
        self._backup = target
        self._note("is backed up")

    @property
    def backed_up(self) -> bool:
        return self._backup is not None

    def restore(self) -> None:
        """End it, and put the copy in the place of its state, as `dhtex restore --force` does."""
        assert self._backup is not None
        self.crash(power=False)
        self.restores += 1
        chance = random.Random(f"{self._world.seed}/{self.index}/{self.lives}/restore")
        copying.put_back(self._backup, self._home() / "node.db", chance, force=True)
        self.on_loss(self)
        self._note("is restored")

    def said(self) -> list[tuple[RecordId, bytes]]:
        """The ends and answers that it has signed and can still be asked for, with their orders."""
        told = "SELECT order_id, status_wire AS wire FROM orders UNION SELECT order_id, wire FROM answers"
        sql = f"SELECT order_id, told.wire FROM ({told}) AS told JOIN orders USING (order_id) WHERE expires > ?"
        earliest = EPOCH_S + self._loop.time() - limits.TOMBSTONE_S
        return [(RecordId(order_id), wire) for order_id, wire in self.parts.database.rows(sql, earliest) if wire]

    def holds(self, order_id: RecordId, wire: bytes) -> bool:
        """Whether its node has a record where readers of an order look for it."""
        return wire in self.parts.holdings.page(order_key(order_id), ANY_KIND, 0, _ROOM_BYTES, _NEVER).wires

    def set_clock(self, skew_s: float) -> None:
        """Let the wall clock jump."""
        self.skew_s = skew_s
        if self._clock is not None:
            self._clock.skew_s = skew_s

    def _note(self, what: str) -> None:
        self._world.history.note(self._loop.time(), f"{self.ip} {what}")

    # --- use ----------------------------------------------------------------------------------------------------------

    async def ask(self, call: Callable[[Node], Coroutine[Any, Any, Result]]) -> Result:
        """Have the node do something, as a part of its life. Raises GoneError when that ends meanwhile."""
        if self.life is None or self._node is None:
            raise GoneError
        task = self.life.spawn(call(self._node))
        over: list[asyncio.Future[Any]] = [task, self._over]
        await asyncio.wait(over, timeout=CALL_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            if task.done() and not task.cancelled():
                task.exception()  # was `Crash`, or came in the same moment
            raise GoneError
        if not task.done():
            self._world.history.violation(self._loop.time(), "no_exception", f"a call at {self.ip} hangs")
            raise GoneError
        return task.result()

    async def do(self, call: Callable[[Node], Result]) -> Result:
        """The same for what the node does at once."""

        async def done(node: Node) -> Result:
            return call(node)

        return await self.ask(done)

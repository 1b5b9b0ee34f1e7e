"""What people do in a history: they make, take, amend, cancel, list, watch and answer."""

import asyncio
import random
from collections import deque
from typing import Final, Protocol

from dhtex.errors import DhtexError, RefusedError
from dhtex.market.trade import TakerState
from dhtex.marketviews import TakeRequest
from dhtex.node import Node
from dhtex.sim.checks import Judge
from dhtex.sim.history import History
from dhtex.sim.host import GoneError, Host
from dhtex.views import AcceptRequest, Amendment, OrderDraft, OrderQuery, ReceiptRequest

PAIRS: Final = ("BTC/USD", "ETH/BTC", "XMR/EUR")
PAUSE_S: Final = 8.0
PEOPLE_BUSY: Final = (
    6  # more do less each, and so they do when it goes on for long: there is always about as much to do
)
USUAL_S: Final = 900.0
RACES_S: Final = (0.001, 0.02, 0.3)  # in which several take one order: all before the first is answered, or not
EMPHASES: Final = ("races", "own", "forgery", "pushes")
QUIET_PAUSE_S: Final = 60.0
LIVES_S: Final = (30, 90, 200, 600)
LIFE_S_LONG: Final = 36_000  # who offers for longer does not sit and wait
STRANGER: Final = -1  # who is no machine's owner


class Settings(Protocol):
    """Of one history, what concerns people."""

    @property
    def seed(self) -> int: ...
    @property
    def hours(self) -> float: ...
    @property
    def actions(self) -> int: ...
    @property
    def emphasis(self) -> str: ...


class Workload:
    """Everyone who uses the network. `winding_down`: only what changes nothing is done from now on.

    At most `actions` things are done in all, if it is not 0: a shorter history begins as the longer one does.
    `emphasis` names what is done more often: taking an order together, taking one's own.
    """

    pairs = PAIRS

    def __init__(self, hosts: list[Host], judge: Judge, history: History, settings: Settings, life_s_max: int) -> None:
        self.winding_down = False
        self.resting = False
        self._actions = settings.actions
        self._pause_s = PAUSE_S * max(1.0, len(hosts) / PEOPLE_BUSY) * max(1.0, settings.hours * 3600 / USUAL_S)
        self._emphasis = settings.emphasis.split(",")
        self._hosts = hosts
        self._judge = judge
        self._history = history
        self._seed = settings.seed
        self._lives_s = (*(life_s for life_s in LIVES_S if life_s < life_s_max), life_s_max, life_s_max)
        self._board: deque[tuple[int, str]] = deque(maxlen=12)  # orders that people talk about: maker, id
        self._loop = asyncio.get_running_loop()

    # --- people -------------------------------------------------------------------------------------------------------

    async def person(self, host: Host) -> None:
        """One who uses one machine, for ever."""
        chance = random.Random(f"{self._seed}/person/{host.index}")
        doings = {
            self._make: 4, self._take: 6, self._amend: 1, self._cancel: 1, self._list: 3, self._watch: 1,
            self._answer: 3, self._show: 1,
            self._take_own: 12 if "own" in self._emphasis else 2, self._take_best: 2, self._make_group: 1,
            self._cancel_all: 0.2, self._settle: 1, self._renew: 0.5,
        }  # fmt: skip
        quiet = {self._list: 3, self._watch: 1, self._show: 1, self._answer: 3}
        while True:
            await asyncio.sleep(chance.expovariate(1 / (QUIET_PAUSE_S if self.winding_down else self._pause_s)))
            choice = quiet if self.winding_down else doings
            doing = chance.choices(list(choice), list(choice.values()))[0]
            if not host.up or not self.may_act():
                continue
            try:
                await doing(host, chance)
            except GoneError:
                self._count("interrupted")
            except DhtexError as error:
                self._count(f"error_{type(error).__name__}")

    def may_act(self) -> bool:
        """Count one more thing that is done; False when it is enough."""
        if self.resting:
            return False
        if self._actions and self._history.counts["actions"] >= self._actions:
            return False
        self._history.counts["actions"] += 1
        return True

    def tell(self, order_id: str) -> None:
        """A stranger's order becomes known to people."""
        self._board.append((STRANGER, order_id))

    def _count(self, what: str) -> None:
        self._history.counts[what] += 1

    async def _make(self, host: Host, chance: random.Random, group: str = "", pair: str = "") -> None:
        amount = chance.randint(1, 50)
        draft = OrderDraft(
            side=chance.choice(("buy", "sell")),
            amount=f"{amount / 10:g}",
            pair=pair or chance.choice(PAIRS),
            price=str(chance.randint(90, 110)),
            minimum=chance.choice(("", "0.1")),
            expires_s=(life_s := chance.choice(self._lives_s)),
            liveness="mailbox" if life_s > LIFE_S_LONG else chance.choice(("beat", "beat", "mailbox")),
            confirm="ask" if chance.random() < 0.25 else "auto",
            reply=chance.choice(("", "ring me")),
            cancel_after_s=None if chance.random() < 0.9 else chance.choice((30, 120, 600)),
            group=group,
            fresh_key=chance.random() < (0.7 if "own" in self._emphasis else 0.3) and not group,
        )
        published = await host.ask(lambda node: node.add_order(draft))
        self._count("orders")
        self._board.append((host.index, published.order.id))
        if group or chance.random() < (0.9 if "races" in self._emphasis else 0.3):
            self._spawn_race(published.order.id, chance)

    async def _make_group(self, host: Host, chance: random.Random) -> None:
        """Orders of which at most one is to be filled, each taken by several at about the same time."""
        name = f"group {chance.randrange(1 << 32)}"
        for _ in range(chance.randint(2, 3)):
            await self._make(host, chance, name)

    def _spawn_race(self, order_id: str, chance: random.Random) -> None:
        """Several take one order at nearly the same time."""
        spread_s = chance.choice(RACES_S)
        for host in chance.sample(self._hosts, min(3, len(self._hosts))):
            self._loop.call_later(chance.uniform(0.0, spread_s), self._race, host, order_id)

    def _race(self, host: Host, order_id: str) -> None:
        if host.life is not None and host.up and not self._is_own(host, order_id):
            host.life.spawn(self._try_to_take(host, order_id))

    async def _try_to_take(self, host: Host, order_id: str) -> None:
        try:
            await host.node.accept_order(order_id, AcceptRequest(message="quick", wait_s=5.0))
            self._count("accepts")
        except DhtexError as error:
            self._count(f"error_{type(error).__name__}")

    def _is_own(self, host: Host, order_id: str) -> bool:
        return (host.index, order_id) in self._board

    async def _take(self, host: Host, chance: random.Random) -> None:
        known = [order_id for maker, order_id in self._board if maker != host.index]
        away = [order_id for maker, order_id in self._board if maker >= 0 and self._hosts[maker].life is None]
        known = away if away and chance.random() < 0.5 else known
        if known and chance.random() < 0.6:
            order_id = known[-1] if chance.random() < 0.6 else chance.choice(known)
        else:
            query = OrderQuery(pair=chance.choice(PAIRS))
            listing = await host.ask(lambda node: node.list_orders(query))
            others = [order.id for order in listing.orders if not order.mine]
            if not others:
                return
            order_id = chance.choice(others[:3])
        request = AcceptRequest(
            amount=chance.choice(("", "", "0.1")), message="hello", wait_s=chance.choice((0.0, 5.0, 30.0))
        )
        await host.ask(lambda node: node.accept_order(order_id, request))
        self._count("accepts")

    async def _take_best(self, host: Host, chance: random.Random) -> None:
        pair, side = chance.choice(PAIRS), chance.choice(("buy", "sell"))
        request = TakeRequest(pair=pair, side=side, amount="0.1", wait_s=chance.choice((2.0, 10.0)))
        view = await host.ask(lambda node: node.accept_best(request))
        self._history.counts["accepts"] += len(view.tries)

    async def _take_own(self, host: Host, chance: random.Random) -> None:
        own = self._own_open(host) or [order_id for maker, order_id in self._board if maker == host.index]
        if own:
            order_id = chance.choice(own)
            try:
                await host.ask(lambda node: node.accept_order(order_id, AcceptRequest(wait_s=1.0)))
            except RefusedError:
                self._count("self_accepts_refused")

    def _own_open(self, host: Host) -> list[str]:
        return [order.id.hex() for order in host.parts.offers.open_orders()]

    async def _amend(self, host: Host, chance: random.Random) -> None:
        if own := self._own_open(host):
            order_id, change = chance.choice(own), Amendment(price=str(chance.randint(90, 110)))
            amended = await host.ask(lambda node: node.amend_order(order_id, change))
            self._board.append((host.index, amended.order.id))
            self._count("amended")

    async def _cancel(self, host: Host, chance: random.Random) -> None:
        if own := self._own_open(host):
            order_id = chance.choice(own)
            await host.ask(lambda node: node.cancel_order(order_id))
            self._count("cancelled")

    async def _cancel_all(self, host: Host, chance: random.Random) -> None:
        pair = chance.choice(("", *PAIRS))
        await host.ask(lambda node: node.cancel_orders(pair))
        self._count("cancelled_all")

    async def _renew(self, host: Host, chance: random.Random) -> None:
        self._history.counts["renewed"] += len(await host.do(lambda node: node.renew_orders()))

    async def _answer(self, host: Host, chance: random.Random) -> None:
        waiting = host.parts.journal.pending()
        if not waiting:
            return
        row = chance.choice(waiting)
        order, accept = row.order_id.hex(), row.accept_id.hex()
        if chance.random() < 0.7:
            await host.ask(lambda node: node.confirm_order(order, accept, "done"))
        else:
            await host.ask(lambda node: node.decline_order(order, accept))
        self._count("answered_by_hand")

    async def _settle(self, host: Host, chance: random.Random) -> None:
        """Say what became of a trade, and sometimes say it again otherwise."""
        done = [trade for trade in host.parts.journal.trades() if trade.state == TakerState.CONFIRMED]
        if not done:
            return
        accept_id = chance.choice(done).accept_id.hex()
        fails = chance.random() < 0.3
        request = ReceiptRequest(outcome="failed" if fails else "settled", reason="no money came" if fails else "")
        await host.do(lambda node: node.settle_trade(accept_id, request))
        self._count("receipts")

    # --- readers ------------------------------------------------------------------------------------------------------

    async def _list(self, host: Host, chance: random.Random) -> None:
        pair, asked_at = chance.choice(PAIRS), self._loop.time()
        view = await host.ask(lambda node: node.list_orders(OrderQuery(pair=pair)))
        self._judge.judge_listing(host, view, asked_at)
        self._count("listings")

    async def _show(self, host: Host, chance: random.Random) -> None:
        if self._board:
            order_id = chance.choice(self._board)[1]
            await host.ask(lambda node: node.show_order(order_id))

    async def _watch(self, host: Host, chance: random.Random) -> None:
        pair, wait_s = chance.choice(PAIRS), chance.uniform(10.0, 200.0)

        async def follow(node: Node) -> int:
            heard, stream = 0, node.watch(pair)
            try:
                async with asyncio.timeout(wait_s):
                    async for _ in stream:
                        heard += 1
            except TimeoutError:
                await stream.aclose()  # type: ignore[attr-defined]
            return heard

        self._history.counts["watched_events"] += await host.ask(follow)

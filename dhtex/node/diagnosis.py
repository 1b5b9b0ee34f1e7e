"""Why a search finds what it finds, and what is wrong with this node: questions that ask the network."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from dhtex import limits
from dhtex.clock import Clock
from dhtex.config import NodeConfig
from dhtex.errors import NotFoundError
from dhtex.market.holding import ANY_KIND
from dhtex.market.ids import DhtKey, order_key
from dhtex.market.records import Kind, Order, Record
from dhtex.node.bootstrap import ITSELF, WELL
from dhtex.node.health import Health
from dhtex.node.mapping import Mapping
from dhtex.node.naming import digits_of, whole
from dhtex.node.parts import Parts
from dhtex.overlay.addresses import endpoint
from dhtex.overlay.lookup import is_holder
from dhtex.overlay.requests import Request
from dhtex.overlay.tracing import Hop, Tracing
from dhtex.version import __version__
from dhtex.views import CheckView, DoctorView, HopView, WhyView

OK: Final = "ok"
WARNING: Final = "warning"
FAULT: Final = "fault"
UNKNOWN: Final = "unknown"
KEY_DIGITS: Final = 40
ORDERS_CHECKED_MAX: Final = 32
REFUSED_NAMED_MAX: Final = 3
REFUSED_HINTS: Final = {
    "full": "they have no room for more of yours: cancel what matters less (dhtex order list --mine); the rest is put "
    "again by itself",
    "stamp_too_low": "do the work that they ask: dhtex order amend {id} --expires 24h; if that is refused as well, "
    "start the node with the network's --pow-bits",
}
FREE_BYTES_MIN: Final = 200 << 20


class Diagnosis:
    """Asks the network on behalf of whoever looks after the node."""

    def __init__(self, config: NodeConfig, parts: Parts, health: Health, clock: Clock, mapping: Mapping | None) -> None:
        self._config = config
        self._parts = parts
        self._health = health
        self._clock = clock
        self._mapping = mapping

    # --- why -------------------------------------------------------------------------------------------------------

    async def why(self, name: str) -> WhyView:
        """Search for a key (40 hex digits) or an order (its id or its beginning) and tell each hop."""
        digits = digits_of(name)
        key = DhtKey(bytes.fromhex(digits)) if len(digits) == KEY_DIGITS else await self._key_of(digits)
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tracing = Tracing(self._parts.overlay.protocol, key, lambda _: None if found.done() else found.set_result(None))
        timer = asyncio.get_running_loop().call_later(limits.LOOKUP_S_MAX, tracing.expire)
        tracing.start()
        await found
        timer.cancel()
        return self._told(key, tracing)

    async def _key_of(self, digits: str) -> DhtKey:
        order_id = whole(digits)
        if order_id is not None:
            return order_key(order_id)  # also of an order that nobody has: that is the question
        try:
            return order_key((await self._parts.market.find(digits)).id)
        except NotFoundError as error:
            raise NotFoundError(error.message, hint="give all 64 digits of the id, or the 40 of a key") from None

    def _told(self, key: DhtKey, tracing: Tracing) -> WhyView:
        took_s = tracing.took_s
        closest = tracing.holders()
        own_id = self._parts.node_id
        local = None
        if is_holder(own_id, key, closest):
            closest = closest[: limits.HOLDERS - 1]
            local = self._parts.holdings.page(key, ANY_KIND, 0, 0, self._clock.now()).total
        holders = {contact.address for contact in closest}
        said = {address: hop.said for address, hop in tracing.hops.items() if address in holders}
        answers = Counter(each for each in said.values() if each is not None)
        most, agreed = answers.most_common(1)[0] if answers else (None, 0)
        goal = int.from_bytes(key)
        hops = [
            HopView(
                id=hop.contact.id.hex(),
                address=endpoint(*address),
                kind=self._parts.overlay.protocol.peer_at(address).kind.value,
                distance_bits=(hop.contact.long_id ^ goal).bit_length(),
                named_by=hop.named_by or None,
                asked_ms=round(hop.asked_s * 1000, 2),
                rtt_ms=None if hop.rtt_s is None else round(hop.rtt_s * 1000, 2),
                answer=hop.answer,
                contacts=hop.contacts,
                records=hop.total,
                digest=hop.digest.hex(),
                holder=address in holders,
                agrees=most is not None and said.get(address) == most,
            )
            for address, hop in tracing.hops.items()
        ]
        return WhyView(
            key=key.hex(), took_ms=round(took_s * 1000, 2), hops=hops, holders=len(holders), agreed=agreed, local=local,
            verdict=_verdict([tracing.hops[address] for address in holders], agreed, local),
        )  # fmt: skip

    # --- doctor ----------------------------------------------------------------------------------------------------

    async def doctor(self) -> DoctorView:
        """Check what can go wrong; takes a few round trips."""
        await self._ask_for_views()
        looks: list[Callable[[], Awaitable[CheckView]]] = [
            self._port, self._peers, self._canary, self._own_clock, self._reachability, self._orders, self._disk,
        ]  # fmt: skip
        if self._config.bootstrap:
            looks.insert(2, self._bootstrap)
        checks = [await look() for look in looks]
        version = f"dhtex {__version__}, network {self._config.network}, stamps of {self._config.pow_bits} bits"
        checks.append(CheckView(name="version", state=OK, finding=version))
        return DoctorView(healthy=all(check.state in (OK, UNKNOWN) for check in checks), checks=checks)

    async def _ask_for_views(self) -> None:
        """Ask some peers who they are: their answers carry their time, and our address as they see it."""
        protocol = self._parts.overlay.protocol
        asked = [peer for peer in protocol.table if not peer.pinging][: limits.BUCKET_SIZE]
        ended, left = asyncio.Event(), len(asked)

        def answered(_request: Request, _answer: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                ended.set()

        for peer in asked:
            protocol.ping(peer, answered)
        if asked:
            await ended.wait()

    async def _port(self) -> CheckView:
        view = self._health.status()
        finding = f"listens on UDP {view.host or 'all addresses'} port {view.port}"
        if self._mapping is None:
            return CheckView(name="port", state=OK, finding=finding)
        told, hint = self._mapping.outcome
        reached = self._parts.overlay.selfview.reachable
        return CheckView(
            name="port",
            state=WARNING if hint and not reached else OK,
            finding=f"{finding}, which {told}",
            hint="" if reached else hint,
        )

    async def _peers(self) -> CheckView:
        peers = self._health.peers()
        if not peers:
            return CheckView(
                name="peers", state=FAULT, finding="knows no other node",
                hint="meet one: dhtex connect HOST:PORT, or start with --bootstrap",
            )  # fmt: skip
        silent = sum(peer.failures > 0 for peer in peers)
        size = self._health.status().network_nodes
        finding = f"{len(peers)} known, {silent} silent; the network has about {size} node{'' if size == 1 else 's'}"
        if 2 * silent > len(peers):
            return CheckView(
                name="peers", state=WARNING, finding=finding, hint="check this machine's connection: dhtex peers"
            )
        return CheckView(name="peers", state=OK, finding=finding)

    async def _bootstrap(self) -> CheckView:
        bootstrap = self._parts.bootstrap
        await bootstrap.ask_missing()
        silent = [f"{text} ({state})" for text, state in bootstrap.state.items() if state not in WELL]
        count = len(bootstrap.state)
        if all(state == ITSELF for state in bootstrap.state.values()):
            return CheckView(name="bootstrap", state=WARNING, finding="no other node was named at the start")
        if not silent:
            return CheckView(name="bootstrap", state=OK, finding=f"{count} named at the start, none of them silent")
        return CheckView(
            name="bootstrap", state=WARNING, finding=f"{len(silent)} of {count} do not answer: {', '.join(silent)}",
            hint="asked again every few minutes; if it is gone for good, meet another one: dhtex connect HOST:PORT",
        )  # fmt: skip

    async def _canary(self) -> CheckView:
        canary = self._parts.canary
        if not self._parts.overlay.peers():
            return CheckView(name="canary", state=UNKNOWN, finding="nobody to read back from")
        await canary.try_once()
        finding = f"{canary.returned} of {canary.asked} other holders gave back what was just written"
        if canary.sings:
            return CheckView(name="canary", state=OK, finding=finding)
        return CheckView(
            name="canary",
            state=FAULT,
            finding=finding,
            hint="see who answers: dhtex peers; then meet others: dhtex connect",
        )

    async def _own_clock(self) -> CheckView:
        ahead_s = self._parts.overlay.selfview.skew_s()
        if ahead_s is None:
            return CheckView(name="clock", state=UNKNOWN, finding="too few peers have told their time")
        side = "behind" if ahead_s > 0 else "ahead of"
        finding = f"{abs(ahead_s):.0f} s {side} the clocks of peers"
        if abs(ahead_s) < limits.SKEW_S_WARN:
            return CheckView(name="clock", state=OK, finding=finding)
        what = "accepts lapse before this maker's node takes them" if ahead_s < 0 else "others refuse what it signs"
        return CheckView(
            name="clock",
            state=FAULT,
            finding=f"{finding}: {what}",
            hint="set the clock, best by NTP: timedatectl set-ntp true",
        )

    async def _reachability(self) -> CheckView:
        mirror = self._parts.overlay.selfview
        seen = "" if mirror.address is None else f"; peers see {endpoint(*mirror.address)}"
        if mirror.reachable:
            return CheckView(name="reachability", state=OK, finding=f"a node we never wrote to has reached us{seen}")
        if mirror.always_client:
            return CheckView(name="reachability", state=OK, finding=f"serves as a client, as it was told{seen}")
        if mirror.reachable is False:
            return CheckView(
                name="reachability", state=WARNING,
                finding=f"nobody whom we had asked to reach us did; serving as a client{seen}",
                hint=f"forward UDP port {self._health.status().port} to this machine"
                + (", or start with --map-port" if self._mapping is None else "; see what is said of the port"),
            )  # fmt: skip
        if mirror.address is not None and not mirror.public:
            return CheckView(
                name="reachability", state=UNKNOWN, finding=f"all peers are on a network of their own{seen}"
            )
        return CheckView(
            name="reachability", state=UNKNOWN, finding=f"no stranger has reached us yet{seen}",
            hint="peers are asked to have us reached; look again in some minutes",
        )  # fmt: skip

    async def _orders(self) -> CheckView:
        orders = self._parts.offers.open_orders()
        if not orders:
            return CheckView(name="orders", state=OK, finding="no own open orders")
        worst, thin, lost = "", 0, 0
        part = orders[:ORDERS_CHECKED_MAX]
        fewest = limits.HOLDERS + 1
        for order in part:
            result = await self._parts.overlay.get(order_key(order.id), Kind.ORDER)
            others = result.asked - result.local
            held = sum(version.holders for version in result.versions if order.wire in version.wires)
            held -= result.local and order.wire in self._held_here(order_key(order.id))
            if held < fewest:
                fewest, worst = held, f"{order.id.hex()[:10]} is read back from {held} of {others} other holders"
            lost += held == 0
            thin += 2 * held < others
        finding = f"{len(part)} of {len(orders)} open orders read; the worst, {worst}"
        if lost or thin:
            finding += f"; {lost} lost, {thin} held by too few"
        refused, hint = self._refused(orders)
        if not lost and not thin and not refused:
            return CheckView(name="orders", state=OK, finding=finding)
        return CheckView(
            name="orders", state=FAULT if lost or refused else WARNING, finding=finding + refused,
            hint=hint or "they are put again by themselves; if this lasts, see dhtex peers and dhtex why ID",
        )  # fmt: skip

    def _refused(self, orders: Sequence[Record[Order]]) -> tuple[str, str]:
        """Which orders more nodes refused than took when they were last put, and what to do; both empty if none."""
        directory = self._parts.directory
        refused: list[tuple[str, dict[str, int], int]] = []
        for order in orders:
            refusals, holders = directory.refusals(order.id), directory.holders(order.id) or 0
            if sum(refusals.values()) > holders:
                refused.append((order.id.hex()[:10], refusals, holders))
        if not refused:
            return "", ""
        named = []
        for order_id, refusals, holders in refused[:REFUSED_NAMED_MAX]:
            why = ", ".join(f"{count} as {code}" for code, count in sorted(refusals.items()))
            named.append(f"{order_id} (by {why}; {holders} took it)")
        named += [f"{len(refused) - len(named)} more"] if len(refused) > len(named) else []
        order_id, refusals, _ = refused[0]
        hint = REFUSED_HINTS.get(max(refusals, key=refusals.__getitem__), "see who its holders are: dhtex why {id}")
        return f"; refused: {', '.join(named)}", hint.format(id=order_id)

    def _held_here(self, key: DhtKey) -> list[bytes]:
        return self._parts.holdings.page(key, Kind.ORDER, 0, limits.DATAGRAM_BYTES_MAX, self._clock.now()).wires

    async def _disk(self) -> CheckView:
        home = self._config.home
        if home is None:
            return CheckView(name="disk", state=OK, finding="keeps nothing on disk")
        if not self._parts.save(self._clock.now()):
            return CheckView(
                name="disk", state=FAULT, finding=f"cannot write to {home}", hint="free some space, or check the rights"
            )
        free = shutil.disk_usage(home).free
        finding = f"writes to {home}; {free >> 20} MiB free"
        if free < FREE_BYTES_MIN:
            return CheckView(name="disk", state=WARNING, finding=finding, hint="free some space")
        return CheckView(name="disk", state=OK, finding=finding)


def _verdict(holders: list[Hop], agreed: int, local: int | None) -> str:
    """What the search comes to, in a sentence."""
    if not holders:
        return "no other node answered" if local is None else "no other node answered; this node holds it alone"
    having = sum(hop.total > 0 for hop in holders)
    if not having:
        return f"none of the {len(holders)} closest nodes holds a record there"
    if agreed == len(holders):
        return "the only other holder agrees" if len(holders) == 1 else f"all {len(holders)} holders agree"
    return f"{having} of {len(holders)} holders hold records, {agreed} of them say the same"

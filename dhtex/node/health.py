"""How the node is: in one page for people, in one word for a supervisor, in numbers for a monitor."""

import os
from collections.abc import Iterator
from typing import Final

from dhtex.clock import Clock
from dhtex.config import NodeConfig
from dhtex.node.parts import Parts
from dhtex.overlay.addresses import endpoint
from dhtex.version import __version__
from dhtex.views import HealthView, PeerView, StatusView

READY: Final = "ready"
_LEVELS: Final = frozenset({"watched_keys", "leases", "leased_keys"})  # the other counters only grow


class Health:
    """Looks at the parts of a running node and changes nothing."""

    def __init__(self, config: NodeConfig, parts: Parts, clock: Clock, port: int, started: float) -> None:
        self._config = config
        self._parts = parts
        self._clock = clock
        self._port = port
        self._started = started

    @property
    def state(self) -> str:
        """alone, joining, degraded or ready; see `dhtex.node.canary`."""
        canary = self._parts.canary
        if not self._parts.overlay.peers():
            return "degraded" if canary.tried else "joining" if self._config.bootstrap else "alone"
        if not canary.tried:
            return "joining"
        return READY if canary.sings else "degraded"

    def status(self) -> StatusView:
        """The node in one page."""
        parts, overlay = self._parts, self._parts.overlay
        counters = overlay.counters
        seen = overlay.selfview.address
        return StatusView(
            version=__version__,
            state=self.state,
            pid=os.getpid(),
            port=self._port,
            host=self._config.host or "",
            network=self._config.network,
            pow_bits=self._config.pow_bits,
            node=parts.node_id.hex(),
            maker=parts.identity.public.hex(),
            epoch=parts.epoch,
            uptime_s=round(self._clock.monotonic() - self._started, 1),
            peers=len(overlay.peers()),
            network_nodes=overlay.network_size(),
            address="" if seen is None else endpoint(*seen),
            client=overlay.selfview.client,
            bootstrap=parts.bootstrap.shown(),
            orders_open=parts.offers.count_open(),
            records_held=parts.holdings.count,
            watches=counters["watched_keys"],
            home="" if self._config.home is None else str(self._config.home),
            counters=counters,
        )

    def health(self) -> HealthView:
        """For a supervisor: whether the node does its work."""
        canary = self._parts.canary
        return HealthView(
            ready=self.state == READY, state=self.state, canary_asked=canary.asked, canary_returned=canary.returned
        )

    def peers(self) -> list[PeerView]:
        """The contacts of the routing table, most recently heard of first."""
        now = self._clock.monotonic()
        return [
            PeerView(
                id=peer.id.hex(),
                address=endpoint(*peer.address),
                kind=peer.kind,
                rtt_ms=None if peer.rtt_s is None else round(peer.rtt_s * 1000, 3),
                age_s=round(now - peer.first_seen, 1),
                silent_s=round(now - peer.last_seen, 1),
                failures=peer.failures,
            )
            for peer in sorted(self._parts.overlay.peers(), key=lambda peer: -peer.last_seen)
        ]

    def metrics(self) -> str:
        """Everything that has a number, in the text format of Prometheus, version 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        view, canary = self.status(), self._parts.canary
        mirror = self._parts.overlay.selfview
        gauges: dict[str, float | None] = {
            "ready": view.state == READY,
            "uptime_seconds": view.uptime_s,
            "peers": view.peers,
            "network_nodes": view.network_nodes,
            "client": view.client,
            "reachable": mirror.reachable,
            "orders_open": view.orders_open,
            "records_held": view.records_held,
            "canary_holders_asked": canary.asked,
            "canary_holders_returned": canary.returned,
            "clock_skew_seconds": mirror.skew_s(),
            **{name: count for name, count in view.counters.items() if name in _LEVELS},
        }
        for name, value in gauges.items():
            if value is not None:
                yield f"# TYPE dhtex_{name} gauge"
                yield f"dhtex_{name} {float(value):g}" if isinstance(value, float) else f"dhtex_{name} {int(value)}"
        traffic = ("datagrams_in", "datagrams_out", "bytes_in", "bytes_out")
        for name in traffic:
            yield f"# TYPE dhtex_{name}_total counter"
            yield f"dhtex_{name}_total {view.counters[name]}"
        yield "# TYPE dhtex_events_total counter"
        for name in sorted(view.counters):
            if name not in traffic and name not in _LEVELS:
                yield f'dhtex_events_total{{event="{name}"}} {view.counters[name]}'

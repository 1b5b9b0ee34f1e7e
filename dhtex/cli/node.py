"""The node itself: start, stop and look after it."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from dhtex.cli import render
from dhtex.cli.pipes import reader_watched
from dhtex.cli.session import Session, path_of, session_of, to_json
from dhtex.cli.text import Page, clean, plural
from dhtex.errors import DhtexError, NoPeerError, NotFoundError, NotRunningError, UsageError, VerificationError

if TYPE_CHECKING:
    from dhtex.nodefiles import Started

app = typer.Typer()

STATE_S_MAX: Final = 2.0
FOLLOW_S: Final = 0.2
TAIL_BYTES_MAX: Final = 1 << 20

_NETWORK = "The network to be part of; a node remembers its own. A new node without this is in the public one, main."
_POW_BITS = "How much work a stamp costs in a private network, in bits; remembered too."
_TAG = "A secret of 16 characters or more; nodes that share it do not take each other's orders. Or: DHTEX_TAG."
_CONTACT = "Sealed to the taker of an order of yours without a --reply; when you take one yourself, use --message."
_FORCE = "Put a damaged state file aside and begin anew; name its --network again."
_BOOTSTRAP = "A peer to join through, HOST:PORT or [IPV6]:PORT; several with commas, or repeated."


@app.command("start")
def start(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", metavar="N", help="UDP port; 0 takes a free one.")] = 3001,
    bootstrap: Annotated[list[str] | None, typer.Option("--bootstrap", metavar="PEER", help=_BOOTSTRAP)] = None,
    host: Annotated[str, typer.Option("--host", metavar="IP", help="Listen on this address only.")] = "",
    network: Annotated[str | None, typer.Option("--network", metavar="NAME", help=_NETWORK)] = None,
    pow_bits: Annotated[int | None, typer.Option("--pow-bits", metavar="N", help=_POW_BITS)] = None,
    http: Annotated[
        int | None, typer.Option("--http", metavar="N", help="Also serve HTTP on 127.0.0.1; 0: any.")
    ] = None,
    contact: Annotated[str, typer.Option("--contact", metavar="TEXT", help=_CONTACT)] = "",
    lan: Annotated[bool, typer.Option("--lan", help="Find nodes on the local network; needs dhtex[lan].")] = False,
    map_port: Annotated[
        bool, typer.Option("--map-port", help="Have the router forward the port (NAT-PMP, UPnP); needs dhtex[nat].")
    ] = False,
    client: Annotated[bool, typer.Option("--client", help="Use the network without being routed to.")] = False,
    tag: Annotated[str, typer.Option("--tag", envvar="DHTEX_TAG", metavar="SECRET", help=_TAG)] = "",
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay here and log to stderr, for systemd.")] = False,
    force: Annotated[bool, typer.Option("--force", help=_FORCE)] = False,
) -> None:
    """Start a node in the background; returns when it is ready.

    A peer that does not answer is no error: the node says so and keeps trying.
    """
    from dhtex import config, limits, spawn

    session = session_of(context)
    if pow_bits is not None and pow_bits < 0:
        raise UsageError(f"{pow_bits} bits of work are out of range", hint=f"0 to {limits.STAMP_BITS_MAX}")
    if network == "":  # an unset variable of a script must not publish in the public network
        raise UsageError("the network's name is empty", hint="leave out --network to stay in the node's own")
    settings = config.NodeConfig(
        port=port,
        host=host or None,
        network=config.NETWORK_OF_STATE if network is None else network,
        pow_bits=config.POW_BITS_OF_NETWORK if pow_bits is None else pow_bits,
        bootstrap=split_peers(bootstrap or []),
        http_port=http,
        contact=contact,
        client=client,
        lan=lan,
        map_port=map_port,
        tag=tag,
    )

    def ready(started: "Started") -> None:
        session.show(asdict(started), started_lines)
        for warning in started.warnings:
            session.note(f"warning: {warning}")

    home = config.home_folder()
    if foreground:
        raise typer.Exit(spawn.run_here(settings, home, fresh=force, on_ready=ready))
    ready(spawn.start(settings, home, fresh=force))


def split_peers(given: list[str]) -> tuple[str, ...]:
    """Every peer once, whether they came with commas or one by one."""
    return tuple(dict.fromkeys(peer for text in given for peer in text.replace(",", " ").split()))


def started_lines(view: Any, page: Page) -> list[str]:
    """The one line of a start."""
    web = f"; {view['http']}" if view["http"] else ""
    state = f"{view['state']}, " if view["state"] else ""
    about = f"{state}network {view['network']}, {plural(view['peers'], 'peer')}"
    return [clean(f"dhtex node on port {view['port']} is running ({about}){web}")]


@app.command("stop")
def stop(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Stop all nodes of this user.")] = False,
) -> None:
    """Stop a node; returns when it has ended."""
    from dhtex import config, nodefiles, spawn

    session = session_of(context)
    home = config.home_folder()
    nodes = nodefiles.running_nodes(home) if everything else [nodefiles.choose_node(home, session.node)]
    for node in nodes:
        spawn.ask_to_stop(node, home)
    for node in nodes:
        spawn.wait_until_stopped(node, home)
    session.show({"stopped": [node.port for node in nodes]}, stopped_lines)


def stopped_lines(view: Any, page: Page) -> list[str]:
    """What a stop says."""
    return [f"dhtex node on port {port} has stopped" for port in view["stopped"]] or ["no nodes were running"]


@app.command("status")
def status(context: typer.Context) -> None:
    """Show the node in one page."""
    session = session_of(context)
    session.show(session.call("GET", path_of("status")), render.status)


@app.command("nodes")
def nodes(context: typer.Context) -> None:
    """List the nodes that run on this machine."""
    from datetime import UTC, datetime

    from dhtex import config, nodefiles

    running = [asdict(node) for node in nodefiles.running_nodes(config.home_folder())]
    for node in running:
        moment = datetime.fromtimestamp(node["started"] / 1000, UTC)
        node["state"] = state_at(node["socket"])
        node["startedDatetime"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{node['started'] % 1000:03d}Z"
    session_of(context).show(running, render.nodes)


def state_at(socket: str) -> str:
    """The state of the node behind a control socket; silent if it does not say."""
    from dhtex.control.client import Client

    try:
        return str(Client(socket, silence_s=STATE_S_MAX).call("GET", path_of("status"))["state"])
    except DhtexError:
        return "silent"


@app.command("peers")
def peers(context: typer.Context) -> None:
    """List the peers that the node knows."""
    session = session_of(context)
    session.show(session.call("GET", path_of("peers")), render.peers)


@app.command("connect")
def connect(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="A peer; an IPv6 address as [ADDRESS]:PORT.")],
) -> None:
    """Meet a peer, and through it its network."""
    session = session_of(context)
    view = session.call("POST", path_of("connect"), {"address": address})
    if not view["connected"]:
        raise NoPeerError(f"{address} does not answer", hint="check the address, and that both nodes name one network")
    session.show(view, lambda view, page: [clean(f"connected to {view['address']}")])


@app.command("logs")
def logs(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is new, until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("-n", "--lines", metavar="N", help="How many of the last lines.")] = 50,
) -> None:
    """Show what the node has said.

    Works for a stopped node too, if --node names it.
    """
    session = session_of(context)
    if count < 0:
        raise UsageError("the number of lines cannot be negative")
    try:
        with reader_watched():
            for line in log_lines(log_of(session), count, follow):
                text = clean(line.decode(errors="replace"))  # it may quote strangers
                print(to_json({"line": text}) if session.json else text, flush=True)
    except KeyboardInterrupt:
        return
    except FileNotFoundError:
        raise NotFoundError("this node has no log", hint="a node started with --foreground logs to stderr") from None
    except PermissionError:
        raise VerificationError("the log of this node cannot be read", hint="it belongs to another user") from None


def log_of(session: Session) -> Path:
    """The log of the node that the user means: the running one, the one on the port that is named, the only one."""
    from dhtex import config, nodefiles

    home = config.home_folder()
    try:
        port = str(nodefiles.choose_node(home, session.node).port)
    except NotRunningError:
        known = [session.node] if session.node else [path.parent.name for path in home.glob(f"nodes/*/{nodefiles.LOG}")]
        if len(known) != 1:
            raise
        port = known[0]
    return config.node_folder(home, int(port)) / nodefiles.LOG


def log_lines(path: Path, count: int, follow: bool) -> Iterator[bytes]:
    """The last lines of a log (of its last megabyte), and then, if wished, whole lines as they are written, for ever.

    A log that is rotated is left for the new one.
    """
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES_MAX))
        lines = file.read().splitlines()
        yield from lines[max(0, len(lines) - count) :]
        if follow:
            yield from new_lines(path, file)
    while follow:
        with path.open("rb") as file:
            yield from new_lines(path, file)


def new_lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Whole lines as they are appended, until another file has taken the place of this one and all of it was read."""
    rest = b""
    while True:
        replaced = _is_replaced(path, file)  # asked before the read: what was written by then is not missed
        piece = file.read()
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if piece:
            continue
        if replaced:
            return
        time.sleep(FOLLOW_S)


def _is_replaced(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:  # put aside, and the next one is not there yet
        return False

"""What a node is told when it starts, and where its files are.

    <home>/nodes/<port>/   node.db    everything the node remembers
                           node.lock  held by the process that runs the node, and names it; left behind it means nothing
                           node.json  who runs it and how to reach it; removed at stop
                           node.log   what a background node says
                           control.sock, token

The command line imports this file on every call, so it stays light: no asyncio, no msgspec, and platformdirs only when
`DHTEX_HOME` is not set.
"""

import json
import os
import re
import unicodedata
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from dhtex import limits
from dhtex.errors import StateError, UsageError

PUBLIC_NETWORK: Final = "main"
POW_BITS_PRIVATE: Final = 12  # a stamp of a private network takes a few hundredths of a second
POW_BITS_OF_NETWORK: Final = -1
NETWORK_OF_STATE: Final = ""
SOCKET_PATH_BYTES_MAX: Final = 100  # sun_path has 104 bytes on some systems, 108 on Linux
SOCKET_FOLDER_HINT: Final = "remove it, or set a shorter DHTEX_HOME"  # of /tmp: it holds nothing but a socket

NETWORK_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{limits.NETWORK_CHARS_MAX - 1}}}")
_HOST: Final = re.compile(r"(?!.*\.\.|.*[^.]{64})[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?")
_PORT: Final = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The settings of one node; valid once built. Raises UsageError for anything that is wrong.

    port        UDP port; 0 lets the system choose
    host        literal address to bind; None binds all addresses, IPv4 and IPv6
    network     NETWORK_OF_STATE: the one that the node's state belongs to, the public one for a new node
    pow_bits    leading zero bits per puzzle that the network asks of a stamp; left out, what the node's state names,
                else the network's own value (see `settle`)
    bootstrap   peers to join through, "host:port" or "[v6]:port"
    home        the node's own folder; None keeps nothing on disk
    http_port   TCP port of the control interface on 127.0.0.1; None leaves it to the Unix socket
    contact     text sealed to the taker when an accept of an order without a reply is confirmed
    client      use the network without being routed to
    lan         announce the node on the local network and meet its neighbours; needs the extra `lan`
    map_port    ask the router to forward the port; needs the extra `nat`
    tag         secret that all nodes of one person share, so that they do not trade with each other; empty: none
    """

    port: int = 0
    host: str | None = None
    network: str = PUBLIC_NETWORK
    pow_bits: int = POW_BITS_OF_NETWORK
    bootstrap: tuple[str, ...] = ()
    home: Path | None = None
    http_port: int | None = None
    contact: str = ""
    client: bool = False
    lan: bool = False
    map_port: bool = False
    tag: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_port(self.port)
        if self.http_port is not None:
            check_port(self.http_port)
        _check_host(self.host)
        if self.network != NETWORK_OF_STATE and NETWORK_NAME.fullmatch(self.network) is None:
            raise UsageError(
                f"'{_shown(self.network)}' cannot name a network",
                hint=f"use 1 to {limits.NETWORK_CHARS_MAX} lower-case letters, digits and dashes",
            )
        _check_bits(self.network, self.pow_bits)
        for peer in self.bootstrap:
            split_endpoint(peer)
        _check_contact(self.contact)
        if self.tag and not limits.TAG_CHARS_MIN <= len(self.tag) <= limits.TAG_CHARS_MAX:
            raise UsageError(
                f"the tag has {len(self.tag)} characters", hint=f"use {limits.TAG_CHARS_MIN} to {limits.TAG_CHARS_MAX}"
            )


def _check_bits(network: str, bits: int) -> None:
    if bits == POW_BITS_OF_NETWORK:
        return
    if network == PUBLIC_NETWORK and bits != limits.STAMP_BITS_PUBLIC:
        raise UsageError(
            f"the public network asks for {limits.STAMP_BITS_PUBLIC} bits of work, which cannot be changed",
            hint="name a network of your own with --network",
        )
    if not 0 <= bits <= limits.STAMP_BITS_MAX:
        raise UsageError(f"{bits} bits of work are out of range", hint=f"0 to {limits.STAMP_BITS_MAX}")


def settle(config: NodeConfig, network: str = "", bits: int = POW_BITS_OF_NETWORK) -> NodeConfig:
    """The settings of a node whose state belongs to a network (empty: to none yet), with what they left open filled in.

    Raises StateError when they name another network, UsageError for work that the network does not ask for.
    """
    named = config.network or network or PUBLIC_NETWORK
    if network and named != network:
        raise StateError(
            f"this node's state belongs to the network {network}",
            hint=f"start it with --network {network}, or another node on another --port",
        )
    own = limits.STAMP_BITS_PUBLIC if named == PUBLIC_NETWORK else POW_BITS_PRIVATE
    asked = next((bits for bits in (config.pow_bits, bits) if bits != POW_BITS_OF_NETWORK), own)
    return replace(config, network=named, pow_bits=asked)


def _check_host(host: str | None) -> None:
    if host is None:
        return
    import ipaddress

    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        raise UsageError(f"'{_shown(host)}' is not an IP address", hint="such as 127.0.0.1 or ::1") from None


def _check_contact(contact: str) -> None:
    size = len(contact.encode(errors="replace"))
    if size > limits.MESSAGE_BYTES_MAX:
        raise UsageError(f"the contact text has {size} bytes, at most {limits.MESSAGE_BYTES_MAX} are allowed")
    if any(unicodedata.category(character)[0] == "C" for character in contact):
        raise UsageError("the contact text contains control or invisible characters")


def check_port(port: int, lowest: int = 0) -> None:
    """Raise UsageError unless `port` is `lowest` to 65535; at a start 0 means any port."""
    if not lowest <= port <= 65535:
        raise UsageError(f"{port} is not a port", hint="a port is a number from 1 to 65535")


def split_endpoint(text: str) -> tuple[str, int]:
    """The two parts of "host:port", "1.2.3.4:port" or "[v6]:port". Raises UsageError; resolves nothing."""
    host, colon, digits = text.rpartition(":")
    port_is_fine = _PORT.fullmatch(digits) is not None and 0 < int(digits) < 65536
    if host.startswith("[") and host.endswith("]"):
        import ipaddress

        host = host[1:-1]
        try:
            host_is_fine = ipaddress.ip_address(host.partition("%")[0]).version == 6
        except ValueError:
            host_is_fine = False
    else:
        host_is_fine = _HOST.fullmatch(host) is not None
    if not (colon and port_is_fine and host_is_fine):
        raise UsageError(f"'{_shown(text)}' is not an address", hint="write HOST:PORT, or [IPV6]:PORT")
    return host, int(digits)


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:60])


def to_json(config: NodeConfig) -> str:
    """One line from which `from_json` makes the same settings in another process."""
    fields = asdict(config)
    fields["home"] = None if config.home is None else str(config.home)
    return json.dumps(fields)


def from_json(text: str) -> NodeConfig:
    """The settings that `to_json` wrote."""
    fields: dict[str, Any] = json.loads(text)
    home = fields.pop("home")
    bootstrap = tuple(fields.pop("bootstrap"))
    return NodeConfig(**fields, bootstrap=bootstrap, home=None if home is None else Path(home))


def home_folder() -> Path:
    """Where all nodes of this user keep their state: `DHTEX_HOME`, or the system's place for user data."""
    named = os.environ.get("DHTEX_HOME")
    if named:
        return Path(os.path.abspath(os.path.expanduser(named)))
    import platformdirs

    return Path(platformdirs.user_data_dir("dhtex", appauthor=False))


def node_folder(home: Path, port: int) -> Path:
    """The folder of the node on this UDP port."""
    return home / "nodes" / str(port)


def socket_path(folder: Path) -> Path:
    """The control socket of the node in `folder`: in it, or, where that name is too long, in a folder of /tmp.

    Depends on nothing but the folder's name and the user, so that the node and its callers agree.
    """
    inside = folder / "control.sock"
    if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES_MAX:
        return inside
    import hashlib

    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:20]
    return Path("/tmp") / f"dhtex-{os.getuid()}-{name}" / "control.sock"


def make_private_folder(folder: Path, hint: str = "set DHTEX_HOME to a folder of your own") -> None:
    """Make a folder that only its owner can enter. Raises StateError when that cannot be had, with `hint` when it is
    not ours.

    In /tmp somebody else may have made it first, to listen in our place: then it is refused.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        link, found = folder.lstat(), folder.stat()
        ours = link.st_uid == found.st_uid == os.getuid()
        if ours and found.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"cannot use the folder {folder}: {error.strerror}", hint="set DHTEX_HOME to a folder you can write to"
        ) from error
    if not ours:
        raise StateError(f"the folder {folder} belongs to somebody else", hint=hint)

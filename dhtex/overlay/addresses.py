"""Network addresses: always literal IPs, because resolving a name that a stranger chose blocks, leaks and can lie."""

import ipaddress
from functools import lru_cache
from typing import Final

from dhtex import limits

Address = tuple[str, int]  # a literal IPv4 or IPv6 address in its canonical spelling, and a UDP port

_CACHED: Final = 8192


@lru_cache(_CACHED)
def canonical_ip(text: str) -> str | None:
    """The one spelling of a literal unicast address, or None. An IPv4 address inside IPv6 becomes plain IPv4."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return None  # means something on one machine only
        ip = ip.ipv4_mapped or ip
    if ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255":
        return None
    return ip.compressed


def canonical(address: Address) -> Address | None:
    """The address with its IP in canonical spelling, or None if nothing can be sent there."""
    ip = canonical_ip(address[0])
    return None if ip is None or not 0 < address[1] < 65536 else (ip, address[1])


@lru_cache(_CACHED)
def is_local(ip: str) -> bool:
    """Whether many honest nodes may share this address's neighbourhood: loopback, private and link-local ranges."""
    return not ipaddress.ip_address(ip).is_global


def may_name(namer: str, named: str) -> bool:
    """Whether a node can know another: one far away must not have us send to our own machine or local network."""
    return _reach(named) >= _reach(namer)


@lru_cache(_CACHED)
def _reach(ip: str) -> int:
    """How far an address means the same: 0 on one machine, 1 in a local network, 2 everywhere."""
    return 0 if ipaddress.ip_address(ip).is_loopback else 1 if is_local(ip) else 2


@lru_cache(_CACHED)
def subnet(ip: str) -> bytes | None:
    """What one person can easily own many addresses of: the /24 (IPv4) or /64 (IPv6); None for local addresses."""
    if is_local(ip):
        return None
    packed = ipaddress.ip_address(ip).packed
    return packed[:3] if len(packed) == 4 else packed[:8]


def neighbourhood(ip: str) -> str:
    """The name under which what comes from an address is counted: its subnet, or, where many share one, itself."""
    shared = subnet(ip)
    return ip if shared is None else shared.hex()


@lru_cache(limits.ADDRESSES_TRACKED_MAX)
def pack_address(address: Address) -> bytes:
    """An address in 6 bytes (IPv4) or 18."""
    return ipaddress.ip_address(address[0]).packed + address[1].to_bytes(2)


@lru_cache(limits.ADDRESSES_TRACKED_MAX)
def unpack_address(packed: bytes) -> Address | None:
    """The address, which must have 6 or 18 bytes; None if nobody can live there."""
    ip = canonical_ip(ipaddress.ip_address(packed[:-2]).compressed)
    return None if ip is None else (ip, int.from_bytes(packed[-2:]))


def endpoint(host: str, port: int) -> str:
    """An address as people write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

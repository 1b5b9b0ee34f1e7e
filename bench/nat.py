"""Nodes behind routers: whether `--map-port` lets strangers in, with real nodes, and miniupnpd on real NATs.

Every router has a network behind it and one address outside, where the other nodes are. Run by `scripts/nat`, in
namespaces of its own; the cases go on side by side, since they wait most of the time.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, Final

from dhtex import limits
from dhtex.node.mapping import RENEW_S_MAX

PORT: Final = 3001
RUN: Final = Path("/run")
NUMBERS: Final = itertools.count(1)  # no two have the same
DHTEX: Final = Path(sys.executable).with_name("dhtex")
RULES: Final = """
table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; jump own; }
    chain input { type filter hook input priority 0; iifname "wan" ct state new drop; }
    chain own { iifname "lan" accept; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; oifname "wan" masquerade; }
}
"""
UPNPD: Final = "ext_ifname=wan\nlistening_ip=lan\nuuid=caa59a7c-f6a2-475b-a13b-{number:012}\n"
NAT_PMP: Final = "enable_natpmp=yes\nenable_upnp=no\n"
UPNP: Final = "enable_natpmp=no\nenable_upnp=yes\n"


class Failed(Exception): ...


def run(*words: str, given: str = "") -> str:
    """A command that has to succeed; what it prints."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise Failed(f"not so: {what}")


def until(holds: Callable[[], bool], what: str, within_s: float = 20.0) -> float:
    """Wait for it; for how long that took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within_s:
            raise Failed(f"not so within {within_s:.0f} s: {what}")
        time.sleep(0.5)
    return time.monotonic() - began


class Host:
    """A machine: a network namespace with its nodes."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link set lo up")

    def ip(self, *commands: str) -> None:
        for words in commands:
            run("ip", "-n", self.name, *words.split())

    def run(self, *words: str, given: str = "") -> str:
        return run("ip", "netns", "exec", self.name, *words, given=given)

    def dhtex(self, words: str) -> str:
        return self.run("env", f"DHTEX_HOME={RUN / self.name}", str(DHTEX), *words.split())

    def start(self, words: str = f"--port {PORT} --map-port", bootstrap: str = "52.0.1.1:4001") -> None:
        self.dhtex(f"start --network nat --pow-bits 0 --bootstrap {bootstrap} {words}")

    def status(self, port: int = PORT) -> Any:
        return json.loads(self.dhtex(f"--node {port} status --json"))

    def told(self) -> str:
        """What the doctor says of the port. He ends with an error where something is wrong."""
        words = f"DHTEX_HOME={RUN / self.name} {DHTEX} doctor --json || true"
        (port,) = [check for check in json.loads(self.run("sh", "-c", words))["checks"] if check["name"] == "port"]
        return f"{port['state']}: {port['finding']}"


class Outside(Host):
    """Where the others are: members of the network, and strangers now and then."""

    def __init__(self) -> None:
        super().__init__("outside")
        for number in range(1, limits.PROBERS_SILENT + 2):
            self.ip(f"addr add 52.0.{number}.1/32 dev lo")
            self.start(f"--port {4000 + number} --host 52.0.{number}.1")

    def reaches(self, address: str) -> bool:
        """Whether a node at an address that nobody has ever heard of meets the network there."""
        number = next(NUMBERS)
        self.ip(f"addr add 52.1.{number}.1/32 dev lo")
        self.start(f"--port {5000 + number} --host 52.1.{number}.1", address)
        try:
            until(lambda: self.status(5000 + number)["bootstrap"][address] == "connected", "met", 3.0)
        except Failed:
            return False
        finally:
            self.dhtex(f"--node {5000 + number} stop")
        return True


class Router(Host):
    """A NAT with an address outside and two machines behind it."""

    def __init__(self, outside: Outside) -> None:
        self.number = next(NUMBERS)
        super().__init__(f"router{self.number}")
        self.wan = f"50.60.{self.number}.1"
        self.ip(f"link add wan type veth peer name wan{self.number} netns {outside.name}")
        self.ip(f"addr add {self.wan}/24 dev wan", "link set wan up", f"route add default via 50.60.{self.number}.2")
        outside.ip(f"addr add 50.60.{self.number}.2/24 dev wan{self.number}", f"link set wan{self.number} up")
        self.ip("link add lan type bridge", "addr add 192.168.77.1/24 dev lan", "link set lan up")
        self.home, self.neighbour = self._machine(2), self._machine(100)
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.run("nft", "-f", "-", given=RULES)

    def _machine(self, number: int) -> Host:
        host = Host(f"host{self.number}-{number}")
        self.ip(f"link add p{number} type veth peer name lan netns {host.name}", f"link set p{number} master lan up")
        host.ip(f"addr add 192.168.77.{number}/24 dev lan", "link set lan up", "route add default via 192.168.77.1")
        return host

    def mapped(self) -> dict[int, str]:
        """Where miniupnpd sends what comes to a port from outside."""
        rules = self.run("nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd")
        return {int(port): to for port, to in re.findall(r"dport (\d+) dnat ip to (\S+)", rules)}


def serve(host: Host, number: int, options: str) -> "subprocess.Popen[bytes]":
    """Let a machine be a router that maps ports."""
    file = RUN / f"{host.name}.conf"
    file.write_text(options + UPNPD.format(number=number))
    words = f"ip netns exec {host.name} miniupnpd -d -f {file} -P {file}.{next(NUMBERS)}"
    process = subprocess.Popen(words.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.0)
    expect(process.poll() is None, f"miniupnpd runs on {host.name}")
    return process


def unmapped(outside: Outside, router: Router) -> str:
    """Nobody gets in, and the node finds out."""
    serve(router, 1, NAT_PMP)
    router.home.start(f"--port {PORT}")
    expect(not outside.reaches(f"{router.wan}:{PORT}"), "no stranger gets through")
    return f"a client after {until(lambda: router.home.status()['client'], 'it is a client', 600.0):.0f} s"


def mapped_and_restored(outside: Outside, router: Router, options: str) -> str:
    """Start to end, with a router that is restarted, forgets everything, and has its web service elsewhere then."""
    address, wanted = f"{router.wan}:{PORT}", {PORT: f"192.168.77.2:{PORT}"}
    process = serve(router, 1, options + "http_port=5000\n")
    router.home.start()
    until(lambda: router.mapped() == wanted, "the port is mapped")
    expect(outside.reaches(address), "a stranger gets through")
    process.kill()
    router.run("nft", "-f", "-", given="flush ruleset\n" + RULES)
    expect(not outside.reaches(address), "no stranger gets through without the mapping")
    serve(router, 1, options + "http_port=5050\n")
    took_s = until(lambda: router.mapped() == wanted, "the port is mapped again", RENEW_S_MAX + 30)
    expect(outside.reaches(address), "a stranger gets through again")
    expect(router.home.told().startswith("ok"), "the doctor is content")
    expect(not router.home.status()["client"], "the node is no client")
    until(lambda: f" {address} " in outside.dhtex("--node 4001 peers"), "members route to it", 60.0)
    router.home.dhtex("stop")
    expect(router.mapped() == {}, "the mapping is taken back at the stop")
    return f"a full member; mapped again {took_s:.0f} s after the restart, and no more after the stop"


def taken(outside: Outside, router: Router, options: str) -> str:
    """Two nodes of the same port behind one router: the second is told, and gets in by another port."""
    serve(router, 1, options)
    router.neighbour.start()
    until(lambda: PORT in router.mapped(), "the first is mapped")
    router.home.start()
    until(lambda: re.match("warning.* taken", router.home.told()) is not None, "the second is told")
    expect(router.mapped()[PORT] == f"192.168.77.100:{PORT}", "the first keeps the port")
    seen = int(router.home.status()["address"].rpartition(":")[2])
    expect(router.mapped().get(seen) != f"192.168.77.2:{PORT}", "peers see the second at a port that is not mapped")
    told = router.home.told().partition(", which ")[2]
    router.home.dhtex("stop")
    router.home.start(f"--port {PORT + 10} --map-port")
    until(lambda: router.mapped().get(PORT + 10) == f"192.168.77.2:{PORT + 10}", "another port is mapped")
    expect(all(outside.reaches(f"{router.wan}:{port}") for port in (PORT, PORT + 10)), "strangers get through to both")
    return told


def several(outside: Outside, router: Router) -> str:
    """Of two that call themselves routers, the one that leads out is asked, also where it speaks the old version."""
    serve(router, 1, UPNP + "force_igd_desc_v1=yes\n")
    router.neighbour.ip("link add wan type veth peer name far", "addr add 50.61.0.1/24 dev wan", "link set wan up")
    router.neighbour.run("nft", "-f", "-", given=RULES)
    serve(router.neighbour, 2, UPNP)
    router.home.start()
    until(lambda: PORT in router.mapped(), "the port is mapped at the right one")
    expect(outside.reaches(f"{router.wan}:{PORT}"), "a stranger gets through")
    return "the gateway was asked"


CASES: Final[dict[str, Callable[[Outside, Router], str]]] = {
    "without --map-port": unmapped,
    "NAT-PMP": partial(mapped_and_restored, options=NAT_PMP),
    "UPnP": partial(mapped_and_restored, options=UPNP),
    "port taken, NAT-PMP": partial(taken, options=NAT_PMP),
    "port taken, UPnP": partial(taken, options=UPNP),
    "two routers, UPnP 1": several,
}


def main() -> int:
    """Run all cases; one line for each as it ends."""
    argparse.ArgumentParser(prog="scripts/nat", description=__doc__.splitlines()[0]).parse_args()
    assert os.environ["DHTEX_HOME"] == str(RUN), "run by scripts/nat: it makes namespaces that end with it"
    outside, well = Outside(), True
    with ThreadPoolExecutor(len(CASES)) as threads:
        began = {threads.submit(case, outside, Router(outside)): title for title, case in CASES.items()}
        for ended in as_completed(began):
            fault = ended.exception()
            well &= fault is None
            print(f"{'FAILED' if fault else 'ok':6}  {began[ended]:20}  {fault or ended.result()}", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

"""IPv4 and IPv6 in one network: nodes of both families join what those of one cannot reach from the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dhtex import limits
from dhtex.overlay.addresses import Address
from dhtex.overlay.contact import Peer
from dhtex.overlay.families import Families
from dhtex.overlay.server import Overlay
from dhtex.overlay.transport import UdpEndpoint
from tests.unit.overlay.fakes import address_of, held, make_overlay, record, until
from tests.unit.overlay.test_overlay import key_of

FOUR, SIX = ("10.0.0.1", 4000), ("fd00::1", 4000)


@asynccontextmanager
async def mixed(each: int) -> AsyncIterator[tuple[list[Overlay], list[Overlay], list[Overlay]]]:
    """So many nodes of IPv4 alone, of IPv6 alone, and of both; all meet at the first that has both."""
    groups: list[list[Overlay]] = []
    try:
        for kind, host in enumerate((None, "127.0.0.1", "::1")):
            groups.append([make_overlay(100 * kind + number) for number in range(each)])
            for node in groups[-1]:
                await node.listen(0, host)
                first = groups[0][0]
                assert node is first or await node.connect(address_of(first, host or "127.0.0.1"))
        both, fours, sixes = groups
        yield fours, sixes, both
    finally:
        await asyncio.gather(*(node.close() for group in groups for node in group))


async def test_what_one_family_puts_the_other_reads() -> None:
    async with mixed(3) as (fours, sixes, both):
        await until(lambda: all(len(node.peers()) == 8 for node in both))
        await until(lambda: all(len(node.peers()) == 5 for node in (*fours, *sixes)))
        for number, (writer, reader) in enumerate([*zip(fours, sixes, strict=True), *zip(sixes, fours, strict=True)]):
            key = key_of(number)
            assert (await writer.put(key, record(key), None)).holders >= 5
            assert all(key in held(node).rows for node in both)
            read = await reader.get(key)
            assert {one for version in read.versions for one in version.wires} == {record(key)}
            assert await reader.fetch(key, 0, record(key).__eq__) is not None


async def test_who_has_one_family_soon_asks_the_other_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mixed(3) as (fours, _, both):
        await until(lambda: all(len(node.peers()) == 8 for node in both))
        node = fours[0]
        assert isinstance(node.transport, UdpEndpoint)
        sent: list[Address] = []
        send = node.transport.sendto

        def noted(data: bytes, address: Address) -> None:
            sent.append(address)
            send(data, address)

        monkeypatch.setattr(node.transport, "sendto", noted)
        for number in range(4):
            await node.get(key_of(number))
            await until(lambda: not node.protocol.requests)
        assert any(":" in ip for ip, _ in sent)  # it was told of them, and had to learn
        sent.clear()
        for number in range(4, 24):
            await node.get(key_of(number))
        assert len(sent) >= 20 * 5
        assert sum(":" in ip for ip, _ in sent) <= limits.REQUEST_TRIES  # one of them is tried now and then


def test_a_family_is_left_out_while_it_is_silent_and_the_other_is_not() -> None:
    families = Families()
    four, six = Peer(FOUR, None, 0.0), Peer(SIX, None, 0.0)
    for _ in range(limits.FAMILY_FAILURES):
        assert families.worth_asking(six, 1.0)
        families.silent(SIX)
    assert families.worth_asking(six, 1.0)  # as far as we know there is no network at all
    families.answered(FOUR)
    assert [families.worth_asking(six, 1.0) for _ in range(3)] == [True, False, False]
    assert families.worth_asking(four, 1.0)
    assert families.worth_asking(six, 1.1 + limits.FAMILY_RETRY_S)
    assert not families.worth_asking(six, 1.2 + limits.FAMILY_RETRY_S)
    six.verified_until = 100.0
    assert families.worth_asking(six, 99.0)  # it has answered lately
    six.verified_until = 0.0
    for _ in range(limits.FAMILY_FAILURES):
        families.silent(FOUR)
    assert families.worth_asking(six, 99.0)
    families.answered(FOUR)
    families.answered(SIX)
    assert families.worth_asking(six, 99.0)

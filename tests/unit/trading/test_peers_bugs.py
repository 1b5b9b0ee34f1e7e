"""Bugs that other order books and peer-to-peer exchanges have had, each tried on this one.

The names say what went wrong there; where it was found stands beside it. What concerns no part of ours (private offers,
pegged prices) is left out.
"""

import asyncio
import contextlib
import dataclasses

import msgspec
import pytest

from dhtex import limits
from dhtex.config import NodeConfig
from dhtex.control.doors import Guard, bind_tcp
from dhtex.coverage import Coverage
from dhtex.errors import StateError
from dhtex.market.admission import Verifier, keep_until, signature_holds
from dhtex.market.book import Matcher, arrange
from dhtex.market.holding import Taken
from dhtex.market.ids import index_key, order_key
from dhtex.market.merge import Meeting, meet, order_state
from dhtex.market.present import order_view
from dhtex.market.records import Closing, Confirm, Kind, Liveness, Order, Record, Status, parse_record
from dhtex.market.trade import MakerState
from dhtex.overlay.table import Table
from dhtex.store.database import Database
from dhtex.store.holdings import Holdings
from dhtex.store.journal import Journal
from dhtex.store.rows import Answer, KeptReceipt, OwnOrder, Pending, Trade
from dhtex.trading.maker import Ignore, Reason, Rules, Standing, decide
from dhtex.views import ListingView, OrderQuery, OrderView
from tests.builders import NETWORK, NOW, identity, make_accept, make_beat, make_order, make_status
from tests.unit.overlay.test_table import OWN, far, peer
from tests.unit.store.samples import STATUS, name, own_order, trade
from tests.unit.trading.world import Party, VirtualClock, new_network, parties, play, states, stop, until

INDEX = index_key(NETWORK, "BTC/USD", "sell", "")
ROOM = 1 << 30


@pytest.fixture
def journal() -> Journal:
    return Journal(Database.open(None))


@pytest.fixture
def holdings() -> Holdings:
    return Holdings(Database.open(None), NETWORK, 0)


def view(order: Record[Order], *statuses: Record[Status], now: float = NOW) -> OrderView:
    return order_view(order, order_state(order, statuses, now), heard_of=now, now=now, mine=False)


def test_1_updates_within_one_second_tie() -> None:
    """Mostro 872: the newer of two updates was chosen by a clock of whole seconds."""
    order = make_order()
    first, second = (make_status(order, Closing.CANCELED, seq=seq, at=NOW + 5) for seq in (1, 2))
    stale = make_status(order, Closing.CANCELED, seq=1, at=NOW + 999)
    assert meet(second, first, NOW) is Meeting.NEW_WINS
    assert meet(first, second, NOW) is Meeting.OLD_STAYS
    assert meet(stale, second, NOW) is Meeting.OLD_STAYS


def test_2_a_publication_that_failed_is_reported_as_a_success() -> None:
    """Mostro 872 and 888: one place had taken it, another had not, and nothing was tried again."""

    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        put_index, refused = maker.access.put_index, 3

        async def reluctant(order: Order, wire: bytes) -> int:
            nonlocal refused
            refused -= 1
            return 0 if refused >= 0 else await put_index(order, wire)

        maker.access.put_index = reluctant  # type: ignore[method-assign]
        assert (await taker.accept(maker.publish(), wait_s=30)).state == "confirmed"
        assert len(maker.journal.unpublished()) == 1  # the order's key has it, the index not
        await until(lambda: len(network.at_index) == 1)
        await until(lambda: not maker.journal.unpublished())
        await stop(maker, taker)

    play(story())


def test_3_a_row_that_was_read_before_the_cancellation_is_written_back_after_it(journal: Journal) -> None:
    """Mostro 866: a write of the whole row brought a cancelled order back to life."""
    journal.add_order(own_order())
    assert journal.close_order(name(1), MakerState.CANCELED, b"end")
    assert not journal.decide_fill(name(1), name(100), STATUS, trade())
    assert not journal.stamp_order(name(1), b"order")
    assert not journal.close_order(name(1), MakerState.EXPIRED, b"")
    assert [(row.state, row.status_wire) for row in journal.orders()] == [("canceled", b"end")]


@pytest.mark.parametrize(
    ("table", "row"),
    [("orders", OwnOrder), ("trades", Trade), ("pending", Pending), ("answers", Answer), ("receipts", KeptReceipt)],
)
def test_3_a_column_is_forgotten_when_a_row_is_written(table: str, row: type) -> None:
    """Mostro 876: an update that lists its columns by hand lost the newest of them."""
    columns = {column[1] for column in Database.open(None).rows(f"PRAGMA table_info({table})")}
    assert {field.name for field in dataclasses.fields(row)} - {"published"} == columns - {"published"}


def test_4_a_replay_cache_that_is_filled_before_the_signature_check_censors() -> None:
    """Mostro 892: a forged copy that came first made the genuine message a replay."""

    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = maker.publish()
        genuine = make_accept(order)
        forged = msgspec.structs.replace(genuine, signature=bytes(64))
        verifier = Verifier()
        assert not verifier.check(forged)
        assert verifier.check(genuine)
        assert not verifier.check(forged)
        maker.desk.on_record(forged)
        assert states(maker) == []
        maker.desk.on_record(genuine)
        assert states(maker) == [("confirmed", "")]
        await stop(maker, taker)

    play(story())


def test_5_a_cancellation_overtakes_the_order_or_the_order_is_replayed(holdings: Holdings) -> None:
    """Komodo DeFi 2580: cancelled orders were remembered for two minutes, and came back after that."""
    order = make_order()
    end = make_status(order, Closing.CANCELED)
    for prefix in ("", None):
        assert holdings.put(end.wire, prefix, NOW, "10.0.0.1").taken is Taken.STORED
    for now in (NOW + 1, NOW + 121, order.body.expires - 1):
        for prefix in ("", None):
            assert holdings.put(order.wire, prefix, now, "10.0.0.2").taken is Taken.SUPERSEDED
            holdings.expire(now)
        assert holdings.page(INDEX, Kind.ORDER, 0, ROOM, now).total == 0
        assert holdings.stock_value(order_key(order.id), now) is None
    assert keep_until(end) >= order.body.expires + limits.TOMBSTONE_S


def test_5_a_replayed_sign_of_life_revives_what_was_cancelled(holdings: Holdings) -> None:
    """Komodo DeFi 2580: a keep-alive of a cancelled order, sent again, brought it back."""
    order = make_order()
    end = make_status(order, Closing.CANCELED, at=NOW + 1)
    old, new = make_beat(at=NOW + 2), make_beat(at=NOW + 32)
    for record in (order, end, new, old):
        holdings.put(record.wire, "", NOW + 33, "10.0.0.1")
    assert holdings.page(INDEX, Kind.ORDER, 0, ROOM, NOW + 33).total == 0
    assert holdings.page(INDEX, Kind.BEAT, 0, ROOM, NOW + 33).wires == [new.wire]
    assert view(order, end, now=NOW + 33).status == "canceled"


def test_5_a_message_of_its_own_that_comes_back_is_taken_for_news() -> None:
    """The same place: a node heard its own broadcast, and put the order into its book again."""

    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order, other = maker.publish(), maker.publish(number=1)
        assert (await taker.accept(order, wait_s=30)).state == "confirmed"
        maker.desk.on_record(make_accept(other, amount="9"))
        await until(lambda: not maker.journal.unpublished())
        orders, trades, puts = maker.journal.orders(), maker.journal.trades(), len(network.puts)
        for record in [*network.at_order[order.id].values(), *network.at_order[other.id].values()]:
            maker.desk.on_record(record)
        await asyncio.sleep(1.0)
        assert (maker.journal.orders(), maker.journal.trades()) == (orders, trades)
        assert set(network.puts[puts:]) <= {trade.answer_wire for trade in trades}
        await stop(maker, taker)

    play(story())


def test_6_an_order_on_hold_is_never_released() -> None:
    """xud 1557 and 1842: a hold kept the best order from matching, and one that failed stayed for ever."""

    async def story() -> None:
        network = new_network()
        maker, patient, quick = await parties(network)
        order = maker.publish(confirm=Confirm.ASK)
        await patient.accept(order)
        await until(lambda: len(maker.journal.pending()) == 1)
        assert maker.state(order) == "open"  # nothing is reserved by asking
        assert view(order).status == "open"
        second = await quick.accept(order)
        await until(lambda: len(maker.journal.pending()) == 2)
        assert (await maker.desk.confirm(order.id, second.accept_id)).state == "confirmed"
        other = maker.publish(number=2, confirm=Confirm.ASK)
        maker.desk.on_record(make_accept(other, by=identity(9)))
        await until(lambda: not maker.journal.pending(other.id))  # its deadline is over
        assert (maker.state(other), await accepted(maker, other)) == ("open", True)
        await stop(maker, patient, quick)

    async def accepted(maker: Party, order: Record[Order]) -> bool:
        now = int(VirtualClock().now())
        late = make_accept(order, by=identity(10), created=now, deadline=now + 60)
        maker.desk.on_record(late)
        return (await maker.desk.confirm(order.id, late.id)).state == "confirmed"

    play(story())


def test_6_a_replacement_that_fails_leaves_the_old_order_on_hold(journal: Journal) -> None:
    """xud 1842: the amount of an order whose replacement failed stayed reserved."""
    journal.add_order(own_order())
    journal.add_order(own_order(2))
    with pytest.raises(StateError):
        journal.replace_order(name(1), own_order(2), b"end")  # its successor cannot be written
    assert [row.state for row in journal.orders()] == ["open", "open"]
    assert journal.decide_fill(name(1), name(100), STATUS, trade())


def test_7_expired_orders_are_returned(holdings: Holdings) -> None:
    """0x Mesh 773: a query returned what had expired since the last sweep."""
    order = make_order(expires=NOW + 60)
    assert holdings.put(order.wire, "", NOW, "10.0.0.1").taken is Taken.STORED
    assert holdings.page(INDEX, Kind.ORDER, 0, ROOM, NOW + 59).total == 1
    assert holdings.page(INDEX, Kind.ORDER, 0, ROOM, NOW + 60).total == 0  # and nobody has swept
    assert arrange([view(order, now=NOW + 60)]) == ([], {"expired": 1})


def test_8_half_of_the_book_is_taken_for_all_of_it(holdings: Holdings) -> None:
    """0x Mesh 760: a reader could not tell that the answer was cut."""
    orders = [make_order(number=number) for number in range(9)]
    for order in orders:
        holdings.put(order.wire, "", NOW, "10.0.0.1")
    cut = holdings.page(INDEX, Kind.ORDER, 0, 1000, NOW + 1)
    whole = holdings.page(INDEX, Kind.ORDER, 0, ROOM, NOW + 1)
    assert len(cut.wires) < len(whole.wires) == 9
    assert (cut.total, cut.digest) == (whole.total, whole.digest)


def test_9_an_empty_answer_has_another_shape() -> None:
    """JoinMarket 1327, RoboSats: an empty book was null, or not found."""
    coverage = Coverage(nodes=1, asked=0, answered=0, agreed=0, complete=False)
    empty, full = (
        msgspec.to_builtins(ListingView(orders=orders, coverage=coverage, hidden={}))
        for orders in ([], [view(make_order())])
    )
    assert empty.keys() == full.keys()
    assert (empty["orders"], empty["hidden"]) == ([], {})


def test_10_cancelling_all_hits_orders_that_are_taken() -> None:
    """lnp2pbot 829: a bulk cancellation withdrew orders whose trade was under way."""

    async def story() -> None:
        maker, taker = await parties(new_network(), 2)
        order = maker.publish()
        assert (await taker.accept(order, wait_s=30)).state == "confirmed"
        assert not maker.journal.close_order(order.id, MakerState.CANCELED, make_status(order, Closing.CANCELED).wire)
        assert maker.state(order) == "filled"
        await stop(maker, taker)

    play(story())


def test_11_a_revoked_order_is_accepted_or_one_without_a_time_limit() -> None:
    """BasicSwap 628 and 424."""

    async def story() -> None:
        network = new_network()
        maker, taker = await parties(network, 2)
        order = maker.publish()
        maker.desk.on_record(make_status(order, Closing.CANCELED))
        maker.desk.on_record(make_accept(order))
        assert states(maker) == [("refused", "canceled")]
        fresh = maker.publish(number=1)
        for deadline in (NOW + 1, NOW + 2 + limits.ACCEPT_DEADLINE_S_MAX):
            with pytest.raises(ValueError, match="deadline"):
                make_accept(fresh, created=NOW + 1, deadline=deadline)
        await stop(maker, taker)

    play(story())


def test_12_announcing_an_order_again_makes_it_look_new() -> None:
    """Mostro 888: sorted by age, an order that was announced again was young."""
    order = make_order()
    again = parse_record(order.wire, NETWORK)
    assert isinstance(again, Record)
    assert (again.id, view(order).timestamp) == (order.id, NOW * 1000)
    assert make_order(created=NOW + 1).id != order.id  # another time of birth is another order


def test_13_a_filter_shows_what_is_hidden_without_it() -> None:
    """RoboSats: the branch with a filter forgot the condition of the one without."""
    order = make_order(payments=("sepa",), liveness=Liveness.MAILBOX)
    hidden = [
        view(order, make_status(order, Closing.CANCELED)),
        view(order, now=order.body.expires),
        view(order, make_status(order, Closing.CANCELED), make_status(order, Closing.FILLED)),
    ]
    filters: list[dict[str, str]] = [{}, {"side": "sell"}, {"payment": "sepa"}, {"amount": "1", "pair": "BTC/USD"}]
    for query in (OrderQuery(**words) for words in filters):  # type: ignore[arg-type]
        shown = [each for each in arrange(hidden)[0] if Matcher.of(query).matches(each)]
        assert shown == []
        assert Matcher.of(query).matches(view(order))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8000", "authorization": "Bearer secret"},  # a name that was bound to 127.0.0.1
        {"host": "127.0.0.1:8000", "authorization": "Bearer secret", "origin": "http://evil.example"},
        {"host": "127.0.0.1:8000"},
        {"host": "127.0.0.1:8000", "authorization": "Bearer wrong"},
    ],
)
def test_14_a_web_page_talks_to_the_node(headers: dict[str, str]) -> None:
    """BasicSwap 0.17.3, 0x Mesh: rebinding of names, requests across sites, an interface open to all addresses."""
    reached: list[object] = []
    sent: list[dict[str, object]] = []

    async def app(scope: object, receive: object, send: object) -> None:
        reached.append(scope)

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/v1/stop", "headers": pairs, "query_string": b""}
    asyncio.run(Guard(app, 8000, "secret")(scope, receive, send))
    assert reached == []
    assert sent[0]["status"] in (401, 403, 421)


def test_14_the_interface_is_open_to_all_addresses_unless_somebody_thinks_of_it() -> None:
    """0x Mesh: the interface for programs listened on 0.0.0.0 by default."""
    assert NodeConfig().http_port is None
    with contextlib.closing(bind_tcp(0)) as door:
        assert door.getsockname()[0] == "127.0.0.1"


def test_15_one_lost_answer_bans_an_honest_peer() -> None:
    """0x Mesh 448 and 510."""
    table = Table(OWN)
    one = peer(far(1))
    table.offer(one)
    one.failures = 1
    assert not table.failed(one)
    assert one.in_table


def test_16_a_restored_copy_uses_a_number_again() -> None:
    """mostro-cli: keys were counted up, and a restored client used those that were used already."""
    order = make_order()
    twin = make_order(epoch=2)  # the same words, the same salt even
    assert twin.id != order.id


def test_16_two_copies_with_one_key_both_sell() -> None:
    """The same place; `test_epochs.py` tries it in many ways."""
    rules = Rules(frozenset(), epoch=2, pow_bits=0, good=signature_holds)
    order = make_order(epoch=1)
    standing = Standing(order=order, state="open", fenced=True)
    assert decide(make_accept(order), standing, rules, NOW + 5) == Ignore(Reason.FENCED)

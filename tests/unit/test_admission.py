"""Which records come in, where they belong, and how long they are kept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dhtex import limits
from dhtex.market.admission import Verifier, admit, keep_until, place, signature_holds
from dhtex.market.ids import index_key, order_key
from dhtex.market.pricebits import price_bits
from dhtex.market.records import AnyRecord, Closing, Code, Kind
from tests.builders import (
    NETWORK,
    NOW,
    make_accept,
    make_beat,
    make_order,
    make_receipt,
    make_refusal,
    make_status,
    one_of_each,
)
from tests.strategies import records

ORDER = make_order()
BITS = price_bits(ORDER.body.price)


@given(record=records())
def test_a_fresh_valid_record_is_admitted(record: AnyRecord) -> None:
    assert admit(record, NOW, 0) is None


@pytest.mark.parametrize("kind", Kind)
def test_the_signature_must_be_the_author_s(kind: Kind) -> None:
    record: Any = one_of_each()[kind]
    forged = replace(record, signature=bytes(64))
    assert admit(forged, NOW, 0) is Code.BAD_SIGNATURE
    assert not signature_holds(forged)


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.REFUSAL, Kind.BEAT])
def test_only_orders_and_accepts_bear_a_stamp(kind: Kind) -> None:
    record: Any = one_of_each()[kind]
    assert admit(replace(record, stamp=ORDER.stamp), NOW, 0) is Code.BAD_SIGNATURE


@pytest.mark.parametrize("kind", [Kind.ORDER, Kind.ACCEPT])
def test_orders_and_accepts_need_a_stamp_even_when_it_costs_nothing(kind: Kind) -> None:
    record: Any = one_of_each()[kind]
    assert admit(replace(record, stamp=b""), NOW, 0) is Code.STAMP_TOO_LOW


def test_an_accept_needs_fewer_bits_than_an_order() -> None:
    network_bits = limits.STAMP_ACCEPT_BITS_LESS + 2
    assert admit(make_accept(ORDER, bits=2), NOW, network_bits) is None
    assert admit(make_accept(ORDER, bits=1), NOW, network_bits) is Code.STAMP_TOO_LOW
    assert admit(make_order(bits=2), NOW, network_bits) is Code.STAMP_TOO_LOW
    assert admit(make_order(bits=network_bits), NOW, network_bits) is None


@pytest.mark.parametrize("kind", Kind)
def test_a_record_comes_in_as_long_as_it_is_kept(kind: Kind) -> None:
    record: AnyRecord = one_of_each()[kind]
    end = keep_until(record)
    assert admit(record, end - 1, 0) is None
    assert admit(record, end, 0) is (Code.LATE if kind is Kind.ACCEPT else Code.EXPIRED)


def test_how_long_each_kind_is_kept() -> None:
    made = one_of_each()
    assert {kind: keep_until(record) - NOW for kind, record in made.items()} == {
        Kind.ORDER: limits.ORDER_LIFE_S_DEFAULT,
        Kind.STATUS: limits.ORDER_LIFE_S_DEFAULT + limits.TOMBSTONE_S,
        Kind.ACCEPT: 1 + limits.ACCEPT_DEADLINE_S_DEFAULT + limits.TOMBSTONE_S,
        Kind.REFUSAL: 1 + limits.ACCEPT_DEADLINE_S_DEFAULT + limits.TOMBSTONE_S,
        Kind.BEAT: limits.BEAT_AGE_S_MAX,
        Kind.RECEIPT: limits.ORDER_LIFE_S_DEFAULT + limits.TOMBSTONE_S,
    }


@pytest.mark.parametrize("kind", Kind)
def test_a_clock_may_be_a_little_ahead_but_not_more(kind: Kind) -> None:
    record: AnyRecord = one_of_each()[kind]
    offset = {Kind.STATUS: 2, Kind.ACCEPT: 1, Kind.REFUSAL: 2, Kind.RECEIPT: 1}.get(kind, 0)
    earliest = NOW + offset - limits.CLOCK_SKEW_S_MAX
    assert admit(record, earliest, 0) is None
    assert admit(record, earliest - 1, 0) is Code.NOT_LIVE


def test_nothing_can_ask_to_be_kept_for_ever() -> None:
    with pytest.raises(ValueError, match="expires too late"):
        make_status(ORDER, Closing.CANCELED, expires=NOW + 8 * 86_400)
    with pytest.raises(ValueError, match="expires too late"):
        make_refusal(ORDER, make_accept(ORDER), Code.TAKEN, expires=NOW + 2 * 86_400)


def test_the_signature_is_checked_last() -> None:
    def fail(_: AnyRecord) -> bool:
        raise AssertionError("a record was verified that could have been refused for less")

    assert admit(ORDER, NOW, 20, fail) is Code.STAMP_TOO_LOW
    assert admit(ORDER, ORDER.body.expires, 0, fail) is Code.EXPIRED


def test_all_but_beats_belong_to_the_order_key() -> None:
    made = one_of_each()
    for kind, record in made.items():
        expected = None if kind is Kind.BEAT else order_key(ORDER.id)
        assert place(record, None) == expected


@pytest.mark.parametrize("prefix", ["", BITS[:1], BITS[:40], BITS])
def test_orders_and_statuses_belong_to_the_tree_nodes_above_their_price(prefix: str) -> None:
    key = index_key(NETWORK, "BTC/USD", "sell", prefix)
    assert place(ORDER, prefix) == place(make_status(ORDER, Closing.CANCELED), prefix) == key


@pytest.mark.parametrize("prefix", ["0", BITS[:40] + str(1 - int(BITS[40])), BITS + "0", "x", "2", "1 "])
def test_and_to_no_other(prefix: str) -> None:
    assert place(ORDER, prefix) is None


def test_a_beat_belongs_where_it_was_signed_for() -> None:
    beat = make_beat(prefix="10")
    assert place(beat, "10") == index_key(NETWORK, "BTC/USD", "sell", "10")
    assert place(beat, "1") is None
    assert place(beat, "") is None
    assert place(beat, "100") is None


def test_accepts_refusals_and_receipts_are_not_in_the_index() -> None:
    accept = make_accept(ORDER)
    assert place(accept, "") is None
    assert place(make_refusal(ORDER, accept, Code.TAKEN), "") is None
    assert place(make_receipt(ORDER, accept), "") is None


@given(record=records(), prefix=st.one_of(st.none(), st.text(max_size=130)))
def test_place_never_raises(record: AnyRecord, prefix: str | None) -> None:
    place(record, prefix)


def test_the_verifier_remembers_good_signatures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(size=2)
    forged = replace(ORDER, signature=bytes(64))
    assert not verifier.check(forged)
    assert len(verifier) == 0
    assert verifier.check(ORDER)
    monkeypatch.setattr("dhtex.market.admission.verify", lambda *_: False)
    assert verifier.check(ORDER), "not verified again"
    assert not verifier.check(forged), "the id alone is not enough"
    assert not verifier.check(make_order(number=1))


def test_the_verifier_forgets_what_was_longest_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(size=2)
    first, second, third = (make_order(number=n) for n in range(3))
    for record in (first, second, first, third):
        assert verifier.check(record)
    assert len(verifier) == 2
    monkeypatch.setattr("dhtex.market.admission.verify", lambda *_: False)
    assert verifier.check(first)
    assert verifier.check(third)
    assert not verifier.check(second)

"""Orders in words and in JSON become drafts, digit by digit."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex.cli import drafts, words
from dhtex.errors import UsageError


@pytest.mark.parametrize(
    ("buy", "sell", "side", "pair"),
    [
        ("BTC", "USD", "buy", "BTC/USD"),
        ("USD", "BTC", "sell", "BTC/USD"),
        ("usdt", "xmr", "sell", "XMR/USDT"),
        ("XMR", "BTC", "buy", "XMR/BTC"),  # neither is cash: what is bought is the base
        ("BTC", "XMR", "buy", "BTC/XMR"),
        ("EUR", "USD", "buy", "EUR/USD"),  # both are
        ("USD", "USDT", "buy", "USD/USDT"),
    ],
)
def test_cash_is_the_quote_else_what_is_bought_is_the_base(buy: str, sell: str, side: str, pair: str) -> None:
    text = json.dumps({"buy": buy, "sell": sell, "price": 50000, "amount": 1})
    assert drafts.draft_from_json(text) == {"side": side, "pair": pair, "price": "50000", "amount": "1"}


def test_the_names_of_the_options_work_too() -> None:
    given_order = {
        **{"side": "sell", "symbol": "BTC/USD", "price": "5", "amount": 2, "min": 1, "pay": ["SEPA", "cash"]},
        **{"note": "hi", "expires": "1d12h", "mailbox": True, "ask": False, "ref": "r1", "reply": "call me"},
    }
    assert drafts.draft_from_json(json.dumps(given_order)) == {
        **{"side": "sell", "pair": "BTC/USD", "price": "5", "amount": "2", "minimum": "1"},
        **{"payment": ["SEPA", "cash"], "note": "hi", "expires_s": 129_600, "liveness": "mailbox", "confirm": "auto"},
        **{"reference": "r1", "reply": "call me"},
    }


@given(st.from_regex(r"(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?", fullmatch=True))
def test_numbers_are_taken_digit_by_digit(number: str) -> None:
    draft = drafts.draft_from_json(f'{{"side":"buy","pair":"A/B","price":{number},"amount":{number}}}')
    assert (draft["price"], draft["amount"]) == (number, number)


def test_an_exponent_is_left_for_the_node_to_refuse() -> None:
    assert drafts.draft_from_json('{"buy":"BTC","sell":"USD","price":5e4,"amount":1}')["price"] == "5e4"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"bad\n', "not JSON: Invalid control character at character 6"),
        ("[1]", "one object"),
        ("[" * 100_000, "nested too deeply"),
        ('"x"', "one object"),
        ("{}", "has no side"),
        ('{"buy":"BTC","sell":"USD","price":NaN,"amount":1}', "NaN is not a number"),
        ('{"buy":"BTC","sell":"USD","price":-Infinity,"amount":1}', "-Infinity is not a number"),
        ('{"buy":"BTC","sell":"USD","price":1,"price":2,"amount":1}', "'price' is given twice"),
        ('{"buy":"BTC","sell":"USD","price":1}', "has no amount"),
        ('{"buy":"BTC","sell":"USD","price":1,"amount":null}', "has no amount"),
        ('{"buy":"BTC","price":1,"amount":1}', "each name one currency"),
        ('{"buy":1,"sell":["USD"],"price":1,"amount":1}', "each name one currency"),
        ('{"buy":"BTC","sell":"USD","side":"buy","price":1,"amount":1}', "'side' cannot stand beside"),
        ('{"side":"buy","pair":"A/B","symbol":"A/B","price":1,"amount":1}', "pair is given twice"),
        ('{"side":"buy","pair":"A/B","price":1,"amount":1,"colour":"red"}', "'colour' is not a part"),
        ('{"side":"buy","pair":"A/B","price":true,"amount":1}', "'price' must be text or a number"),
        ('{"side":"buy","pair":"A/B","price":1,"amount":1,"pay":[true]}', "'pay' must be a list"),
        ('{"side":"buy","pair":"A/B","price":1,"amount":1,"mailbox":"yes"}', "must be true or false"),
        ('{"side":"buy","pair":"A/B","price":1,"amount":1,"expires":3600}', "not a length of time"),
    ],
)
def test_json_that_means_no_order_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        drafts.draft_from_json(text)
    assert "\n" not in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_json_is_a_draft_or_a_usage_error(value: Any) -> None:
    with pytest.raises(UsageError):
        drafts.draft_from_json(json.dumps(value))


def test_each_line_of_a_file_stands_for_itself() -> None:
    good = b'{"buy":"BTC","sell":"USD","price":1,"amount":1}'
    file = io.BytesIO(b"\n".join([b"\xef\xbb\xbf" + good, b"", b"{", good, b"\xff", b"x" * 200_000, good]))
    outcomes = {number: isinstance(outcome, dict) for number, outcome in drafts.drafts_from_lines(file)}
    assert outcomes == {1: True, 3: False, 4: True, 5: False, 6: False, 7: True}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86_400), (" 7D ", 604_800), ("1w", 604_800), ("1d12h", 129_600), ("0h", 0)],
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert words.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "1y", "1e3s", "9999999999h", "tomorrow"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UsageError, match="not a length of time"):
        words.duration(text)


def test_ids_may_be_short_but_not_too_short() -> None:
    assert words.record_id(" ABCDEF ") == "abcdef"
    assert words.optional_id("") == ""
    for text in ("", "abcde", "xyzxyz", "a" * 65, "../../etc"):
        with pytest.raises(UsageError, match="not an id"):
            words.record_id(text)

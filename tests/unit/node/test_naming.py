"""The first digits of an id name one thing, or it is said why not."""

import pytest

from dhtex.errors import NotFoundError, UsageError
from dhtex.market.ids import RecordId
from dhtex.node.naming import digits_of, only, whole

ONE, TWO = (RecordId(bytes.fromhex(f"abcdef{last}" + "0" * 57)) for last in "12")
THINGS = [(ONE, "one"), (TWO, "two")]


@pytest.mark.parametrize("prefix", ["", "abcde", "xyzxyz", "abcdef ghi", "a" * 65, "abc-def", "١٢٣٤٥٦"])
def test_what_cannot_begin_an_id_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError):
        digits_of(prefix)


def test_digits_may_be_typed_in_any_case_and_with_spaces_around() -> None:
    assert digits_of(" ABCDEF1 ") == "abcdef1"


def test_enough_digits_name_one_thing() -> None:
    assert only("abcdef1", THINGS, "order", "") == "one"
    assert only("abcdef2", [*THINGS, (TWO, "two")], "order", "") == "two"


def test_digits_that_fit_several_are_ambiguous() -> None:
    with pytest.raises(UsageError, match="fits 2 orders"):
        only("abcdef", THINGS, "order", "")


def test_digits_that_fit_nothing_name_the_next_step() -> None:
    with pytest.raises(NotFoundError, match="look there"):
        only("abcdef3", THINGS, "order", "look there")


def test_only_all_digits_are_an_id() -> None:
    assert whole(ONE.hex()) == ONE
    assert whole(ONE.hex()[:-1]) is None

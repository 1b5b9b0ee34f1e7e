"""What is wrong with a draft is said before anything is signed, with the numbers that matter."""

import pytest

from dhtex.errors import UsageError
from dhtex.market.drafts import Author, Lineage, check_reply, order_from_draft
from dhtex.views import OrderDraft
from tests.builders import NETWORK, NOW, identity

MAKER = Author(
    network=NETWORK,
    maker=identity(1).public,
    encryption_key=identity(1).encryption_public,
    epoch=1,
    now=NOW,
    salt=bytes(8),
)


def note(text: str) -> str:
    draft = OrderDraft(side="sell", amount="1", pair="BTC/USD", price="5", note=text)
    return order_from_draft(draft, MAKER, Lineage()).note


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x" * 141, "the note has 141 characters and 141 bytes of UTF-8 (at most 140 characters and 280 bytes)"),
        ("你" * 100, "the note has 100 characters and 300 bytes of UTF-8 (at most 140 characters and 280 bytes)"),
    ],
)
def test_a_note_has_two_limits_and_one_line_names_both(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        note(text)
    assert str(caught.value) == says
    assert note("é" * 140) == "é" * 140


@pytest.mark.parametrize("text", ["x" * 281, "é" * 141, "你" * 94])
def test_a_message_has_so_many_bytes(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_reply(text)
    assert str(caught.value) == f"the message has {len(text.encode())} bytes of UTF-8 (at most 280 bytes)"
    check_reply("你" * 93)

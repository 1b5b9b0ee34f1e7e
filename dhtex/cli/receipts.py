"""What the sides of a trade say became of it, as lines for people."""

from collections.abc import Mapping
from typing import Any

from dhtex.cli.text import Page, ago, clean

View = Mapping[str, Any]


def receipt(said: View, page: Page) -> str:
    """What one side says, as `settled 2m ago` or `failed 2m ago: no payment came`."""
    text = f"{said['outcome']} {ago(page.now - said['timestamp'] / 1000)} ago"
    text += f": {said['reason']}" if said["reason"] else ""
    return text if said["held"] else f"{text} (no other node holds this yet)"


def in_short(trade: View) -> str:
    """What both sides say, as `settled` if they agree, else as `maker settled, taker failed` or as far as it goes."""
    receipts = trade["receipts"]
    if len({said["outcome"] for said in receipts}) == 1 and len(receipts) == 2:
        return str(receipts[0]["outcome"])
    return ", ".join(f"{said['by']} {said['outcome']}" for said in receipts)


def settled(view: View, page: Page) -> list[str]:
    """A trade about which this node has just said something."""
    base, _, quote = view["symbol"].partition("/")
    own = next(said for said in view["receipts"] if said["by"] == view["role"])
    others = [said for said in view["receipts"] if said["by"] != view["role"]]
    lines = [f"{own['outcome']} {view['id'][:10]}: {view['amount']} {base} at {view['price']} {quote}"]
    lines += [f"the {said['by']} says: {receipt(said, page)}" for said in others]
    return [clean(line) for line in lines]

"""How orders and trades ended: how much was taken, and what both sides say became of it. In words for people."""

from collections.abc import Mapping
from typing import Any

from dhtex.cli.text import Page, ago, clean

View = Mapping[str, Any]


def filled(view: View) -> str:
    """How much of a closed order was taken, as `0.2 of 0.5 BTC`; nothing of one that is open, because it is whole."""
    base = view["symbol"].partition("/")[0]
    return "" if view["filled"] == "0" else f"{view['filled']} of {view['amount']} {base}"


def left(view: View) -> str:
    """What a part fill has left, and the order in which it is offered again."""
    if view["status"] != "filled" or view["remaining"] == "0":
        return ""
    base = view["symbol"].partition("/")[0]
    child = view.get("child")
    return f"{view['remaining']} {base}, " + (f"offered again as {child}" if child else "in no order that is open now")


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

"""Answers of the node as lines for people. Pure: JSON-like values and a page in, lines out.

Whatever a stranger may have written passes `clean` (in `table` and `fields`, or here) before it is printed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dhtex.cli.coverage import coverage_lines, more
from dhtex.cli.receipts import filled, in_short, left, receipt
from dhtex.cli.text import Column, Page, ago, clean, fields, id_digits, plural, table

View = Mapping[str, Any]

_SIDE_COLOURS: Final = {"buy": "green", "sell": "red"}
_UNHEARD: Final = "the node was away until no holder remembered an answer: ask the maker whether there was one"
_STATE_COLOURS: Final = {"confirmed": "green", "refused": "red", "void": "red", "pending": "yellow", "sent": "yellow"}

ORDER_COLUMNS: Final = (
    Column("ID"),
    Column("SIDE"),
    Column("AMOUNT", "."),
    Column("MIN", ".", spare=True),
    Column("PRICE", "."),
    Column("PAIR"),
    Column("STATUS"),
    Column("EXPIRES", ">", spare=True),
    Column("MAKER", spare=True),
    Column("PAYMENT", least=10, spare=True),
    Column("FLAGS", spare=True),
    Column("NOTE", least=12, spare=True),
)
TRADE_COLUMNS: Final = (
    Column("ID"),
    Column("STATE"),
    Column("ROLE"),
    Column("SIDE"),
    Column("AMOUNT", "."),
    Column("PRICE", "."),
    Column("PAIR"),
    Column("AGE", ">", spare=True),
    Column("ORDER", spare=True),
    Column("CODE"),
    Column("SETTLED"),
    Column("MESSAGE", least=12, spare=True),
)
PEER_COLUMNS: Final = (
    Column("ID"),
    Column("ADDRESS"),
    Column("KIND"),
    Column("RTT", ">"),
    Column("KNOWN", ">", spare=True),
    Column("HEARD", ">", spare=True),
    Column("FAILED", ">", spare=True),
)
NODE_COLUMNS: Final = (
    Column("PORT", ">"),
    Column("STATE"),
    Column("NETWORK"),
    Column("PID", ">"),
    Column("UP", ">"),
    Column("VERSION", spare=True),
    Column("HTTP", spare=True),
)


def offer(order: View) -> str:
    """What an order offers, in half a sentence."""
    base, _, quote = str(order["symbol"]).partition("/")
    return clean(f"{order['side']} {order['amount']} {base} at {order['price']} {quote}")


def listing(view: View, page: Page) -> list[str]:
    """The orders of a listing, then how complete it is."""
    orders: Sequence[View] = view["orders"]
    lines = order_table(orders, page) if orders else ["no orders"]
    return [*lines, *more(view), *coverage_lines(view, page)]


def order_table(orders: Sequence[View], page: Page) -> list[str]:
    """A table of orders; what is the same for all of them and needs no saying is left out."""
    digits = id_digits(order["id"] for order in orders)
    all_open = all(order["status"] == "open" for order in orders)
    rows = [
        (
            order["id"][:digits],
            order["side"],
            order["amount"],
            "" if order["minimum"] == order["amount"] else order["minimum"],
            order["price"],
            order["symbol"],
            "" if all_open else order["status"],
            _until(order["expires"], page),
            order["maker"][:8],
            ", ".join(order["payment"]),
            _flags(order),
            order["note"],
        )
        for order in orders
    ]
    return table(ORDER_COLUMNS, rows, page, [_SIDE_COLOURS.get(order["side"], "") for order in orders])


def _flags(order: View) -> str:
    said = {
        "mine": order["mine"],
        "mailbox": order["liveness"] == "mailbox",
        "ask": order["confirm"] == "ask",
        "silent": not order["live"] and order["status"] == "open",
    }
    return " ".join(name for name, is_so in said.items() if is_so)


def _until(milliseconds: int, page: Page) -> str:
    left_s = milliseconds / 1000 - page.now
    return ago(left_s) if left_s > 0 else "over"


def _since(milliseconds: int, page: Page) -> str:
    return ago(page.now - milliseconds / 1000)


def _moment(view: View, number: str, text: str, page: Page) -> str:
    """A time as both: `2026-01-02T03:04:05Z (in 23h)`."""
    away_s = view[number] / 1000 - page.now
    return f"{view[text]} ({'in ' + ago(away_s) if away_s > 0 else ago(-away_s) + ' ago'})"


def order(view: View, page: Page) -> list[str]:
    """Everything about one order."""
    holders = view.get("holders")
    held = "held by" if view["status"] in ("open", "publishing") else "end held by"
    return fields(
        (
            ("id", view["id"]),
            ("status", view["status"] + ("" if view["live"] or view["status"] != "open" else ", its maker is silent")),
            ("offer", offer(view)),
            ("minimum", "" if view["minimum"] == view["amount"] else view["minimum"]),
            ("filled", filled(view)),
            ("why disputed", f"its maker signed {len(view['proof'])} ends: see --json" if view["proof"] else ""),
            ("payment", ", ".join(view["payment"])),
            ("note", view["note"]),
            ("maker", view["maker"] + (" (this node)" if view["mine"] else "")),
            ("created", _moment(view, "timestamp", "datetime", page)),
            ("expires", _moment(view, "expires", "expiresDatetime", page)),
            ("while away", "may be accepted while the maker is away" if view["liveness"] == "mailbox" else ""),
            ("confirming", "by hand" if view["confirm"] == "ask" else "by the maker's node"),
            ("reference", view["clientOrderId"]),
            (held, "" if holders is None else plural(holders, "other node")),
            ("replaces", view.get("replaces") or ""),
            ("replaced by", view.get("replacedBy") or ""),
            ("remainder of", view.get("parent") or ""),
            ("what is left", left(view)),
            *((f"for the {said['by']}", receipt(said, page)) for said in view["receipts"]),
            ("group", view.get("group") or ""),
            ("canceled in", _until(view["cancelAt"], page) + " unless renewed" if view.get("cancelAt") else ""),
        ),
        page,
    )


def published(view: View, page: Page) -> list[str]:
    """An order that this node has just signed."""
    new = view["order"]
    replaces = new.get("replaces")
    verb = f"replaced {replaces[:10]} by" if replaces else "published"
    refusals = view.get("refusals") or {}
    held = f"held by {plural(view['holders'], 'other node')}"
    if not view["holders"]:
        later = _untold("the change") if replaces else "it is published as soon as there is a peer"
        held = "0 other holders" + ("" if refusals else f": {later}")
    refused = ", ".join(f"{count} refused it as {code}" for code, count in sorted(refusals.items()))
    held += ", more are looked for" if view.get("unfinished") else ""
    minimum = "" if new["minimum"] == new["amount"] else f"minimum {new['minimum']}"
    ends = [f"expires in {_until(new['expires'], page)}"]
    ends += [f"canceled in {_until(new['cancelAt'], page)} unless renewed"] if new.get("cancelAt") else []
    about = "; ".join(filter(None, (minimum, held, refused, *ends)))
    return [clean(f"{verb} {new['id'][:10]}: {offer(new)} ({about})")]


def _untold(what: str) -> str:
    return f"nobody else knows of {what} yet, but will as soon as a peer answers"


def canceled(view: View, page: Page) -> list[str]:
    """An order that was withdrawn."""
    return canceled_all({"canceled": [view], "failed": []}, page)


def canceled_all(view: View, page: Page) -> list[str]:
    """What became of each of many orders."""
    orders: Sequence[View] = view["canceled"]
    lines = [clean(f"canceled {order['id'][:10]}: {offer(order)}") for order in orders]
    lines += [clean(f"not canceled {failure['id'][:10]}: {failure['message']}") for failure in view["failed"]]
    if untold := sum(order.get("holders") == 0 for order in orders):
        lines.append(_untold("this" if len(orders) == 1 else f"{untold} of these"))
    return lines or ["no open orders"]


def renewed(views: Sequence[View], page: Page) -> list[str]:
    """Orders that would have been canceled by themselves."""
    lines = [f"renewed {view['id'][:10]}: {offer(view)} (for {_until(view['cancelAt'], page)})" for view in views]
    return [clean(line) for line in lines] or ["no open orders with --cancel-after"]


def trades(view: View, page: Page) -> list[str]:
    """A table of trades."""
    views: Sequence[View] = view["trades"]
    if not views:
        return ["no trades"]
    digits = id_digits(trade["id"] for trade in views)
    order_digits = id_digits(trade["order"] for trade in views)
    rows = [
        (
            trade["id"][:digits],
            trade["state"],
            trade["role"],
            trade["side"],
            trade["amount"],
            trade["price"],
            trade["symbol"],
            _since(trade["timestamp"], page),
            trade["order"][:order_digits],
            trade["code"] or "",
            in_short(trade),
            trade["message"] if trade["role"] == "maker" else trade["reply"],
        )
        for trade in views
    ]
    lines = table(TRADE_COLUMNS, rows, page, [_STATE_COLOURS.get(trade["state"], "") for trade in views])
    return [*lines, *more(view)]


def trade(view: View, page: Page) -> list[str]:
    """Everything about one trade."""
    base, _, quote = view["symbol"].partition("/")
    return fields(
        (
            ("id", view["id"]),
            ("state", view["state"]),
            ("refused", refusal_words(view["code"])[0] if view["code"] not in (None, "unheard") else ""),
            ("unheard", _UNHEARD if view["code"] == "unheard" else ""),
            ("role", view["role"]),
            ("side", view["side"]),
            ("amount", f"{view['amount']} {base}"),
            ("price", f"{view['price']} {quote}"),
            ("in all", f"{view['cost']} {quote}"),
            ("order", view["order"]),
            ("accept", "" if view["accept"] == view["id"] else view["accept"]),
            ("with", view["counterparty"]),
            ("since", _moment(view, "timestamp", "datetime", page)),
            ("deadline", _moment(view, "deadline", "deadlineDatetime", page)),
            ("taker says", view["message"]),
            ("maker says", view["reply"]),
            *((f"for the {said['by']}", receipt(said, page)) for said in view["receipts"]),
        ),
        page,
    )


def decided(view: View, page: Page) -> list[str]:
    """What became of an accept that this maker's user has decided."""
    base, _, quote = view["symbol"].partition("/")
    says = [clean(f"the taker says: {view['message']}")] if view["message"] else []
    return [clean(f"{view['state']} {view['id'][:10]}: {view['amount']} {base} at {view['price']} {quote}"), *says]


def accepted(view: View, page: Page) -> list[str]:
    """A confirmed accept; other outcomes are told as errors."""
    if view["state"] != "confirmed":
        return []
    won = view["trade"]
    base, _, quote = won["symbol"].partition("/")
    deal = f"you {won['side']} {won['amount']} {base} at {won['price']} {quote}, {won['cost']} {quote} in all"
    text = f"confirmed {view['accept'][:10]}: {deal}"
    says = [clean(f"the maker says: {won['reply']}")] if won["reply"] else []
    return [page.paint(clean(text), "green"), *says]


def attempt(view: View) -> str:
    """An order that was tried in vain on the way to the best."""
    return clean(f"refused {view['order']['id'][:10]}: {offer(view['order'])} ({view['code'] or 'declined'})")


def tried(view: View, page: Page) -> list[str]:
    """What a wish for the best came to; the orders that were tried in vain have been told of as that ended."""
    return accepted(view["outcome"], page) if view["outcome"] else []


# Why an accept is refused, and what to do then; `{id}` and `{pair}` are filled in.
REFUSALS: Final = {
    "taken": ("another accept was quicker: the order is taken", "see what is left: dhtex order list {pair}"),
    "expired": ("the order has expired", "see what is left: dhtex order list {pair}"),
    "canceled": ("the maker has canceled the order", "see what is left: dhtex order list {pair}"),
    "replaced": ("the maker has replaced the order by another", "see by which: dhtex order show {id}"),
    "self_trade": ("this is your own order", "withdraw it instead: dhtex order cancel {id}"),
    "amount_out_of_range": ("the order is not for this amount", "see what it allows: dhtex order show {id}"),
    "bad_signature": ("the maker could not verify the accept", "check that this node's version and clock are right"),
    "late": ("the accept came after its deadline", "try again, or check that this machine's clock is right"),
    "unknown_order": ("the maker does not know the order yet", "try again in a minute"),
    "not_live": ("the maker is not there", "try again later, or take an order with the flag 'mailbox'"),
    "stamp_too_low": ("the maker asks for more proof of work", "try again"),
    "rate_limited": ("the maker has too much to do", "try again in a minute"),
    "declined": ("the maker has declined", "see what else there is: dhtex order list {pair}"),
    "wrong_epoch": (
        "the order is from before its maker restored a backup",
        "see what is left: dhtex order list {pair}",
    ),
}


def refusal_words(code: str, order_id: str = "ID", pair: str = "") -> tuple[str, str]:
    """A refusal code in words, and the next step."""
    words, hint = REFUSALS.get(code, (f"refused: {code}", "see the order: dhtex order show {id}"))
    return words, hint.format(id=order_id[:10], pair=pair)


def status(view: View, page: Page) -> list[str]:
    """The node in one page."""
    peers = ", ".join(f"{address} ({state})" for address, state in view["bootstrap"].items())
    lines = fields(
        (
            ("node", f"port {view['port']}, {view['state']}, {plural(view['peers'], 'peer')}"),
            (
                "network",
                f"{view['network']} (stamps of {view['pow_bits']} bits, about {plural(view['network_nodes'], 'node')})",
            ),
            ("seen as", view["address"] + (" (a client: not reachable from outside)" if view["client"] else "")),
            ("bootstrap", peers),
            (
                "orders",
                f"{view['orders_open']} of your own open, {plural(view['records_held'], 'record')} held for others",
            ),
            ("watches", str(view["watches"])),
            ("maker", view["maker"]),
            ("id", view["node"]),
            ("epoch", str(view["epoch"])),
            ("listens on", view["host"] or "all addresses"),
            ("process", f"pid {view['pid']}, up {ago(view['uptime_s'])}, dhtex {view['version']}"),
            ("files", view["home"]),
        ),
        page,
    )
    counted = [(name, str(count)) for name, count in sorted(view["counters"].items()) if count]
    return lines + (["", page.paint("counters", "bold"), *fields(counted, page)] if counted else [])


def peers(views: Sequence[View], page: Page) -> list[str]:
    """A table of contacts."""
    if not views:
        return ["no peers"]
    digits = id_digits(peer["id"] for peer in views)
    rows = [
        (
            peer["id"][:digits],
            peer["address"],
            peer["kind"],
            "" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:.1f} ms",
            ago(peer["age_s"]),
            f"{ago(peer['silent_s'])} ago",
            str(peer["failures"] or ""),
        )
        for peer in views
    ]
    return table(PEER_COLUMNS, rows, page)


def nodes(views: Sequence[View], page: Page) -> list[str]:
    """A table of the nodes that run on this machine."""
    if not views:
        return ["no nodes are running"]
    rows = [
        (
            str(node["port"]),
            node["state"],
            node["network"],
            str(node["pid"]),
            _since(node["started"], page),
            node["version"],
            node["http"] or "",
        )
        for node in views
    ]
    return table(NODE_COLUMNS, rows, page)


def event(view: View, page: Page) -> Iterable[str]:
    """One line for something that happened."""
    when = page.paint(clean(str(view["datetime"]))[11:19], "dim")
    if view.get("order"):
        new = view["order"]
        text = clean(f"{new['status']:<9} {new['id'][:10]}  {offer(new)}")
        flags = _flags(new)
        return [f"{when}  {page.paint(text, _SIDE_COLOURS.get(new['side'], ''))}{'  ' + flags if flags else ''}"]
    if view.get("trade"):
        deal = view["trade"]
        text = clean(f"{deal['state']:<9} {deal['id'][:10]}  {deal['amount']} {deal['symbol']} at {deal['price']}")
        return [f"{when}  {page.paint(text, _STATE_COLOURS.get(deal['state'], ''))}"]
    return [f"{when}  {clean(view.get('text') or view['type'])}"]

"""What every face sees: plain structures whose JSON is the public interface.

Field names follow ccxt's unified structures where they exist (`id symbol side price amount filled remaining status
timestamp datetime clientOrderId`); our own stand beside them. Money is a canonical decimal string, a time is both
`timestamp` (milliseconds) and `datetime` (ISO 8601, UTC). Empty answers keep their shape.
"""

import msgspec

from dhtex import limits
from dhtex.coverage import Coverage


class ReceiptView(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of a trade says became of it. `by`: maker or taker; `outcome`: settled or failed; `reason`: for the
    other side only, empty to everybody else; `held`: another node is known to hold it."""

    by: str
    outcome: str
    timestamp: int
    datetime: str
    reason: str = ""
    held: bool = True


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """One order as this node sees it.

    `status`: publishing, open, filled, canceled, replaced, expired or disputed. `accept`: the id of the accept that has
    it. `live`: the maker was heard of lately, or the order may be accepted while the maker is away. `holders`: how many
    other nodes hold it, or its end when it has ended (own orders only; 0: nobody was told yet).
    `parent`: the order whose remainder this is; `child`: that of what a part fill has left of this one, when a single
    order is shown and the child is open or our own. `cancelAt`: when the dead man's switch of an own open order
    goes off, in milliseconds. `proof`: of a disputed order, the signed statuses that contradict each other, in hex.
    `receipts`: what the sides of its trade say became of it, when a single order is shown.
    """

    id: str
    clientOrderId: str
    symbol: str
    side: str
    price: str
    amount: str
    minimum: str
    filled: str
    remaining: str
    status: str
    timestamp: int
    datetime: str
    expires: int
    expiresDatetime: str
    maker: str
    payment: list[str]
    note: str
    liveness: str
    confirm: str
    live: bool
    mine: bool
    holders: int | None = None
    accept: str | None = None
    replaces: str | None = None
    replacedBy: str | None = None
    parent: str | None = None
    child: str | None = None
    cancelAt: int | None = None
    group: str | None = None
    proof: list[str] = []
    receipts: list[ReceiptView] = []


class ListingView(msgspec.Struct, frozen=True, kw_only=True):
    """Orders of one pair or all pairs known here; `hidden` counts what was left out, by reason, and `pairs` that were
    not read, as those before them fill the list.

    `next`: where the listing goes on, for `after` of the next query; null at its end, and when the orders stand in more
    than one line (several sides or pairs, without `sort`).
    """

    orders: list[OrderView]
    coverage: Coverage
    hidden: dict[str, int]
    next: str | None = None


class PublishView(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was signed and journaled, and how many *other* nodes hold it by now (0: it waits for a peer).

    `refusals` counts the holders that did not take it, by reason. `unfinished`: some nodes were silent, and further
    holders are looked for in the background.
    """

    order: OrderView
    holders: int
    refusals: dict[str, int] = {}
    unfinished: bool = False


class NotCanceledView(msgspec.Struct, frozen=True, kw_only=True):
    """An order that could not be withdrawn: why in words, and the refusal code or the code of the error."""

    id: str
    message: str
    code: str


class CancelView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each open order that was to be withdrawn; in both lists oldest first."""

    canceled: list[OrderView]
    failed: list[NotCanceledView]


class TradeView(msgspec.Struct, frozen=True, kw_only=True):
    """One accept, from the side of this node.

    `role`: maker or taker. `state`: sent, pending, confirmed, refused or void. `code`: why it was refused, or `unheard`
    of a void one that may have been confirmed while this node was away for too long; `retryable`: whether trying again
    may help. `message`: what the taker sealed to the maker, `reply`: the maker's answer. `receipts`: what each side
    says became of it, once it has said so.
    """

    id: str
    accept: str
    order: str
    role: str
    state: str
    code: str | None
    retryable: bool
    symbol: str
    side: str
    price: str
    amount: str
    cost: str
    timestamp: int
    datetime: str
    deadline: int
    deadlineDatetime: str
    counterparty: str
    message: str
    reply: str
    receipts: list[ReceiptView] = []


class TradesView(msgspec.Struct, frozen=True, kw_only=True):
    """Trades of this node, newest first. `next`: where they go on, for `after` of the next query; null at their end."""

    trades: list[TradeView]
    next: str | None = None


class LevelView(msgspec.Struct, frozen=True, kw_only=True):
    """One price of the ladder: amount and number of orders there, and the amount down to here from the best price."""

    price: str
    amount: str
    total: str
    orders: int


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """The ladder of a pair, both sides best first; `spread` and `mid` are null unless both sides have an order."""

    symbol: str
    bids: list[LevelView]
    asks: list[LevelView]
    spread: str | None
    mid: str | None
    timestamp: int
    datetime: str
    coverage: Coverage
    hidden: dict[str, int]


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `sequence` grows by one in each stream; a gap means that this reader was too slow.

    `type`: order (new or changed, with `order`), trade (with `trade`), network (with `text`), lost (events dropped),
    progress (with `fraction`, of a stamp being minted), book (with `book`: the ladder as it is from now on).
    """

    sequence: int
    type: str
    timestamp: int
    datetime: str
    order: OrderView | None = None
    trade: TradeView | None = None
    text: str | None = None
    fraction: float | None = None
    book: BookView | None = None


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """One contact of the routing table; times in seconds, `rtt_ms` null before the first answer."""

    id: str
    address: str
    kind: str
    rtt_ms: float | None
    age_s: float
    silent_s: float
    failures: int


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """The node in one page.

    `state`: alone (it knows nobody and was told of nobody), joining, degraded, or ready: it has read back a record of
    its own from other nodes lately. `network_nodes`: an estimate of the size of the network, this node included.
    `address`: where most peers see this node, empty while unknown. `client`: it is not reachable, so others do not
    route to it.
    """

    version: str
    state: str
    pid: int
    port: int
    host: str
    network: str
    pow_bits: int
    node: str
    maker: str
    epoch: int
    uptime_s: float
    peers: int
    network_nodes: int
    address: str
    client: bool
    bootstrap: dict[str, str]
    orders_open: int
    records_held: int
    watches: int
    home: str
    counters: dict[str, int]


class OrderDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person says to publish an order; every number is text as typed. Validated when it becomes an Order."""

    side: str
    amount: str
    pair: str
    price: str
    minimum: str = ""
    payment: list[str] = []
    note: str = ""
    expires_s: int = limits.ORDER_LIFE_S_DEFAULT
    liveness: str = "beat"
    confirm: str = "auto"
    reference: str = ""
    reply: str = ""
    group: str = ""
    cancel_after_s: int | None = None
    fresh_key: bool = False


class Amendment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes in an order that replaces another; null keeps the old value."""

    amount: str | None = None
    price: str | None = None
    minimum: str | None = None
    payment: list[str] | None = None
    note: str | None = None
    expires_s: int | None = None


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The filters of a listing. `pair` empty: every pair in which this node has, watches or has listed orders.

    `sort`: best first within each side and pair (empty), or all in one line by one of `dhtex.market.paging`'s words.
    `after`: the `next` of an earlier answer.
    """

    pair: str = ""
    side: str = ""
    limit: int = 100
    mine: bool = False
    all: bool = False
    min_price: str = ""
    max_price: str = ""
    amount: str = ""
    payment: str = ""
    live: bool = False
    not_mine: bool = False
    sort: str = ""
    after: str = ""


class TradeQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which trades, of all from the newest on. `after`: the `next` of an earlier answer."""

    limit: int = 100
    after: str = ""


class AcceptRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wish to take an order. `amount` empty: all of it. `wait_s`: how long the call waits for the outcome."""

    amount: str = ""
    message: str = ""
    wait_s: float = 30.0


class AcceptView(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an accept as far as it is known; `state` as in TradeView."""

    accept: str
    order: str
    state: str
    code: str | None
    retryable: bool
    trade: TradeView


class ReceiptRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a trade: settled or failed; a failure may have a reason, sealed to the other side."""

    outcome: str
    reason: str = ""


class HopView(msgspec.Struct, frozen=True, kw_only=True):
    """One node that a search asked, in the order of asking.

    `named_by`: the id of the node that named it, null if this node knew it. `answer`: page (its records and closer
    nodes), junk (a page that is not made of records, or not of those of its digest), contacts (closer nodes only),
    moved (another node lives there now) or silent. `contacts`: how many nodes it named. `records` and `digest`: what it
    says it holds at the key; of a holder its first page was looked at. `holder`: it is one of the closest that
    answered; `agrees`: it says the same as most holders, and its page is no junk.
    """

    id: str
    address: str
    kind: str
    distance_bits: int
    named_by: str | None
    asked_ms: float
    rtt_ms: float | None
    answer: str
    contacts: int
    records: int
    digest: str
    holder: bool
    agrees: bool


class WhyView(msgspec.Struct, frozen=True, kw_only=True):
    """A search, hop by hop. `local`: how many records this node itself holds at the key, null if it is no holder."""

    key: str
    took_ms: float
    hops: list[HopView]
    holders: int
    agreed: int
    local: int | None
    verdict: str


class CheckView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor. `state`: ok, warning, fault or unknown; `hint` says what to do, or is empty."""

    name: str
    state: str
    finding: str
    hint: str = ""


class DoctorView(msgspec.Struct, frozen=True, kw_only=True):
    """What the doctor found; `healthy` unless something is a fault or a warning."""

    healthy: bool
    checks: list[CheckView]


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """The node in one word, as in StatusView, and how many of the other holders gave its last canary back."""

    ready: bool
    state: str
    canary_asked: int
    canary_returned: int

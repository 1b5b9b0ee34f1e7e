"""A walk finds the best first, all of what there is, and its end, whatever the prices are and whoever lies."""

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtex import limits
from dhtex.directory.paths import Paths, deeper
from dhtex.directory.pricetree import NodeAnswer, Rank, Step, Walk, Walked, Wish
from dhtex.market.branches import Branches, divide, pack, unpack
from dhtex.market.ids import NodeId, RecordId
from dhtex.market.pricebits import PATH_BITS, PRICE_BITS, best_first, path_of, price_at, price_bits

ALICE, BOB, MALLORY = (NodeId(bytes([number]) * 20) for number in (1, 2, 3))
BOTH = frozenset({ALICE, BOB})


class Tree:
    """What honest holders come to hold: each order where a publisher puts it who follows all that he is told."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.orders: dict[str, set[str]] = {"": set()}
        self.branches: dict[str, Branches] = {"": Branches("")}
        self.told = self.reads = 0
        for path in paths:
            self.put("", path)

    def put(self, prefix: str, path: str) -> None:
        while (branch := self.branches[prefix].of(path)) is not None:
            prefix = branch
            self.orders.setdefault(prefix, set())
            self.branches.setdefault(prefix, Branches(prefix))
        self.orders[prefix].add(path)
        if len(self.orders[prefix]) > limits.TREE_NODE_ORDERS_MAX:
            moving = self.orders[prefix]
            self.branches[prefix].add(divide(moving))
            self.orders[prefix] = {path for path in moving if self.branches[prefix].of(path) is None}
            for path in sorted(moving - self.orders[prefix]):
                self.put(prefix, path)

    def answer(self, step: Step, buys: bool) -> NodeAnswer:
        keys = {path: best_first(path, buys=buys)[:PRICE_BITS] for path in self.orders.get(step.prefix, ())}
        worst = step.worst or "1" * PRICE_BITS
        held = sorted((path for path, key in keys.items() if step.best <= key <= worst), reverse=buys)
        read = held[: step.limit]
        self.told += len(read)
        self.reads += 1
        ranks = [rank_of(path, buys) for path in read]
        return NodeAnswer(
            readable=True,
            answered=8,
            found=len(read),
            counted=tuple(ranks),
            rest=ranks[-1] if ranks and len(read) < len(held) else None,
            branches=dict.fromkeys(self.branches.get(step.prefix, ()), BOTH),
        )

    def walk(self, wish: Wish, buys: bool = False) -> tuple[list[str], Walked]:
        walk, found = Walk(buys, wish), set[str]()
        while (step := walk.next()) is not None:
            answer = self.answer(step, buys)
            found.update(best_first(key + name.decode(), buys=buys) for key, _, name in answer.counted)
            walk.on_page(step, answer)
        assert walk.finished
        return sorted(found, reverse=buys), walk.result()


def rank_of(path: str, buys: bool) -> Rank:
    key = best_first(path, buys=buys)
    return key[:PRICE_BITS], 0, key[PRICE_BITS:].encode()


def paths_of(prices: Iterable[str], seed: int = 1) -> list[str]:
    chance = random.Random(seed)
    return [path_of(price, RecordId(chance.randbytes(32))) for price in prices]


def clustered(count: int) -> list[str]:
    chance = random.Random(2)
    return [f"{50_000 + chance.randrange(5000) / 100:.2f}".rstrip("0").rstrip(".") for _ in range(count)]


def spread(count: int) -> list[str]:
    chance = random.Random(3)
    return [
        str(chance.randrange(1, 10**6)) + "0" * chance.randrange(6) if chance.random() < 0.5
        else "0." + "0" * chance.randrange(6) + str(chance.randrange(1, 10**6)) + "1"
        for _ in range(count)
    ]  # fmt: skip


BOOKS = {"clustered": clustered(5000), "equal": ["50000"] * 5000, "spread": spread(5000), "few": clustered(50)}


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("buys", [False, True])
def test_a_walk_for_everything_finds_all_and_one_for_the_best_few_the_best_few(name: str, buys: bool) -> None:
    paths = paths_of(BOOKS[name])
    tree = Tree(paths)
    everything, walked = tree.walk(Wish(), buys)
    assert everything == sorted(set(paths), reverse=buys)
    assert not walked.missing
    for limit in (1, 20, 200):
        best, walked = tree.walk(Wish(limit=limit), buys)
        wanted = [path[:PRICE_BITS] for path in sorted(set(paths), reverse=buys)[:limit]]
        assert [path[:PRICE_BITS] for path in best[:limit]] == wanted
        most = 12 + 4 * limit / limits.TREE_NODE_ORDERS_MAX if name != "equal" else len(tree.orders)
        assert len(walked.visited) <= most, "only what can improve the answer; of one price the oldest may be anywhere"


@pytest.mark.parametrize("name", BOOKS)
def test_no_node_holds_many_and_few_hold_little(name: str) -> None:
    tree = Tree(paths_of(BOOKS[name]))
    sizes = [len(orders) for orders in tree.orders.values() if orders]
    assert max(sizes) <= limits.TREE_NODE_ORDERS_MAX
    assert len(tree.orders) <= 5 * len(BOOKS[name]) / limits.TREE_NODE_ORDERS_MAX + 1
    assert all(len(branches) <= limits.TREE_BRANCHES_MAX for branches in tree.branches.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("01", min_size=8, max_size=8).map(lambda bits: bits * 16), min_size=257, max_size=400))
def test_whatever_the_paths_dividing_ends_and_takes_half_away(paths: list[str]) -> None:
    branches = Branches("")
    branches.add(divide(paths))
    loose = [path for path in paths if branches.of(path) is None]
    assert len(loose) <= limits.TREE_NODE_ORDERS_MAX // 2 or len(set(paths)) == 1
    assert all(
        sum(path.startswith(branch) for path in paths) >= limits.TREE_NODE_ORDERS_MAX // 8 for branch in branches
    )


@given(st.lists(st.text("01", min_size=1, max_size=PATH_BITS), max_size=limits.TREE_BRANCHES_MAX, unique=True))
def test_branches_travel_unchanged(branches: list[str]) -> None:
    assert unpack(pack(branches), "") == branches


@given(st.binary(max_size=200), st.text("01", max_size=20))
def test_hostile_branches_never_raise_and_lead_down_or_nowhere(packed: bytes, prefix: str) -> None:
    for branch in unpack(packed, prefix) or []:
        assert branch.startswith(prefix)
        assert len(prefix) < len(branch) <= PATH_BITS


class Liar(Tree):
    """A tree one of whose holders names branches without end."""

    voters = frozenset({MALLORY})

    def answer(self, step: Step, buys: bool) -> NodeAnswer:
        answer = super().answer(step, buys)
        made_up = {f"{step.prefix}{number:06b}": self.voters for number in range(limits.TREE_BRANCHES_MAX)}
        real = {branch: answer.branches[branch] | self.voters for branch in answer.branches}
        return NodeAnswer(True, 8, answer.found, answer.counted, answer.rest, made_up | real)


def test_a_holder_that_invents_branches_is_found_out_and_costs_little() -> None:
    class AtTheRoot(Liar):
        def answer(self, step: Step, buys: bool) -> NodeAnswer:
            return super().answer(step, buys) if not step.prefix else Tree.answer(self, step, buys)

    paths = paths_of(BOOKS["clustered"])
    honest, liar = Tree(paths), AtTheRoot(paths)
    honest.walk(Wish())
    found, walked = liar.walk(Wish())
    assert found == sorted(set(paths))
    assert not walked.missing
    assert walked.liars[MALLORY] >= limits.TREE_STRIKES_MAX
    assert liar.reads <= honest.reads + limits.TREE_STRIKES_MAX + limits.TREE_PARALLEL


def test_even_several_liars_at_every_node_cannot_make_a_walk_endless() -> None:
    class Everywhere(Liar):
        voters = frozenset({MALLORY, ALICE})

    paths = paths_of(BOOKS["few"])
    liars = Everywhere(paths)
    found, walked = liars.walk(Wish())
    assert found == sorted(set(paths))
    assert liars.reads <= limits.TREE_OPENS_FREE + limits.TREE_OPENS_PER_FIND
    assert walked.missing, "what it gave up is named"


def test_branches_that_are_none_are_not_followed() -> None:
    walk = Walk(False, Wish())
    step = walk.next()
    assert step is not None
    walk.on_page(step, NodeAnswer(True, 8, branches={"": BOTH, "1" * (PATH_BITS + 1): BOTH}))
    assert walk.next() is None
    assert walk.finished


def test_what_cannot_be_read_is_named_by_its_prices() -> None:
    walk = Walk(False, Wish())
    root = walk.next()
    assert root is not None
    branch = price_bits("50000")[:12]
    walk.on_page(root, NodeAnswer(True, 8, branches={branch: BOTH}))
    step = walk.next()
    assert step is not None
    walk.on_page(step, NodeAnswer(readable=False))
    assert walk.result().missing == (branch,)
    low, high = price_at(branch, highest=False), price_at(branch, highest=True)
    assert price_bits(low) <= price_bits("50000") <= price_bits(high)


def test_bounds_of_price_leave_branches_closed() -> None:
    tree = Tree(paths_of(BOOKS["spread"]))
    low, high = price_bits("1000"), price_bits("2000")
    found, walked = tree.walk(Wish(low=low, high=high))
    wanted = [path for path in sorted(set(paths_of(BOOKS["spread"]))) if low <= path[:PRICE_BITS] <= high]
    assert found == wanted
    assert len(walked.visited) < len(tree.orders) / 2


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("buys", [False, True])
def test_only_what_is_wanted_is_told(name: str, buys: bool) -> None:
    paths = sorted(set(paths_of(BOOKS[name])), reverse=buys)
    prices = list(dict.fromkeys(path[:PRICE_BITS] for path in paths))
    begin = prices[len(prices) // 2]
    behind = Wish(high=begin) if buys else Wish(low=begin)
    wanted = [path for path in paths if (path[:PRICE_BITS] <= begin if buys else path[:PRICE_BITS] >= begin)]
    tree = Tree(paths)
    found, _ = tree.walk(replace(behind, limit=20), buys)
    assert [path[:PRICE_BITS] for path in found[:20]] == [path[:PRICE_BITS] for path in wanted[:20]]
    assert tree.told <= (60 if name != "equal" else 20 * len(tree.orders)), "the best of a node or two"
    tree = Tree(paths)
    found, _ = tree.walk(behind, buys)
    assert found == wanted
    assert tree.told == len(wanted)
    tree = Tree(paths)
    found, _ = tree.walk(Wish(limit=5, levels=True), buys)
    assert set(prices[:5]) <= {path[:PRICE_BITS] for path in found}
    assert tree.told <= max(200, 4 * sum(path[:PRICE_BITS] in prices[:5] for path in paths))


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("levels", [False, True])
def test_what_turns_out_to_be_closed_is_made_up_for(name: str, levels: bool) -> None:
    tree = Tree(paths_of(BOOKS[name]))
    ranks = sorted({rank_of(path, False) for orders in tree.orders.values() for path in orders})
    closed = set(ranks[:30])
    walk, found = Walk(False, Wish(limit=10, levels=levels)), set[Rank]()
    for _ in range(10):
        while (step := walk.next()) is not None:
            answer = tree.answer(step, False)
            found.update(answer.counted)
            walk.on_page(step, answer)
        for rank in found & closed:
            walk.take_back(rank)
    left = ranks[30:]
    best = left[:10] if not levels else [rank for rank in left if rank[0] in sorted({rank[0] for rank in left})[:10]]
    assert found >= set(best)
    beyond = walk.result().beyond
    assert not beyond or {rank for rank in left if rank[0] < beyond} <= found


def test_branches_invented_along_a_bound_are_found_out() -> None:
    paths = paths_of(BOOKS["clustered"])
    bound = price_bits("50020")

    class Nested(Tree):
        def answer(self, step: Step, buys: bool) -> NodeAnswer:
            answer = super().answer(step, buys)
            nested = {bound[:length]: frozenset({MALLORY}) for length in range(1, 60)} if not step.prefix else {}
            return replace(answer, branches={**nested, **answer.branches})

    honest, liar = Tree(paths), Nested(paths)
    honest.walk(Wish(limit=28, low=bound))
    found, walked = liar.walk(Wish(limit=28, low=bound))
    assert walked.liars[MALLORY] >= limits.TREE_STRIKES_MAX
    assert liar.reads <= honest.reads + 2 * limits.TREE_STRIKES_MAX
    assert [path for path in found if path >= bound][:28] == [path for path in sorted(set(paths)) if path >= bound][:28]


@given(st.integers(1, 10**12), st.integers(0, 127))
def test_a_prefix_spans_the_prices_below_it(number: int, length: int) -> None:
    bits = price_bits(str(number))
    low, high = (price_at(bits[:length], highest=highest) for highest in (False, True))
    assert price_bits(low) <= bits <= price_bits(high)


def test_a_publisher_follows_most_holders_and_no_single_one() -> None:
    path = paths_of(["50000"])[0]
    near, far = pack([path[:20]]), pack([path[:30]])
    assert deeper({near: 1}, "", path, 8) is None
    assert deeper({near: 2}, "", path, 8) == path[:20]
    assert deeper({near: 1}, "", path, 1) == path[:20]
    assert deeper({near: 3, far: 2}, "", path, 8) == path[:20]
    assert deeper({pack(["0" + path[1:20]]): 8, b"\xff": 8}, "", path, 8) is None


def test_paths_are_trusted_for_a_while_and_remembered_for_longer() -> None:
    paths, market, path = Paths(), ("BTC/USD", "sell"), paths_of(["50000"])[0]
    paths.learn(market, path[:8], 0.0)
    paths.learn(market, path[:20], 50.0)
    assert paths.of(market, path, 55.0) == path[:20]
    assert paths.of(market, path, 200.0) == ""
    assert paths.all(market, path) == ["", path[:8], path[:20]]
    assert paths.all(("BTC/USD", "buy"), path) == [""]

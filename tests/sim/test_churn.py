"""Short, seeded runs of `bench.churn`: nodes come and go, or all start at once, and nothing is lost or revived."""

from bench.churn import churn, restart
from dhtex import limits
from dhtex.sim.loop import play

DATAGRAMS_PER_NODE_HOUR_MAX = 20_000  # 5.6 a second, while a network of this size changes completely in 12 minutes
PEAK_PER_NODE_S_MAX = 400


def test_nodes_that_come_and_go_lose_no_order_and_revive_none() -> None:
    report = play(churn(seed=3, size=20, orders=16, hours=0.34))
    assert report.replaced > 20
    assert report.reads >= 4 * 16
    assert (report.lost, report.revived) == ([], [])
    assert report.holders_least >= limits.HOLDERS // 2
    assert report.datagrams_per_node_hour < DATAGRAMS_PER_NODE_HOUR_MAX


def test_a_network_that_starts_at_once_lists_everything_again_without_a_storm() -> None:
    report = play(restart(seed=3, size=16, orders=160))
    assert report.listed_after_s < 30
    assert report.peak_per_node_s < PEAK_PER_NODE_S_MAX
    assert report.pings_starved == 0

"""How complete an answer is, in words: who answered, who disagreed, and which prices were not read. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from dhtex.cli.text import ID_DIGITS, Page, clean, plural

View = Mapping[str, Any]

NAMED_MAX: Final = 3
_HIDDEN_WORDS: Final = {"bad_signature": "with a bad signature", "limit": "beyond the limit", "pairs": "pairs not read"}
_FAULTS: Final = {
    "hidden": "hides {}",
    "revived": "revives {}",
    "invented": "invents {}",
    "branches": "makes up branches: {}",
    "unfinished": "has no end",
}


def coverage_lines(view: View, page: Page) -> list[str]:
    """What stands under a book: how complete it is, and the holders that disagreed if there are any."""
    coverage = view["coverage"]
    lines = [page.paint(coverage_line(coverage, view["hidden"]), "dim")]
    if said := disagreed(coverage):
        lines.append(page.paint(said, "yellow"))
    return lines


def more(view: View) -> list[str]:
    """Where a list goes on, if it does."""
    return [clean(f"more: --after {view['next']}")] if view.get("next") else []


def coverage_line(coverage: View, hidden: Mapping[str, int]) -> str:
    """How complete an answer is: `8 of 8 holders answered and agree; hidden: 2 expired, 1 silent`."""
    asked, answered, agreed = coverage["asked"], coverage["answered"], coverage["agreed"]
    if not coverage["nodes"] and not coverage.get("missing"):
        text = "this node knows no pair yet: name one"
    elif asked <= 1:  # one is this node itself, which is among the nearest to every key as long as it knows nobody
        text = "no other node was asked: this node knows no peer"
    elif answered == agreed:
        text = f"{answered} of {plural(asked, 'holder')} answered" + (" and agree" if answered else "")
    else:
        text = f"{answered} of {plural(asked, 'holder')} answered, {agreed} agree"
    if not coverage["complete"]:
        text += "; the answer may be incomplete"
    left_out = ", ".join(f"{count} {_HIDDEN_WORDS.get(why, why)}" for why, count in sorted(hidden.items()) if count)
    return clean(f"{text}; hidden: {left_out}" if left_out else text)


def disagreed(coverage: View) -> str:
    """The holders that said something else than most, each once with its faults at all nodes of the tree:
    `disagreed: 3f2a9c1b04 (10.0.0.3:3001) hides 2, invents 1`."""
    holders: dict[str, str] = {}
    faults: dict[str, dict[str, int]] = {}
    for row in coverage.get("disagreed", ()):
        holders[row["holder"]] = row["address"] or "this node"
        counts = faults.setdefault(row["holder"], dict.fromkeys(_FAULTS, 0))
        for fault in _FAULTS:
            counts[fault] += row[fault]
    named = [
        f"{holder[:ID_DIGITS]} ({address}) "
        + ", ".join(_FAULTS[fault].format(count) for fault, count in faults[holder].items() if count)
        for holder, address in holders.items()
    ]
    more = f"; and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else ""
    return clean(f"disagreed: {'; '.join(named[:NAMED_MAX])}{more}") if named else ""


def gaps(view: View) -> str:
    """Which prices are missing from an answer; empty when none are."""
    missing = view["coverage"].get("missing", ())
    ranges = [
        f"{gap['side']} orders of {gap['symbol']} from {gap['low']} to {gap['high']}" for gap in missing[:NAMED_MAX]
    ]
    more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
    return f"not read: {', '.join(ranges)}{more}" if missing else ""

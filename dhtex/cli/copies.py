"""A book as a file of signed orders, one a line, and such a file brought into a network."""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final

import typer

from dhtex.cli.bulk import FAILURES_NAMED_MAX, opened
from dhtex.cli.coverage import coverage_line
from dhtex.cli.lines import numbered_lines
from dhtex.cli.session import Session, complain_of_gaps, path_of, session_of, to_json
from dhtex.cli.text import Page, clean, plural
from dhtex.errors import VerificationError

app = typer.Typer()

LINE_BYTES_MAX: Final = 16 << 10  # a record is at most 1,000 bytes, in base64 with some words around it
LINES_AT_ONCE: Final = 64
_WHY: Final = {
    "malformed": "it is no signed record",
    "not_canonical": "its bytes are not in their one form",
    "too_large": "it is larger than any record",
    "wrong_network": "it is of another network",
    "bad_signature": "its signature is wrong",
    "stamp_too_low": "its proof of work is missing or wrong",
    "expired": "it has expired",
    "not_live": "it is from the future",
    "misplaced": "it is neither an order nor the end of one",
    "wrong_id": "its id is not that of its record",
}


@app.command("export")
def export(
    context: typer.Context,
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="Such as BTC/USD.")],
) -> None:
    """Print the orders of a pair as their makers signed them.

    One JSON object a line, for `dhtex import`:

    \b
    dhtex order export BTC/USD > book.ndjson
    """
    session = session_of(context)
    view = session.call("GET", path_of("export"), query={"pair": pair})
    for record in view["records"]:
        print(to_json(record))
    sys.stdout.flush()
    session.note(f"{plural(len(view['records']), 'order')}; {coverage_line(view['coverage'], view['hidden'])}")
    complain_of_gaps(view)


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Signed orders, one a line; - reads the input.")],
) -> None:
    """Check signed orders from a file, and publish them.

    The sound ones are handed to the network. Signature, proof of work and expiry of each are checked anew; nothing
    else on a line counts. They are put once: to keep them there is for their makers. Bad lines are named (twenty at
    most, all with --json), the others still count, and the exit code is then 8.
    """
    session = session_of(context)
    counts: dict[str, int] = {}
    with opened(file) as stream:
        lines = numbered_lines(stream, LINE_BYTES_MAX)
        while batch := list(islice(lines, LINES_AT_ONCE)):
            for number, result in _results(session, batch):
                counts[result["state"]] = counts.get(result["state"], 0) + 1
                if session.json or counts[result["state"]] <= FAILURES_NAMED_MAX:
                    _tell(session, number, result)
    total = {"stored": 0, "refused": 0, "invalid": 0, **counts}
    session.show(total, _summary)
    if total["invalid"]:
        raise VerificationError(f"{plural(total['invalid'], 'line')} could not be verified", hint="see above")


def _results(session: Session, batch: list[tuple[int, bytes | None]]) -> Iterator[tuple[int, Any]]:
    """What became of each line that is not empty, in order."""
    lines = [(number, _read(line)) for number, line in batch if line is None or line.strip()]
    sound = [line for _, line in lines if line is not None]
    records = [line["record"] for line in sound]
    answers = session.call("POST", path_of("import"), {"records": records})["results"] if records else []
    results = iter(zip(sound, answers, strict=True))
    for number, line in lines:
        if line is None:
            yield number, {"state": "invalid", "id": None, "code": "malformed", "holders": 0}
            continue
        said, result = next(results)
        if said.get("id") not in (None, result["id"]) and result["id"] is not None:
            result = {**result, "state": "invalid", "code": "wrong_id"}
        yield number, result


def _read(line: bytes | None) -> dict[str, Any] | None:
    """A line as JSON, if it has a record."""
    try:
        value = json.loads(line or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("record"), str) else None


def _tell(session: Session, number: int, result: Any) -> None:
    if session.json:
        print(to_json({"line": number, **result}), flush=True)
    elif result["state"] == "invalid":
        session.note(f"line {number}: {_WHY.get(result['code'], result['code'])}")
    elif result["state"] == "refused":
        session.note(f"line {number}: no other node took it: it is closed, or there is no peer")


def _summary(view: Any, page: Page) -> list[str]:
    said = [f"{plural(view['stored'], 'record')} stored"]
    said += [f"{view['refused']} not taken"] if view["refused"] else []
    said += [f"{view['invalid']} invalid"] if view["invalid"] else []
    return [clean(", ".join(said))]

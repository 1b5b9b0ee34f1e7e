"""Questions about the network and the node's own health."""

from typing import Annotated, Any, Final

import typer

from dhtex.cli.session import path_of, session_of
from dhtex.cli.text import Column, Page, clean, fields, id_digits, table
from dhtex.cli.words import record_id
from dhtex.errors import VerificationError

app = typer.Typer()

HOP_COLUMNS: Final = (
    Column("ASKED", ">"),
    Column("ID"),
    Column("ADDRESS"),
    Column("KIND", spare=True),
    Column("BITS", ">", spare=True),
    Column("RTT", ">"),
    Column("ANSWER"),
    Column("NAMED", ">", spare=True),
    Column("RECORDS", ">"),
    Column("DIGEST"),
    Column("NAMED BY", spare=True),
)
_COLOURS: Final = {"ok": "green", "warning": "yellow", "fault": "red", "unknown": "dim"}


@app.command("why")
def why(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="KEY-OR-ID", help="An order's id or its beginning, or a 40-digit key.")
    ],
) -> None:
    """Show how a search goes, hop by hop.

    Who was asked, what they said, who holds and who disagrees. Holders are compared by the number and the digest of
    their records, and each must give a first page of records; what stands on later pages is not read.
    """
    session = session_of(context)
    session.show(session.call("GET", path_of("why", record_id(name))), hops)


def hops(view: Any, page: Page) -> list[str]:
    """A search: its hops, then what it came to. A star marks the holders, a cross those that disagree."""
    digits = id_digits(hop["id"] for hop in view["hops"])
    rows = [
        (
            f"{hop['asked_ms']:.0f} ms",
            hop["id"][:digits],
            hop["address"],
            hop["kind"],
            str(hop["distance_bits"]),
            "" if hop["rtt_ms"] is None else f"{hop['rtt_ms']:.1f} ms",
            hop["answer"] + (" *" if hop["agrees"] else " x" if hop["holder"] else ""),
            str(hop["contacts"] or ""),
            str(hop["records"]) if hop["answer"] in ("page", "junk") else "",
            hop["digest"][:8],
            (hop["named_by"] or "")[:digits],
        )
        for hop in view["hops"]
    ]
    colours = ["red" if hop["holder"] and not hop["agrees"] else "" for hop in view["hops"]]
    local = "no holder" if view["local"] is None else f"holds {view['local']}"
    summary = fields((("key", view["key"]), ("verdict", f"{view['verdict']} ({view['took_ms']:.0f} ms)"),
                      ("this node", local)), page)  # fmt: skip
    return [*(table(HOP_COLUMNS, rows, page, colours) if rows else ["nobody was asked"]), *summary]


@app.command("doctor")
def doctor(context: typer.Context) -> None:
    """Check whether the node is well, and say what to do.

    Port, peers, bootstrap peers, clock, reachability, holders of own orders and disk. Exits with 8 when something
    is wrong.
    """
    session = session_of(context)
    view = session.call("POST", path_of("doctor"))
    session.show(view, checks)
    if not view["healthy"]:
        raise typer.Exit(VerificationError.exit_status)


def checks(view: Any, page: Page) -> list[str]:
    """One line for each check, and below it what to do."""
    lines = []
    for check in view["checks"]:
        state = page.paint(check["state"].ljust(7), _COLOURS.get(check["state"], ""))
        lines.append(f"{state}  {clean(check['name']).ljust(12)}  {clean(check['finding'])}")
        if check["hint"]:
            lines.append(f"{'':7}  {'':12}  -> {clean(check['hint'])}")
    return lines

"""Plain text for people: harmless, aligned, as wide as the terminal, coloured only where that helps.

Everything here is pure. A `Page` says what the text is for: a terminal of some width, or a pipe, where nothing is cut
and nothing is coloured. (Named tuples, because a dataclass takes a millisecond to make at import.)
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

COLOURS: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
ID_DIGITS: Final = 10
GAP: Final = "  "


class Page(NamedTuple):
    """What text is written on: `width` in characters (None: a pipe), the time, and what the terminal can show."""

    now: float
    width: int | None = None
    colours: bool = False
    unicode: bool = True

    def paint(self, text: str, colour: str) -> str:
        """Colour a text, where colours are wanted. The colour may be empty."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.colours and colour else text

    @property
    def ellipsis(self) -> str:
        return "…" if self.unicode else "~"


def clean(text: str) -> str:
    """What a stranger wrote, made harmless: no control, direction or invisible characters reach the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def width_of(text: str) -> int:
    """How many columns a clean text takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, columns: int, ellipsis: str) -> str:
    """Cut a clean text to some columns, with an ellipsis for what is gone."""
    if width_of(text) <= columns:
        return text
    while text and width_of(text) > columns - 1:
        text = text[:-1]
    return text + ellipsis


def ago(seconds: float) -> str:
    """A length of time in one unit, rounded: `40s`, `3m`, `23h`, `6d`."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if whole >= (2 * size if unit == "d" else size):
            return f"{round(whole / size)}{unit}"
    return f"{whole}s"


def plural(count: int, noun: str, nouns: str = "") -> str:
    """`1 peer`, `2 peers`."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def id_digits(ids: Iterable[str]) -> int:
    """How many digits tell these ids apart: at least ten."""
    distinct = set(ids)
    digits = ID_DIGITS
    while digits < 64 and len({text[:digits] for text in distinct}) < len(distinct):
        digits += 1
    return digits


class Column(NamedTuple):
    """One column of a table.

    align   "<" left, ">" right, "." numbers with their points in one line
    least   may be narrowed to this many characters when the terminal is too narrow; 0: never
    spare   left out altogether when narrowing is not enough
    """

    title: str
    align: str = "<"
    least: int = 0
    spare: bool = False


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], page: Page, colours: Sequence[str] = ()
) -> list[str]:
    """Lines of an aligned table; columns without any text are left out, and a last line names those for which there is
    no room. `colours` has one name or "" for each row."""
    cells = [[clean(cell) for cell in row] for row in rows]
    used = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    columns = [columns[i] for i in used]
    cells = [[row[i] for i in used] for row in cells]
    for index, column in enumerate(columns):
        if column.align == ".":
            _align_points(cells, index)
    widths = [max(width_of(column.title), *(width_of(row[i]) for row in cells)) for i, column in enumerate(columns)]
    if page.width is not None:
        _narrow(columns, widths, page.width)
    head = page.paint(_line(columns, widths, [column.title for column in columns], page), "bold")
    paints = [*colours, *[""] * (len(cells) - len(colours))]
    left_out = ", ".join(column.title for column, width in zip(columns, widths, strict=True) if not width)
    said = fit(f"(no room for {left_out})", page.width, page.ellipsis) if left_out and page.width else ""
    return [
        head,
        *(page.paint(_line(columns, widths, row, page), paint) for row, paint in zip(cells, paints, strict=True)),
        *([page.paint(said, "dim")] if said else []),
    ]


def _align_points(cells: list[list[str]], index: int) -> None:
    """Fill numbers on the right so that, right-aligned, their points stand below each other."""
    behind = [len(row[index].partition(".")[2]) for row in cells]
    most = max(behind)
    for row, places in zip(cells, behind, strict=True):
        point = 1 if most and not places else 0
        row[index] += " " * (most - places + point)


def _narrow(columns: Sequence[Column], widths: list[int], room: int) -> None:
    """Make the columns fit: first narrow the widest of those that may be, then leave spare ones out (width 0)."""

    def total() -> int:
        shown = [width for width in widths if width]
        return sum(shown) + len(GAP) * (len(shown) - 1)

    while total() > room:
        narrower = [i for i, column in enumerate(columns) if column.least and widths[i] > column.least]
        spare = [i for i, column in enumerate(columns) if column.spare and widths[i]]
        if narrower:
            widest = max(narrower, key=lambda i: widths[i])
            widths[widest] -= 1
        elif spare:
            widths[spare[-1]] = 0
        else:
            return


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], page: Page) -> str:
    parts = []
    for column, width, cell in zip(columns, widths, cells, strict=True):
        if not width:
            continue
        text = fit(cell, width, page.ellipsis)
        filling = " " * (width - width_of(text))
        parts.append(text + filling if column.align == "<" else filling + text)
    return GAP.join(parts).rstrip()


def fields(pairs: Iterable[tuple[str, str]], page: Page) -> list[str]:
    """Lines of `name  value`, the values below each other; pairs with an empty value are left out."""
    shown = [(name, clean(value)) for name, value in pairs if value]
    widest = max((len(name) for name, _ in shown), default=0)
    return [f"{page.paint(name.ljust(widest), 'dim')}{GAP}{value}" for name, value in shown]

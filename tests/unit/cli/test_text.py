"""Plain text: harmless, aligned, as wide as the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtex.cli.text import Column, Page, ago, clean, fields, fit, id_digits, table, width_of

PIPE = Page(now=0)


@given(st.text())
def test_nothing_that_can_steer_a_terminal_is_left(text: str) -> None:
    assert clean(text).isprintable()


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_readable_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_escape_sequences_and_direction_marks_become_visible() -> None:
    assert clean("\x1b[31mred\u202e\u009b") == "\\x1b[31mred\\u202e\\x9b"


@given(st.text(), st.integers(1, 30))
def test_fitted_text_is_never_wider(text: str, columns: int) -> None:
    assert width_of(fit(clean(text), columns, "…")) <= columns


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "60m"),
        (3600, "1h"),
        (86_400, "24h"),
        (172_800, "2d"),
        (86_395, "24h"),
        (1e6, "12d"),
    ],
)
def test_lengths_of_time_have_one_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_ids_get_longer_until_they_differ() -> None:
    assert id_digits([]) == 10
    assert id_digits(["a" * 64, "b" * 64]) == 10
    assert id_digits(["a" * 12 + "b" * 52, "a" * 12 + "c" * 52]) == 13
    assert id_digits(["a" * 64, "a" * 64]) == 10


def test_points_stand_below_each_other() -> None:
    lines = table((Column("PRICE", "."), Column("X")), [("1.25", "a"), ("50000", "b"), ("0.5", "c")], PIPE)
    assert lines == ["   PRICE  X", "    1.25  a", "50000     b", "    0.5   c"]


def test_empty_columns_are_left_out() -> None:
    assert table((Column("A"), Column("B"), Column("C")), [("1", "", "3")], PIPE) == ["A  C", "1  3"]


def test_wide_characters_take_two_columns() -> None:
    head, first, second = table((Column("NOTE"), Column("X")), [("日本", "a"), ("abcd", "b")], PIPE)
    assert (head, first, second) == ("NOTE  X", "日本  a", "abcd  b")


def test_a_pipe_gets_everything_and_a_terminal_what_fits() -> None:
    columns = (Column("ID"), Column("NOTE", least=8, spare=True))
    rows = [("1234567890", "n" * 100)]
    assert table(columns, rows, PIPE)[1].endswith("n" * 100)
    narrow = table(columns, rows, Page(now=0, width=30))
    assert max(map(len, narrow)) == 30
    assert narrow[1].endswith("n…")
    assert table(columns, rows, Page(now=0, width=15)) == ["ID", "1234567890", "(no room for N…"]


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=4), st.integers(40, 100))
def test_a_table_of_anything_stays_within_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    columns = (Column("A", least=5), Column("B", least=5, spare=True), Column("C", ".", least=5, spare=True))
    for line in table(columns, rows, Page(now=0, width=width)):
        assert line.isprintable()
        assert width_of(line) <= width


def test_colours_only_where_they_are_wanted() -> None:
    plain = table((Column("A"),), [("x",)], PIPE, ["red"])
    coloured = table((Column("A"),), [("x",)], Page(now=0, colours=True), ["red"])
    assert plain == ["A", "x"]
    assert coloured == ["\x1b[1mA\x1b[0m", "\x1b[31mx\x1b[0m"]


def test_fields_align_their_values_and_leave_out_empty_ones() -> None:
    assert fields([("id", "1"), ("status", "open\n"), ("note", "")], PIPE) == ["id      1", "status  open\\n"]

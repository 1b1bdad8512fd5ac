"""Figures as people read them."""

from datetime import timedelta

import pytest

from usage import figures

NARROW = figures.NARROW


@pytest.mark.parametrize(
    ("value", "short"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10 k"),
        (30_712, "30.7 k"),
        (99_960, "100 k"),
        (999_960, "1 M"),
        (184_000_000, "184 M"),
        (2.5e12, "2.5 T"),
    ],
)
def test_numbers_are_shortened(value: float, short: str) -> None:
    assert figures.short_number(value) == short.replace(" ", NARROW)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.004, "< 0.01"),
        (4.116, "4.12"),
        (9.996, "10.0"),
        (812.44, "812.4"),
        (7000, "7,000"),
    ],
)
def test_credits_have_two_decimals_below_ten(value: float, said: str) -> None:
    assert figures.credit_number(value) == said


def test_exact_credits_keep_every_digit() -> None:
    assert figures.exact_credits(4_123_456_789) == "4.123456789"
    assert figures.exact_credits(1_284_600_000_000) == "1,284.6"
    assert figures.exact_credits(-1_500_000_000) == "-1.5"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (640, "640 ms"), (2_400, "2.4 s"), (59_960, "1 min 0 s"), (72_000, "1 min 12 s"),
     (11_100_000, "3 h 5 min")],
)  # fmt: skip
def test_durations_take_the_unit_that_fits(value: float | None, said: str) -> None:
    assert figures.duration_ms(value).replace(NARROW, " ") == said


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        (timedelta(seconds=40), "40 s"),
        (timedelta(minutes=12, seconds=5), "12 min"),
        (timedelta(hours=3, minutes=5), "3 h 5 min"),
        (timedelta(days=10, hours=16), "10 d 16 h"),
        (timedelta(days=2), "2 d"),
        (timedelta(seconds=-5), "0 s"),
    ],
)
def test_spans_name_two_units(delta: timedelta, said: str) -> None:
    assert figures.span(delta).replace(NARROW, " ") == said


def test_long_names_lose_their_middle() -> None:
    assert figures.middle_cut("short") == "short"
    cut = figures.middle_cut("a-very-long-name-of-a-workstation", 15)
    assert len(cut) == 15
    assert cut.startswith("a-very")
    assert cut.endswith("tion")

import pytest

from recsys.reports.charts.svg import Axis, Chart, padded, round_ticks, tick_text
from recsys.reports.text import count, fixed, interval, percent, short, size


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 160, [0, 50, 100, 150]),
        (0.7312, 0.7463, [0.735, 0.74, 0.745]),
        (-3, 3, [-2, 0, 2]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low, high, ticks):
    assert round_ticks(low, high) == ticks


def test_ticks_of_one_axis_have_equal_digits():
    assert [tick_text(0.7312, 0.7463)(tick) for tick in (0.735, 0.74)] == ["0.735", "0.740"]
    assert tick_text(0, 160)(50) == "50"


def test_a_single_value_still_has_a_range():
    for values in ([0.5], [0.0], [-2.0, -2.0]):
        low, high = padded(values)
        assert low < values[0] < high


def test_a_chart_places_data_and_escapes_words():
    axis = Axis("x & y", 0, 10, str)
    chart = Chart(x=axis, y=axis, label='a "label"', width=184, height=174)
    assert chart.at(0, 0) == (58, 130)
    assert chart.at(10, 10) == (158, 30)
    chart.text((0, 0), "<words>")
    svg = chart.svg()
    assert "x &amp; y" in svg
    assert "&lt;words&gt;" in svg
    assert 'aria-label="a &#34;label&#34;"' in svg


def test_numbers_are_written_with_units():
    assert (fixed(0.75639), fixed(None)) == ("0.7564", "–")
    assert (count(1234567), percent(0.2561)) == ("1,234,567", "25.6 %")
    assert interval((0.7, 0.81)) == "0.7000 – 0.8100"
    assert [size(n) for n in (12, 1_234, 5_600_000, 7.89e9)] == [
        "12 B",
        "1.23 kB",
        "5.6 MB",
        "7.89 GB",
    ]
    assert [short(n) for n in (0.25, 12_000, 1_500_000)] == ["0.25", "12 k", "1.5 M"]

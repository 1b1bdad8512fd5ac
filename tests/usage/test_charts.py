"""Geometry of charts: what adds up, what is labelled, what is empty."""

from usage import charts


def test_stacked_bars_add_up_to_the_whole_height() -> None:
    series = [charts.Series("a", "s1", [30, 0]), charts.Series("b", "s2", [70, 10])]

    chart = charts.stacked(["mon", "tue"], series, x_labels=[(0, "mon"), (1, "tue")])

    first = chart.buckets[0].rects
    assert sum(float(rect.height.rstrip("%")) for rect in first) == 100
    assert float(first[-1].y.rstrip("%")) == 0
    assert len(chart.buckets[1].rects) == 1
    assert chart.peak_label == "mon"
    assert chart.rows[1] == ("tue", ["0", "10"])


def test_a_chart_of_nothing_is_empty() -> None:
    assert charts.stacked(["mon"], [charts.Series("a", "s1", [0])], x_labels=[]).is_empty


def test_the_axis_ends_at_a_round_number_above_the_peak() -> None:
    for value in (0.3, 1, 7, 99, 1_234, 1_000_001):
        top = charts.nice_top(value)
        assert value <= top <= value * 2.1


def test_labels_are_thinned_out() -> None:
    assert len(charts.thin([(i, str(i)) for i in range(30)])) <= charts.MAX_LABELS


def test_a_spark_has_few_points_and_keeps_its_peak() -> None:
    spark = charts.spark([0.0] * 167 + [5.0])

    assert spark is not None
    assert len(spark["line"].split()) <= charts.MAX_SPARK
    assert charts.spark([0, 0, 0]) is None


def test_the_burn_down_draws_use_pace_and_forecast() -> None:
    drawn = charts.burn_down(
        [(0, 0), (10, 500), (20, 900)], entitlement=1000, days=30, forecast_to=(25, 1000)
    )

    assert drawn.pace == "0.00,100.00 100.00,0.00"
    assert drawn.used.split()[-1] == "66.67,10.00"
    assert drawn.forecast == "66.67,10.00 83.33,0.00"

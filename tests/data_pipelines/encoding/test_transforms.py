"""Each transform against its formula."""

import math

import numpy as np
import polars as pl
import pytest

from data_pipelines.encoding.transforms import TransformFit, apply_transform
from data_pipelines.rules.columns import QuantileBucketsRule, StandardizeRule
from recsys.schema import CriteoBucket, Keep, Log, QuantileBuckets, Standardize


def column(*values):
    return pl.Series("x", values, dtype=pl.Float64)


def test_criteo_bucket_is_the_squared_logarithm_above_2_and_the_integer_below():
    values = [-3, -1, 0, 1, 2, 3, 10, 100, 23255]
    expected = [-3, -1, 0, 1, 2, *(math.floor(math.log(x) ** 2) for x in (3, 10, 100, 23255))]
    assert apply_transform(CriteoBucket(), column(*values, None)).to_list() == [*expected, None]


def test_a_shift_of_2_keeps_the_buckets_apart_from_the_small_integers():
    tokens = apply_transform(CriteoBucket(shift=2), column(1, 2, 3, 4, 5, 6)).to_list()
    # ln(3)² = 1.2, ln(4)² = 1.9, ln(5)² = 2.6, ln(6)² = 3.2
    assert tokens == [1, 2, 3, 3, 4, 5]


def test_criteo_bucket_of_a_fraction_goes_towards_zero():
    assert apply_transform(CriteoBucket(), column(-1.5, 1.5)).to_list() == [-1, 1]


def test_criteo_bucket_can_make_missing_a_token():
    assert apply_transform(CriteoBucket(missing=0), column(None, 0)).to_list() == [0, 0]


def test_criteo_bucket_can_leave_a_token_without_an_id():
    bucket = CriteoBucket(missing=0, absent=(0,))
    assert apply_transform(bucket, column(None, 0, 1)).to_list() == [None, None, 1]


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (Keep(), [3.0, -1.0, 0.0]),
        (Keep(missing=-7.0), [3.0, -1.0, -7.0]),
        (Log(), [math.log(4), 0.0, 0.0]),
        (Standardize(mean=1.0, std=2.0), [1.0, -1.0, 0.0]),
    ],
)
def test_numbers(transform, expected):
    result = apply_transform(transform, column(3, -1, None))
    assert result.dtype == pl.Float32
    np.testing.assert_allclose(result.to_numpy(), expected, rtol=1e-6)


def test_quantile_buckets_count_the_edges_at_or_below():
    buckets = QuantileBuckets(edges=(1.0, 5.0))
    assert apply_transform(buckets, column(0, 1, 4.9, 5, 99, None)).to_list() == [
        0,
        1,
        1,
        2,
        2,
        None,
    ]


def test_standardize_fitted_in_chunks_equals_numpy():
    values = np.random.default_rng(0).lognormal(3, 2, 1000)
    fit = TransformFit(StandardizeRule(), "x")
    for part in (values[:10], values[10:700], values[700:]):
        fit.add(pl.Series([*part, None]))
    fitted = fit.fitted()
    np.testing.assert_allclose([fitted.mean, fitted.std], [values.mean(), values.std()])


def test_quantile_edges_split_the_train_values_evenly():
    fit = TransformFit(QuantileBucketsRule(num_buckets=4), "x")
    values = np.arange(1000.0)
    for part in np.split(values, 5):
        fit.add(pl.Series(part))
    tokens = apply_transform(fit.fitted(), column(*values))
    assert set(tokens.value_counts()["count"]) <= {249, 250, 251}


def test_quantile_sample_stays_bounded_and_evenly_spaced(monkeypatch):
    monkeypatch.setattr("data_pipelines.encoding.transforms.FIT_SAMPLE", 64)
    fit = TransformFit(QuantileBucketsRule(), "x")
    for part in np.array_split(np.arange(1000.0), 7):
        fit.add(pl.Series(part))
    assert len(fit.sample.values) <= 64
    assert set(np.diff(fit.sample.values)) == {float(fit.sample.stride)}

"""Limits of agreement against the papers that define them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich.bland_altman import (
    bland_altman,
    bland_altman_percent,
    bland_altman_ratio,
    limit_factors,
)
from ich.pairs import NotDefined

DATA = Path(__file__).parent / "data"
VOLUMES = st.lists(
    st.tuples(st.floats(0.1, 200, allow_subnormal=False), st.floats(0.1, 200, allow_subnormal=False)),
    min_size=3,
    max_size=30,
)


def test_pefr_1986():
    table = pd.read_csv(DATA / "pefr_1986.csv")
    found = bland_altman(table.wright1, table.mini1)
    assert found.n == 17
    assert found.bias == pytest.approx(-2.118, abs=5e-4)
    assert found.sd == pytest.approx(38.765, abs=5e-4)
    assert (found.loa_lower, found.loa_upper) == pytest.approx((-78.10, 73.86), abs=5e-3)
    twice = bland_altman(table.wright1, table.mini1, multiplier=2)
    assert (twice.loa_lower, twice.loa_upper) == pytest.approx((-79.7, 75.5), abs=0.1)  # printed from rounded values


def test_sbp_1999(shared_data):
    table = pd.read_csv(shared_data / "agreement" / "ba1999_sbp.csv")
    found = bland_altman(table.J1, table.S1)
    assert found.n == 85
    assert (found.bias, found.sd) == pytest.approx((-16.29, 19.61), abs=5e-3)
    assert (found.loa_lower, found.loa_upper) == pytest.approx((-54.73, 22.14), abs=5e-3)
    assert found.bias_ci == pytest.approx((-20.5, -12.1), abs=0.05)
    assert found.loa_lower_ci_approximate == pytest.approx((-61.9, -47.5), abs=0.1)
    assert found.loa_upper_ci_approximate == pytest.approx((14.9, 29.3), abs=0.11)


def test_giavarina_2015():
    table = pd.read_csv(DATA / "giavarina_2015.csv")
    found = bland_altman(table.method_a, table.method_b)
    assert found.bias == pytest.approx(-27.17, abs=5e-3)
    assert found.bias_ci == pytest.approx((-40.16, -14.17), abs=5e-3)
    assert (found.sd, found.loa_lower, found.loa_upper) == pytest.approx((34.81, -95.39, 41.05), abs=6e-3)


@pytest.mark.parametrize(("n", "inner", "outer"), [(17, 1.3150, 3.1483), (85, 1.6363, 2.3794)])
def test_factors_of_carkeet_2015(n, inner, outer):
    assert limit_factors(n) == pytest.approx((inner, outer), abs=1e-4)


def test_exact_interval_covers_as_promised():
    """10,000 samples of 10 pairs: the interval of the upper limit covers mu + 1.96 sigma in 95 %."""
    sample = np.random.default_rng(7).normal(1.0, 2.0, size=(10_000, 10))
    inner, outer = limit_factors(10)
    mean, sd = sample.mean(axis=1), sample.std(axis=1, ddof=1)
    truth = 1.0 + 1.96 * 2.0
    assert np.mean((mean + inner * sd <= truth) & (truth <= mean + outer * sd)) == pytest.approx(0.95, abs=0.008)


@given(VOLUMES)
def test_swapping_the_methods_flips_signs(rows):
    x, y = np.array(rows).T
    one, other = bland_altman(x, y), bland_altman(y, x)
    assert one.bias == pytest.approx(-other.bias, abs=1e-9)
    assert one.loa_lower == pytest.approx(-other.loa_upper, abs=1e-9)
    assert one.loa_lower_ci == pytest.approx(tuple(-end for end in reversed(other.loa_upper_ci)), abs=1e-9)
    assert bland_altman_ratio(x, y).bias == pytest.approx(1 / bland_altman_ratio(y, x).bias)


@given(VOLUMES, st.floats(-50, 50), st.floats(0.1, 10))
def test_shift_and_scale(rows, shift, scale):
    x, y = np.array(rows).T
    plain, moved = bland_altman(x, y), bland_altman(scale * x + shift, scale * y)
    assert moved.bias == pytest.approx(scale * plain.bias + shift, abs=1e-7)
    assert moved.sd == pytest.approx(scale * plain.sd, abs=1e-7)
    assert bland_altman_percent(scale * x, scale * y).bias == pytest.approx(bland_altman_percent(x, y).bias, abs=1e-7)


def test_equal_differences_have_no_width():
    found = bland_altman([1.1, 2.1, 3.1], [1, 2, 3])
    assert found.sd == 0
    assert found.loa_lower == found.loa_upper == found.bias
    assert found.loa_lower_ci == (found.bias, found.bias)
    rounded = bland_altman([1.1, 5.1, 100.1], [1, 5, 100])  # 0.1 but for the last bits
    assert rounded.sd == 0
    assert rounded.loa_upper == rounded.bias == pytest.approx(0.1)


def test_ratio_on_paper():
    found = bland_altman_ratio([2, 8, 4, 4, 0], [1, 1, 2, 1, 3], ids=["a", "b", "c", "d", "zero"])
    assert found.bias == pytest.approx(2 ** (7 / 4))  # ratios 2, 8, 2, 4
    assert found.sd == pytest.approx(np.log(2) * np.std([1, 3, 1, 2], ddof=1))
    assert found.undefined_ids == ("zero",)
    assert found.n == 4
    by_zero = bland_altman_ratio([2, 8, 4, 4, 3], [1, 1, 2, 1, 0], ids=["a", "b", "c", "d", "by zero"])
    assert (by_zero.n, by_zero.bias, by_zero.undefined_ids) == (4, found.bias, ("by zero",))


def test_ratio_and_percent_have_the_limits_of_what_they_are_made_of():
    """By section 3.1 of Bland & Altman 1999: limits of the logarithms, and of the percentages, as of any difference."""
    x, y = np.array([12.0, 30, 7, 55, 21]), np.array([10.0, 33, 6, 50, 24])
    names = ("bias_ci", "loa_lower_ci", "loa_upper_ci", "loa_lower_ci_approximate", "loa_upper_ci_approximate")
    logs, ratio = bland_altman(np.log(x), np.log(y)), bland_altman_ratio(x, y)
    shares, percent = bland_altman(200 * (x - y) / (x + y), np.zeros(5)), bland_altman_percent(x, y)
    assert (ratio.loa_lower, ratio.loa_upper) == pytest.approx((np.exp(logs.loa_lower), np.exp(logs.loa_upper)))
    assert (percent.loa_lower, percent.loa_upper) == pytest.approx((shares.loa_lower, shares.loa_upper))
    for name in names:
        assert getattr(ratio, name) == pytest.approx(np.exp(getattr(logs, name)))
        assert getattr(percent, name) == pytest.approx(getattr(shares, name))


def test_percent_on_paper():
    with pytest.raises(NotDefined, match="percent limits: 2 of 3 pairs"):
        bland_altman_percent([3, 3, 0], [1, 1, 0])
    assert bland_altman_percent([3, 1, 2], [1, 3, 2]).bias == pytest.approx(0)
    assert bland_altman_percent([3, 3, 3], [1, 1, 1]).bias == pytest.approx(100)


@pytest.mark.parametrize(
    ("method", "reference", "message"),
    [
        ([1, 2], [1, 2], "2 complete pairs, wanted at least 3"),
        ([1, None, 3, None], [1, 2, 3, 4], r"2 complete pairs \(missing: b, d\)"),
        (["1.5", "2", "3", "4"], [1, 2, 3, 4], "case a is the text '1.5'"),
        ([1, 2, np.inf, 4], [1, 2, 3, 4], "case c is infinite"),
        ([1, 2, 3], [1, 2, 3, 4], "3 values and reference has 4"),
    ],
)
def test_bad_columns_name_the_case(method, reference, message):
    with pytest.raises(ValueError, match=message):
        bland_altman(method, reference, ids=list("abcd")[: len(method)])


def test_a_case_may_stand_once():
    with pytest.raises(ValueError, match="case 001 stands 2 times"):
        bland_altman([1, 2, 3], [1, 2, 3], ids=["001", "002", "001"])


def test_missing_values_are_named():
    found = bland_altman([1, 2, np.nan, 4, 6], [1, 2, 3, 4, 5], ids=list("abcde"))
    assert (found.n, found.n_missing, found.missing_ids) == (4, 1, ("c",))
    assert found.row()["missing_ids"] == "c"


def test_rows_of_different_tables_are_refused():
    with pytest.raises(ValueError, match="indexes differ"):
        bland_altman(pd.Series([1.0, 2, 3], index=[1, 2, 3]), pd.Series([1.0, 2, 3]))

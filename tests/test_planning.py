"""Numbers of cases: exact factors, simulation, and the published example of Lu et al. 2016."""

import numpy as np
import pytest

from ich.bland_altman import limit_factors
from ich.planning import cases_for_margin, cases_for_width, interval_width, margin_power, next_study, width_curve


def test_expected_width_is_what_samples_have():
    sds = np.random.default_rng(1).normal(size=(50_000, 12)).std(axis=1, ddof=1)
    inner, outer = limit_factors(12)
    assert interval_width(12) == pytest.approx((outer - inner) * sds.mean(), rel=3e-3)
    assert interval_width(12, assurance=0.8) == pytest.approx((outer - inner) * np.quantile(sds, 0.8), rel=5e-3)


@pytest.mark.parametrize("assurance", [None, 0.9])
def test_the_number_found_is_the_smallest(assurance):
    n = cases_for_width(4.0, 6.0, assurance=assurance)
    assert interval_width(n, assurance=assurance) * 6.0 <= 4.0 < interval_width(n - 1, assurance=assurance) * 6.0


def test_power_is_what_samples_have():
    """50,000 simulated studies of 40 cases, margin 3 SD, bias half an SD."""
    sample = np.random.default_rng(2).normal(0.5, 1.0, size=(50_000, 40))
    outer = limit_factors(40)[1]
    mean, sd = sample.mean(axis=1), sample.std(axis=1, ddof=1)
    shown = np.mean((mean + outer * sd < 3.0) & (mean - outer * sd > -3.0))
    assert margin_power(40, 3.0, 1.0, bias=0.5) == pytest.approx(shown, abs=0.007)


def test_lu_2016():
    """Bias 0.001167, SD 0.001129, margin 0.004, power 80 %: 83 with approximate intervals, more if exact."""
    n = cases_for_margin(0.004, 0.001129, bias=0.001167)
    assert 83 < n <= 100
    assert margin_power(n, 0.004, 0.001129, bias=0.001167) >= 0.8 > margin_power(n - 1, 0.004, 0.001129, bias=0.001167)


def test_numbers_heed_multiplier_and_confidence():
    options = {"multiplier": 2.5, "confidence": 0.9}
    n = cases_for_margin(5, 1.5, bias=0.4, power=0.9, **options)
    powers = [margin_power(cases, 5, 1.5, bias=0.4, **options) for cases in (n - 1, n)]
    assert powers[0] < 0.9 <= powers[1]
    n = cases_for_width(4.0, 6.0, assurance=0.9, **options)
    widths = [interval_width(cases, assurance=0.9, **options) * 6 for cases in (n - 1, n)]
    assert widths[1] <= 4.0 < widths[0]
    row = width_curve([20], **options).iloc[0]
    assert (row["inner_sd"], row["outer_sd"]) == limit_factors(20, 2.5, 0.9)
    assert row["expected_width_sd"] == interval_width(20, **options)
    assert row["width_80_sd"] == interval_width(20, assurance=0.8, **options)


def test_power_without_bias_is_what_samples_have():
    sample = np.random.default_rng(3).normal(size=(50_000, 20))
    outer = limit_factors(20)[1]
    mean, sd = sample.mean(axis=1), sample.std(axis=1, ddof=1)
    shown = np.mean((mean + outer * sd < 3.0) & (mean - outer * sd > -3.0))
    assert margin_power(20, 3.0, 1.0) == pytest.approx(shown, abs=0.007)


def test_scale_does_not_matter():
    assert cases_for_margin(5, 2) == cases_for_margin(50, 20)
    assert cases_for_width(5, 2) == cases_for_width(50, 20)


def test_curve_narrows():
    curve = width_curve((10, 100, 1000))
    assert curve["n"].tolist() == [10, 100, 1000]
    assert (np.diff(curve["expected_width_sd"]) < 0).all()
    assert (curve["width_80_sd"] > curve["expected_width_sd"]).all()


def test_impossible_wishes():
    with pytest.raises(ValueError, match=r"a limit lies at 10\.80, beyond 5"):
        cases_for_margin(5, 5, bias=1)
    with pytest.raises(ValueError, match="more than 100000 cases"):
        cases_for_width(0.001, 1)
    with pytest.raises(ValueError, match="wanted both positive"):
        cases_for_width(1, 0)
    with pytest.raises(ValueError, match="wanted both positive"):
        cases_for_width(0, 1)
    with pytest.raises(ValueError, match="power below 1"):
        cases_for_margin(5, 1, power=1)
    with pytest.raises(ValueError, match="probability between 0 and 1"):
        cases_for_width(1, 1, assurance=1)


def test_next_study_says_when_no_number_is_enough():
    panel = {"bias": 0.5, "sd": 1.5, "margin_ml": 5.0}
    found = next_study(panel)
    assert found["cases_for_margin"] == cases_for_margin(5, 1.5, bias=0.5)
    assert found["cases_for_width"] == cases_for_width(5, 1.5)
    assert found["cases_for_width_assured"] == cases_for_width(5, 1.5, assurance=0.8)
    tight = next_study(panel | {"margin_ml": 1.0})
    assert tight["cases_for_width_assured"] == cases_for_width(1, 1.5, assurance=0.8) > tight["cases_for_width"]
    hopeless = next_study(panel | {"sd": 10.0})
    assert hopeless["cases_for_margin"] is None
    assert "a limit lies at" in hopeless["note"]
    assert next_study(panel | {"sd": 0.0})["note"] == "the differences do not vary, so there is no SD to plan with"


def test_a_method_too_poor_to_plan_with_is_said_and_stops_nothing():
    found = next_study({"sd": 780.0, "bias": 400.0, "margin_ml": 5.0})
    assert (found["cases_for_width"], found["cases_for_width_assured"], found["cases_for_margin"]) == (None,) * 3
    assert "a width of 5 at an SD of 780 needs more than 100000 cases" in found["note"]
    assert "more cases do not bring it inside" in found["note"]

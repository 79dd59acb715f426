"""Repeated readings against Bland & Altman 1999 (sections 4 and 5) and 2007."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich.repeated import linked_pairs, reader_pairs, repeatability, repeated_limits

DATA = Path(__file__).parent / "data"


@pytest.fixture
def blood_pressure(shared_data) -> pd.DataFrame:
    wide = pd.read_csv(shared_data / "agreement" / "ba1999_sbp.csv")
    long = wide.melt("item", value_name="pressure")
    return long.assign(reader=long["variable"].str[0])


@pytest.fixture
def cardiac_output() -> pd.DataFrame:
    return pd.read_csv(DATA / "cardiac_output_2007.csv", dtype={"subject": str})


def test_repeatability_1999(blood_pressure):
    """Section 4.1 and 5.1: within-subject variances 37.408 (J) and 83.141 (S)."""
    for reader, variance in (("J", 37.408), ("S", 83.141)):
        found = repeatability(blood_pressure[blood_pressure["reader"] == reader], subject="item", value="pressure")
        assert found["within_sd"] ** 2 == pytest.approx(variance, abs=5e-4)
        assert found["coefficient"] == pytest.approx(1.96 * np.sqrt(2 * variance), rel=1e-4)
        assert (found["n"], found["n_readings"]) == (85, 255)


def test_equal_replicates_1999(blood_pressure):
    found = repeated_limits(blood_pressure, method="J", reference="S", subject="item", value="pressure")
    assert found.n == 85
    assert (found.bias, found.sd) == pytest.approx((-15.62, 20.95), abs=5e-3)
    assert (found.loa_lower, found.loa_upper) == pytest.approx((-56.68, 25.44), abs=5e-3)
    assert found.loa_lower_ci == pytest.approx((-63.5, -49.9), abs=0.05)
    assert found.loa_upper_ci == pytest.approx((18.70, 32.2), abs=0.05)


def test_unequal_replicates_1999(cardiac_output):
    """Section 5.2; the paper's SD 1.0517 and limits -1.3521, 2.7705 come from rounded intermediate values."""
    long = cardiac_output.melt("subject", var_name="reader", value_name="output")
    found = repeated_limits(long, method="RV", reference="IC", subject="subject", value="output")
    assert (found.n, found.n_method) == (12, 60)
    assert found.bias == pytest.approx(0.7092, abs=5e-5)
    # R 4.2.2, t.test of the subjects' means: twelve are too few for a normal quantile
    assert found.bias_ci == pytest.approx((0.1022365012, 1.3162357210), abs=1e-9)
    assert found.within_sd_method**2 == pytest.approx(0.1072, abs=5e-5)
    assert found.within_sd_reference**2 == pytest.approx(0.1379, abs=5e-5)
    assert found.sd == pytest.approx(1.0517, abs=2e-4)
    assert (found.loa_lower, found.loa_upper) == pytest.approx((-1.3521, 2.7705), abs=4e-4)


def test_linked_pairs_2007(cardiac_output):
    found = linked_pairs(cardiac_output.RV, cardiac_output.IC, cardiac_output.subject)
    assert (found.n, found.n_subjects) == (60, 12)
    assert found.bias == pytest.approx(0.6021667, abs=5e-8)
    assert found.sd == pytest.approx(0.99062408, abs=5e-8)
    assert (found.loa_lower, found.loa_upper) == pytest.approx((-1.3394565, 2.5437899), abs=2e-7)
    assert found.loa_lower_ci[0] < found.loa_lower < found.loa_lower_ci[1] < found.bias


def test_order_of_rows_is_of_no_account(cardiac_output):
    mixed = cardiac_output.sample(frac=1, random_state=1)
    one = linked_pairs(cardiac_output.RV, cardiac_output.IC, cardiac_output.subject)
    other = linked_pairs(mixed.RV, mixed.IC, mixed.subject)
    assert (one.bias, one.sd) == pytest.approx((other.bias, other.sd))


def test_negative_between_variance_counts_as_zero():
    """Subjects whose own mean difference is the same: all variance is within, that of six independent numbers."""
    found = linked_pairs([1, -1, 1, -1, 1, -1], np.zeros(6), [1, 1, 2, 2, 3, 3])
    assert found.between_sd == 0
    assert found.sd == pytest.approx(np.std([1, -1, 1, -1, 1, -1], ddof=1))


def test_what_cannot_be_estimated_is_said(cardiac_output):
    with pytest.raises(ValueError, match="at most 1 pairs"):
        linked_pairs([1, 2, 3], [1, 2, 4], ["a", "b", "c"])
    long = cardiac_output.melt("subject", var_name="reader", value_name="output")
    lone = long[~((long["subject"] == "12") & (long["reader"] == "RV"))]
    with pytest.raises(ValueError, match="subject 12: read by only one of RV and IC"):
        repeated_limits(lone, method="RV", reference="IC", subject="subject", value="output")
    single = long.drop_duplicates(["subject", "reader"])
    with pytest.raises(ValueError, match="RV: one reading per subject"):
        repeated_limits(single, method="RV", reference="IC", subject="subject", value="output")


def test_every_pair_of_readers():
    table = pd.DataFrame({"case_id": list("abc"), "r1": [1, 2, 3], "r2": [1, 2, 4], "r3": [0, 0, 0]})
    found = reader_pairs(table, ["r1", "r2", "r3"])
    assert found[["first", "second"]].to_numpy().tolist() == [["r1", "r2"], ["r1", "r3"], ["r2", "r3"]]
    assert found["bias"].tolist() == pytest.approx([-1 / 3, 2, 7 / 3])

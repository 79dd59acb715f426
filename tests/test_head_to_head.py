"""Two methods against one reference on the same cases."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, ttest_rel

from ich.comparison import holm
from ich.head_to_head import compare_methods
from ich.reliability import concordance


@pytest.fixture
def volumes() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    truth = rng.uniform(2, 80, 50)
    table = pd.DataFrame({"case_id": np.arange(50), "patient_id": np.arange(50) // 2, "r": truth})
    return table.assign(a=truth + rng.normal(0, 1, 50), b=truth + rng.normal(3, 6, 50))


def test_each_measure_has_its_second_source(volumes):
    found = compare_methods(volumes, "r", "a", "b").set_index("measure")
    bias = found.loc["bias, ml"]
    paired = ttest_rel(volumes.a, volumes.b)
    assert bias["p"] == pytest.approx(paired.pvalue)
    interval = paired.confidence_interval()
    assert (bias["contrast_ci_low"], bias["contrast_ci_high"]) == pytest.approx((interval.low, interval.high))
    spread = found.loc["SD of the errors, ml"]
    assert spread["contrast"] == pytest.approx((volumes.a - volumes.r).std() / (volumes.b - volumes.r).std())
    assert spread["contrast_ci_low"] < spread["contrast"] < spread["contrast_ci_high"] < 1
    errors = (volumes.a - volumes.r).to_numpy(), (volumes.b - volumes.r).to_numpy()

    def log_ratio(x, y, axis):
        return np.log(x.std(axis, ddof=1) / y.std(axis, ddof=1))

    ends = bootstrap(errors, log_ratio, paired=True, n_resamples=2000, method="BCa", rng=0).confidence_interval
    assert (spread["contrast_ci_low"], spread["contrast_ci_high"]) == pytest.approx(
        (np.exp(ends.low), np.exp(ends.high))
    )
    assert found["test"].tolist()[3:] == ["McNemar, exact", "BCa bootstrap"]
    agreement = found.loc["concordance (CCC)"]
    assert agreement["first"] == pytest.approx(concordance(volumes.a, volumes.r).ccc)
    assert agreement["contrast_ci_low"] > 0
    assert found["p_holm"].to_numpy() == pytest.approx(holm(found["p"]), nan_ok=True)


def test_pitman_morgan_on_paper():
    """The test is that of r between sum and difference of the errors: here r = 0, so the SDs are equal."""
    errors = np.array([[1, 1, -1, -1], [1, -1, 1, -1]], dtype=float)
    table = pd.DataFrame({"r": [10.0, 20, 30, 40]}).assign(a=lambda t: t.r + errors[0], b=lambda t: t.r + errors[1])
    found = compare_methods(table, "r", "a", "b", n_resamples=50).set_index("measure").loc["SD of the errors, ml"]
    assert (found["contrast"], found["p"]) == (1, pytest.approx(1))
    assert np.isnan([found["contrast_ci_low"], found["contrast_ci_high"]]).all()  # of four cases


def test_equal_errors_that_grow_with_the_volume_are_rarely_told_apart():
    """Both methods err by 10 % of the volume: the usual p of Pitman and Morgan is below 0.05 in a third of draws."""
    random, below = np.random.default_rng(1), 0
    for _ in range(100):
        truth = random.lognormal(3, 1, 60)
        table = pd.DataFrame(
            {"r": truth, "a": truth * random.normal(1, 0.1, 60), "b": truth * random.normal(1, 0.1, 60)}
        )
        found = compare_methods(table, "r", "a", "b", n_resamples=50).set_index("measure").loc["SD of the errors, ml"]
        below += found["p"] < 0.05
        assert found["contrast_ci_low"] < found["contrast"] < found["contrast_ci_high"]
    assert below <= 15


def test_mcnemar_on_paper():
    """Six cases change sides, all in favor of the first: p = 2 / 2**6."""
    table = pd.DataFrame({"r": np.full(10, 50.0), "a": [51.0] * 10, "b": [60.0] * 6 + [52.0] * 4})
    found = compare_methods(table, "r", "a", "b", n_resamples=50).set_index("measure").loc["within 5 ml"]
    assert (found["first"], found["second"]) == (1, 0.4)
    assert found["p"] == pytest.approx(2 / 64)
    turned = compare_methods(table, "r", "b", "a", n_resamples=50).set_index("measure").loc["within 5 ml"]
    assert (turned["contrast"], turned["p"]) == pytest.approx((-0.6, 2 / 64))


def test_swapping_turns_the_contrasts_round(volumes):
    one = compare_methods(volumes, "r", "a", "b").set_index("measure")
    other = compare_methods(volumes, "r", "b", "a").set_index("measure")
    for name in ("bias, ml", "absolute error, ml", "within 5 ml", "concordance (CCC)"):
        assert other.loc[name, "contrast"] == pytest.approx(-one.loc[name, "contrast"])
    name = "SD of the errors, ml"
    assert other.loc[name, "contrast_ci_low"] == pytest.approx(1 / one.loc[name, "contrast_ci_high"])


def test_the_same_method_twice(volumes):
    found = compare_methods(volumes.assign(c=volumes.a), "r", "a", "c", patient="patient_id").set_index("measure")
    assert found.loc["bias, ml", "contrast"] == 0
    assert np.isnan(found.loc["SD of the errors, ml", "p"])
    assert found.loc["absolute error, ml", "p"] == 1
    assert (found.loc["concordance (CCC)", ["contrast_ci_low", "contrast_ci_high"]] == 0).all()


def test_incomplete_cases_are_counted(volumes):
    volumes.loc[[1, 4], "b"] = np.nan
    found = compare_methods(volumes, "r", "a", "b")
    assert (found["n"].unique(), found["n_missing"].unique()) == ([48], [2])
    with pytest.raises(ValueError, match="no column c"):
        compare_methods(volumes, "r", "a", "c")
    with pytest.raises(ValueError, match="2 complete cases"):
        compare_methods(volumes.head(2).assign(b=1.0), "r", "a", "b")


def test_three_cases_and_errors_of_one_size_are_enough():
    """b is 1 ml too large each time, so the SD of its errors, and with it the ratio, is none."""
    table = pd.DataFrame({"r": [10.0, 20, 30], "a": [12.0, 19, 33], "b": [11.0, 21, 31]})
    found = compare_methods(table, "r", "a", "b", n_resamples=50).set_index("measure")
    assert found.loc["bias, ml", ["first", "second"]].tolist() == pytest.approx([4 / 3, 1])
    assert np.isnan(found.loc["SD of the errors, ml", "contrast"])


def test_errors_that_some_resamples_lack_have_no_interval_of_their_spread(volumes):
    """A method that errs in one case alone has no SD in the third of all resamples that lack it."""
    once = volumes["r"].where(volumes.index != volumes.index[0], volumes["r"] + 1)
    found = compare_methods(volumes.assign(c=once), "r", "c", "b", n_resamples=200).set_index("measure")
    row = found.loc["SD of the errors, ml"]
    assert row["contrast"] > 0
    assert row[["contrast_ci_low", "contrast_ci_high"]].isna().all()


def test_a_shift_leaves_the_spread_of_errors_as_it_is(volumes):
    near, far = (
        compare_methods(volumes.assign(a=volumes["a"] + shift), "r", "a", "b", n_resamples=200).set_index("measure")
        for shift in (0, 1e8)
    )
    columns = ["contrast", "contrast_ci_low", "contrast_ci_high"]
    name = "SD of the errors, ml"
    assert far.loc[name, columns].tolist() == pytest.approx(near.loc[name, columns].tolist(), rel=1e-6)

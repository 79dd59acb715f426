"""The rows of agreement.csv."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from ich import tables
from ich.bland_altman import bland_altman
from ich.comparison import holm, volume_group
from ich.resampling import mean_by_group
from ich.strata import agreement_table, in_strata


@pytest.fixture
def volumes() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    truth = np.exp(rng.normal(2.7, 1, 60))
    table = pd.DataFrame({"case_id": [f"{i:03d}" for i in range(60)], "reference_ml": truth})
    table["network_ml"] = truth * rng.lognormal(0, 0.1, 60)
    table["abc2_ml"] = truth * rng.lognormal(-0.1, 0.3, 60)
    table["site"] = ["a"] * 40 + ["b"] * 18 + ["c"] * 2
    return table


def test_one_row_per_method_and_stratum(volumes):
    found = agreement_table(volumes, "reference_ml", ["network_ml", "abc2_ml"], ["site"])
    assert found["stratum"].tolist() == ["all", "site: a", "site: b", "site: c"] * 2
    row = found.set_index(["method", "stratum"]).loc[("abc2_ml", "site: a")]
    expected = bland_altman(volumes.abc2_ml[:40], volumes.reference_ml[:40])
    assert (row["n"], row["bias"], row["loa_upper_ci_high"]) == (40, expected.bias, expected.loa_upper_ci[1])


def test_a_row_on_paper(volumes):
    """What is counted or averaged by the definition, and both tests against the default margins of 5 ml and 20 %."""
    volumes["abc2_ml"] -= 1
    row = agreement_table(volumes, "reference_ml", ["abc2_ml"]).iloc[0]
    error = (volumes.abc2_ml - volumes.reference_ml).to_numpy()
    share = 100 * error / volumes.reference_ml.to_numpy()
    assert row["median_difference"] == pytest.approx(np.median(error))
    assert row["mean_absolute_error"] == pytest.approx(np.abs(error).mean())
    assert row["median_absolute_error"] == pytest.approx(np.median(np.abs(error)))
    percentiles = np.quantile(error, [0.025, 0.975], method="weibull")
    assert [row["percentile_loa_lower"], row["percentile_loa_upper"]] == pytest.approx(percentiles)
    assert row["within_5_ml"] == np.mean(np.abs(error) <= 5)
    assert row["within_20_percent"] == np.mean(np.abs(share) <= 20)
    assert row["tost_p"] == pytest.approx(DescrStatsW(error).ttost_mean(-5, 5)[0])
    assert row["tost_percent_p"] == pytest.approx(DescrStatsW(share).ttost_mean(-20, 20)[0])
    assert row["bias_p"] == pytest.approx(DescrStatsW(error).ttest_mean()[1])
    assert (row["percent_bias"], row["ratio_n"]) == pytest.approx(
        (100 * np.mean(error / (error / 2 + volumes.reference_ml)), 60)
    )


def test_limits_along_the_line_are_quoted_where_volumes_were_seen(volumes):
    row = agreement_table(volumes[volumes["reference_ml"].between(8, 40)], "reference_ml", ["abc2_ml"]).iloc[0]
    reach = 1.96 * np.sqrt(np.pi / 2) * (row["regression_c0"] + 30 * row["regression_c1"])
    bias = row["regression_b0"] + 30 * row["slope"]
    assert [row["loa_lower_at_30_ml"], row["loa_upper_at_30_ml"]] == pytest.approx([bias - reach, bias + reach])
    assert np.isnan([row["loa_lower_at_5_ml"], row["loa_upper_at_60_ml"], row["loa_upper_at_5_ml_ci_low"]]).all()
    assert row["loa_upper_at_30_ml_ci_low"] < row["loa_upper_at_30_ml"] < row["loa_upper_at_30_ml_ci_high"]


def test_a_small_stratum_has_its_n_and_a_note(volumes):
    found = agreement_table(volumes, "reference_ml", ["abc2_ml"], ["site"]).set_index("stratum").loc["site: c"]
    assert found["n"] == 2
    assert np.isnan(found["bias"])
    assert found["note"] == "2 pairs: no limits"


def test_strata_are_corrected_together(volumes):
    found = agreement_table(volumes, "reference_ml", ["network_ml", "abc2_ml"], ["site"])
    inside = found[found["stratum"] != "all"]
    assert inside["bias_p_holm"].to_numpy() == pytest.approx(holm(inside["bias_p"]), nan_ok=True)


def test_it_is_the_table_of_the_run_folder(volumes, tmp_path):
    volumes["volume_group"] = volume_group(volumes["reference_ml"])
    found = agreement_table(volumes, "reference_ml", ["abc2_ml"], ["volume_group"])
    tables.write(found, tmp_path / "agreement.csv")
    back = tables.read(tmp_path / "agreement.csv")
    assert back["stratum"].tolist() == ["all", "volume_group: <5", "volume_group: 5-25", "volume_group: >25"]


def test_perfect_agreement_is_a_row(volumes):
    found = agreement_table(volumes.assign(same=volumes.reference_ml), "reference_ml", ["same"]).iloc[0]
    assert (found["bias"], found["sd"], found["ccc"], found["icc_a1"]) == (0, 0, 1, 1)
    assert np.isnan(found["bias_p"])


def test_two_patients_are_too_few_for_tests(volumes):
    table = volumes[volumes["reference_ml"] > 5].head(4).assign(patient_id=list("aabb"))
    row = agreement_table(table, "reference_ml", ["abc2_ml"], patient="patient_id").iloc[0]
    assert np.isfinite([row["bias"], row["loa_upper"]]).all()
    assert np.isnan([row["tost_p"], row["tost_percent_p"]]).all()


def test_unknown_columns(volumes):
    with pytest.raises(ValueError, match="no column scanner to stratify by"):
        agreement_table(volumes, "reference_ml", ["abc2_ml"], ["scanner"])
    with pytest.raises(ValueError, match="no column abc3_ml"):
        agreement_table(volumes, "reference_ml", ["abc3_ml"])


def test_cases_whose_stratum_is_not_stated_are_one(volumes):
    table = volumes.assign(site=["A", None, "B"] * 20)
    found = agreement_table(table, "reference_ml", ["network_ml"], ["site"]).set_index("stratum")
    assert found["n"].to_dict() == {"all": 60, "site: A": 20, "site: B": 20, "site: not stated": 20}


def test_numbers_with_many_values_are_told_apart_by_thirds_of_the_cases(volumes):
    table = volumes.assign(age=np.arange(41, 101), slice_mm=[1.0, 5.0] * 30)
    found = agreement_table(table, "reference_ml", ["network_ml"], ["age", "slice_mm"]).set_index("stratum")["n"]
    thirds = {"age: 41 to 60": 20, "age: 61 to 80": 20, "age: 81 to 100": 20}
    assert found.to_dict() == {"all": 60, **thirds, "slice_mm: 1.0": 30, "slice_mm: 5.0": 30}


def test_cases_stand_in_every_stratum_once(volumes):
    long = in_strata(volumes.assign(site=volumes["site"].where(volumes["site"] != "c")), ["site"])
    assert long["stratum"].cat.categories.tolist() == ["all", "site: a", "site: b", "site: not stated"]
    assert long["stratum"].value_counts(sort=False).tolist() == [60, 40, 18, 2]
    assert set(long.loc[long["stratum"] == "site: b", "case_id"]) == {f"{i:03d}" for i in range(40, 58)}


def test_means_within_strata_come_in_their_order(volumes):
    scored = volumes.assign(dice=np.linspace(0.5, 1, 60), patient_id=volumes["case_id"])
    found = mean_by_group(in_strata(scored, ["site"]), "dice", "stratum", n_resamples=50)
    assert found["stratum"].tolist() == ["all", "site: a", "site: b", "site: c"]
    parts = (scored["dice"], scored["dice"][:40], scored["dice"][40:58], scored["dice"][58:])
    assert found["mean"].tolist() == pytest.approx([part.mean() for part in parts])

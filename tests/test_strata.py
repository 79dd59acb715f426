"""The rows of agreement.csv."""

import numpy as np
import pandas as pd
import pytest

from ich import tables
from ich.bland_altman import bland_altman
from ich.comparison import holm, volume_group
from ich.strata import agreement_table


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


def test_unknown_columns(volumes):
    with pytest.raises(ValueError, match="no column scanner to stratify by"):
        agreement_table(volumes, "reference_ml", ["abc2_ml"], ["scanner"])
    with pytest.raises(ValueError, match="no column abc3_ml"):
        agreement_table(volumes, "reference_ml", ["abc3_ml"])

"""The published numbers."""

import numpy as np
import pandas as pd
import pytest

from ich.agreement import panel
from ich.published import ANCHORS, PAPER_DICE, PAPER_ERRORS, REFERENCES, beside, dice_beside, references
from ich.resampling import mean_by_group


def test_wang_2019():
    errors = PAPER_ERRORS.set_index(["method", "group"])
    assert errors.loc[("network", "<5")].tolist() == [0.52, 0.54]
    assert errors.loc[("ABC/2", ">25")].tolist() == [19.31, 17.23]
    assert PAPER_DICE.set_index("hemorrhage_type")["dice"].to_dict() == {
        "parenchymal": 0.87,
        "ventricular": 0.85,
        "subarachnoid": 0.67,
        "mixed": 0.77,
    }


def test_every_anchor_has_a_number_and_its_n():
    assert (ANCHORS["value"].notna() | ANCHORS[["low", "high"]].notna().all(axis=1)).all()
    assert (ANCHORS["n"] > 0).all()


def test_every_anchor_says_where_it_was_published():
    assert set(ANCHORS["study"]) == set(REFERENCES)


def test_dice_of_each_type_stands_above_the_published_ones():
    scores = pd.DataFrame(
        {"patient_id": range(8), "hemorrhage_type": ["parenchymal"] * 4 + ["mixed"] * 4, "dice": [0.9, 0.8] * 4}
    )
    found = dice_beside(mean_by_group(scores, "dice", "hemorrhage_type"))
    assert found["label"].head(2).tolist() == ["parenchymal", "mixed"]
    assert found["value"].head(2).tolist() == pytest.approx([0.85, 0.85])
    assert found["published"].tolist() == [False] * 2 + [True] * 6
    said = references(found).splitlines()
    assert [line.split(":")[0] for line in said] == [
        "- Elsheikh 2024",
        "- INSTANCE 2022",
        "- Kok 2022",
        "- Sharrock 2020",
        "- Wang 2019",
    ]
    assert "doi:10.1007/s12021-020-09493-5" in said[3]


def test_own_result_stands_above_the_published_ones():
    volume = np.array([3.0, 8, 14, 22, 35, 60])
    table = pd.DataFrame({"reference_ml": volume, "abc2_ml": volume + np.array([1, -1, 2, 0, 3, -2])})
    found = beside({"ABC/2": panel(table, "abc2_ml", "reference_ml")})
    first = found.drop_duplicates("measure").set_index("measure")
    assert not first["published"].any()
    assert first.loc["bias, ml", "value"] == pytest.approx(0.5)
    assert first.loc["mean absolute difference, ml", "value"] == pytest.approx(1.5)
    assert first.loc["within 5 ml", "value"] == 1
    assert (first["low"] <= first["value"]).all()
    assert (first["value"] <= first["high"]).all()
    webb = found[found["label"].str.startswith("Webb") & (found["measure"] == "within 5 ml")]
    assert webb["value"].tolist() == [0.84]
    assert webb["published"].all()

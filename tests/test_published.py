"""The published numbers."""

from ich.published import ANCHORS, PAPER_DICE, PAPER_ERRORS


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

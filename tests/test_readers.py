"""Human ABC/2 beside the reference, the formula and other readers; answers from Bland & Altman, Shrout & Fleiss."""

import numpy as np
import pandas as pd
import pytest

from ich import tables
from ich.readers import among_readers, reader_agreement, with_readings

# Shrout & Fleiss 1979, table 2: six targets by four judges; ICC(2,1) = 0.29, by McGraw & Wong's name ICC(A,1).
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
# Bland & Altman, Lancet 1986;i:307: peak flow of 17 subjects, l/min, by a large meter twice and by a mini meter.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
WRIGHT_AGAIN = [490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def readings(table, reading=1, blinded=True):
    """Rows of readers.csv from a column for each reader."""
    return pd.DataFrame(
        [
            {"case_id": f"c{case}", "reader": reader, "reading": reading, "blinded": blinded, "abc2_ml": float(value)}
            for reader, column in table.items()
            for case, value in enumerate(column)
            if not np.isnan(value)
        ]
    )


def cases(reference, abc2):
    return pd.DataFrame(
        {"case_id": [f"c{n}" for n in range(len(reference))], "reference_ml": reference, "abc2_kothari_ml": abc2}
    )


def test_readers_among_each_other_have_the_published_correlation():
    table = reader_agreement(cases(JUDGES[:, 0], JUDGES[:, 1]), readings({f"J{n}": JUDGES[:, n] for n in range(4)}))
    every = table[table["kind"] == "all readers"].iloc[0]
    assert every["icc_a1"] == pytest.approx(0.29, abs=0.005)
    assert (table["kind"] == "between readers").sum() == 6
    same = table[(table["kind"] == "against the reference") & (table["first"] == "J0")].iloc[0]
    assert (same["bias"], same["sd"], same["icc_a1"]) == (0, 0, 1)


def test_limits_between_readers_are_those_of_bland_and_altman():
    # Large meter - mini meter: mean -2.1, SD 38.8, limits -79.7 and 75.5 by 2 SD, so by 1.96 SD -78.1 and 73.9.
    made = readings({"large": WRIGHT, "mini": MINI})
    row = reader_agreement(cases(WRIGHT, MINI), made).set_index("kind").loc["between readers"]
    assert row["n"] == 17
    assert row["bias"] == pytest.approx(-2.1, abs=0.05)
    assert row["sd"] == pytest.approx(38.8, abs=0.05)
    assert row["loa_lower"] == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.1)


def test_repeatability_of_a_reader_is_that_of_bland_and_altman():
    made = pd.concat([readings({"R1": WRIGHT}), readings({"R1": WRIGHT_AGAIN}, 2)])
    row = reader_agreement(cases(WRIGHT, WRIGHT), made).set_index("kind").loc["same reader"]
    # Bland & Altman 1999, section 4.1: within-subject SD 15.3 of the large meter, coefficient 1.96 √2 15.3 = 42.4.
    assert row["repeatability_ml"] == pytest.approx(42.4, abs=0.1)
    assert (row["first"], row["second"]) == ("R1, second reading", "R1, first reading")


def test_every_reading_of_a_reader_counts():
    """The judges as four readings of one: Shrout & Fleiss print a mean square within targets of 6.26."""
    wide = pd.DataFrame(JUDGES, columns=pd.MultiIndex.from_product([["R1"], [1, 2, 3, 4]]))
    table = among_readers(wide)
    assert table["first"].tolist() == ["R1, second reading", "R1, reading 3", "R1, reading 4", "R1, 4 readings"]
    row = table.iloc[-1]
    assert row["repeatability_ml"] == pytest.approx(1.96 * np.sqrt(2 * 6.26), abs=0.005)
    assert row["icc_a1"] == pytest.approx(0.29, abs=0.005)
    assert table["bias"].head(3).tolist() == pytest.approx((JUDGES[:, 1:] - JUDGES[:, :1]).mean(axis=0))
    wide.iloc[0, 3] = np.nan  # a case that was read three times tells of repeats, not of the correlation of all four
    assert among_readers(wide).iloc[-1]["n"] == 6
    wide.iloc[1:5, 3] = np.nan
    assert np.isnan(among_readers(wide).iloc[-1]["icc_a1"])


def test_later_readings_in_the_table_of_readings_are_compared_too():
    made = pd.concat([readings({"R1": JUDGES[:, n]}, n + 1) for n in range(3)])
    table = reader_agreement(cases(JUDGES[:, 0], JUDGES[:, 1]), made)
    assert table.loc[table["kind"] == "same reader", "first"].tolist()[1:] == ["R1, reading 3", "R1, 3 readings"]


def test_first_readings_become_methods_and_missing_ones_stay_missing():
    made = pd.concat([readings({"R1": [1, 2, np.nan], "R2": [4, 5, 6]}), readings({"R1": [7, 8, 9]}, 2)])
    table, labels = with_readings(cases([1, 2, 3], [1, 2, 3]), made)
    assert labels == {
        "abc2_by_R1_ml": "ABC/2 by R1, Kothari's C", "abc2_by_R2_ml": "ABC/2 by R2, Kothari's C"
    }  # fmt: skip
    assert table["abc2_by_R1_ml"].fillna(-1).tolist() == [1, 2, -1]
    assert table["abc2_by_R2_ml"].tolist() == [4, 5, 6]


def test_who_saw_the_outlines_is_another_reader():
    """A first reading with outlines does not make the blinded one that follows a second."""
    made = pd.concat([readings({"R1": [1, 2, 3]}, 1, blinded=False), readings({"R1": [2, 4, 6]}, 2)])
    table, labels = with_readings(cases([1, 2, 3], [1, 2, 3]), made)
    assert table["abc2_by_R1_ml"].tolist() == [2, 4, 6]
    assert labels["abc2_by_R1_unblinded_ml"] == "ABC/2 by R1, not blinded, Kothari's C"
    among = reader_agreement(cases([1, 2, 3], [1, 2, 3]), made)
    bias = among[among["kind"] == "against the reference"].set_index("first")["bias"]
    assert bias.to_dict() == {"R1": 2, "R1, not blinded": 0}
    assert "same reader" not in set(among["kind"])


def test_a_reader_who_follows_the_rule_equals_the_formula():
    computed = [10.0, 20.0, 35.0]
    among = reader_agreement(cases([12, 25, 40], computed), readings({"R1": computed}))
    row = among[among["kind"] == "against the computed"].iloc[0]
    assert (row["bias"], row["second"]) == (0, "ABC/2, Kothari's C")


def test_too_few_cases_are_said():
    table = reader_agreement(cases([1, 2], [1, 2]), readings({"R1": [1, 2]}))
    assert set(table["note"]) == {"2 shared cases, wanted at least 3"}
    assert table["bias"].isna().all()


def test_readings_of_other_cases_are_left_out():
    made = readings({"R1": [1, 2, 3]}).assign(case_id=["x", "y", "z"])
    assert reader_agreement(cases([1, 2, 3], [1, 2, 3]), made).empty
    assert with_readings(cases([1, 2, 3], [1, 2, 3]), made)[1] == {}


BEDSIDE = """case_id,reader,reading,a_mm,b_mm,c_mm,abc2_ml,rule
c0,R1,1,40,30,20,12,all slices
c1,R1,1,50,40,25,25,all slices
c2,R1,1,80,40,25,40,all slices
c0,R1,2,40,30,10,6,Kothari
c1,R1,2,50,40,20,20,Kothari
c2,R1,2,80,40,20,32,Kothari
c0,R2,1,40,30,10,6,
c1,R2,1,50,40,20,20,
c2,R2,1,80,40,20,32,
"""


def test_readings_made_at_the_bedside_are_compared_by_the_rule_they_state(tmp_path):
    """A B C / 2 by hand: 4 x 3 x 2 / 2 = 12 ml, ...; no points, weights, times or blinding."""
    (tmp_path / "readers.csv").write_text(BEDSIDE)
    made = tables.read(tmp_path / "readers.csv")
    every, kothari = [12.0, 25.0, 40.0], [5.0, 19.0, 31.0]
    table, labels = with_readings(cases([1, 2, 3], kothari).assign(abc2_ml=every), made)
    assert labels == {
        "abc2_by_R1_ml": "ABC/2 by R1, Kothari's C", "abc2_by_R1_all_slices_ml": "ABC/2 by R1, all slices",
        "abc2_by_R2_ml": "ABC/2 by R2, Kothari's C",
    }  # fmt: skip
    assert table["abc2_by_R1_all_slices_ml"].tolist() == every
    assert table["abc2_by_R1_ml"].tolist() == [6, 20, 32]
    among = reader_agreement(cases([10, 20, 30], kothari).assign(abc2_ml=every), made)
    computed = among[among["kind"] == "against the computed"].set_index("first")
    assert computed["second"].to_dict() == {
        "R1": "ABC/2, Kothari's C", "R1, all slices": "ABC/2, all slices", "R2": "ABC/2, Kothari's C"
    }  # fmt: skip
    assert computed["bias"].to_dict() == {"R1": 1, "R1, all slices": 0, "R2": 1}
    assert "same reader" not in set(among["kind"])  # two rules are no repeat
    assert among.set_index("kind").loc["all readers", "note"] == "they count C by two rules"


def test_both_rules_of_one_reading_are_a_first_reading_each():
    made = pd.concat([readings({"R1": [1, 2, 3]}, n).assign(rule=rule) for n in (1, 2) for rule in tables.READER_RULES])
    among = reader_agreement(cases([1, 2, 3], [1, 2, 3]).assign(abc2_ml=[1, 2, 3]), made)
    assert among["first"][among["kind"] == "same reader"].tolist() == [
        "R1, second reading", "R1, all slices, second reading"
    ]  # fmt: skip


def test_a_reading_that_stands_twice_is_named():
    made = pd.concat([readings({"R1": [1, 2, 3]}), readings({"R1": [4]})])
    with pytest.raises(ValueError, match="case c0: reading 1 of reader R1 stands twice, wanted each once"):
        with_readings(cases([1, 2, 3], [1, 2, 3]), made)


def test_a_reader_without_a_first_reading_is_compared_with_nobody():
    made = pd.concat([readings({"R1": [1, 2, 3]}, 2), readings({"R2": [1, 2, 3]})])
    assert set(reader_agreement(cases([1, 2, 3], [1, 2, 3]), made)["first"]) == {"R2"}


def test_an_unknown_rule_names_the_case(tmp_path):
    (tmp_path / "readers.csv").write_text(BEDSIDE.replace("20,32,Kothari", "20,32,bedside"))
    with pytest.raises(ValueError, match=r"case c2: rule is 'bedside', wanted .*Kothari.*all slices"):
        tables.read(tmp_path / "readers.csv")

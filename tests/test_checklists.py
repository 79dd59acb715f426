import pandas as pd

from ich.checklists import AUTHORS, claim_data


def test_what_the_cohort_knows_is_answered_and_the_rest_is_left_to_the_authors():
    cohort = pd.DataFrame(
        {
            "case_id": ["a", "b", "c"],
            "included": [True, True, False],
            "source": "BHSD",
            "site": ["site-1", "site-2", None],
            "second_mask": ["x", None, None],
        }
    )
    splits = pd.DataFrame({"case_id": ["a", "b"], "split": ["train", "test"]})
    table = claim_data(cohort, splits, "site", 4).set_index("item")
    # Items 7 to 13 data, 14 to 18 reference standard, 19 to 21 partitions, 33 and 34 cases.
    assert table.index.tolist() == [f"CLAIM {n}" for n in (*range(7, 22), 33, 34)]
    assert table.loc["CLAIM 7", "answer"] == "BHSD; 2 sites named"
    assert table.loc["CLAIM 10", "answer"] == "1 of 3 excluded, each with its reason"
    assert table.loc["CLAIM 18", "answer"].startswith("second outline of 1 case")
    assert table.loc["CLAIM 20", "answer"] == "rule site, seed 4: 1 train, 1 test"
    assert (table["answer"] == AUTHORS).eq(~table["answered"]).all()
    assert not table.loc["CLAIM 16", "answered"]
    alone = claim_data(cohort.drop(columns="second_mask"), splits, "site", 4).set_index("item")
    assert not alone.loc["CLAIM 18", "answered"]

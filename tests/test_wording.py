"""Sentences of the notebooks say what the data hold, and no more."""

import numpy as np
import pandas as pd

from ich.agreement import panel
from ich.wording import case_ids, largest_tenth, reference_outlines, too_few_to_compare, volumes_differ

NAMES = {"network_ml": "the predictions", "abc2_ml": "ABC/2"}


def panels(predicted):
    """Nine cases: ABC/2 is 2 ml too large, the predictions 1 ml, where there are some."""
    reference = np.arange(10.0, 19.0)
    network = np.where(np.arange(9) < predicted, reference + 1, np.nan)
    table = pd.DataFrame({"reference_ml": reference, "network_ml": network, "abc2_ml": reference + 2})
    return {method: panel(table, method, "reference_ml") for method in NAMES}


def test_methods_of_unlike_numbers_of_cases_each_say_their_own():
    said = volumes_differ(panels(4), NAMES)
    assert said.startswith("In 9 cases the volume differs from the reference by +1.0 ml for the predictions (n = 4; ")
    assert " and +2.0 ml for ABC/2 (n = 9; 95 % limits of agreement 2.0 to 2.0 ml, 100% of cases within 5 ml)." in said


def test_one_number_of_cases_is_said_once():
    said = volumes_differ(panels(9), NAMES, "simulated")
    assert said.startswith("In 9 simulated cases the volume differs")
    assert "n = " not in said


def test_volumes_are_called_skewed_only_by_their_own_numbers():
    said = largest_tenth(pd.Series([2.0] * 18 + [32.0] * 2))  # 36 + 64 ml
    assert said.startswith("Mean 5.0 ml, median 2.0 ml; the largest tenth of the cases (n = 2) holds 64% of the volume")
    assert "Mean 3.0 ml, median 3.0 ml; the largest tenth of the cases (n = 1) holds 10%" in largest_tenth(
        pd.Series([3.0] * 10)
    )


def test_ids_are_called_what_they_are():
    assert case_ids(masks=True) == "the file names of the masks"
    assert case_ids(manifest=True) == "those of the manifest"
    assert case_ids(source=True).startswith("pseudonyms")  # DICOM: names stay in the key
    assert "published" in case_ids(source=True, public=True)
    assert case_ids() == "numbers of simulated cases"


def test_readers_are_counted_only_where_they_are_known():
    assert "one reader's" in reference_outlines(simulated=True)
    assert "one reader" not in reference_outlines(simulated=False)
    assert "not known" in reference_outlines(simulated=False)


def test_volumes_are_compared_in_three_cases_or_not_at_all():
    cases = pd.DataFrame({"hemorrhage_type": ["parenchymal", None, "ventricular", "parenchymal"], "abc2_ml": 1.0})
    assert too_few_to_compare(cases, ["abc2_ml"]) == ""
    said = too_few_to_compare(cases.assign(network_ml=[1.0, None, 1.0, None]), ["network_ml", "abc2_ml"])
    assert "at least 3 cases" in said
    assert "1 can be compared" in said

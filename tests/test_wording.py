"""Sentences of the notebooks say what the data hold, and no more."""

import numpy as np
import pandas as pd

from ich.agreement import panel
from ich.wording import volumes_differ

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

"""What a case report measures ABC/2 on."""

import numpy as np

from ich.case import _for_abc2


def test_abc2_is_that_of_parenchymal_blood_where_there_is_any():
    labels = np.zeros((6, 6, 3), np.uint8)
    labels[1:3, 1:3, 1] = 1
    labels[4, 4, 1] = 3
    name, mask = _for_abc2(labels)
    assert name == "parenchymal blood"
    assert np.array_equal(mask, labels == 1)
    labels[labels == 1] = 2
    name, mask = _for_abc2(labels)
    assert name == "blood as a whole"
    assert mask.sum() == 5

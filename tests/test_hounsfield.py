import numpy as np
import pytest

from ich.hounsfield import floor_padding, value_kind


def head(air, brain):
    hu = np.full((40, 40, 4), air, np.int16)
    hu[10:30, 10:30] = brain
    return hu


def test_padding_is_raised_to_air_and_its_share_told():
    hu = head(-1000, 30)
    hu[0] = -3024
    floored, notes = floor_padding(hu)
    assert floored.min() == -1024
    assert notes == ("2.5% of voxels lie outside the scanner's field (down to -3024) and count as air",)


@pytest.mark.parametrize(
    ("air", "brain", "kind"),
    [(-1000, 30, "hu"), (24, 1054, "shifted"), (0, 110, "display"), (0, 0, "hu"), (-40, 60, "hu")],
)
def test_kind_of_values(air, brain, kind):
    assert value_kind(head(air, brain))[0] == kind


def test_notes_of_odd_values_give_the_numbers():
    assert "subtract 1024" in value_kind(head(24, 1054))[1][0]
    assert "0 to 110" in value_kind(head(0, 110))[1][0]
    assert "lowest value is -40" in value_kind(head(-40, 60))[1][0]
    assert value_kind(head(-1000, 30))[1] == ()

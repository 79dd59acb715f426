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
    assert notes == ("2.5 % of voxels lie outside the scanner's field (down to -3024) and count as air",)


@pytest.mark.parametrize(
    ("air", "brain", "kind"),
    [(-1000, 30, "hu"), (24, 1054, "shifted"), (0, 110, "display"), (0, 0, "hu"), (-40, 60, "hu")],
)
def test_kind_of_values(air, brain, kind):
    assert value_kind(head(air, brain))[0] == kind


def test_padding_tells_nothing_of_the_values():
    """Values that miss the intercept, in a picture that a scanner has padded with -2000."""
    hu = head(24, 1054)
    hu[:4] = -2000
    assert value_kind(hu)[0] == "shifted"


def test_values_below_vacuum_that_vary_are_no_padding():
    """HU times ten, with the noise of air."""
    air = np.random.default_rng(0).normal(-10_000, 100, (40, 40, 4))
    assert value_kind(np.where(head(0, 1) > 0, 300, air).astype(np.int16))[0] == "display"
    assert value_kind(head(-3024, 30))[0] == "hu"
    noisy = np.random.default_rng(1).normal(-1000, 80, (40, 40, 4))  # a sharp kernel, not cut at -1024
    assert value_kind(np.where(head(0, 1) > 0, 30, noisy).astype(np.int16)) == ("hu", ())


def test_values_cut_at_a_window_are_told():
    kind, notes = value_kind(head(-1000, 100))
    assert kind == "hu"
    assert "no value is above 100: bone is cut off" in notes[0]


def test_values_too_close_together_for_a_head_are_none():
    mask = head(0, 1)
    assert value_kind(mask)[0] == "display"
    assert "0 to 1: a mask, or scaled, not HU" in value_kind(mask)[1][0]
    assert value_kind(head(-1000, 30).astype(np.float32) / 1000)[0] == "display"


def test_notes_of_odd_values_give_the_numbers():
    assert "subtract 1024" in value_kind(head(24, 1054))[1][0]
    assert "0 to 110" in value_kind(head(0, 110))[1][0]
    assert "lowest value is -40" in value_kind(head(-40, 60))[1][0]
    assert value_kind(head(-1000, 30))[1] == ()

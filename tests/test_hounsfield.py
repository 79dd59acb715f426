import numpy as np
import pytest

from ich.hounsfield import floor_padding, head_box, value_kind


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


def test_the_head_is_found_with_its_margin_and_the_rest_is_not():
    """At 0.5 mm the head is sought every 8 pixels: 24 mm from row 24 on, 28 mm from column 32 on; a rest of 8 mm."""
    hu = np.full((100, 120, 3), -1000, np.int16)
    hu[24:72, 32:88] = -100  # fat is head too
    hu[:, 104:120] = 200
    assert head_box(hu, (0.5, 0.5)) == (slice(24, 72), slice(32, 88))
    assert head_box(hu, (0.5, 0.5), margin_mm=5) == (slice(14, 82), slice(22, 98))
    assert head_box(hu, (0.5, 1.0), margin_mm=2) == (slice(20, 76), slice(30, 90))
    assert head_box(hu, (0.5, 0.5), margin_mm=15) == (slice(0, 100), slice(2, 118))  # not beyond the picture
    assert head_box(np.full((100, 120, 3), -1000, np.int16), (0.5, 0.5)) is None


@pytest.mark.parametrize(
    ("air", "brain", "note"),
    [
        (-210, 60, None),
        (-190, 60, "lowest value is -190: no air"),
        (-1000, 70, None),
        (-1000, 80, "no value is above 80"),
        (-1000, 300, "no value is above 300"),
        (-1000, 310, None),
        (-890, 100, None),
        (-20, 30, "lowest value is -20: no air"),
        (-20, 29, "a mask, or scaled"),
        (0, 255, "gray levels"),
        (0, 260, "lowest value is 0: no air"),
        (24, 1000, "lowest value is 24: no air"),
        (24, 1124, "lowest value is 24: no air"),
    ],
)
def test_bounds_of_the_values(air, brain, note):
    notes = value_kind(head(air, brain))[1]
    assert notes == () if note is None else note in notes[0]


@pytest.mark.parametrize(("pixels", "told"), [(2, False), (3, True)])
def test_a_window_s_end_shows_in_more_than_half_a_percent(pixels, told):
    """Of 400 values that are looked at, each fourth in rows and columns, 2 are just half a percent."""
    hu = head(-1000, 30)
    hu[12, 12, :pixels] = 100
    assert bool(value_kind(hu)[1]) is told


def test_a_few_values_below_vacuum_that_vary_are_no_other_scale():
    hu = head(-1000, 30).astype(np.int16)
    hu[:4] = -np.arange(2000, 2640).reshape(4, 40, 4)  # 40 of the 400 values that are looked at
    assert value_kind(hu)[0] == "hu"

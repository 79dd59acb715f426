import pytest
from scipy import stats

from ich.growth import growth
from ich.volume_classes import expanded

HALVES_ML = (3.0, 4.0)


@pytest.mark.parametrize(
    ("earlier", "later", "expansion"),
    [(10, 13.2, False), (10, 13.4, True), (30, 35.9, False), (30, 36.1, True), (0, 6, False), (0, 6.1, True)],
)  # fmt: skip
def test_expansion_is_over_a_third_or_over_6_ml(earlier, later, expansion):
    assert growth(earlier, later, HALVES_ML).expansion is expansion


def test_change_in_ml_and_percent():
    found = growth(20, 25, HALVES_ML)
    assert (found.earlier_ml, found.later_ml, found.change_ml, found.change_percent) == (20, 25, 5, 25)
    shrunk = growth(25, 20, HALVES_ML)
    assert (shrunk.change_ml, shrunk.change_percent, shrunk.by_error) == (-5, -20, found.by_error)
    assert growth(0, 5, HALVES_ML).change_percent is None


def test_error_alone_explains_a_change_as_often_as_the_normal_distribution_says():
    # Half-widths of 3 and 4 ml of 90 % intervals: the difference has a standard error of 5 / 1.645 ml.
    error = 5 / stats.norm.ppf(0.95)
    change = stats.norm.ppf(0.975) * error
    assert growth(20 - change / 2, 20 + change / 2, HALVES_ML).by_error == pytest.approx(0.05)
    assert growth(20 + change / 2, 20 - change / 2, HALVES_ML).by_error == pytest.approx(0.05)  # up or down
    assert growth(2, 2 + change / 10, (0.3, 0.4)).by_error == pytest.approx(0.05)
    assert growth(20, 20, HALVES_ML).by_error == 1
    assert growth(20, 30).by_error is None


@pytest.mark.parametrize("volumes", [(-1, 5), (5, float("nan"))])
def test_no_volume(volumes):
    with pytest.raises(ValueError, match="wanted 0 or more"):
        growth(*volumes, HALVES_ML)


def test_volumes_without_an_error_differ_or_do_not():
    assert growth(3.0, 3.0, (0.0, 0.0)).by_error == 1
    assert growth(3.0, 4.0, (0.0, 0.0)).by_error == 0


def test_both_definitions_of_expansion_are_one():
    for earlier, later in ((0, 3), (0, 7), (3, 4.1), (30, 35), (30, 37)):
        assert growth(earlier, later).expansion == bool(expanded(earlier, later))
    assert not expanded(0, 3)

import pytest
from scipy import stats

from ich.growth import growth

CALIBRATED = {"level": 0.9, "n": 20, "factor": 0.2}


@pytest.mark.parametrize(
    ("earlier", "later", "expansion"),
    [(10, 13.2, False), (10, 13.4, True), (30, 35.9, False), (30, 36.1, True), (0, 6, False), (0, 6.1, True)],
)  # fmt: skip
def test_expansion_is_over_a_third_or_over_6_ml(earlier, later, expansion):
    assert growth(earlier, later, CALIBRATED).expansion is expansion


def test_change_in_ml_and_percent():
    found = growth(20, 25, CALIBRATED)
    assert (found.change_ml, found.change_percent) == (5, 25)
    assert growth(0, 5, CALIBRATED).change_percent is None


def test_error_alone_explains_a_change_as_often_as_the_normal_distribution_says():
    # Two readings of 20 ml: a 90 % interval of 0.2 x 21 ml on either side is a standard error of 4.2 / 1.645 ml.
    error = 4.2 / stats.norm.ppf(0.95)
    change = stats.norm.ppf(0.975) * 2**0.5 * error
    assert growth(20 - change / 2, 20 + change / 2, CALIBRATED).by_error == pytest.approx(0.05)
    assert growth(20, 20, CALIBRATED).by_error == 1
    assert growth(20, 30, {"level": 0.9, "n": 3, "factor": None}).by_error is None


@pytest.mark.parametrize("volumes", [(-1, 5), (5, float("nan"))])
def test_no_volume(volumes):
    with pytest.raises(ValueError, match="wanted 0 or more"):
        growth(*volumes, CALIBRATED)

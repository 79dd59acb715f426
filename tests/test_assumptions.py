"""Checks of what constant limits assume, and the limits they speak for."""

import numpy as np
import pytest

from ich.assumptions import assumption_checks, limits_to_quote

RNG = np.random.default_rng(4)
VOLUME = np.exp(RNG.normal(3, 0.8, 150))


@pytest.mark.parametrize(
    ("method", "limits"),
    [
        (VOLUME + RNG.normal(0, 0.1, 150), "constant"),
        (
            VOLUME + 0.01 * RNG.permutation(np.concatenate([np.full(75, -1.0), np.full(75, 1.0)])),
            "nonparametric",
        ),
        (VOLUME * np.exp(RNG.normal(0, 0.2, 150)), "ratio"),
        (0.5 * VOLUME + 10 + RNG.normal(0, 1, 150), "regression"),
    ],
    ids=["constant", "two-peaked", "proportional", "compressed"],
)
def test_limits_suit_how_the_data_were_made(method, limits):
    assert limits_to_quote(assumption_checks(method, VOLUME))["limits"] == limits


def test_a_volume_of_zero_rules_ratios_out():
    method = VOLUME * np.exp(np.random.default_rng(1).normal(0, 0.2, 150))
    method[0] = 0
    checks = assumption_checks(method, VOLUME)
    assert checks["ratio"]["all_positive"] is False
    assert limits_to_quote(checks)["limits"] == "regression"


@pytest.mark.parametrize(("n", "limits"), [(4, "unchecked"), (19, "unchecked"), (20, "regression")])
def test_few_pairs_are_too_few_to_check(n, limits):
    reference = np.linspace(1, 100, n)
    method = 0.5 * reference + 10 + np.tile([0.1, -0.1], n)[:n]  # a bias that follows the volume, whatever n
    checks = assumption_checks(method, reference)
    assert (checks["ml"]["proportional_bias_p"] is None) == (n < 20)
    found = limits_to_quote(checks)
    assert found["limits"] == limits
    assert found["reason"].startswith(f"{n} pairs are too few to check") == (n < 20)


def test_no_differences_nothing_to_check():
    checks = assumption_checks(VOLUME, VOLUME)
    assert checks["ml"]["normality_p"] is None
    assert limits_to_quote(checks) == {"limits": "constant", "reason": "the differences do not vary"}

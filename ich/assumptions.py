"""Which limits of agreement the data allow one to quote: checks of normality, trend and spread."""

import math

import numpy as np
from scipy.stats import shapiro

from ich.pairs import varies
from ich.volume_limits import regression_limits

ENDS_FROM = 146  # pairs that bound the 97.5th percentile from above: 0.975^146 < 0.025
ALPHA = 0.05
CHECKED_FROM = 20  # pairs; p values of fewer speak of single cases, not of how differences are distributed
UNCHECKED = "unchecked"
SHAPIRO_MAX = 5000  # beyond, the test's p value is not reliable


def assumption_checks(method: np.ndarray, reference: np.ndarray, patients: np.ndarray | None = None) -> dict:
    """Whether constant limits suit the differences, on the ml and on the log scale.

    Parameters
    ----------
    patients : (n,) the patient of each pair, for the slope of the difference; the others take cases as independent.

    Returns
    -------
    For "ml" and "ratio": n, normality_p (Shapiro-Wilk), proportional_bias_p (slope of the difference on the
    mean), spread_slope and spread_p (slope of the absolute residual on the mean) and a flag for each: normal,
    no_proportional_bias, constant_spread (p >= 0.05). None where a scale or a check is not defined, or where there are
    fewer than `CHECKED_FROM` pairs.
    """
    method, reference = np.asarray(method, dtype=float), np.asarray(reference, dtype=float)
    positive = (method > 0) & (reference > 0)
    scales: dict = {"ml": _checks(method, reference, patients)}
    enough = positive.sum() >= 3
    of_positive = None if patients is None else patients[positive]
    scales["ratio"] = _checks(np.log(method[positive]), np.log(reference[positive]), of_positive) if enough else None
    if scales["ratio"] is not None:
        scales["ratio"]["all_positive"] = bool(positive.all())
    return {"alpha": ALPHA, **scales}


def _checks(method: np.ndarray, reference: np.ndarray, patients: np.ndarray | None) -> dict:
    difference = method - reference
    found: dict = {"n": difference.size, "normality_p": None, "proportional_bias_p": None}
    found |= {"spread_slope": None, "spread_p": None}
    differ = difference.size >= CHECKED_FROM and varies(difference, method, reference)
    if differ and difference.size <= SHAPIRO_MAX:
        centered = difference - difference.mean()
        found["normality_p"] = float(shapiro(centered / np.abs(centered).max()).pvalue)
    if differ and varies(method + reference, reference):
        slope = regression_limits(method, reference, patients=patients)
        found["proportional_bias_p"] = None if math.isnan(slope.b1_p) else slope.b1_p
        found |= {"spread_slope": slope.c1, "spread_p": slope.c1_p}
    names = {
        "normal": "normality_p",
        "no_proportional_bias": "proportional_bias_p",
        "constant_spread": "spread_p",
    }
    for flag, p in names.items():
        found[flag] = None if found[p] is None else bool(found[p] >= ALPHA)
    return found


def limits_to_quote(checks: dict) -> dict:
    """Which limits the checks speak for, and why, in a sentence.

    Constant limits need all three checks. Without normality alone: nonparametric limits. With a bias or
    spread that follows the volume: ratio limits if every volume is positive and the log scale passes the two
    slope checks, else regression limits. Of pairs too few to check the limits are "unchecked".
    """
    raw, ratio = checks["ml"], checks["ratio"]
    if raw["n"] < CHECKED_FROM:
        return {
            "limits": UNCHECKED,
            "reason": f"{raw['n']} pairs are too few to check which limits suit ({CHECKED_FROM} are wanted)",
        }
    if raw["normal"] is None and raw["constant_spread"] is None:
        return {"limits": "constant", "reason": "the differences do not vary"}
    failed = [text for flag, text in _FAILED.items() if raw[flag] is False]
    if not failed:
        return {"limits": "constant", "reason": "differences look normal, with no trend in bias or spread"}
    reason = " and ".join(failed)
    if raw["no_proportional_bias"] is not False and raw["constant_spread"] is not False:
        few = (
            f"; {raw['n']} pairs cannot give both ends of their intervals, {ENDS_FROM} can"
            if raw["n"] < ENDS_FROM
            else ""
        )
        return {"limits": "nonparametric", "reason": reason + few}
    level = ratio is not None and ratio["all_positive"]
    if level and ratio["no_proportional_bias"] is not False and ratio["constant_spread"] is not False:
        bent = ", though differences of the logarithms are not normal" if ratio["normal"] is False else ""
        return {"limits": "ratio", "reason": f"{reason}; on the log scale neither trend remains{bent}"}
    return {"limits": "regression", "reason": f"{reason}, on the log scale too" if level else reason}


_FAILED = {
    "normal": "differences are not normal",
    "no_proportional_bias": "bias changes with volume",
    "constant_spread": "spread changes with volume",
}

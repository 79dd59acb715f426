"""How many cases the next study needs: exact width of a limit's interval, exact power against a margin."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm

from ich.bland_altman import limit_factors

MAX_CASES = 100_000
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)


def interval_width(
    n: int, *, multiplier: float = 1.96, confidence: float = 0.95, assurance: float | None = None
) -> float:
    """Width of a limit's exact interval, in SD of the differences: expected, or not exceeded with
    `assurance`.

    Source: Carkeet 2015 (interval); Shieh, BMC Med Res Methodol 2018;18:45 (expected width and
    assurance).
    """
    inner, outer = limit_factors(n, multiplier, confidence)
    if assurance is not None:
        return (outer - inner) * math.sqrt(float(chi2.ppf(assurance, n - 1)) / (n - 1))
    mean_sd = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    return (outer - inner) * mean_sd


def width_curve(
    cases: Sequence[int] = (10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000),
    *,
    multiplier: float = 1.96,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Rows of n, inner_sd and outer_sd (exact factors), expected_width_sd, width_80_sd (80 % assurance)."""
    rows = []
    for n in cases:
        inner, outer = limit_factors(n, multiplier, confidence)
        expected = interval_width(n, multiplier=multiplier, confidence=confidence)
        assured = interval_width(n, multiplier=multiplier, confidence=confidence, assurance=0.8)
        row = {
            "n": n,
            "inner_sd": inner,
            "outer_sd": outer,
            "expected_width_sd": expected,
            "width_80_sd": assured,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def cases_for_width(
    width: float,
    sd: float,
    *,
    multiplier: float = 1.96,
    confidence: float = 0.95,
    assurance: float | None = None,
) -> int:
    """Smallest number of cases whose exact interval of a limit is at most `width` wide, in expectation or
    assured.

    Parameters
    ----------
    width : of the whole interval, in the unit of `sd`.
    sd : of the differences, from a pilot or a published study.
    assurance : probability with which the width is not exceeded; without it the expected width counts.

    Raises
    ------
    ValueError : width, SD or assurance is out of range, or 100,000 cases do not reach the width.
    """
    if not (width > 0 and sd > 0):
        raise ValueError(f"got width {width} and sd {sd}, wanted both positive")
    if assurance is not None and not 0 < assurance < 1:
        raise ValueError(f"assurance: got {assurance}, wanted a probability between 0 and 1")

    def narrow(n: int) -> bool:
        found = interval_width(n, multiplier=multiplier, confidence=confidence, assurance=assurance)
        return found * sd <= width

    return _smallest(narrow, f"a width of {width:g} at an SD of {sd:g}")


def margin_power(
    n: int, margin: float, sd: float, *, bias: float = 0.0, multiplier: float = 1.96, confidence: float = 0.95
) -> float:
    """Probability that the exact intervals of both limits lie inside plus or minus `margin`.

    Integrated over the distribution of the sample SD; the mean is normal given the SD.
    Source: the hypothesis of Lu et al., Int J Biostat 2016;12(2), with exact instead of approximate
    intervals.
    """
    outer = limit_factors(n, multiplier, confidence)[1]
    share = (_NODES + 1) / 2
    seen_sd = sd * np.sqrt(chi2.ppf(share, n - 1) / (n - 1))
    room = margin - outer * seen_sd
    error = sd / math.sqrt(n)
    inside = norm.cdf((room - bias) / error) - norm.cdf((-room - bias) / error)
    return float((np.where(room > 0, inside, 0.0) * _WEIGHTS).sum() / 2)


def cases_for_margin(
    margin: float,
    sd: float,
    *,
    bias: float = 0.0,
    power: float = 0.8,
    multiplier: float = 1.96,
    confidence: float = 0.95,
) -> int:
    """Smallest number of cases that show limits inside plus or minus `margin` with the given power.

    Raises
    ------
    ValueError : the true limits themselves reach the margin, a value is out of range, or 100,000 cases are
        too few.
    """
    if not (margin > 0 and sd > 0 and 0 < power < 1):
        raise ValueError(f"got margin {margin}, sd {sd}, power {power}, wanted positive values and a power below 1")
    if abs(bias) + multiplier * sd >= margin:
        limit = bias + math.copysign(multiplier * sd, bias)
        raise ValueError(
            f"margin: at this bias and SD a limit lies at {limit:.2f}, beyond {math.copysign(margin, bias):g}: "
            "more cases do not bring it inside"
        )

    def enough(n: int) -> bool:
        return margin_power(n, margin, sd, bias=bias, multiplier=multiplier, confidence=confidence) >= power

    return _smallest(enough, f"a margin of {margin:g} at an SD of {sd:g}")


def next_study(panel: dict) -> dict:
    """Cases for a study like this one, from the bias and SD of `ich.agreement.panel` and its margin.

    Returns
    -------
    bias_ml, sd_ml, margin_ml; cases_for_width: limits whose expected interval is as wide as the margin;
    cases_for_width_assured: the same with 80 % assurance; cases_for_margin: limits inside the margin with 80 %
    power; each empty where `note` says why there is no such number.
    """
    sd, bias, margin = panel["sd"], panel["bias"], panel["margin_ml"]
    found: dict = {"bias_ml": bias, "sd_ml": sd, "margin_ml": margin}
    if sd == 0:
        nothing = dict.fromkeys(("cases_for_width", "cases_for_width_assured", "cases_for_margin"))
        return found | nothing | {"note": "the differences do not vary, so there is no SD to plan with"}
    wanted = {
        "cases_for_width": partial(cases_for_width, margin, sd),
        "cases_for_width_assured": partial(cases_for_width, margin, sd, assurance=0.8),
        "cases_for_margin": partial(cases_for_margin, margin, sd, bias=bias),
    }
    notes: list[str] = []
    for name, count in wanted.items():
        try:
            found[name] = count()
        except ValueError as error:
            found[name] = None
            notes.append(str(error))
    return found | {"note": "; ".join(dict.fromkeys(notes))}


def _smallest(enough, what: str) -> int:
    """Smallest n from 3 on that is enough, by doubling and halving."""
    high = 3
    while not enough(high):
        if high == MAX_CASES:
            raise ValueError(f"{what} needs more than {MAX_CASES} cases")
        high = min(2 * high, MAX_CASES)
    low = max(2, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

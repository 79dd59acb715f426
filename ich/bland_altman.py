"""Bland-Altman limits of agreement: constant, percent and ratio."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t

from ich.linked import NOT_KNOWN, linked_limits, normal_limit_factors, owners
from ich.pairs import NotDefined, Pairs, flat, pair, varies

Interval = tuple[float, float]


@dataclass(frozen=True)
class BlandAltman:
    """Bias and limits of agreement with their intervals, on one scale.

    On the scales "ml" and "percent" the bias is a mean difference. On the scale "ratio" bias, limits and
    intervals are ratios method / reference, and `sd` is that of the natural logarithm.
    """

    scale: str  # "ml", "percent" (of the mean of both) or "ratio"
    n: int
    n_patients: int  # below n where patients have several pairs; then `sd` and limits allow for it
    n_missing: int
    missing_ids: tuple[str, ...]
    undefined_ids: tuple[str, ...]  # complete pairs that have no percentage or no logarithm
    bias: float
    bias_ci: Interval
    sd: float  # n - 1
    loa_lower: float
    loa_upper: float
    loa_lower_ci: Interval  # exact; of `ich.linked` where patients have several pairs
    loa_upper_ci: Interval
    loa_lower_ci_approximate: Interval
    loa_upper_ci_approximate: Interval
    multiplier: float
    confidence: float

    def row(self) -> dict:
        """Flat record for a table."""
        return flat(asdict(self))


def limit_factors(n: int, multiplier: float = 1.96, confidence: float = 0.95) -> Interval:
    """Inner and outer distance of a limit's exact interval from the bias, in SD of the differences.

    Source: Carkeet, Optom Vis Sci 2015;92:e71.
    """
    return normal_limit_factors(n, n - 1, multiplier, confidence)


def bland_altman(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    patients: ArrayLike | None = None,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> BlandAltman:
    """Bias (method - reference) and limits of agreement.

    Parameters
    ----------
    method, reference : (n,) volumes of the same cases; pairs that lack a value are counted and named.
    ids : (n,) identifiers, unique.
    patients : (n,) whose pair each is. Where some have several, pairs are not independent: `sd` and limits come from
        `ich.linked.linked_limits`, with their intervals, and there are no approximate ones.
    multiplier : SD from the bias to a limit.

    Returns
    -------
    BlandAltman : differences that are all equal give an SD of 0 and intervals of width 0.

    Raises
    ------
    ValueError : see `ich.pairs.pair`; at least 3 complete pairs are needed.

    Source: Bland & Altman, Lancet 1986;i:307; intervals Carkeet 2015 (exact), Bland & Altman, Stat Methods
    Med Res 1999;8:135, section 2.2 (approximate).
    """
    pairs = pair(method, reference, ids)
    everyone = np.ones(pairs.n, dtype=bool)
    return _limits("ml", pairs, pairs.difference, everyone, patients, multiplier, confidence)


def bland_altman_percent(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    patients: ArrayLike | None = None,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> BlandAltman:
    """`bland_altman` in percent of the mean of both; pairs whose mean is not positive are named."""
    pairs = pair(method, reference, ids)
    usable = pairs.mean > 0
    percent = 100 * pairs.difference[usable] / pairs.mean[usable]
    return _limits("percent", pairs, percent, usable, patients, multiplier, confidence)


def bland_altman_ratio(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    patients: ArrayLike | None = None,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> BlandAltman:
    """`bland_altman` of the log volumes, given back as ratios; pairs with a volume of zero or less are named.

    Source: Bland & Altman 1999, section 3.1.
    """
    pairs = pair(method, reference, ids)
    usable = (pairs.method > 0) & (pairs.reference > 0)
    logs = np.log(pairs.method[usable] / pairs.reference[usable])
    return _limits("ratio", pairs, logs, usable, patients, multiplier, confidence)


def _limits(
    scale: str,
    pairs: Pairs,
    values: np.ndarray,
    usable: np.ndarray,
    patients: ArrayLike | None,
    multiplier: float,
    confidence: float,
) -> BlandAltman:
    n = values.size
    if n < 3:
        raise NotDefined(
            f"{scale} limits: {n} of {pairs.n} pairs have a positive volume to divide by, wanted at least 3"
        )
    whose = pairs.of(patients)
    owner = owners(None if whose is None else whose[usable], n)
    back = math.exp if scale == "ratio" else float
    common: dict[str, Any] = {
        "scale": scale, "n": n, "n_missing": len(pairs.missing_ids), "missing_ids": pairs.missing_ids,
        "undefined_ids": tuple(pairs.ids[~usable]), "multiplier": multiplier, "confidence": confidence,
    }  # fmt: skip
    if owner is not None:
        found = linked_limits(values, owner, multiplier, confidence)
        bias_ci, lower_ci, upper_ci = (
            (back(low), back(high)) for low, high in (found.bias_ci, found.loa_lower_ci, found.loa_upper_ci)
        )
        return BlandAltman(
            **common, n_patients=found.n_subjects, sd=found.sd,
            bias=back(found.bias), loa_lower=back(found.loa_lower), loa_upper=back(found.loa_upper),
            bias_ci=bias_ci, loa_lower_ci=lower_ci, loa_upper_ci=upper_ci,
            loa_lower_ci_approximate=NOT_KNOWN, loa_upper_ci_approximate=NOT_KNOWN,
        )  # fmt: skip
    bias, sd = float(values.mean()), float(values.std(ddof=1))
    if not varies(values, np.ones(1) if scale == "ratio" else pairs.reference):
        sd = 0.0  # what is left is rounding
    quantile = float(t.ppf((1 + confidence) / 2, n - 1))
    inner, outer = limit_factors(n, multiplier, confidence)
    half = quantile * sd * math.sqrt(1 / n + multiplier**2 / (2 * (n - 1)))

    def ends(low: float, high: float) -> Interval:
        return back(bias + low), back(bias + high)

    limit = multiplier * sd
    return BlandAltman(
        **common,
        n_patients=n,
        bias=back(bias),
        bias_ci=ends(-quantile * sd / math.sqrt(n), quantile * sd / math.sqrt(n)),
        sd=sd,
        loa_lower=back(bias - limit),
        loa_upper=back(bias + limit),
        loa_lower_ci=ends(-outer * sd, -inner * sd),
        loa_upper_ci=ends(inner * sd, outer * sd),
        loa_lower_ci_approximate=ends(-limit - half, -limit + half),
        loa_upper_ci_approximate=ends(limit - half, limit + half),
    )

"""Bland-Altman limits of agreement: constant, percent, ratio, regression and nonparametric, and the mountain plot."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import linregress, nct, rankdata, t

from ich.pairs import Pairs, flat, pair
from ich.resampling import resampled_counts

Interval = tuple[float, float]


@dataclass(frozen=True)
class BlandAltman:
    """Bias and limits of agreement with their intervals, on one scale.

    On the scales "ml" and "percent" the bias is a mean difference. On the scale "ratio" bias, limits and intervals
    are ratios method / reference, and `sd` is that of the natural logarithm.
    """

    scale: str  # "ml", "percent" (of the mean of both) or "ratio"
    n: int
    n_missing: int
    missing_ids: tuple[str, ...]
    undefined_ids: tuple[str, ...]  # complete pairs that have no percentage or no logarithm
    bias: float
    bias_ci: Interval
    sd: float  # n - 1
    loa_lower: float
    loa_upper: float
    loa_lower_ci: Interval  # exact
    loa_upper_ci: Interval  # exact
    loa_lower_ci_approximate: Interval
    loa_upper_ci_approximate: Interval
    multiplier: float
    confidence: float

    def row(self) -> dict:
        """Flat record for a table."""
        return flat(asdict(self))


def limit_factors(n: int, multiplier: float = 1.96, confidence: float = 0.95) -> Interval:
    """Inner and outer distance of a limit's exact interval from the bias, in SD of the differences.

    The limit mu + multiplier * sigma is a normal quantile, so its interval comes from the noncentral t distribution.
    Source: Carkeet, Optom Vis Sci 2015;92:e71.
    """
    shift = multiplier * math.sqrt(n)
    inner, outer = nct.ppf([(1 - confidence) / 2, (1 + confidence) / 2], n - 1, shift) / math.sqrt(n)
    return float(inner), float(outer)


def bland_altman(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> BlandAltman:
    """Bias (method - reference) and limits of agreement.

    Parameters
    ----------
    method, reference : (n,) volumes of the same cases; pairs that lack a value are counted and named.
    ids : (n,) identifiers, unique.
    multiplier : SD from the bias to a limit.

    Returns
    -------
    BlandAltman : differences that are all equal give an SD of 0 and intervals of width 0.

    Raises
    ------
    ValueError : see `ich.pairs.pair`; at least 3 complete pairs are needed.

    Source: Bland & Altman, Lancet 1986;i:307; intervals Carkeet 2015 (exact), Bland & Altman, Stat Methods Med Res
    1999;8:135, section 2.2 (approximate).
    """
    pairs = pair(method, reference, ids)
    return _limits("ml", pairs, pairs.difference, (), multiplier, confidence)


def bland_altman_percent(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> BlandAltman:
    """`bland_altman` of the differences in percent of the mean of both; pairs whose mean is not positive are named."""
    pairs = pair(method, reference, ids)
    usable = pairs.mean > 0
    percent = 100 * pairs.difference[usable] / pairs.mean[usable]
    return _limits("percent", pairs, percent, tuple(pairs.ids[~usable]), multiplier, confidence)


def bland_altman_ratio(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> BlandAltman:
    """`bland_altman` of the log volumes, given back as ratios; pairs with a volume of zero or less are named.

    Source: Bland & Altman 1999, section 3.1.
    """
    pairs = pair(method, reference, ids)
    usable = (pairs.method > 0) & (pairs.reference > 0)
    logs = np.log(pairs.method[usable] / pairs.reference[usable])
    return _limits("ratio", pairs, logs, tuple(pairs.ids[~usable]), multiplier, confidence)


def _limits(
    scale: str, pairs: Pairs, values: np.ndarray, undefined: tuple[str, ...], multiplier: float, confidence: float
) -> BlandAltman:
    n = values.size
    if n < 3:
        raise ValueError(
            f"{scale} limits: {n} of {pairs.n} pairs have a positive volume to divide by, wanted at least 3"
        )
    bias, sd = float(values.mean()), float(values.std(ddof=1))
    if np.ptp(values) == 0:
        sd = 0.0  # the mean of equal numbers can miss them by a rounding error
    back = math.exp if scale == "ratio" else float
    quantile = float(t.ppf((1 + confidence) / 2, n - 1))
    inner, outer = limit_factors(n, multiplier, confidence)
    half = quantile * sd * math.sqrt(1 / n + multiplier**2 / (2 * (n - 1)))

    def ends(low: float, high: float) -> Interval:
        return back(bias + low), back(bias + high)

    limit = multiplier * sd
    return BlandAltman(
        scale=scale,
        n=n,
        n_missing=len(pairs.missing_ids),
        missing_ids=pairs.missing_ids,
        undefined_ids=undefined,
        bias=back(bias),
        bias_ci=ends(-quantile * sd / math.sqrt(n), quantile * sd / math.sqrt(n)),
        sd=sd,
        loa_lower=back(bias - limit),
        loa_upper=back(bias + limit),
        loa_lower_ci=ends(-outer * sd, -inner * sd),
        loa_upper_ci=ends(inner * sd, outer * sd),
        loa_lower_ci_approximate=ends(-limit - half, -limit + half),
        loa_upper_ci_approximate=ends(limit - half, limit + half),
        multiplier=multiplier,
        confidence=confidence,
    )


@dataclass(frozen=True)
class RegressionLimits:
    """Limits that follow the volume: difference = b0 + b1 A, |residual| = c0 + c1 A, A the mean of both."""

    n: int
    b0: float
    b1: float
    b1_ci: Interval
    b1_p: float  # of no proportional bias
    c0: float
    c1: float
    c1_ci: Interval
    c1_p: float  # of a spread that does not change with the volume
    residual_sd: float  # n - 2; the spread to use where c1 is not needed
    multiplier: float
    confidence: float

    def row(self) -> dict:
        """Flat record for a table."""
        return flat(asdict(self))

    def at(self, volume: ArrayLike) -> pd.DataFrame:
        """Bias and limits at given volumes: volume, bias, loa_lower, loa_upper; a spread below zero counts as zero."""
        volume = np.asarray(volume, dtype=float)
        center = self.b0 + self.b1 * volume
        # |residual| of a normal distribution averages sqrt(2 / pi) SD.
        spread = self.multiplier * math.sqrt(math.pi / 2) * np.maximum(self.c0 + self.c1 * volume, 0)
        columns = {"volume": volume, "bias": center, "loa_lower": center - spread, "loa_upper": center + spread}
        return pd.DataFrame(columns)


def regression_limits(
    method: ArrayLike, reference: ArrayLike, *, confidence: float = 0.95, multiplier: float = 1.96
) -> RegressionLimits:
    """Limits of agreement that change with the volume.

    Raises
    ------
    ValueError : see `ich.pairs.pair`, or all cases have the same volume.

    Source: Bland & Altman 1999, section 3.2.
    """
    pairs = pair(method, reference)
    if np.ptp(pairs.mean) == 0:
        raise ValueError(f"regression limits: all {pairs.n} pairs have the mean {pairs.mean[0]:g}, wanted volumes that differ")
    line = linregress(pairs.mean, pairs.difference)
    residual = pairs.difference - line.intercept - line.slope * pairs.mean
    spread = linregress(pairs.mean, np.abs(residual))
    quantile = float(t.ppf((1 + confidence) / 2, pairs.n - 2))

    def interval(fit) -> Interval:
        return float(fit.slope - quantile * fit.stderr), float(fit.slope + quantile * fit.stderr)

    return RegressionLimits(
        n=pairs.n,
        b0=float(line.intercept),
        b1=float(line.slope),
        b1_ci=interval(line),
        b1_p=float(line.pvalue),
        c0=float(spread.intercept),
        c1=float(spread.slope),
        c1_ci=interval(spread),
        c1_p=float(spread.pvalue),
        residual_sd=float(np.sqrt((residual**2).sum() / (pairs.n - 2))),
        multiplier=multiplier,
        confidence=confidence,
    )


@dataclass(frozen=True)
class NonparametricLimits:
    """Percentiles of the differences with percentile bootstrap intervals."""

    n: int
    median: float
    loa_lower: float  # 2.5th percentile
    loa_upper: float  # 97.5th percentile
    median_ci: Interval
    loa_lower_ci: Interval
    loa_upper_ci: Interval
    coverage: float
    confidence: float
    n_resamples: int

    def row(self) -> dict:
        """Flat record for a table."""
        return flat(asdict(self))


def nonparametric_limits(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    coverage: float = 0.95,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> NonparametricLimits:
    """Percentiles of the differences, at ranks (n + 1) p; below 39 pairs the outer ones are the extremes.

    Parameters
    ----------
    patients : (n,) the patient of each pair; whole patients are resampled.
    coverage : share of differences between the limits.

    Source: Bland & Altman 1999, section 6.
    """
    pairs = pair(method, reference)
    owner = np.arange(pairs.n)
    if patients is not None:
        owner = pd.factorize(np.asarray(patients, dtype=object)[pairs.kept])[0]
    order = np.argsort(pairs.difference, kind="stable")
    counts = resampled_counts(int(owner.max()) + 1, n_resamples, seed)[:, owner[order]]
    shares = np.array([(1 - coverage) / 2, 0.5, (1 + coverage) / 2])
    estimate = _percentiles(pairs.difference[order], np.ones((1, pairs.n), dtype=int), shares)[0]
    resampled = _percentiles(pairs.difference[order], counts, shares)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    intervals = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return NonparametricLimits(
        n=pairs.n,
        median=float(estimate[1]),
        loa_lower=float(estimate[0]),
        loa_upper=float(estimate[2]),
        loa_lower_ci=intervals[0],
        median_ci=intervals[1],
        loa_upper_ci=intervals[2],
        coverage=coverage,
        confidence=confidence,
        n_resamples=n_resamples,
    )


def _percentiles(ordered: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Percentiles at ranks (n + 1) p of samples that hold value i of `ordered` counts[:, i] times, (B, shares)."""
    running = counts.cumsum(axis=1)
    total = running[:, -1]
    found = np.empty((counts.shape[0], shares.size))
    for column, share in enumerate(shares):
        rank = np.clip((total + 1) * share, 1, total)
        below = np.floor(rank)
        above = np.minimum(below + 1, total)
        low, high = (ordered[(running < k[:, None]).sum(axis=1)] for k in (below, above))
        found[:, column] = low + (rank - below) * (high - low)
    return found


def mountain(method: ArrayLike, reference: ArrayLike) -> pd.DataFrame:
    """Folded empirical distribution of the differences.

    Returns
    -------
    One row per pair, by difference: case_id, difference, percentile (0..50, folded at the median).

    Source: Krouwer & Monti, Eur J Clin Chem Clin Biochem 1995;33:525.
    """
    pairs = pair(method, reference)
    percentile = 100 * (rankdata(pairs.difference) - 0.5) / pairs.n
    folded = np.minimum(percentile, 100 - percentile)
    table = pd.DataFrame({"case_id": pairs.ids, "difference": pairs.difference, "percentile": folded})
    return table.sort_values("difference", kind="stable", ignore_index=True)

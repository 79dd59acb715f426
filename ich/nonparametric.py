"""Agreement without a distribution: percentiles of the differences and the mountain plot."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binom, rankdata

from ich.bland_altman import Interval
from ich.linked import NOT_KNOWN, owners
from ich.pairs import pair
from ich.resampling import FEW, resampled_counts


@dataclass(frozen=True)
class NonparametricLimits:
    """Percentiles of the differences with distribution-free intervals."""

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

    Intervals are between two of the differences, chosen by the binomial distribution. An end that so few pairs cannot
    give is NaN: 146 are needed for the outer ends of the limits. Where patients have several pairs, percentile
    intervals of a bootstrap over patients take their place, with the same ends left out for too few patients; below
    `ich.resampling.FEW` of them there are none.

    Parameters
    ----------
    patients : (n,) the patient of each pair.
    coverage : share of differences between the limits.

    Source: Bland & Altman 1999, section 6; David & Nagaraja, Order Statistics, 3rd ed. 2003, section 7.1.
    """
    pairs = pair(method, reference)
    ordered = np.sort(pairs.difference)
    shares = np.array([(1 - coverage) / 2, 0.5, (1 + coverage) / 2])
    estimate = _percentiles(ordered, np.ones((1, pairs.n), dtype=int), shares)[0]
    owner = owners(pairs.of(patients), pairs.n)
    m = pairs.n if owner is None else int(owner.max()) + 1
    ranks = [_ranks(m, share, confidence) for share in shares]
    if owner is not None and m < FEW:
        intervals = [NOT_KNOWN] * len(ranks)
    elif owner is None:
        intervals = [
            (float(ordered[low - 1]) if low else math.nan, float(ordered[high - 1]) if high else math.nan)
            for low, high in ranks
        ]
    else:
        counts = resampled_counts(m, n_resamples, seed)[:, owner[np.argsort(pairs.difference, kind="stable")]]
        tail = (1 - confidence) / 2
        ends = np.quantile(_percentiles(ordered, counts, shares), [tail, 1 - tail], axis=0).T
        intervals = [
            (float(start) if low else math.nan, float(end) if high else math.nan)
            for (start, end), (low, high) in zip(ends, ranks, strict=True)
        ]
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


def _ranks(n: int, share: float, confidence: float) -> tuple[int, int]:
    """Ranks (from 1) of the two of n values between which a percentile lies; 0 where no value is far enough out."""
    tail = (1 - confidence) / 2
    low = int(binom.ppf(tail, n, share))  # P(values below the percentile < low) <= tail
    high = int(binom.ppf(1 - tail, n, share)) + 1
    return low, high if high <= n else 0


def _percentiles(ordered: np.ndarray, counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Percentiles at ranks (n + 1) p, (B, shares); sample b holds value i of `ordered` counts[b, i] times."""
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

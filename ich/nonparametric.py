"""Agreement without a distribution: percentiles of the differences and the mountain plot."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from ich.bland_altman import Interval
from ich.pairs import flat, pair
from ich.resampling import resampled_counts


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

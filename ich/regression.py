"""Lines between two methods that both err: Passing-Bablok and Deming."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import kendalltau, norm, t

from ich.pairs import NotDefined, pair, varies


@dataclass(frozen=True)
class Line:
    """method = intercept + slope x reference, with intervals."""

    name: str  # "Passing-Bablok" or "Deming"
    n: int
    slope: float
    slope_ci: tuple[float, float]
    intercept: float
    intercept_ci: tuple[float, float]
    confidence: float
    note: str = ""


def passing_bablok(method: ArrayLike, reference: ArrayLike, confidence: float = 0.95) -> Line:
    """Passing-Bablok regression of `method` on `reference`.

    Slopes between all pairs of cases, shifted past those below -1; two equal cases have none. Where Kendall's
    tau is negative the line of -method is found and mirrored (the anticorrelation rule). The slope has no interval
    where its outermost ranks do not reach the confidence (below five cases at 95 %). An end beyond the steepest slope
    is infinite.

    Raises
    ------
    ValueError : see `ich.pairs.pair`; `NotDefined` where one column is constant.

    Source: Passing & Bablok, J Clin Chem Clin Biochem 1983;21:709 (equations 1-6).
    """
    pairs = pair(method, reference)
    x, y = pairs.reference, pairs.method
    for name, values in (("reference", x), ("method", y)):
        if not varies(values):
            raise NotDefined(f"Passing-Bablok: every {name} is {values[0]:g}, wanted values that differ")
    mirrored = float(kendalltau(x, y).statistic) < 0
    slope, slope_ci = _shifted_median_slope(x, -y if mirrored else y, confidence)
    if mirrored:
        slope, slope_ci = -slope, (-slope_ci[1], -slope_ci[0])
    ends = sorted(_intercept(x, y, b) for b in slope_ci)
    return Line(
        name="Passing-Bablok",
        n=pairs.n,
        slope=slope,
        slope_ci=slope_ci,
        intercept=_intercept(x, y, slope),
        intercept_ci=(float("nan"),) * 2 if np.isnan(ends).any() else (ends[0], ends[1]),
        confidence=confidence,
        note="methods correlate negatively: the line was found on mirrored values" if mirrored else "",
    )


def _intercept(x: np.ndarray, y: np.ndarray, slope: float) -> float:
    """Median of y - slope x; its limit where the slope is infinite."""
    if math.isfinite(slope):
        return float(np.median(y - slope * x))
    middle = float(np.median(x))
    return math.copysign(math.inf, -slope * middle) if middle and not math.isnan(slope) else math.nan


def _shifted_median_slope(x: np.ndarray, y: np.ndarray, confidence: float) -> tuple[float, tuple[float, float]]:
    first, second = np.triu_indices(x.size, k=1)
    dx, dy = x[second] - x[first], y[second] - y[first]
    distinct = (dx != 0) | (dy != 0)
    dx, dy = dx[distinct], dy[distinct]
    # The sign of a vertical pair is of no account: below -1 it would move the shift by as much as the ranks.
    slopes = np.divide(dy, dx, out=np.full(dx.shape, np.inf), where=dx != 0)
    slopes = np.sort(slopes[slopes != -1])
    count, shift = slopes.size, int((slopes < -1).sum())
    n = x.size
    width = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    # The slopes that Kendall's test does not reject begin at this rank.
    low = math.ceil((count - width) / 2)
    high = count - low + 1

    def ranked(rank: int) -> float:
        return float(slopes[min(rank + shift, count) - 1])

    center = ranked((count + 1) // 2) if count % 2 else (ranked(count // 2) + ranked(count // 2 + 1)) / 2
    if low < 1 or 1 - 2 * math.exp(-math.lgamma(n + 1)) < confidence:  # of n! orders two reach beyond every rank
        return center, (math.nan, math.nan)
    # Past the steepest slope come those below -1, as a line turns through the vertical.
    return center, (ranked(low), ranked(high) if high + shift <= count else math.inf)


def deming(method: ArrayLike, reference: ArrayLike, *, error_ratio: float = 1.0, confidence: float = 0.95) -> Line:
    """Deming regression of `method` on `reference` with jackknife intervals, t(n - 2).

    Parameters
    ----------
    error_ratio : error variance of the reference over that of the method.

    Raises
    ------
    ValueError : see `ich.pairs.pair`, or the ratio is not positive; `NotDefined` where a column is constant
        or the columns do not covary.

    Source: Linnet, Clin Chem 1993;39:424; jackknife Linnet, Stat Med 1990;9:1463.
    """
    pairs = pair(method, reference)
    if not error_ratio > 0:
        raise ValueError(f"error_ratio: got {error_ratio}, wanted a positive ratio of variances")
    x, y, n = pairs.reference - pairs.reference.mean(), pairs.method - pairs.method.mean(), pairs.n
    for name, values in (("reference", pairs.reference), ("method", pairs.method)):
        if not varies(values):
            raise NotDefined(f"Deming: every {name} is {values[0]:g}, wanted values that differ")
    moments = np.column_stack([x, y, x * x, y * y, x * y])
    sums = np.vstack([moments.sum(axis=0), moments.sum(axis=0) - moments])
    counts = np.concatenate([[n], np.full(n, n - 1)])
    slopes, intercepts = _deming_lines(sums, counts, error_ratio)
    if not np.isfinite(slopes).all():
        raise NotDefined("Deming: the columns do not covary, so no line is defined")
    intercepts += pairs.method.mean() - slopes * pairs.reference.mean()
    quantile = float(t.ppf((1 + confidence) / 2, n - 2))
    found = []
    for values in (slopes, intercepts):
        pseudo = n * values[0] - (n - 1) * values[1:]
        half = quantile * float(pseudo.std(ddof=1)) / math.sqrt(n)
        found.append((float(values[0]), (float(values[0] - half), float(values[0] + half))))
    (slope, slope_ci), (intercept, intercept_ci) = found
    return Line("Deming", n, slope, slope_ci, intercept, intercept_ci, confidence)


def _deming_lines(sums: np.ndarray, counts: np.ndarray, error_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept from each row of sums (x, y, xx, yy, xy)."""
    sx, sy, sxx, syy, sxy = sums.T
    u, q, p = sxx - sx**2 / counts, syy - sy**2 / counts, sxy - sx * sy / counts
    gap = error_ratio * q - u
    root = np.sqrt(gap**2 + 4 * error_ratio * p**2)
    slope = np.divide(gap + root, 2 * error_ratio * p, out=np.full_like(p, np.nan), where=p != 0)
    return slope, sy / counts - slope * sx / counts

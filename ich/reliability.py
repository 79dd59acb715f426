"""Lin's concordance and the intraclass correlations."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import f as f_distribution
from scipy.stats import norm, pearsonr, spearmanr

from ich.pairs import Pairs, numbers, pair, varies

NOT_DEFINED = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Concordance:
    """Lin's concordance correlation coefficient and its parts: ccc = pearson_r x bias_correction."""

    n: int
    ccc: float  # NaN where both columns are constant and equal
    ccc_ci: tuple[float, float]  # Fisher z
    pearson_r: float  # NaN where one column is constant
    bias_correction: float
    confidence: float


def concordance(method: ArrayLike, reference: ArrayLike, confidence: float = 0.95) -> Concordance:
    """Lin's concordance correlation coefficient (variances with n) with Fisher-z interval.

    A column without variance has a coefficient of 0 and no interval; identical columns that vary have 1 (1,
    1). The interval takes both columns as normal; for skewed volumes see `ich.linked.coefficient_intervals`.

    Raises
    ------
    ValueError : see `ich.pairs.pair`.

    Source: Lin, Biometrics 1989;45:255, with the corrected variance of Biometrics 2000;56:324.
    """
    pairs = pair(method, reference)
    x, y, n = pairs.method, pairs.reference, pairs.n
    constant = not (varies(x) and varies(y))
    sx, sy = (float(v.std()) if varies(v) else 0.0 for v in (x, y))
    covariance = 0.0 if constant else float(((x - x.mean()) * (y - y.mean())).mean())
    total = sx**2 + sy**2 + float(x.mean() - y.mean()) ** 2
    value = 2 * covariance / total if total > 0 else float("nan")
    if constant:
        return Concordance(n, value, NOT_DEFINED, float("nan"), float("nan"), confidence)
    r = min(1.0, max(-1.0, covariance / (sx * sy)))
    if abs(value) > 1 - 1e-13:  # exact agreement but for rounding
        value = math.copysign(1.0, value)
        return Concordance(n, value, (value, value), value, 1.0, confidence)
    interval = NOT_DEFINED
    if r != 0:
        shift = (x.mean() - y.mean()) ** 2 / (sx * sy)  # u squared
        variance = (1 - r**2) * value**2 / ((1 - value**2) * r**2)
        variance += 2 * value**3 * (1 - value) * shift / (r * (1 - value**2) ** 2)
        variance -= value**4 * shift**2 / (2 * r**2 * (1 - value**2) ** 2)
        half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(max(variance, 0) / (n - 2))
        interval = math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)
    return Concordance(n, value, interval, r, value / r if r else float("nan"), confidence)


def ccc_of_sums(sums: np.ndarray) -> np.ndarray:
    """Concordance from sums over cases, rows of (n, x, y, xx, yy, xy); 0 without variance and shift."""
    n, x, y, xx, yy, xy = sums.T
    total = xx + yy - (x**2 + y**2) / n + (x - y) ** 2 / n
    return np.divide(2 * (xy - x * y / n), total, out=np.zeros_like(total), where=total > 0)


def icc_of_sums(sums: np.ndarray) -> np.ndarray:
    """ICC(A,1) of two raters from sums over cases, rows of (n, x, y, xx, yy, xy); 0 where nothing varies.

    Source: McGraw & Wong 1996, see `intraclass`.
    """
    n, x, y, xx, yy, xy = sums.T
    grand = (x + y) / (2 * n)
    rows_ss = (xx + yy + 2 * xy) / 2 - 2 * n * grand**2
    columns_ss = n * ((x / n - grand) ** 2 + (y / n - grand) ** 2)
    residual_ss = np.maximum(xx + yy - 2 * n * grand**2 - rows_ss - columns_ss, 0)
    msr, mse = (part / np.maximum(n - 1, 1) for part in (rows_ss, residual_ss))
    total = msr + mse + 2 * (columns_ss - mse) / n
    return np.divide(msr - mse, total, out=np.zeros_like(total), where=total > 0)


def correlations(pairs: Pairs, notes: list[str]) -> dict:
    """Pearson's r and Spearman's rho, None with a note where a column is constant."""
    if not (varies(pairs.method) and varies(pairs.reference)):
        notes.append("correlation: one column is constant")
        return {"pearson_r": None, "spearman_rho": None}
    r, rho = pearsonr(pairs.method, pairs.reference), spearmanr(pairs.method, pairs.reference)
    return {"pearson_r": float(r.statistic), "spearman_rho": float(rho.statistic)}


def intraclass(scores: ArrayLike, confidence: float = 0.95) -> pd.DataFrame:
    """Intraclass correlations of a complete (targets, raters) table.

    Parameters
    ----------
    scores : (n, k) numbers, n >= 2 targets by k >= 2 raters; rows with a missing value are counted and left
        out.

    Returns
    -------
    Six rows: type (ICC(1,1), ICC(A,1), ICC(C,1), ICC(1,k), ICC(A,k), ICC(C,k)), n, k, n_missing, icc, ci_low,
    ci_high. Ratings that do not vary at all have NaN; ratings that agree exactly have 1 (1, 1). Of raters who
    contradict each other ICC(A,1) and ICC(A,k) have no interval where the approximate one would not hold them.

    Raises
    ------
    ValueError : fewer than two raters or two complete targets, text or infinite values.

    Source: Shrout & Fleiss, Psychol Bull 1979;86:420; McGraw & Wong, Psychol Methods 1996;1:30.
    """
    frame = scores if isinstance(scores, pd.DataFrame) else pd.DataFrame(np.asarray(scores))
    columns = [numbers(frame[name], f"rater {name}") for name in frame]
    table = np.column_stack(columns) if columns else np.empty((0, 0))
    complete = ~np.isnan(table).any(axis=1)
    n_missing, table = int((~complete).sum()), table[complete]
    n, k = table.shape
    if n < 2 or k < 2:
        raise ValueError(f"scores: {n} complete targets by {k} raters, wanted at least 2 by 2")
    table = table - table.mean()
    rows_ss = k * float(((table.mean(axis=1)) ** 2).sum())
    columns_ss = n * float(((table.mean(axis=0)) ** 2).sum())
    total_ss = float((table**2).sum())
    residual_ss = max(0.0, total_ss - rows_ss - columns_ss)
    if residual_ss < 1e-14 * total_ss:
        residual_ss = 0.0  # rounding of an exact fit
    msr, msc = rows_ss / (n - 1), columns_ss / (k - 1)
    mse = residual_ss / ((n - 1) * (k - 1))
    msw = (columns_ss + residual_ss) / (n * (k - 1))
    tail = (1 + confidence) / 2
    single = [
        (
            "ICC(1,1)",
            _ratio(msr - msw, msr + (k - 1) * msw),
            _consistency(msr, msw, n - 1, n * (k - 1), k, tail),
        ),
        (
            "ICC(A,1)",
            _ratio(msr - mse, msr + (k - 1) * mse + k * (msc - mse) / n),
            _absolute(msr, msc, mse, n, k, tail),
        ),
        (
            "ICC(C,1)",
            _ratio(msr - mse, msr + (k - 1) * mse),
            _consistency(msr, mse, n - 1, (n - 1) * (k - 1), k, tail),
        ),
    ]
    average = [
        (name.replace("1)", "k)"), _stepped_up(value, k), (_stepped_up(ci[0], k), _stepped_up(ci[1], k)))
        for name, value, ci in single
    ]
    return pd.DataFrame(
        [
            {
                "type": name,
                "n": n,
                "k": k,
                "n_missing": n_missing,
                "icc": value,
                "ci_low": ci[0],
                "ci_high": ci[1],
            }
            for name, value, ci in [*single, *average]
        ]
    )


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower > 0 else float("nan")


def _stepped_up(value: float, k: int) -> float:
    """Spearman-Brown: reliability of the mean of k raters."""
    return _ratio(k * value, 1 + (k - 1) * value)


def _consistency(between: float, within: float, df1: int, df2: int, k: int, tail: float) -> tuple[float, float]:
    if within == 0:
        return (1.0, 1.0) if between > 0 else NOT_DEFINED
    ratio = between / within
    low = ratio / float(f_distribution.ppf(tail, df1, df2))
    high = ratio * float(f_distribution.ppf(tail, df2, df1))
    return (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)


def _absolute(msr: float, msc: float, mse: float, n: int, k: int, tail: float) -> tuple[float, float]:
    """Interval of ICC(A,1), with Satterthwaite's degrees of freedom."""
    if msr == 0 and msc == 0 and mse == 0:
        return NOT_DEFINED
    icc = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
    if icc == 1:
        return 1.0, 1.0
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    denominator = (a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1))
    if denominator == 0:
        return NOT_DEFINED
    v = (a * msc + b * mse) ** 2 / denominator
    upper, lower = float(f_distribution.ppf(tail, n - 1, v)), float(f_distribution.ppf(tail, v, n - 1))
    common = k * msc + (k * n - k - n) * mse
    low = n * (msr - upper * mse) / (upper * common + n * msr)
    high = n * (lower * msr - mse) / (common + n * lower * msr)
    return (low, high) if low - 1e-9 <= icc <= high + 1e-9 else NOT_DEFINED  # far below 0 the degrees of freedom vanish

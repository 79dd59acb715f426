"""Intervals over patients of means and shares: bootstrap (resampled counts, BCa), t, Wilson."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from ich.pairs import flat, numbers
from ich.variance import by_patient

FEW = 10  # patients, below which a bootstrap over them covers too little
NOT_NEGATIVE, SHARE = (0.0, math.inf), (0.0, 1.0)  # what means of errors and of shares can be


@dataclass(frozen=True)
class Mean:
    """Mean over cases with an interval over patients."""

    n: int  # cases
    n_patients: int
    n_missing: int
    mean: float  # NaN without cases
    sd: float  # over cases, n - 1; NaN below two
    mean_ci: tuple[float, float]  # NaN below three patients
    confidence: float
    n_resamples: int

    def row(self) -> dict:
        """Flat record for a table."""
        return flat(asdict(self))


def resampled_counts(n_units: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each unit is drawn in each resample, (n_resamples, n_units); every row sums to n_units."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, n_units, size=(n_resamples, n_units))
    drawn += np.arange(n_resamples)[:, None] * n_units
    return np.bincount(drawn.ravel(), minlength=n_resamples * n_units).reshape(n_resamples, n_units)


def bca_interval(
    estimate: ArrayLike, resampled: np.ndarray, left_out: np.ndarray, confidence: float = 0.95
) -> np.ndarray:
    """Bias-corrected and accelerated bootstrap intervals of several statistics at once.

    Parameters
    ----------
    estimate : (m,) statistics of the sample.
    resampled : (B, m) statistics of the resamples.
    left_out : (n, m) statistics with one unit left out.
    confidence : 0..1.

    Returns
    -------
    (m, 2) lower and upper ends. A statistic that no resample changes has an interval of width zero.

    Source: Efron, J Am Stat Assoc 1987;82:171.
    """
    estimate, n_resamples = np.asarray(estimate, dtype=float), resampled.shape[0]
    # With few patients many resamples are the sample again, up to rounding; half of them count as below.
    tied = np.abs(resampled - estimate) <= 1e-9 * np.maximum(np.abs(resampled).max(axis=0), np.abs(estimate))
    below = ((resampled < estimate) & ~tied).sum(axis=0) + tied.sum(axis=0) / 2
    # A share of 0 or 1 has no normal quantile; half a resample is the nearest that has.
    z0 = norm.ppf(np.clip(below / n_resamples, 0.5 / n_resamples, 1 - 0.5 / n_resamples))
    pull = left_out.mean(axis=0) - left_out
    spread = (pull**2).sum(axis=0) ** 1.5
    acceleration = np.divide((pull**3).sum(axis=0), 6 * spread, out=np.zeros_like(spread), where=spread > 0)
    z = norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])[:, None]
    shares = norm.cdf(z0 + (z0 + z) / (1 - acceleration * (z0 + z)))
    ends = [np.quantile(resampled[:, m], shares[:, m]) for m in range(estimate.size)]
    return np.array(ends)


def wilson(count: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion; NaN for n = 0. Source: Wilson, J Am Stat Assoc 1927;22:209."""
    if n == 0:
        return float("nan"), float("nan")
    return _wilson(count, n, float(norm.ppf((1 + confidence) / 2)))


def _wilson(count: float, n: float, z: float) -> tuple[float, float]:
    center, spread = count + z**2 / 2, z * math.sqrt(count * (n - count) / n + z**2 / 4)
    return max(0.0, (center - spread) / (n + z**2)), min(1.0, (center + spread) / (n + z**2))


def share_interval(
    inside: ArrayLike, patients: ArrayLike | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the share of cases (n,) that are inside: Wilson's where each case is a patient's only one.

    Where patients have several, Wilson's of as many independent cases as would give the share its variance by
    `ich.variance`, with t in place of the normal quantile; NaN below three patients. Where all patients have the same
    share, such as none or all of their cases, they are as many as there are patients.
    Source: Rao & Scott, Biometrics 1992;48:577, for the number of cases.
    """
    found = np.asarray(inside, dtype=float)
    if patients is None:
        return wilson(found.sum(), found.size, confidence)
    owner = patient_numbers(patients, found.size)
    m = int(owner.max(initial=-1)) + 1
    if m == found.size:
        return wilson(found.sum(), found.size, confidence)
    if m < 3:
        return float("nan"), float("nan")
    share = float(found.mean())
    if np.ptp(np.bincount(owner, found) / np.bincount(owner)) < 1e-9:
        return wilson(share * m, m, confidence)
    effective_n = min(share * (1 - share) / by_patient(found, owner).error ** 2, found.size)
    return _wilson(share * effective_n, effective_n, float(t.ppf((1 + confidence) / 2, m - 1)))


def patient_numbers(patients: ArrayLike, n: int) -> np.ndarray:
    """(n,) number of each case's patient, from 0 in order of appearance.

    Raises
    ------
    ValueError : another count than `n`, or a case without a patient.
    """
    owner = pd.factorize(np.asarray(patients, dtype=object))[0]
    if owner.size != n:
        raise ValueError(f"patients: got {owner.size} for {n} values")
    if (owner < 0).any():
        raise ValueError(f"patients: {int((owner < 0).sum())} cases have none, wanted a patient for each case")
    return owner


def mean_interval(values: np.ndarray, owner: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """t interval of the mean over cases (n,) of patients 0..m - 1, by `ich.variance`; NaN below three of them.

    With one case a patient it is the usual one.
    """
    if int(owner.max(initial=-1)) < 2:
        return float("nan"), float("nan")
    found = by_patient(values, owner)
    half = float(t.ppf((1 + confidence) / 2, found.n_patients - 1)) * found.error
    return found.mean - half, found.mean + half


def bootstrap_mean(
    values: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Mean:
    """Mean over cases with a BCa interval; whole patients are resampled, since their scans resemble each other.

    Of fewer than `FEW` patients it is the t interval of `mean_interval`, as resamples of so few vary too little:
    reports/checks/few_patients.csv has how often either covers, for 4 to 30 patients.

    Parameters
    ----------
    values : (n,) one number per case; missing ones are counted and left out.
    patients : (n,) the patient of each case; without it every case is a patient.
    within : what a mean can be, where a t interval would reach farther.

    Raises
    ------
    ValueError : text or infinite values, or patients of another length.
    """
    found = numbers(values, "values")
    owner = np.arange(found.size) if patients is None else patient_numbers(patients, found.size)
    complete = ~np.isnan(found)
    kept, owner = found[complete], np.unique(owner[complete], return_inverse=True)[1]
    n, m = kept.size, int(owner.max(initial=-1)) + 1
    mean = float(kept.mean()) if n else float("nan")
    interval = (float("nan"), float("nan"))
    if m < FEW:
        low, high = mean_interval(kept, owner, confidence)
        interval = (max(low, within[0]), min(high, within[1])) if m >= 3 else interval
    else:
        units = np.column_stack([np.bincount(owner, kept - mean), np.bincount(owner)])
        sums = resampled_counts(m, n_resamples, seed) @ units
        left = units.sum(axis=0) - units
        ends = bca_interval([0.0], sums[:, :1] / sums[:, 1:], left[:, :1] / left[:, 1:], confidence)[0] + mean
        interval = (float(ends[0]), float(ends[1]))
    sd = float(kept.std(ddof=1)) if n >= 2 else float("nan")
    return Mean(n, m, int((~complete).sum()), mean, sd, interval, confidence, n_resamples)


def mean_by_group(
    table: pd.DataFrame,
    value: str,
    by: str,
    *,
    patient: str | None = "patient_id",
    seed: int = 0,
    n_resamples: int = 2000,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> pd.DataFrame:
    """`bootstrap_mean` of one column per group, in order of appearance (a categorical: in its order).

    Returns
    -------
    One row per group: the group under `by`, n, n_patients, n_missing, mean, sd, mean_ci_low, mean_ci_high.
    """
    rows = []
    for name, group in table.groupby(by, sort=False, observed=True):
        owners = None if patient is None else group[patient]
        mean = bootstrap_mean(group[value], owners, seed=seed, n_resamples=n_resamples, within=within)
        rows.append({by: name, **mean.row()})
    found = pd.DataFrame(rows, columns=None if rows else [by, "n"])
    if isinstance(table[by].dtype, pd.CategoricalDtype):
        order = {name: position for position, name in enumerate(table[by].cat.categories)}
        found = found.sort_values(by, key=lambda column: column.map(order)).reset_index(drop=True)
    return found

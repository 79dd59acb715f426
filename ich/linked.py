"""Several pairs of one patient: their differences resemble each other, so they count for less than as many patients."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import nct, t

from ich.pairs import Pairs, varies
from ich.reliability import ccc_of_sums, icc_of_sums
from ich.resampling import mean_interval, patient_numbers
from ich.variance import by_patient

FEWEST = 3  # patients that an interval over patients can be had from
NOT_KNOWN = (float("nan"), float("nan"))


def owners(patients: ArrayLike | None, n: int) -> np.ndarray | None:
    """(n,) number of each pair's patient; None where each has one pair or no patients are given."""
    if patients is None:
        return None
    owner = patient_numbers(patients, n)
    return None if owner.max(initial=-1) + 1 == n else owner


def per_patient(pairs: Pairs, owner: np.ndarray | None) -> Pairs:
    """Means over each patient's pairs, which are independent as tests want them; the pairs where each is a patient.

    Source: the summary measures of Matthews et al., BMJ 1990;300:230.
    """
    if owner is None:
        return pairs
    counts = np.bincount(owner)
    method, reference = (np.bincount(owner, values) / counts for values in (pairs.method, pairs.reference))
    names = np.array([str(number) for number in range(counts.size)], dtype=object)
    return Pairs(method, reference, names, pairs.missing_ids, np.ones(counts.size, dtype=bool))


def mean_per_patient(values: np.ndarray, owner: np.ndarray | None) -> np.ndarray:
    """(patients,) means of values (n,); the values where each is a patient's."""
    return values if owner is None else np.bincount(owner, values) / np.bincount(owner)


@dataclass(frozen=True)
class LinkedLimits:
    """Limits from several pairs per subject whose true volume changed between them, as in follow-up scans.

    Intervals are NaN below 3 subjects.
    """

    n: int  # pairs
    n_subjects: int
    n_missing: int
    bias: float  # mean over pairs
    bias_ci: tuple[float, float]
    between_sd: float  # of the subjects' own bias; 0 where the estimate is negative
    within_sd: float
    sd: float
    loa_lower: float
    loa_upper: float
    loa_lower_ci: tuple[float, float]
    loa_upper_ci: tuple[float, float]
    multiplier: float
    confidence: float


def linked_limits(
    differences: np.ndarray,
    owner: np.ndarray,
    multiplier: float = 1.96,
    confidence: float = 0.95,
    n_missing: int = 0,
) -> LinkedLimits:
    """Limits of agreement by one-way analysis of variance of the differences.

    Parameters
    ----------
    differences : (n,) on any scale. owner : (n,) patient of each, 0..m - 1. n_missing : pairs without a difference.

    Source: Bland & Altman, J Biopharm Stat 2007;17:571, section 3, see `ich.variance`. The bias has a t interval; those
    of the limits are Carkeet's (Optom Vis Sci 2015;92:e71), with the degrees of freedom of the analysis and as many
    pairs as are independent: with one pair a patient they are exact.
    """
    found = by_patient(differences, owner)
    m, bias, sd = found.n_patients, found.mean, math.sqrt(found.total)
    lower_ci = upper_ci = NOT_KNOWN
    if m >= FEWEST:
        inner, outer = normal_limit_factors(found.effective_n, found.df, multiplier, confidence)
        lower_ci, upper_ci = (bias - outer * sd, bias - inner * sd), (bias + inner * sd, bias + outer * sd)
    return LinkedLimits(
        n=differences.size, n_subjects=m, n_missing=n_missing,
        bias=bias, bias_ci=mean_interval(differences, owner, confidence),
        between_sd=math.sqrt(found.between), within_sd=math.sqrt(found.within), sd=sd,
        loa_lower=bias - multiplier * sd, loa_upper=bias + multiplier * sd,
        loa_lower_ci=lower_ci, loa_upper_ci=upper_ci,
        multiplier=multiplier, confidence=confidence,
    )  # fmt: skip


def normal_limit_factors(n: float, df: float, multiplier: float, confidence: float) -> tuple[float, float]:
    """Inner and outer distance of a limit's interval from the bias, in SD.

    Parameters
    ----------
    n : effective number of pairs. df : degrees of freedom of the SD.

    A limit is a quantile of a normal distribution, so its interval comes from the noncentral t distribution.
    """
    inner, outer = nct.ppf([(1 - confidence) / 2, (1 + confidence) / 2], df, multiplier * math.sqrt(n))
    return float(inner) / math.sqrt(n), float(outer) / math.sqrt(n)


def coefficient_intervals(pairs: Pairs, owner: np.ndarray | None, confidence: float) -> dict[str, tuple[float, float]]:
    """Intervals over patients of concordance and ICC(A,1): ccc_ci, icc_a1_ci; NaN below 3 patients.

    Parameters
    ----------
    owner : (n,) patient of each pair, as `owners` gives it.

    By jackknife over patients of Fisher's z, with t. Volumes of hematomas are skewed, so that a few large cases
    dominate the coefficient: Lin's interval, which takes them as normal, then covers the truth far less often than it
    says, and more cases do not help; this one covers it more often, though still too rarely
    (reports/checks/few_patients.csv).
    Source: Feng, Baumgartner & Svetnik, Stat Med 2014;33:514, there for one pair a patient.
    """
    owner = np.arange(pairs.n) if owner is None else owner
    names = ("ccc_ci", "icc_a1_ci")
    if int(owner.max()) + 1 < FEWEST:
        return dict.fromkeys(names, NOT_KNOWN)
    center = pairs.reference.mean()  # keeps the sums of squares small
    x, y = pairs.method - center, pairs.reference - center
    if not (varies(x, pairs.method) and varies(y, pairs.reference)):
        return dict.fromkeys(names, NOT_KNOWN)
    columns = [np.ones(pairs.n), x, y, x * x, y * y, x * y]
    units = np.column_stack([np.bincount(owner, column) for column in columns])
    total = units.sum(axis=0)
    return {
        name: _jackknifed(float(statistic(total[None])[0]), statistic(total - units), confidence)
        for name, statistic in zip(names, (ccc_of_sums, icc_of_sums), strict=True)
    }


def _jackknifed(value: float, left_out: np.ndarray, confidence: float) -> tuple[float, float]:
    """Interval of a correlation from those (m,) with one patient left out."""
    if value > 1 - 1e-13:  # exact agreement but for rounding
        return value, value
    if value < -1 + 1e-13:
        return NOT_KNOWN
    z, m = np.arctanh(np.clip(left_out, -1 + 1e-15, 1 - 1e-15)), left_out.size
    half = float(t.ppf((1 + confidence) / 2, m - 1)) * math.sqrt((m - 1) / m * float(((z - z.mean()) ** 2).sum()))
    return math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)

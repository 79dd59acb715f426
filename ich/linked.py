"""Several pairs of one patient: their differences resemble each other, so they count for less than as many patients."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ich.pairs import Pairs, flat
from ich.reliability import ccc_of_sums, icc_of_sums
from ich.resampling import bca_interval, resampled_counts, share_interval

FEWEST = 3  # patients that an interval over patients can be had from
NOT_KNOWN = (float("nan"), float("nan"))


class Resampling(NamedTuple):
    """How a bootstrap over patients is done."""

    seed: int = 0
    n_resamples: int = 2000


USUAL = Resampling()


def owners(patients: ArrayLike | None, n: int) -> np.ndarray | None:
    """(n,) number of each pair's patient; None where each has one pair or no patients are given."""
    if patients is None:
        return None
    owner, names = pd.factorize(np.asarray(patients, dtype=object))
    if owner.size != n:
        raise ValueError(f"patients: got {owner.size} for {n} pairs")
    if (owner < 0).any():
        raise ValueError(f"patients: {int((owner < 0).sum())} pairs have none, wanted one for each")
    return None if len(names) == n else owner


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
    n_resamples: int

    def row(self) -> dict:
        """Flat record for a table."""
        return flat(asdict(self))


def linked_limits(
    differences: np.ndarray,
    owner: np.ndarray,
    multiplier: float = 1.96,
    confidence: float = 0.95,
    resampling: Resampling = USUAL,
    n_missing: int = 0,
) -> LinkedLimits:
    """Limits of agreement by one-way analysis of variance of the differences, with BCa intervals over patients.

    Parameters
    ----------
    differences : (n,) on any scale. owner : (n,) patient of each, 0..m - 1. n_missing : pairs without a difference.

    Source: Bland & Altman, J Biopharm Stat 2007;17:571, section 3.
    """
    counts = np.bincount(owner)
    center = float(differences.mean())
    shifted = differences - center
    sums = np.bincount(owner, shifted)
    units = np.column_stack(
        [np.ones(counts.size), counts, counts**2, sums, np.bincount(owner, shifted**2), sums**2 / counts]
    )

    def statistics(total: np.ndarray) -> np.ndarray:
        subjects, n, n_squared, d, dd, between_sum = total.T
        between = (between_sum - d**2 / n) / np.maximum(subjects - 1, 1)
        within = np.divide(dd - between_sum, n - subjects, out=np.zeros_like(n), where=n > subjects)
        size = (n - n_squared / n) / np.maximum(subjects - 1, 1)
        excess = np.divide(between - within, size, out=np.zeros_like(n), where=size > 0)
        own = np.maximum(excess, 0)
        sd = np.sqrt(np.maximum(own + within, 0))
        bias = d / n + center
        limits = bias - multiplier * sd, bias + multiplier * sd
        return np.column_stack([bias, *limits, sd, np.sqrt(own), np.sqrt(np.maximum(within, 0))])

    total = units.sum(axis=0)
    estimate = statistics(total[None])[0]
    ends = [NOT_KNOWN] * 3
    if counts.size >= FEWEST:
        resampled = statistics(resampled_counts(counts.size, resampling.n_resamples, resampling.seed) @ units)
        found = bca_interval(estimate[:3], resampled[:, :3], statistics(total - units)[:, :3], confidence)
        ends = [(float(low), float(high)) for low, high in found]
    bias, lower, upper, sd, own, within = (float(value) for value in estimate)
    return LinkedLimits(
        n=differences.size, n_subjects=counts.size, n_missing=n_missing, bias=bias, bias_ci=ends[0],
        between_sd=own, within_sd=within, sd=sd, loa_lower=lower, loa_upper=upper,
        loa_lower_ci=ends[1], loa_upper_ci=ends[2],
        multiplier=multiplier, confidence=confidence, n_resamples=resampling.n_resamples,
    )  # fmt: skip


def linked_intervals(
    pairs: Pairs, owner: np.ndarray, shares: dict[str, np.ndarray], confidence: float, resampling: Resampling
) -> dict[str, tuple[float, float]]:
    """Intervals over patients: BCa of concordance and ICC(A,1), `share_interval` of shares; ccc_ci, icc_a1_ci,
    <share>_ci.

    Parameters
    ----------
    shares : (n,) bool of each case by name.
    """
    names = ("ccc_ci", "icc_a1_ci", *(f"{name}_ci" for name in shares))
    m = int(owner.max()) + 1
    if m < FEWEST:
        return dict.fromkeys(names, NOT_KNOWN)
    center = pairs.reference.mean()  # keeps the sums of squares small
    x, y = pairs.method - center, pairs.reference - center
    columns = [np.ones(pairs.n), x, y, x * x, y * y, x * y]
    units = np.column_stack([np.bincount(owner, column) for column in columns])

    def statistics(sums: np.ndarray) -> np.ndarray:
        return np.column_stack([ccc_of_sums(sums), icc_of_sums(sums)])

    seed, n_resamples = resampling
    total = units.sum(axis=0)
    resampled = statistics(resampled_counts(m, n_resamples, seed) @ units)
    ends = bca_interval(statistics(total[None])[0], resampled, statistics(total - units), confidence)
    found = [(float(low), float(high)) for low, high in ends]
    found += [
        share_interval(inside, owner, seed=seed, n_resamples=n_resamples, confidence=confidence)
        for inside in shares.values()
    ]
    return dict(zip(names, found, strict=True))

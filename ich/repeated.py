"""Repeated readings and several readers: limits for single readings, repeatability, all pairs of readers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from ich.bland_altman import bland_altman
from ich.linked import LinkedLimits, linked_limits
from ich.pairs import numbers, pair


@dataclass(frozen=True)
class RepeatedLimits:
    """Limits for the difference of two single readings, from several readings per subject."""

    n: int  # subjects
    n_method: int  # readings
    n_reference: int
    n_missing: int  # readings without a value
    bias: float
    bias_ci: tuple[float, float]
    within_sd_method: float
    within_sd_reference: float
    sd: float  # of the difference of single readings
    loa_lower: float
    loa_upper: float
    loa_lower_ci: tuple[float, float]  # approximate
    loa_upper_ci: tuple[float, float]
    multiplier: float
    confidence: float


def _readings(table: pd.DataFrame, subject: str, value: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Count, squares about the mean and mean of the readings of each subject, in order; number missing."""
    found = pd.DataFrame({"subject": table[subject].astype(str), "value": numbers(table[value], value)})
    groups = found.dropna().groupby("subject")["value"]
    counts = groups.count().to_numpy()
    squares = groups.var(ddof=0).to_numpy() * counts
    return counts, squares, groups.mean().to_numpy(), int(found["value"].isna().sum())


def _within_variance(counts: np.ndarray, squares: np.ndarray, name: str) -> tuple[float, int]:
    """Pooled variance of a subject's readings and its degrees of freedom."""
    freedom = int((counts - 1).sum())
    if freedom == 0:
        raise ValueError(f"{name}: one reading per subject, wanted some subjects with two or more")
    return float(squares.sum()) / freedom, freedom


def repeatability(table: pd.DataFrame, *, subject: str, value: str, confidence: float = 0.95) -> dict:
    """Within-subject SD of one method and its repeatability coefficient.

    Returns
    -------
    n, n_readings, n_missing, within_sd, coefficient: two readings of a subject differ by less in 95 % (1.96
    √2 SD).

    Source: Bland & Altman 1999, section 4.1.
    """
    counts, squares, _, missing = _readings(table, subject, value)
    variance, _ = _within_variance(counts, squares, value)
    sd = math.sqrt(variance)
    coefficient = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(2) * sd
    row = {"n": counts.size, "n_readings": int(counts.sum()), "n_missing": missing}
    return row | {"within_sd": sd, "coefficient": coefficient}


def repeated_limits(
    table: pd.DataFrame,
    *,
    method: str,
    reference: str,
    subject: str = "patient_id",
    reader: str = "reader",
    value: str = "volume_ml",
    multiplier: float = 1.96,
    confidence: float = 0.95,
) -> RepeatedLimits:
    """Limits of agreement where each method read each subject several times and the true volume stayed as it
    was.

    Parameters
    ----------
    table : one row per reading: `subject`, `reader` (who or what read), `value`; numbers of readings may
        differ.
    method, reference : values of the column `reader`.

    Raises
    ------
    ValueError : fewer than 3 subjects, a subject that only one of both read, or no repeated readings.

    Source: Bland & Altman 1999, sections 5.1 (equal) and 5.2 (unequal numbers); intervals of the limits by section
    5.1's variance, that of the bias by t over subjects.
    """
    parts = {name: table[table[reader] == name] for name in (method, reference)}
    subjects = {name: set(part.dropna(subset=[value])[subject].astype(str)) for name, part in parts.items()}
    alone = sorted(subjects[method] ^ subjects[reference])
    if alone:
        raise ValueError(f"subject {alone[0]}: read by only one of {method} and {reference}, wanted both")
    n = len(subjects[method])
    if n < 3:
        raise ValueError(f"{method} and {reference}: {n} subjects, wanted at least 3")
    found = {name: _readings(part, subject, value) for name, part in parts.items()}
    means = found[method][2] - found[reference][2]
    between = float(means.var(ddof=1))
    variance, uncertainty, within = between, 2 * between**2 / (n - 1), {}
    for name, (counts, squares, _, _) in found.items():
        within[name], freedom = _within_variance(counts, squares, name)
        share = 1 - float((1 / counts).mean())
        variance += share * within[name]
        uncertainty += 2 * (share * within[name]) ** 2 / freedom
    bias, sd, z = float(means.mean()), math.sqrt(variance), float(norm.ppf((1 + confidence) / 2))
    half_bias = float(t.ppf((1 + confidence) / 2, n - 1)) * math.sqrt(between / n)
    spread = uncertainty / (4 * variance) if variance > 0 else 0.0
    half = z * math.sqrt(variance / n + multiplier**2 * spread)  # the paper's, a little wide: between / n would do
    lower, upper = bias - multiplier * sd, bias + multiplier * sd
    return RepeatedLimits(
        n=n,
        n_method=int(found[method][0].sum()),
        n_reference=int(found[reference][0].sum()),
        n_missing=found[method][3] + found[reference][3],
        bias=bias,
        bias_ci=(bias - half_bias, bias + half_bias),
        within_sd_method=math.sqrt(within[method]),
        within_sd_reference=math.sqrt(within[reference]),
        sd=sd,
        loa_lower=lower,
        loa_upper=upper,
        loa_lower_ci=(lower - half, lower + half),
        loa_upper_ci=(upper - half, upper + half),
        multiplier=multiplier,
        confidence=confidence,
    )


def linked_pairs(
    method: ArrayLike,
    reference: ArrayLike,
    subjects: ArrayLike,
    *,
    multiplier: float = 1.96,
    confidence: float = 0.95,
) -> LinkedLimits:
    """Limits of agreement for several scans per patient: `ich.linked.linked_limits` of their differences.

    Raises
    ------
    ValueError : see `ich.pairs.pair`; fewer than 3 subjects, or no subject with two pairs.
    """
    pairs = pair(method, reference)
    owner = pd.factorize(np.asarray(subjects, dtype=object)[pairs.kept])[0]
    counts = np.bincount(owner)
    if counts.size < 3 or counts.max() < 2:
        raise ValueError(f"subjects: {counts.size} with at most {counts.max()} pairs, wanted 3 or more, some with two")
    return linked_limits(pairs.difference, owner, multiplier, confidence, len(pairs.missing_ids))


def reader_pairs(table: pd.DataFrame, readers: Sequence[str], **options) -> pd.DataFrame:
    """`bland_altman` of every pair of readers' columns, first - second: first, second, then its row."""
    if len(readers) < 2:
        raise ValueError(f"readers: got {len(readers)}, wanted at least 2")
    ids = table.get("case_id")
    rows = [
        {
            "first": first,
            "second": second,
            **bland_altman(table[first], table[second], ids=ids, **options).row(),
        }
        for first, second in combinations(readers, 2)
    ]
    return pd.DataFrame(rows)

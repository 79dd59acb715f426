"""One-way analysis of variance of values by patient: how much their mean, and one more value, may be off."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Variance:
    """Parts of the variance of values (n,) of m patients."""

    mean: float  # over values
    between: float  # between patients; 0 where the estimate is negative
    within: float
    df: float  # degrees of freedom of `total`
    n_patients: int
    effective_n: float  # values that would give the mean its variance if each were another patient's

    @property
    def total(self) -> float:
        """Variance of one value."""
        return self.between + self.within

    @property
    def error(self) -> float:
        """Standard error of the mean over values, with m - 1 degrees of freedom."""
        return math.sqrt(self.total / self.effective_n)


def by_patient(values: np.ndarray, owner: np.ndarray) -> Variance:
    """Analysis of variance of values (n,) of patients `owner` (n,), 0..m - 1.

    With one value a patient all is between them, as in the usual variance. Where the part between patients comes out
    negative it is 0 and the variance that of all values, as restricted maximum likelihood has it: the mean square
    within patients would then rest on the repeated values alone, which may be two.

    Source: one-way random effects with unequal numbers, Bland & Altman, J Biopharm Stat 2007;17:571, section 3; degrees
    of freedom of a sum of mean squares: Satterthwaite, Biometrics Bull 1946;2:110.
    """
    counts, n = np.bincount(owner).astype(float), values.size
    m, mean = counts.size, float(values.mean())
    sums = np.bincount(owner, values - mean)
    total_ss, between_ss = float(((values - mean) ** 2).sum()), float((sums**2 / counts).sum())
    ms_between = between_ss / max(m - 1, 1)
    within = max(total_ss - between_ss, 0.0) / (n - m) if n > m else 0.0
    squares = float((counts**2).sum())
    size = (n - squares / n) / max(m - 1, 1)  # values of a patient, as the analysis counts them
    between = max((ms_between - within) / size, 0.0) if m > 1 else 0.0
    if between > 0:
        parts = ms_between / size, (1 - 1 / size) * within  # they add up to the total
        df = sum(parts) ** 2 / (parts[0] ** 2 / (m - 1) + (parts[1] ** 2 / (n - m) if n > m else 0.0))
    else:
        within, df = total_ss / (n - 1), n - 1.0
    total = between + within
    effective_n = total * n**2 / (between * squares + within * n) if total > 0 else float(n)
    return Variance(mean, between, within, df, m, effective_n)

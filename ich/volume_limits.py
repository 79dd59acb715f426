"""Bland-Altman limits of agreement that follow the volume by regression."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import linregress, t

from ich.linked import owners
from ich.pairs import NotDefined, pair, varies
from ich.slopes import robust_slope, sums_over

Interval = tuple[float, float]

QUOTED_AT_ML = (5, 30, 60)  # the smallest group of Wang 2019 and the classes of the clinic end there
NORMAL = math.sqrt(math.pi / 2)  # SD over the mean absolute value of a normal distribution


@dataclass(frozen=True)
class RegressionLimits:
    """Limits that follow the volume: difference = b0 + b1 A, |residual| = c0 + c1 A, A the mean of both."""

    n: int
    n_patients: int
    b0: float
    b1: float
    b1_ci: Interval
    b1_p: float  # of no proportional bias
    c0: float
    c1: float
    c1_ci: Interval
    c1_p: float  # of a spread that does not change with the volume
    residual_sd: float  # n - 2; the spread to use where c1 is not needed
    seen: Interval  # smallest and largest mean of both
    covariance: tuple[tuple[float, ...], ...]  # (4, 4) of b0, b1, c0, c1; empty where one patient alone makes a line
    multiplier: float
    confidence: float

    def at(self, volume: ArrayLike) -> pd.DataFrame:
        """Bias and limits at volumes, a spread below zero counting as zero.

        Returns
        -------
        One row per volume: volume, bias, loa_lower, loa_lower_ci_low, loa_lower_ci_high, loa_upper and its interval.
        The intervals, over patients, are approximate: they hold the truth in some 80 to 97 % of samples
        (reports/checks/few_patients.csv), least often at volumes that few cases reach.
        """
        found = pd.DataFrame({"volume": np.asarray(volume, dtype=float)})
        found["bias"] = self.b0 + self.b1 * found["volume"]
        reach = self.multiplier * NORMAL
        spread = reach * (self.c0 + self.c1 * found["volume"]).clip(lower=0)
        quantile = float(t.ppf((1 + self.confidence) / 2, self.n_patients - 2)) if self.n_patients > 2 else math.nan
        covariance = np.array(self.covariance) if len(self.covariance) else np.full((4, 4), math.nan)
        for name, sign in (("loa_lower", -1), ("loa_upper", 1)):
            line = np.column_stack([np.ones(len(found)), found["volume"]])
            weights = np.hstack([line, sign * reach * line])
            half = quantile * np.sqrt(np.einsum("vi,ij,vj->v", weights, covariance, weights))
            found[name] = found["bias"] + sign * spread
            found[f"{name}_ci_low"], found[f"{name}_ci_high"] = found[name] - half, found[name] + half
        return found


def regression_limits(
    method: ArrayLike,
    reference: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    confidence: float = 0.95,
    multiplier: float = 1.96,
) -> RegressionLimits:
    """Limits of agreement that change with the volume.

    The interval and p value of the bias's slope are over patients and allow for a spread that changes, see
    `ich.slopes`; those of the spread's slope take cases as independent, with the constant variance of its null
    hypothesis. The covariance is that of both lines as estimating equations, with the residuals' signs as fixed.

    Parameters
    ----------
    patients : the patient of each pair; without it every pair is a patient.

    Raises
    ------
    ValueError : see `ich.pairs.pair`; `NotDefined` where all cases have the same volume.

    Source: Bland & Altman 1999, section 3.2; the covariance Huber, Proc 5th Berkeley Symp 1967;1:221, over patients
    Bell & McCaffrey, Surv Methodol 2002;28:169.
    """
    pairs = pair(method, reference)
    if not varies(pairs.mean):
        raise NotDefined(f"regression limits: all {pairs.n} means are {pairs.mean[0]:g}, wanted volumes that differ")
    owner = owners(pairs.of(patients), pairs.n)
    owner = np.arange(pairs.n) if owner is None else owner
    line = robust_slope(pairs.mean, pairs.difference, confidence, owner)
    residual = pairs.difference - line.intercept - line.slope * pairs.mean
    spread = linregress(pairs.mean, np.abs(residual))
    half = float(t.ppf((1 + confidence) / 2, pairs.n - 2) * spread.stderr)
    return RegressionLimits(
        n=pairs.n,
        n_patients=int(owner.max()) + 1,
        b0=line.intercept,
        b1=line.slope,
        b1_ci=line.slope_ci,
        b1_p=line.p,
        c0=float(spread.intercept),
        c1=float(spread.slope),
        c1_ci=(float(spread.slope) - half, float(spread.slope) + half),
        c1_p=float(spread.pvalue),
        residual_sd=float(np.sqrt((residual**2).sum() / (pairs.n - 2))),
        seen=(float(pairs.mean.min()), float(pairs.mean.max())),
        covariance=_covariance(pairs.mean, residual, spread.intercept + spread.slope * pairs.mean, owner),
        multiplier=multiplier,
        confidence=confidence,
    )


def _covariance(
    volume: np.ndarray, residual: np.ndarray, expected: np.ndarray, owner: np.ndarray
) -> tuple[tuple[float, ...], ...]:
    """Covariance (4, 4) of both lines from residuals (n,) and the absolute ones that the second line expects."""
    design = np.column_stack([np.ones(volume.size), volume - volume.mean()])
    scores = np.hstack([design * residual[:, None], design * (np.abs(residual) - expected)[:, None]])
    sums = sums_over(owner, scores, design)
    if sums is None:
        return ()
    bread = np.kron(np.eye(2), design.T @ design)
    bread[2:, :2] = design.T @ (np.sign(residual)[:, None] * design)  # the second line is of the first one's residuals
    inverse = np.linalg.inv(bread)
    centered = inverse @ (sums.T @ sums) @ inverse.T
    back = np.kron(np.eye(2), [[1, -volume.mean()], [0, 1]])  # from volumes about their mean
    return tuple(tuple(float(cell) for cell in row) for row in back @ centered @ back.T)

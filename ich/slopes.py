"""Least squares with a standard error that allows for spread that changes along the line, and for patients."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t


@dataclass(frozen=True)
class Slope:
    """y = intercept + slope x, with interval and p value of no slope; NaN where one patient alone makes the slope."""

    intercept: float
    slope: float
    slope_ci: tuple[float, float]
    p: float


def robust_slope(x: np.ndarray, y: np.ndarray, confidence: float = 0.95, owner: np.ndarray | None = None) -> Slope:
    """Least-squares line of y (n,) on x (n,), x varying and n >= 3.

    The usual standard error takes the spread about the line as constant. Errors of volumes grow with the volume: two
    methods that err alike then show a "trend" in a third to a half of all samples, and more cases do not help. This one
    (HC3) weighs each residual where it stands; t with n - 2 degrees of freedom, n the number of patients.

    Parameters
    ----------
    owner : (n,) number of the patient of each value, from 0; without it every value is a patient.

    Source: MacKinnon & White, J Econometrics 1985;29:305; Long & Ervin, Am Stat 2000;54:217; for several values of one
    patient Bell & McCaffrey, Surv Methodol 2002;28:169.
    """
    owner = np.arange(x.size) if owner is None else owner
    away, off = x - x.mean(), y - y.mean()
    squares = float(away @ away)
    slope = float(away @ off) / squares
    intercept = float(y.mean()) - slope * float(x.mean())
    residual = off - slope * away
    design = np.column_stack([np.ones(x.size), away])
    sums = sums_over(owner, design * residual[:, None], design)
    df = int(owner.max()) - 1
    if sums is None or df < 1:
        return Slope(intercept, slope, (math.nan, math.nan), math.nan)
    error = math.sqrt(float((sums[:, 1] ** 2).sum())) / squares
    half = float(t.ppf((1 + confidence) / 2, df)) * error
    if error == 0:
        return Slope(intercept, slope, (slope, slope), float(slope == 0))
    return Slope(intercept, slope, (slope - half, slope + half), 2 * float(t.sf(abs(slope) / error, df)))


def sums_over(owner: np.ndarray, scores: np.ndarray, design: np.ndarray) -> np.ndarray | None:
    """Scores (n, k) summed over patients (m, k), each by what its patient leaves of its own residuals.

    With the patient's part H of the hat matrix residuals e become (1 - H)^-1 e, those of the line that is found without
    the patient: with a value a patient HC3's, else the jackknife of Bell & McCaffrey, which others call CR3.

    Parameters
    ----------
    design : (n, 2) of the line, its columns orthogonal.
    scores : columns of `design` times residuals, both columns for every kind of residual.

    Returns
    -------
    None where a patient leaves nothing: without it there is no line.
    """
    squares = np.einsum("ni,nj->nij", design, design / (design**2).sum(axis=0)).reshape(-1, 4)
    own, sums = (np.column_stack([np.bincount(owner, column) for column in of.T]) for of in (squares, scores))
    free = np.eye(2) - own.reshape(-1, 2, 2)
    if (np.linalg.det(free) < 1e-9).any():
        return None
    return np.linalg.solve(free[:, None], sums.reshape(len(own), -1, 2, 1)).reshape(sums.shape)

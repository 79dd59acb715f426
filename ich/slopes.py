"""Least squares with a standard error that allows for spread that changes along the line."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t


@dataclass(frozen=True)
class Slope:
    """y = intercept + slope x, with interval and p value of no slope; NaN where one value alone makes the slope."""

    intercept: float
    slope: float
    slope_ci: tuple[float, float]
    p: float


def robust_slope(x: np.ndarray, y: np.ndarray, confidence: float = 0.95) -> Slope:
    """Least-squares line of y (n,) on x (n,), x varying and n >= 3.

    The usual standard error takes the spread about the line as constant. Errors of volumes grow with the volume: two
    methods that err alike then show a "trend" in a third to a half of all samples, and more cases do not help. This one
    (HC3) weighs each residual where it stands; t with n - 2 degrees of freedom.

    Source: MacKinnon & White, J Econometrics 1985;29:305; Long & Ervin, Am Stat 2000;54:217.
    """
    away = x - x.mean()
    squares = float(away @ away)
    slope = float(away @ y) / squares
    intercept = float(y.mean()) - slope * float(x.mean())
    residual = y - intercept - slope * x
    free = 1 - 1 / x.size - away**2 / squares  # what each value leaves of its own residual
    if (free < 1e-9).any():
        return Slope(intercept, slope, (math.nan, math.nan), math.nan)
    error = math.sqrt(float(((away * residual / free) ** 2).sum())) / squares
    half = float(t.ppf((1 + confidence) / 2, x.size - 2)) * error
    if error == 0:
        return Slope(intercept, slope, (slope, slope), float(slope == 0))
    return Slope(intercept, slope, (slope - half, slope + half), 2 * float(t.sf(abs(slope) / error, x.size - 2)))

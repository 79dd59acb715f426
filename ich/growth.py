"""Change of a hematoma between two scans, and how well measurement error alone would explain it."""

import math
from dataclasses import dataclass

from scipy import stats

# Either is the usual definition of hematoma expansion: Dowlatshahi D et al. Neurology 2011;76:1238-44.
EXPANSION_ML = 6.0
EXPANSION_SHARE = 0.33


@dataclass(frozen=True)
class Growth:
    """earlier_ml, later_ml, change_ml; change_percent (None if there was nothing before); expansion;
    by_error : probability of at least this change, up or down, if the hematoma had not changed; None if not known.
    """

    earlier_ml: float
    later_ml: float
    change_ml: float
    change_percent: float | None
    expansion: bool
    by_error: float | None


def growth(earlier_ml: float, later_ml: float, calibration: dict) -> Growth:
    """Compare the volumes of two scans of one patient that the same network measured.

    Parameters
    ----------
    calibration : of `ich.train.volume_calibration`. Its interval of level p has a half-width of
        factor x (volume + 1 ml); read as that of a normal error, the standard error of a volume is
        that half-width over the normal quantile of (1 + p) / 2. Errors of both scans count as independent.

    Raises
    ------
    ValueError
        A volume is negative or no number.
    """
    for name, volume in (("earlier", earlier_ml), ("later", later_ml)):
        if not volume >= 0:
            raise ValueError(f"{name} volume is {volume} ml, wanted 0 or more")
    change = later_ml - earlier_ml
    by_error = None
    if calibration["factor"] is not None:
        quantile = stats.norm.ppf((1 + calibration["level"]) / 2)
        # If nothing changed, both volumes are of one size: their mean.
        error = calibration["factor"] * ((earlier_ml + later_ml) / 2 + 1) / quantile
        by_error = float(2 * stats.norm.sf(abs(change) / (math.sqrt(2) * error)))
    return Growth(
        earlier_ml,
        later_ml,
        change,
        100 * change / earlier_ml if earlier_ml > 0 else None,
        change > EXPANSION_ML or (earlier_ml > 0 and change > EXPANSION_SHARE * earlier_ml),
        by_error,
    )

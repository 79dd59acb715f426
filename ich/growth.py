"""Change of a hematoma between two scans, and how well measurement error alone would explain it."""

import math
from dataclasses import dataclass

from scipy import stats

from ich.volume_classes import expanded


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


def growth(
    earlier_ml: float, later_ml: float, half_widths_ml: tuple[float, float] | None = None, level: float = 0.9
) -> Growth:
    """Compare the volumes of two scans of one patient that the same network measured.

    Parameters
    ----------
    half_widths_ml : of the prediction intervals (`ich.calibration.half_width_ml`) of the earlier and the later volume;
        None where there are none. Read as those of normal errors, the standard error of a volume is its half-width
        over the normal quantile of (1 + level) / 2. Errors of both scans count as independent.
    level : of the intervals.

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
    if half_widths_ml is not None:
        error = math.hypot(*half_widths_ml) / stats.norm.ppf((1 + level) / 2)
        by_error = float(2 * stats.norm.sf(abs(change) / error)) if error > 0 else float(change == 0)
    return Growth(
        earlier_ml,
        later_ml,
        change,
        100 * change / earlier_ml if earlier_ml > 0 else None,
        bool(expanded(earlier_ml, later_ml)),
        by_error,
    )

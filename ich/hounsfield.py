"""What the values of a scan are: Hounsfield units, the same shifted by 1024, or gray levels for a screen."""

import numpy as np

AIR_HU = -1024  # nothing attenuates less than vacuum, -1000 HU, save for noise; scanners pad below it


def floor_padding(hu: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Raise values below -1024 HU, which scanners and converters use as padding, to -1024, in place.

    Returns the array and a note with the share of voxels, none if nothing was below.
    """
    lowest = hu.min()
    if lowest >= AIR_HU:
        return hu, ()
    share = np.count_nonzero(hu < AIR_HU) / hu.size
    np.maximum(hu, AIR_HU, out=hu)
    return hu, (f"padding down to {lowest:g} in {share:.1%} of voxels raised to {AIR_HU} HU",)


def value_kind(hu: np.ndarray) -> tuple[str, tuple[str, ...]]:
    """Kind of the values of a head CT ("hu", "shifted", "display") and the note that goes with it.

    A head in HU has air near -1000 and brain near 30. Values that miss the intercept have air near 0 and
    brain near 1054; screen exports hold 0 to 255 only. Nothing is changed: the reader decides.
    """
    sample = hu[::4, ::4]
    lowest, highest = float(sample.min()), float(sample.max())
    if lowest < -200 or lowest == highest:
        return "hu", ()
    if lowest >= 0 and highest <= 255:
        return "display", (f"values run from {lowest:g} to {highest:g}: gray levels for a screen, not HU",)
    soft = np.count_nonzero((sample > 1000) & (sample < 1124)) / sample.size
    if soft > 0.02:
        return "shifted", (
            f"values look shifted by 1024: lowest is {lowest:g} and {soft:.0%} lie in 1000-1124, where brain "
            "at 0-100 HU would be; subtract 1024 before use",
        )
    return "hu", (f"lowest value is {lowest:g}: no air at -1000 HU in the picture",)

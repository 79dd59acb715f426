"""What the values of a scan are: Hounsfield units, the same shifted by 1024, or gray levels for a screen."""

import numpy as np
from scipy import ndimage

NO_AIR_HU = -1500  # below what air reaches with the noise of thin slices and a sharp kernel
CUT_HU = (80, 300)  # where windows end; bone is far above
CUT_SHARE = 0.005  # of voxels at the highest value: cut there
LEAST_RANGE = 50  # HU of a head: skin and bone are far more apart
AIR_HU = -1000
AS_AIR = "count as air"  # ends a note on padding, which says nothing against a scan
LOWEST_HU = -1024  # nothing attenuates less than vacuum, -1000 HU, save for noise; scanners pad below it


def floor_padding(hu: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Raise values below -1024 HU, which scanners and converters use as padding, to -1024, in place.

    Returns the array and a note with the share of voxels, none if nothing was below.
    """
    lowest = hu.min()
    if lowest >= LOWEST_HU:
        return hu, ()
    share = np.count_nonzero(hu < LOWEST_HU) / hu.size
    np.maximum(hu, LOWEST_HU, out=hu)
    return hu, (f"{100 * share:.1f} % of voxels lie outside the scanner's field (down to {lowest:g}) and {AS_AIR}",)


def head_box(hu: np.ndarray, spacing_mm: tuple[float, float], margin_mm: float = 0.0) -> tuple[slice, slice] | None:
    """Rows and columns that hold the head in HU (I, J, K), to some 4 mm; None where there is none.

    The largest thing left by an opening of 20 mm: head rest, tubes and sheets are thinner. Air is -1000, so zero is no
    background.
    """
    steps = [max(1, round(4 / spacing)) for spacing in spacing_mm]
    tissue = hu[:: steps[0], :: steps[1]] > -300
    labeled, n = ndimage.label(ndimage.binary_opening(tissue, np.ones((5, 5, 1))))
    if not n:
        return None
    found = ndimage.find_objects(labeled)[np.bincount(labeled.ravel())[1:].argmax()]
    box = []
    for place, step, spacing, length in zip(found, steps, spacing_mm, hu.shape, strict=False):
        margin = round(margin_mm / spacing)
        box.append(slice(max(0, place.start * step - margin), min(length, place.stop * step + margin)))
    return box[0], box[1]


def value_kind(hu: np.ndarray) -> tuple[str, tuple[str, ...]]:
    """Kind of the values of a head CT ("hu", "shifted", "display") and the note that goes with it.

    A head in HU has air near -1000 and brain near 30. Values that miss the intercept have air near 0 and
    brain near 1054; screen exports hold 0 to 255 only. Values below -1024 are padding and tell nothing, but
    for many that lie far below and vary: those are of another scale. Nothing is changed: the reader decides.
    """
    sample = hu[::4, ::4]
    known = sample[sample >= LOWEST_HU]
    if not known.size:
        return "hu", ()
    below = sample[sample < NO_AIR_HU]
    # Padding is one value or two; air of values that are no HU varies.
    if below.size > 0.2 * sample.size and np.unique(below).size > 50:
        return "display", (
            f"{100 * below.size / sample.size:.0f} % of values lie below {NO_AIR_HU} and vary: scaled, not HU",
        )
    lowest, highest = float(known.min()), float(known.max())
    if lowest < -900 and CUT_HU[0] <= highest <= CUT_HU[1] and np.mean(sample == highest) > CUT_SHARE:
        return "hu", (f"no value is above {highest:g}: bone is cut off, and blood beside it may be",)
    if lowest < -200 or lowest == highest:
        return "hu", ()
    run = f"values run from {lowest:g} to {highest:g}"
    if highest - lowest < LEAST_RANGE:
        return "display", (f"{run}: a mask, or scaled, not HU",)
    if lowest >= 0 and highest <= 255:
        return "display", (f"{run}: gray levels for a screen, not HU",)
    soft = np.count_nonzero((sample > 1000) & (sample < 1124)) / sample.size
    if soft > 0.02:
        return "shifted", (
            f"values look shifted by 1024: lowest is {lowest:g} and {100 * soft:.0f} % lie in 1000-1124, where brain "
            "at 0-100 HU would be; subtract 1024 before use",
        )
    return "hu", (f"lowest value is {lowest:g}: no air at -1000 HU in the picture",)

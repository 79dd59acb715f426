"""A DICOM series as a scan: HU from the stored values, and the true place of every slice."""

import warnings
from pathlib import Path

import numpy as np
import pydicom

from ich.grid import (
    MAX_VOXELS,
    UNIFORM_TOLERANCE_MM,
    Grid,
    Scan,
    ScanError,
    describe_steps,
    flipped,
    orient,
    slice_normal,
    tilt_between,
)
from ich.hounsfield import AS_AIR, LOWEST_HU, floor_padding, value_kind
from ich.series import Series, choose_series
from ich.slices import BROKEN_FILE, Slice

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
PLAIN = (pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian)
PIXEL_TAGS: list = [
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
    *("DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
MAX_RESCALE = 1e6  # of slope and intercept; true ones are near 1 and -1024
NO_RESCALE = "header has no rescale slope and intercept: stored values are taken for HU"
HU_TYPES = ("", "HU", "HU_MOD", "US")  # DICOM PS3.3, C.11.1.1.2; US is unspecified
MAX_PADDING_HU = -900  # a padding value above this would blot out tissue
TILT_TOLERANCE_DEG = 0.5
HEAD_HEIGHT_MM = 100.0
SIDEWAYS_MM = 0.5  # from the straight line between the first and the last slice
DECODER_ERRORS = (RuntimeError, *BROKEN_FILE)


def read_dicom_scan(folder: str | Path, series: str | None = None) -> Scan:
    """The one usable axial CT series below `folder`, or the one named, as (I, J, K) HU on its own grid.

    Raises
    ------
    ScanError : listing all series found if none or several are usable; or pixels cannot be decoded.
    """
    chosen = choose_series(folder, series)
    grid, axes, flips = series_grid(chosen)
    hu, notes = _values(chosen, Path(folder))
    hu = np.asfortranarray(flipped(hu.transpose(axes), flips))
    kind, strange = value_kind(hu)
    hu, padding = floor_padding(hu)
    return Scan(grid, hu, "dicom", kind, chosen.notes + notes + padding + strange)


def series_grid(series: Series) -> tuple[Grid, tuple[int, int, int], tuple[bool, bool, bool]]:
    """Grid of a kept series, and the axes and flips that turn (columns, rows, K) into its (I, J, K)."""
    first, last = series.slices[0], series.slices[-1]
    count = len(series.slices)
    affine = np.eye(4)
    affine[:3, 0] = LPS_TO_RAS @ np.array(first.orientation[:3]) * first.spacing_mm[0]
    affine[:3, 1] = LPS_TO_RAS @ np.array(first.orientation[3:]) * first.spacing_mm[1]
    affine[:3, 2] = LPS_TO_RAS @ (np.array(last.position_mm) - first.position_mm) / (count - 1)
    affine[:3, 3] = LPS_TO_RAS @ np.array(first.position_mm)
    axes, flips, turned = orient(affine, (*first.size, count), slice_axis=2)
    shape = (*first.size, count)
    stated = first.header_spacing_mm or first.thickness_mm
    geometric = tilt_between(slice_normal(turned), turned[:3, 2])
    tilt, notes = _tilt(geometric, first.header_tilt_deg)
    grid = Grid(
        shape=(shape[axes[0]], shape[axes[1]], count),
        spacing_mm=(first.spacing_mm[axes[0]], first.spacing_mm[axes[1]]),
        positions_mm=series.positions_mm,
        affine=turned,
        tilt_deg=tilt,
        header_slice_spacing_mm=float("nan") if stated is None else abs(stated),
        notes=notes + _distance_notes(series, geometric),
    )
    return grid, axes, flips


def _tilt(geometric: float, stated: float | None) -> tuple[float, tuple[str, ...]]:
    """Gantry tilt, degrees, and what header and geometry disagree about.

    The size is that of the geometry. The sign is the header's where both agree in size: makers differ in it.
    """
    if stated is None:
        note = f"header states no gantry tilt, slice positions and orientation give {geometric:.1f} degrees"
        return geometric, ((note,) if abs(geometric) > TILT_TOLERANCE_DEG else ())
    if abs(abs(stated) - abs(geometric)) > TILT_TOLERANCE_DEG:
        return geometric, (
            f"header states a gantry tilt of {stated:.1f} degrees, slice positions and orientation give "
            f"{geometric:.1f}: the geometry is used",
        )
    return (float(np.copysign(geometric, stated)) if geometric else 0.0), ()


def _distance_notes(series: Series, tilt_deg: float) -> tuple[str, ...]:
    steps = np.diff(series.positions_mm)
    origins = np.array([s.position_mm for s in series.slices])
    notes = []
    uniform = np.ptp(steps) <= UNIFORM_TOLERANCE_MM
    if not uniform:
        notes.append(f"unequal slice distances along the slice normal: {describe_steps(steps)}")
    if abs(tilt_deg) > TILT_TOLERANCE_DEG:
        table = float(np.median(np.linalg.norm(np.diff(origins, axis=0), axis=1)))
        notes.append(
            f"gantry tilt {abs(tilt_deg):.1f} degrees: slices {table:.2f} mm apart along the table are "
            f"{np.median(steps):.2f} mm apart along the slice normal"
        )
    stated = series.slices[0].header_spacing_mm
    if stated and abs(abs(stated) - np.median(steps)) > 0.01 * np.median(steps):
        notes.append(
            f"header and slice positions disagree: the header states slices {abs(stated):.2f} mm apart, the "
            f"positions {np.median(steps):.2f} mm along the slice normal: the positions are used"
        )
    share = (series.positions_mm - series.positions_mm[0]) / np.ptp(series.positions_mm)
    sideways = np.linalg.norm(origins - origins[0] - share[:, None] * (origins[-1] - origins[0]), axis=1).max()
    if uniform and sideways > SIDEWAYS_MM:
        notes.append(f"slices shift sideways against each other by up to {sideways:.1f} mm")
    height = float(np.ptp(series.positions_mm) + np.median(steps))
    if height < HEAD_HEIGHT_MM:
        notes.append(f"{len(steps) + 1} slices cover {height:.0f} mm: not a whole head")
    return tuple(notes)


def _values(series: Series, folder: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """HU as (columns, rows, K), int16 where exact, slices contiguous; and notes on the stored values."""
    columns, rows = series.slices[0].size
    claimed = columns * rows * len(series.slices)
    if claimed > MAX_VOXELS:
        raise ScanError(f"{folder}: series {series.name} claims {claimed} voxels, wanted at most {MAX_VOXELS}")
    hu: np.ndarray = np.empty((columns, rows, len(series.slices)), dtype=np.int16, order="F")
    notes: dict[str, None] = {}
    without: list[int] = []  # images without rescale tags
    loaded: tuple[Path | None, pydicom.Dataset, np.ndarray] = (None, pydicom.Dataset(), np.empty(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values in headers of no interest here
        inverted = _is_inverted(series, folder)
        for k, image in enumerate(series.slices):
            if loaded[0] != image.path:
                loaded = (image.path, *_decoded(image, series, folder))
            _, header, stored = loaded
            try:
                stored = stored[image.frame] if stored.ndim == 3 else stored
                plane, said = _plane_hu(header, stored, image.frame, inverted)
                if plane.shape != (rows, columns):
                    raise ValueError(f"pixels are {plane.shape}, the header says {(rows, columns)}")
            except DECODER_ERRORS as error:
                raise ScanError(
                    f"{folder}: image {image.instance} of series {series.name} cannot be used ({error})"
                ) from error
            notes.update(dict.fromkeys(said))
            if NO_RESCALE in said:
                without.append(image.instance)
            if plane.dtype != np.int16 and hu.dtype == np.int16:
                hu = hu.astype(np.float32)
            hu[:, :, k] = plane.T
    if 0 < len(without) < len(series.slices):
        named = ", ".join(map(str, without[:8])) + (", ..." if len(without) > 8 else "")
        raise ScanError(
            f"{folder}: {len(without)} of {len(series.slices)} images of series {series.name} have no rescale slope "
            f"and intercept (images {named}), wanted all or none"
        )
    return hu, tuple(notes)


def _decoded(image: Slice, series: Series, folder: Path) -> tuple[pydicom.Dataset, np.ndarray]:
    try:
        header = pydicom.dcmread(image.path, force=True, specific_tags=PIXEL_TAGS)
        if "TransferSyntaxUID" not in header.file_meta:
            header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        claimed = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
        if claimed > MAX_VOXELS:
            raise ValueError(f"it claims {claimed} pixels, wanted at most {MAX_VOXELS}")
        plain = _plain_pixels(header)
        return header, header.pixel_array if plain is None else plain
    except DECODER_ERRORS as error:
        raise ScanError(
            f"{folder}: image {image.instance} of series {series.name} cannot be decoded ({error})"
        ) from error


def _plain_pixels(header: pydicom.Dataset) -> np.ndarray | None:
    """The usual case, one frame of uncompressed 16-bit values, in a tenth of the time of `pixel_array`; else None."""
    plain = header.file_meta.TransferSyntaxUID in PLAIN and header.BitsAllocated == 16
    if not plain or header.SamplesPerPixel != 1 or int(header.get("NumberOfFrames") or 1) != 1:
        return None
    shape, signed, bits = (header.Rows, header.Columns), header.PixelRepresentation == 1, header.BitsStored
    if len(header.PixelData) < 2 * shape[0] * shape[1]:
        return None
    stored = np.frombuffer(header.PixelData, "<i2" if signed else "<u2", shape[0] * shape[1]).reshape(shape)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    used = bits == 16 or (stored.min() >= low and stored.max() <= high)
    return stored if used and header.HighBit == bits - 1 else None  # others need pydicom's care for unused bits


def _plane_hu(header: pydicom.Dataset, stored: np.ndarray, frame: int, inverted: bool) -> tuple[np.ndarray, list[str]]:
    """One slice (rows, columns) in HU, int16 where exact; `inverted` is what the series was found to be."""
    notes = []
    slope, intercept, unit = _rescale(header, frame)
    if unit not in HU_TYPES:
        raise ValueError(f"values are {unit} (rescale type), wanted HU")
    if slope is None or intercept is None:
        notes.append(NO_RESCALE)
        slope, intercept = 1.0, 0.0
    if not (0 < abs(slope) <= MAX_RESCALE and abs(intercept) <= MAX_RESCALE):
        raise ValueError(f"rescale slope {slope:g} and intercept {intercept:g}, wanted up to {MAX_RESCALE:g}")
    padding = _padding(header, stored, slope, intercept)
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        stored, note = _monochrome1(header, stored, inverted)
        notes.append(note)
    if slope == 1 and intercept == int(intercept):
        plane: np.ndarray = stored.astype(np.int32) + int(intercept)
        exact = plane.min() >= -32768 and plane.max() <= 32767
        plane = plane.astype(np.int16 if exact else np.float32)
    else:
        plane = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if padding is not None:
        plane[padding] = LOWEST_HU
        notes.append(f"voxels of the padding value {header.PixelPaddingValue} {AS_AIR}")
    return plane, notes


def _rescale(header: pydicom.Dataset, frame: int) -> tuple[float | None, float | None, str]:
    """Slope, intercept and what the values are then."""
    source = header
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        groups = header.get(name) or []
        group = groups[frame if name.startswith("Per") else 0] if groups else None
        if group is not None and "PixelValueTransformationSequence" in group:
            source = group.PixelValueTransformationSequence[0]
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    unit = str(source.get("RescaleType") or "").strip().upper()
    return (None if slope is None else float(slope)), (None if intercept is None else float(intercept)), unit


def _padding(header: pydicom.Dataset, stored: np.ndarray, slope: float, intercept: float) -> np.ndarray | None:
    """Voxels that hold the padding value; None if there are none or the value is one that tissue has."""
    value = header.get("PixelPaddingValue")
    if not isinstance(value, int) or value * slope + intercept > MAX_PADDING_HU:
        return None
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    padding = (stored >= low) & (stored <= high)
    return padding if high * slope + intercept <= MAX_PADDING_HU and padding.any() else None


def _is_inverted(series: Series, folder: Path) -> bool:
    """Whether the values of a MONOCHROME1 series have air high.

    The middle slice tells for all: on the highest ones air lies about the head and in the middle of the picture alike.
    """
    image = series.slices[len(series.slices) // 2]
    shown = pydicom.dcmread(
        image.path, stop_before_pixels=True, force=True, specific_tags=["PhotometricInterpretation"]
    )
    if shown.get("PhotometricInterpretation") != "MONOCHROME1":
        return False
    _, stored = _decoded(image, series, folder)
    stored = stored[image.frame] if stored.ndim == 3 else stored
    border = np.median(np.concatenate([stored[0], stored[-1], stored[:, 0], stored[:, -1]]))
    return bool(border > np.median(stored[stored.shape[0] // 4 : -stored.shape[0] // 4]))


def _monochrome1(header: pydicom.Dataset, stored: np.ndarray, inverted: bool) -> tuple[np.ndarray, str]:
    """Stored values with air low: MONOCHROME1 says how to show them, but some writers invert them too."""
    if not inverted:
        return stored, "MONOCHROME1, values as usual (air low): kept"
    bits = int(header.BitsStored)
    total = -1 if int(header.get("PixelRepresentation", 0)) else (1 << bits) - 1
    return (total - stored.astype(np.int32)), "MONOCHROME1 with inverted values (air high): turned back"

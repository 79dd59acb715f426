"""NIfTI files of scans and masks, read into (I, J, K) and written back in the file's own axis order."""

import gzip
import io
import json
import math
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from ich.atomic import write_bytes
from ich.grid import MAX_VOXELS, MIN_NORMAL_Z, Grid, Native, Scan, ScanError, flipped, orient, slice_normal
from ich.hounsfield import floor_padding, value_kind
from ich.tilt import table_step_correction

LARGEST_LABEL = 3
SPACING_RANGE_MM = (0.05, 30.0)
BROKEN_HEADER = (
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
    ValueError,
    OverflowError,
    KeyError,  # an unknown code
)
MAX_ORIGIN_MM = 1e5  # some writers count table positions over a whole day
COMMENT = 6  # NIfTI extension code of a text comment
POSITION_TOLERANCE_MM = 1e-3
MAX_BYTES = 2**30 + 2**24  # of a file, unpacked: `MAX_VOXELS` of four bytes, and a header
PIECE_BYTES = 2**22


def is_nifti(path: Path) -> bool:
    """Whether a file is named as NIfTI, in capitals too."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti_scan(path: str | Path) -> Scan:
    """One scan from a NIfTI file, (I, J, K), int16 where that is exact.

    Raises
    ------
    ScanError : file unreadable, not a volume, no usable spacing, or NaN among the values.
    """
    header, stored = _open(Path(path))
    grid = _grid(header, stored.shape, Path(path))
    values = _scaled(header, stored, path)
    if values.dtype.kind == "f":
        broken = values.size - np.count_nonzero(np.isfinite(values))
        if broken:
            raise ScanError(f"{path}: {broken} of {values.size} voxels are NaN or infinite, wanted HU")
    hu = np.array(_to_ijk(_narrow(values), grid.native), order="F")
    kind, strange = value_kind(hu)
    hu, padding = floor_padding(hu)
    return Scan(grid, hu, "nifti", kind, padding + strange)


def read_mask(path: str | Path) -> tuple[np.ndarray, Grid]:
    """Labels (I, J, K) uint8 and their grid; an empty mask is all 0.

    1 parenchymal, 2 ventricular, 3 subarachnoid. Floats that hold exactly these integers are accepted.

    Raises
    ------
    ScanError : file unreadable, not a volume, no usable spacing, or other values, which it names.
    """
    header, stored = _open(Path(path))
    grid = _grid(header, stored.shape, Path(path))
    labels = _labels(_scaled(header, stored, path), path)
    return np.array(_to_ijk(labels, grid.native), order="F"), grid


def read_values(path: str | Path) -> tuple[np.ndarray, Grid]:
    """Whatever integers a mask file holds, (I, J, K) int32, and their grid: labels of another numbering.

    Raises
    ------
    ScanError : as `read_mask`; values that are no integers.
    """
    header, stored = _open(Path(path))
    grid = _grid(header, stored.shape, Path(path))
    values = _scaled(header, stored, path)
    whole = np.rint(values)
    if not np.all(np.isfinite(values)) or np.abs(values - whole).max(initial=0) > 1e-5:
        raise ScanError(f"{path}: mask holds values that are no integers")
    return np.array(_to_ijk(whole.astype(np.int32), grid.native), order="F"), grid


def write_mask(path: str | Path, labels: np.ndarray, grid: Grid) -> None:
    """Write labels (I, J, K) 0..3 as uint8, in the axis order and with the affine of the file `grid` is from.

    The exact slice positions travel in a header comment, so that reading back gives the same volume even
    where an affine cannot say it (4 mm, then 7 mm).
    """
    labels = np.asarray(labels)
    _write(Path(path), _labels(labels, path), grid)


def write_scan(path: str | Path, hu: np.ndarray, grid: Grid) -> None:
    """Write HU (I, J, K), int16 or float32, on `grid`, as `write_mask` does."""
    hu = np.asarray(hu)
    _write(Path(path), hu if hu.dtype == np.int16 else _narrow(hu.astype(np.float32)), grid)


def _open(path: Path) -> tuple[nib.Nifti1Header, np.ndarray]:
    """Header, unchecked, and stored values; the whole gzip stream is read so that its checksum counts."""
    try:
        raw = _content(path)
    except FileNotFoundError as error:
        raise ScanError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ScanError(f"{path}: truncated or damaged file ({error})") from error
    kind = nib.Nifti2Header if raw[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Header
    try:
        # check=False: nibabel's check would turn a spacing of zero into 1 mm.
        header = kind.from_fileobj(io.BytesIO(raw), check=False)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        offset = header.get_data_offset()
    except BROKEN_HEADER as error:
        raise ScanError(f"{path}: not a NIfTI file ({error})") from error
    if bytes(header["magic"]).rstrip(b"\0")[:3] not in (b"n+1", b"n+2"):
        raise ScanError(f"{path}: not a single NIfTI file (magic {bytes(header['magic'])!r}), wanted .nii or .nii.gz")
    if dtype.kind not in "iufb":
        raise ScanError(f"{path}: voxels are of type {dtype}, wanted one number per voxel")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ScanError(f"{path}: has shape {shape}, wanted one volume of three axes")
    voxels = math.prod(int(length) for length in shape)
    if voxels > MAX_VOXELS:
        raise ScanError(f"{path}: header claims {voxels} voxels, wanted at most {MAX_VOXELS}")
    if offset < header.single_vox_offset:
        raise ScanError(f"{path}: voxels start at byte {offset}, wanted {header.single_vox_offset} or later")
    wanted = voxels * dtype.itemsize
    if len(raw) - offset < wanted:
        raise ScanError(f"{path}: truncated file: {len(raw) - offset} bytes of voxels, header wants {wanted}")
    stored = np.frombuffer(raw, dtype, count=wanted // dtype.itemsize, offset=offset)
    return header, stored.reshape(shape, order="F")


def _content(path: Path) -> bytearray:
    """The bytes of a file, unpacked; ScanError before more than `MAX_BYTES` are held."""
    if path.exists() and not path.is_file():
        raise ScanError(f"{path}: not a file, wanted .nii or .nii.gz")
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        source, raw = gzip.GzipFile(fileobj=stream) if packed else stream, bytearray()
        while piece := source.read(PIECE_BYTES):
            raw += piece
            if len(raw) > MAX_BYTES:
                raise ScanError(f"{path}: holds more than {MAX_BYTES} bytes{' when unpacked' if packed else ''}")
    return raw


def _scaled(header: nib.Nifti1Header, stored: np.ndarray, path: str | Path) -> np.ndarray:
    try:
        slope, inter = header.get_slope_inter()
    except nib.spatialimages.HeaderDataError as error:
        raise ScanError(f"{path}: scale of the voxels cannot be used ({error})") from error
    slope, inter = (1.0 if slope is None else slope), (0.0 if inter is None else inter)
    if (slope, inter) == (1.0, 0.0):
        return stored if stored.dtype != np.float64 else stored.astype(np.float32)
    if (
        slope == 1
        and inter == int(inter)
        and abs(inter) < 2**30
        and stored.dtype.kind in "iu"
        and stored.dtype.itemsize <= 2
    ):
        return stored.astype(np.int32) + np.int32(inter)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is counted by the reader
        return stored.astype(np.float32) * np.float32(slope) + np.float32(inter)


def _narrow(values: np.ndarray) -> np.ndarray:
    """int16 where every value is an integer in its range, else float32."""
    low, high = values.min(), values.max()
    if low < -32768 or high > 32767:
        return values.astype(np.float32)
    narrow = values.astype(np.int16)
    if values.dtype.kind in "iub" or np.array_equal(narrow, values):
        return narrow
    return values.astype(np.float32, copy=False)


def _labels(values: np.ndarray, path: str | Path) -> np.ndarray:
    if values.dtype == np.bool_:
        return values.view(np.uint8)
    if values.dtype.kind == "f":
        # A scale factor such as 1/255 leaves a label at 1.0000001.
        exact = np.isfinite(values) & (np.abs(values - np.rint(values)) < 1e-5)
        allowed = bool(exact.all()) and values.min() > -0.5 and values.max() < LARGEST_LABEL + 0.5
        values = np.rint(values) if allowed else values
    else:
        allowed = values.min() >= 0 and values.max() <= LARGEST_LABEL
    if not allowed:
        found = np.unique(values)
        shown = ", ".join(f"{v:g}" for v in found[:8]) + (", ..." if found.size > 8 else "")
        hint = "; a 0/255 mask needs its label" if found[-1] == 255 else ""
        raise ScanError(
            f"{path}: mask holds the values {shown}; wanted 0, 1 parenchymal, 2 ventricular, 3 subarachnoid{hint}"
        )
    return values.astype(np.uint8)


def _grid(header: nib.Nifti1Header, shape: tuple[int, ...], path: Path) -> Grid:
    affine, notes = _affine(header, path)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_RANGE_MM
    if not np.all(np.isfinite(affine)) or spacing.min() < low or spacing.max() > high:
        shown = ", ".join(f"{s:g}" for s in spacing)
        raise ScanError(f"{path}: voxel spacing {shown} mm, wanted {low:g} to {high:g} mm on each axis")
    if np.abs(affine[:3, 3]).max() > MAX_ORIGIN_MM:
        raise ScanError(f"{path}: origin at {affine[:3, 3].tolist()} mm, wanted within {MAX_ORIGIN_MM:g} mm")
    axes, flips, turned = orient(affine, shape)
    directions = turned[:3, :3] / np.linalg.norm(turned[:3, :3], axis=0)
    if abs(directions[:, 0] @ directions[:, 1]) > 0.02 or abs(np.linalg.det(directions)) < 0.5:
        shown = np.round(affine[:3, :3], 4).tolist()
        raise ScanError(f"{path}: affine {shown} has skewed pixels or slices tilted over 60 degrees")
    stated = float(spacing[axes[2]])
    zoom = float(header["pixdim"][1 + axes[2]])
    if zoom > 0 and abs(zoom - stated) > 0.01 * stated:
        notes += (f"pixdim states slices {zoom:g} mm apart, the affine {stated:g} mm: the affine is used",)
    turned, tilt, tilt_notes = table_step_correction(turned)
    normal = slice_normal(turned)
    if abs(normal[2]) < MIN_NORMAL_Z:
        across = ("sagittal", "coronal", "oblique")[int(np.argmax(np.abs(normal)))]
        tilt_notes += (f"slices are {across}: A, B and C are measured on them, and ABC/2 is made for axial ones",)
    count = shape[axes[2]]
    grid = Grid(
        shape=(shape[axes[0]], shape[axes[1]], count),
        spacing_mm=(float(spacing[axes[0]]), float(spacing[axes[1]])),
        positions_mm=normal @ turned[:3, 3] + normal @ turned[:3, 2] * np.arange(count),
        affine=turned,
        tilt_deg=tilt,
        header_slice_spacing_mm=stated,
        notes=notes + tilt_notes,
        native=Native(axes, flips, _plain_header(header).binaryblock),
    )
    return _with_stored_positions(grid, header, affine)


def _affine(header: nib.Nifti1Header, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The affine to use and, where the header contradicts itself, a note that says which part was taken."""
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    zooms = header["pixdim"][1:4]
    if sform_code == 0 and not np.all(zooms > 0):
        raise ScanError(f"{path}: spacing in pixdim is {zooms.tolist()} mm, wanted positive numbers")
    try:
        qform = header.get_qform() if qform_code > 0 and np.all(zooms > 0) else None
    except (nib.spatialimages.HeaderDataError, ValueError) as error:
        if sform_code == 0:
            raise ScanError(f"{path}: qform cannot be used ({error}) and there is no sform") from error
        return header.get_sform(), (f"qform cannot be used ({error}); the sform is used",)
    if sform_code > 0:
        sform = header.get_sform()
        return sform, _sform_conflict(header, sform, qform)
    if qform is not None:
        return qform, ()
    return header.get_base_affine(), (
        "neither sform nor qform is set: spacing from pixdim, orientation assumed (first axis to the left)",
    )


def _sform_conflict(header: nib.Nifti1Header, sform: np.ndarray, qform: np.ndarray | None) -> tuple[str, ...]:
    """A note if the qform says something else than the sform; a qform cannot hold a sheared affine."""
    if qform is None or np.allclose(sform, qform, atol=0.01):
        return ()
    expected = header.copy()
    try:
        expected.set_qform(sform, code=1, strip_shears=True)
    except nib.spatialimages.HeaderDataError:  # an sform without extent, which the check of spacing names
        return ()
    if np.allclose(expected.get_qform(), qform, atol=0.01):
        return ()
    spacing_s, spacing_q = (np.linalg.norm(a[:3, :3], axis=0).round(4).tolist() for a in (sform, qform))
    swapped = "" if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) > 0 else ", left and right swapped"
    return (f"sform and qform differ (spacing {spacing_s} and {spacing_q} mm{swapped}): the sform is used",)


def _plain_header(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """A NIfTI-1 header with the geometry alone."""
    plain = nib.Nifti1Header()
    for name in ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"):
        plain[name] = header[name]
    for name in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        plain[name] = header[name]
    plain["pixdim"][4:] = 1
    plain.set_xyzt_units("mm")
    return plain


def _to_ijk(data: np.ndarray, native: Native | None) -> np.ndarray:
    if native is None:
        return data
    return flipped(data.transpose(native.axes), native.flips)


def _to_native(data: np.ndarray, native: Native) -> np.ndarray:
    return flipped(data, native.flips).transpose(np.argsort(native.axes))


def _with_stored_positions(grid: Grid, header: nib.Nifti1Header, affine: np.ndarray) -> Grid:
    """The grid with the exact positions of the header comment, where there is one that fits the affine."""
    stale = replace(
        grid,
        notes=(
            *grid.notes,
            "stored slice positions no longer match the affine: the file was changed; the affine is used",
        ),
    )
    try:
        stored = _own_comment(header)
        if stored is None or grid.native is None:
            return grid
        positions = np.array(stored["positions_mm"], dtype=np.float64)
        fits = np.allclose(np.array(stored["affine"]), affine[:3], atol=POSITION_TOLERANCE_MM)
        if positions.shape != grid.shape[2:] or not fits or not _in_order(positions):
            return stale
        return _at(grid, grid.native, positions, stored)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return stale  # somebody has written into the comment


def _in_order(positions: np.ndarray) -> bool:
    steps = np.diff(positions)
    return bool(np.isfinite(positions).all() and (np.all(steps > 0) or np.all(steps < 0)))


def _at(grid: Grid, native: Native, positions: np.ndarray, stored: dict) -> Grid:
    """The grid with the slices at `positions`, as the file's own axis order has them, and what else is stored."""
    if native.flips[2]:
        positions = positions[::-1]
    if len(positions) > 1 and positions[0] > positions[-1]:
        positions = -positions
    stated = stored["header_slice_spacing_mm"]
    spacing = (float(stored["spacing_mm"][0]), float(stored["spacing_mm"][1]))
    if not np.allclose(spacing, grid.spacing_mm, rtol=0.01):
        raise ValueError(f"stored spacing {spacing} mm, the affine has {grid.spacing_mm}")
    return replace(
        grid,
        spacing_mm=spacing,
        positions_mm=positions,
        tilt_deg=float(stored["tilt_deg"]),
        header_slice_spacing_mm=np.nan if stated is None else float(stated),
        notes=tuple(stored["notes"]),
    )


def _own_comment(header: nib.Nifti1Header) -> dict | None:
    for extension in header.extensions:
        if extension.get_code() == COMMENT:
            text = bytes(extension.get_content()).rstrip(b"\0").decode("utf-8", "replace")
            if text.startswith('{"ich":'):
                return json.loads(text)["ich"]
    return None


def _write(path: Path, data: np.ndarray, grid: Grid) -> None:
    if not is_nifti(path):
        raise ScanError(f"{path}: wanted a name that ends in .nii or .nii.gz")
    if data.shape != grid.shape:
        raise ScanError(f"{path}: array shape {data.shape} differs from grid {grid.shape}")
    positions = grid.positions_mm
    if grid.native is None:
        header = nib.Nifti1Header()
        header.set_xyzt_units("mm")
        header.set_data_shape(data.shape)
        header.set_qform(grid.affine, code=1, strip_shears=True)
        header.set_sform(grid.affine, code=1)
    else:
        header = nib.Nifti1Header(grid.native.header)
        data = _to_native(data, grid.native)
        positions = positions[::-1] if grid.native.flips[2] else positions
    affine, _ = _affine(header, path)
    stated = grid.header_slice_spacing_mm
    comment = {
        "spacing_mm": list(grid.spacing_mm),
        "positions_mm": positions.tolist(),
        "tilt_deg": grid.tilt_deg,
        "header_slice_spacing_mm": stated if np.isfinite(stated) else None,
        "affine": affine[:3].tolist(),
        "notes": list(grid.notes),
    }
    header.set_data_dtype(data.dtype)
    image = nib.Nifti1Image(data, None, header)
    image.header.set_slope_inter(1, 0)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(COMMENT, json.dumps({"ich": comment}).encode()))
    raw = image.to_bytes()
    if path.name.endswith(".gz"):
        raw = gzip.compress(raw, compresslevel=1, mtime=0)  # no time stamp: the same mask gives the same file
    write_bytes(path, raw)

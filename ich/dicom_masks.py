"""Reference masks drawn as DICOM SEG or RTSTRUCT: labels on the grid of the CT series they were drawn on.

Every frame and contour is matched to a slice by its position along the slice normal; nothing is resampled.
"""

import warnings
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from ich.contours import filled, inside
from ich.dicom import DECODER_ERRORS, series_grid
from ich.grid import Grid, ScanError, flipped
from ich.label_names import EXTRA_AXIAL, IGNORE, KINDS, LABEL, PLACES, name_kind
from ich.series import Series, slice_normal_lps
from ich.slices import BROKEN_FILE
from ich.tables import LABELS

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # the second for label maps
MASK_CLASSES = (STRUCTURE_SET, *SEGMENTATIONS)

GIVEN: dict[int | str, str] = {
    **dict(zip(KINDS, KINDS, strict=True)),
    0: IGNORE,
    **{number: name for name, number in LABELS.items()},
}
# Hemorrhage, blood clot (SCT and SRT), blood and hematoma, edema: DICOM PS3.16 CID 6030, 7151, 7159. Then SNOMED CT
# disorders: intracranial, cerebral, subarachnoid, subdural. Published lists contradict each other about the code of
# intraventricular hemorrhage: what the code means is read there, as for any code not listed.
CODES = {
    **dict.fromkeys(("50960005", "M-37000", "75753009", "M-35000", "87612001", "35566002", "1386000"), "blood"),
    **dict.fromkeys(("79654002", "M-36300"), IGNORE),
    "274100004": "parenchymal",
    "21454007": "subarachnoid",
    "35486000": EXTRA_AXIAL,
}


@dataclass(frozen=True, eq=False)
class DicomMask:
    """What a SEG or RTSTRUCT says about the blood in one scan."""

    labels: np.ndarray  # (I, J, K) uint8: 1 parenchymal, 2 ventricular, 3 subarachnoid
    extra_axial: np.ndarray  # (I, J, K) bool: subdural and epidural blood, never part of labels
    grid: Grid  # of the series: the one that the scan has
    ignored: tuple[str, ...]  # names of segments that are no blood
    notes: tuple[str, ...]  # what a report must say about how the mask was read
    automatic: bool  # whether a program alone made every segment that was read, as a SEG may state
    untyped: bool = False  # whether some of label 1 is blood whose type the object does not state


@dataclass(frozen=True)
class Region:
    """One segment of a SEG or one ROI of an RTSTRUCT, as the header describes it."""

    number: int
    name: str
    code: str = ""
    meaning: str = ""
    automatic: bool = False


Part = tuple[Region, str, np.ndarray]  # a region, what it holds, and its (columns, rows, K) boolean mask


def is_dicom_mask(path: Path) -> bool:
    """Whether a file is a DICOM SEG or RTSTRUCT; False for any other or unreadable file. Reads the header only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            return str(header.get("SOPClassUID", "")) in MASK_CLASSES
    except (InvalidDicomError, *BROKEN_FILE):
        return False


def referenced_series(path: Path) -> str | None:
    """SeriesInstanceUID that a SEG or RTSTRUCT says it was drawn on: None if it names none, the first of several.

    Raises
    ------
    ScanError : the file is no SEG or RTSTRUCT.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return next(iter(_series_uids(_read(Path(path), pixels=False))), None)


def read_dicom_mask(path: Path, series: Series, label_map: dict[str, int | str] | None = None) -> DicomMask:
    """Labels and extra-axial blood of a SEG or RTSTRUCT, on the grid of the CT series it was drawn on.

    A name says what a segment or ROI is; where it does not, the coded property type does. A single one of
    unknown name counts as parenchymal, with a note. A segment of all blood ("hemorrhage", "ICH") may enclose
    others: they keep their own label and the rest of it is parenchymal.

    Parameters
    ----------
    path : the SEG or RTSTRUCT file.
    series : the kept series, as `find_series` or `choose_series` gives it; it holds the place of every slice and
        what the object must refer to, which a `Scan` does not.
    label_map : name of a segment or ROI, in any case, to 0 (ignored), 1, 2, 3 or one of "parenchymal",
        "ventricular", "subarachnoid", "extra_axial", "ignore" and "blood" (parenchymal, may enclose others).
        Goes before the rules for names; an unknown name that it lacks is then an error.

    Raises
    ------
    ScanError : another series or frame of reference; a frame or contour on no slice; frames of other size, spacing,
        orientation or place than the slices; unclear names; two labels in a voxel; no blood; a damaged file.
    """
    path = Path(path)
    if not series.kept:
        raise ScanError(f"{path}: wanted a usable CT series to lay the mask on, found {series}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values in headers of no interest here
        header = _read(path)
        try:
            regions = _regions(header)
            kinds, notes = _kinds(regions, label_map, path)
            wanted = {region.number: region for region in regions if kinds[region.number] != IGNORE}
            _check_origin(header, wanted, series, path)
            draw = _contour_masks if header.SOPClassUID == STRUCTURE_SET else _frame_masks
            masks = draw(header, wanted, series, path, notes)
        except ScanError:
            raise
        except BROKEN_FILE as error:
            raise ScanError(f"{path}: damaged or incomplete SEG or RTSTRUCT ({type(error).__name__})") from error
    labels, extra_axial, untyped = _combine([(r, kinds[n], masks[n]) for n, r in wanted.items()], path, notes)
    grid, axes, flips = series_grid(series)
    return DicomMask(
        labels=np.asfortranarray(flipped(labels.transpose(axes), flips)),
        extra_axial=np.asfortranarray(flipped(extra_axial.transpose(axes), flips)),
        grid=grid,
        ignored=tuple(region.name for region in regions if region.number not in wanted),
        notes=tuple(notes),
        automatic=all(region.automatic for region in wanted.values()),
        untyped=untyped,
    )


def _read(path: Path, pixels: bool = True) -> pydicom.Dataset:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (InvalidDicomError, *BROKEN_FILE) as error:
        raise ScanError(f"{path}: missing, damaged or not a DICOM file, wanted a SEG or RTSTRUCT") from error
    if str(header.get("SOPClassUID", "")) not in MASK_CLASSES:
        raise ScanError(f"{path}: DICOM object of modality {header.get('Modality', 'unknown')}, wanted SEG or RTSTRUCT")
    return header


def _series_uids(header: pydicom.Dataset) -> list[str]:
    if header.SOPClassUID != STRUCTURE_SET:
        return [str(s.SeriesInstanceUID) for s in header.get("ReferencedSeriesSequence") or []]
    return [
        str(series.SeriesInstanceUID)
        for frame in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
    ]


def _check_origin(header: pydicom.Dataset, wanted: dict[int, Region], series: Series, path: Path) -> None:
    first = series.slices[0]
    uids = _series_uids(header)
    if uids and first.uid not in uids:
        raise ScanError(f"{path}: drawn on another series than series {series.name} of the scan, wanted the same")
    scan = pydicom.dcmread(first.path, stop_before_pixels=True, specific_tags=["FrameOfReferenceUID"], force=True)
    scan_frame = scan.get("FrameOfReferenceUID")
    rois = [roi for roi in header.get("StructureSetROISequence") or [] if int(roi.ROINumber) in wanted]
    stated = [roi.get("ReferencedFrameOfReferenceUID") for roi in rois] or [header.get("FrameOfReferenceUID")]
    frames = set(stated) - {None, ""}
    if frames and scan_frame and frames != {scan_frame}:
        raise ScanError(f"{path}: lies in another frame of reference than series {series.name}, wanted the same")
    if not uids and not (frames and scan_frame):
        raise ScanError(f"{path}: names neither the series nor the frame of reference it was drawn in, wanted either")


def _regions(header: pydicom.Dataset) -> list[Region]:
    if header.SOPClassUID == STRUCTURE_SET:
        rois = header.StructureSetROISequence
        return [Region(int(roi.ROINumber), str(roi.get("ROIName") or f"ROI {roi.ROINumber}")) for roi in rois]
    regions = []
    for segment in header.SegmentSequence:
        code = (segment.get("SegmentedPropertyTypeCodeSequence") or [pydicom.Dataset()])[0]
        name = str(segment.get("SegmentLabel") or f"segment {segment.SegmentNumber}")
        value, meaning = str(code.get("CodeValue", "")), str(code.get("CodeMeaning", ""))
        automatic = segment.get("SegmentAlgorithmType") == "AUTOMATIC"
        regions.append(Region(int(segment.SegmentNumber), name, value, meaning, automatic))
    return regions


def _region_kind(region: Region) -> str:
    by_name = name_kind(region.name)
    by_code = CODES.get(region.code) or name_kind(region.meaning)
    if by_name == IGNORE and (by_code in LABEL or by_code == EXTRA_AXIAL):
        return "ambiguous"
    refines = by_name == "unknown" or (by_name == "blood" and by_code in PLACES)
    return by_code if refines else by_name


def _kinds(
    regions: list[Region], label_map: dict[str, int | str] | None, path: Path
) -> tuple[dict[int, str], list[str]]:
    """What each region holds, by number; and notes."""
    for name, kind in (label_map or {}).items():
        if kind not in GIVEN:
            raise ScanError(f"label_map: {name!r} is given as {kind!r}, wanted 0, 1, 2, 3 or one of {', '.join(KINDS)}")
    given = {name.strip().casefold(): GIVEN[kind] for name, kind in (label_map or {}).items()}
    kinds = {r.number: given.get(r.name.strip().casefold()) or _region_kind(r) for r in regions}
    notes = []
    unclear = [r for r in regions if kinds[r.number] not in KINDS]
    not_ignored = [kind for kind in kinds.values() if kind != IGNORE]
    if not_ignored == ["unknown"] and not given:
        kinds[unclear[0].number] = "blood"  # label 1 too, but of a type that is not stated
        notes.append(f'the only segment, "{unclear[0].name}", does not say what it is: counted as parenchymal')
    elif unclear:
        raise ScanError(
            f"{path}: segments {_listed(regions)} found, of which {_listed(unclear)} cannot be told by name; wanted "
            f"names that hold one of {', '.join(KINDS)}, or, in Python, a label_map such as {{{unclear[0].name!r}: 1}}"
        )
    ignored = [r for r in regions if kinds[r.number] == IGNORE]
    if len(ignored) == len(regions):
        raise ScanError(f"{path}: found segments {_listed(regions)}; wanted one of blood, or, in Python, a label_map")
    if ignored:
        notes.append(f"no blood, ignored: {_listed(ignored)}")
    return kinds, notes


def _listed(regions: list[Region]) -> str:
    return ", ".join(f'"{region.name}"' for region in regions)


def _slice_of(points_mm: np.ndarray, series: Series, what: str) -> int:
    """Index of the slice that points (N, 3) in LPS lie on, within a quarter of the distance to its neighbors."""
    along = points_mm @ slice_normal_lps(series.slices[0].orientation)
    k = int(np.argmin(np.abs(series.positions_mm - along.mean())))
    tolerance = float(np.diff(series.positions_mm)[max(k - 1, 0) : k + 1].min()) / 4
    if np.abs(along - series.positions_mm[k]).max() > tolerance:
        place = (
            f"at {along.mean():.2f} mm" if np.ptp(along) < 0.01 else f"from {along.min():.2f} to {along.max():.2f} mm"
        )
        raise ScanError(
            f"{what} lies {place} along the slice normal, on no slice; the nearest is at "
            f"{series.positions_mm[k]:.2f} mm, wanted within {tolerance:.2f} mm of it"
        )
    return k


def _frame_masks(
    header: pydicom.Dataset, wanted: dict[int, Region], series: Series, path: Path, notes: list[str]
) -> dict[int, np.ndarray]:
    """(columns, rows, K) boolean mask of each wanted segment of a SEG, by number; slices without a frame are empty."""
    columns, rows = series.slices[0].size
    if (header.Columns, header.Rows) != (columns, rows):
        found = f"{header.Columns} x {header.Rows}"
        raise ScanError(f"{path}: frames of {found} pixels, wanted {columns} x {rows} as the slices")
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) != int(header.get("NumberOfFrames", 1)) or int(header.get("InConcatenationTotalNumber", 1)) > 1:
        raise ScanError(f"{path}: {len(per_frame)} frame positions, wanted one for each frame, all in one file")
    try:
        stored = header.pixel_array.reshape(len(per_frame), rows, columns)
    except DECODER_ERRORS as error:
        raise ScanError(f"{path}: frames cannot be decoded ({error})") from error
    masks = {number: np.zeros((columns, rows, len(series.slices)), dtype=bool) for number in wanted}
    fractional = header.SegmentationType == "FRACTIONAL"
    threshold = int(header.MaximumFractionalValue) / 2 if fractional else 1
    shares = dict.fromkeys(wanted, 0.0)
    for frame, values in enumerate(stored):
        if header.SegmentationType == "LABELMAP":
            planes = {number: values == number for number in wanted}
        else:
            number = int(_group(header, frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            planes = {number: values >= threshold} if number in wanted else {}
            shares[number] = shares.get(number, 0.0) + float(values.sum()) / (2 * threshold)
        planes = {number: plane for number, plane in planes.items() if plane.any()}
        k = _frame_slice(header, frame, series, path) if planes else 0
        for number, plane in planes.items():
            masks[number][:, :, k] |= plane.T
    for number, region in wanted.items() if fractional else ():
        kind = str(header.get("SegmentationFractionalType", "fractional")).lower()
        count = np.count_nonzero(masks[number])
        notes.append(
            f'"{region.name}" has fractions ({kind}): {count} pixels of half and more are taken, all fractions add up '
            f"to {shares[number]:.0f}"
        )
    return masks


def _group(header: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset:
    """The item of a functional group: the frame's own, else the one that all frames share."""
    own = header.PerFrameFunctionalGroupsSequence[frame].get(name)
    return (own or header.SharedFunctionalGroupsSequence[0][name].value)[0]


def _frame_slice(header: pydicom.Dataset, frame: int, series: Series, path: Path) -> int:
    """Index of the slice a frame lies on, pixel on pixel."""
    place = np.array(_group(header, frame, "PlanePositionSequence").ImagePositionPatient, dtype=float)
    turned = np.array(_group(header, frame, "PlaneOrientationSequence").ImageOrientationPatient, dtype=float)
    spacing = np.array(_group(header, frame, "PixelMeasuresSequence").PixelSpacing, dtype=float)[::-1]
    image = series.slices[0]
    quarter = min(image.spacing_mm) / 4
    what = f"{path}: frame {frame + 1}"
    if np.abs((spacing - image.spacing_mm) * image.size).max() > quarter:
        raise ScanError(f"{what} has pixels of {spacing.tolist()} mm, wanted {list(image.spacing_mm)} as the slices")
    # Turned axes are the same if they move the far end of the image by less than a quarter pixel.
    extent = max(np.multiply(image.size, image.spacing_mm))
    if np.linalg.norm((turned - image.orientation).reshape(2, 3), axis=1).max() * extent > quarter:
        raise ScanError(f"{what} has orientation {turned.tolist()}, wanted {list(image.orientation)} as the slices")
    k = _slice_of(place[None], series, what)
    offset = np.array(series.slices[k].orientation).reshape(2, 3) @ (place - series.slices[k].position_mm)
    if np.abs(offset).max() > quarter:
        found = ", ".join(f"{mm:.2f}" for mm in offset)
        raise ScanError(f"{what} is shifted by {found} mm in the plane of its slice, wanted within {quarter:.2f} mm")
    return k


def _contour_masks(
    header: pydicom.Dataset, wanted: dict[int, Region], series: Series, path: Path, notes: list[str]
) -> dict[int, np.ndarray]:
    """(columns, rows, K) boolean mask of each wanted ROI of an RTSTRUCT, by number; adds to `notes`."""
    shape = series.slices[0].size
    masks = {number: np.zeros((*shape, len(series.slices)), dtype=bool) for number in wanted}
    drawn = {int(item.ReferencedROINumber): item for item in header.ROIContourSequence}
    for number, region in wanted.items():
        polygons: dict[int, list[np.ndarray]] = {}
        separate = True
        passed: dict[str, int] = {}
        item = drawn.get(number, pydicom.Dataset())
        for n, contour in enumerate(item.get("ContourSequence") or [], start=1):
            kind = str(contour.ContourGeometricType)
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            if kind not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") or len(points) < 3:
                passed[f"{kind}, passed over"] = passed.get(f"{kind}, passed over", 0) + 1
                continue
            what = f'{path}: contour {n} of "{region.name}"'
            k = _slice_of(points, series, what)
            axes = np.array(series.slices[k].orientation).reshape(2, 3)
            # Rounding puts a vertex that was drawn on a pixel center back on it.
            pixels = np.round((points - series.slices[k].position_mm) @ axes.T / series.slices[k].spacing_mm, 5)
            if pixels.min() < -1 or np.any(pixels.max(axis=0) > shape):
                raise ScanError(f"{what} leaves the image of slice {k + 1}, wanted all of it inside")
            polygons.setdefault(k, []).append(pixels)
            separate = separate and kind == "CLOSED_PLANAR"
        for k, found in polygons.items():
            plane, told = filled(found, shape) if separate else (inside(found, shape), {})
            masks[number][:, :, k] = plane
            for what, count in told.items():
                passed[what] = passed.get(what, 0) + count
        notes += [f'contours of "{region.name}", {what}: {count}' for what, count in passed.items()]
        if not polygons:
            notes.append(f'"{region.name}" has no closed contour: empty')
            continue
        drawn_on = np.flatnonzero(masks[number].any(axis=(0, 1)))
        if not len(drawn_on):
            notes.append(f'"{region.name}": no center of a pixel lies inside its contours: empty')
        elif gaps := int(drawn_on[-1] - drawn_on[0] + 1 - len(drawn_on)):
            notes.append(f'"{region.name}" has no contour on {gaps} slices between its first and last')
    return masks


def _combine(parts: list[Part], path: Path, notes: list[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Labels, extra-axial mask and whether some blood has no type, from what each region holds; adds to `notes`.

    A voxel under two labels is an error, but for a region of all blood that encloses the other one whole.
    """
    for (a, kind_a, mask_a), (b, kind_b, mask_b) in combinations(parts, 2):
        if LABEL.get(kind_a) == LABEL.get(kind_b) or not (both := np.count_nonzero(mask_a & mask_b)):
            continue
        a_whole = kind_a == "blood" and both == np.count_nonzero(mask_b)
        if not a_whole and not (kind_b == "blood" and both == np.count_nonzero(mask_a)):
            raise ScanError(
                f'{path}: "{a.name}" and "{b.name}" both claim {both} voxels; wanted one label a voxel, or a segment '
                "of all blood that encloses the other"
            )
        outer, inner = (a, b) if a_whole else (b, a)
        notes.append(f'"{outer.name}" encloses "{inner.name}", which keeps its own label')
    labels = np.zeros(parts[0][2].shape, dtype=np.uint8)
    extra_axial = np.zeros(labels.shape, dtype=bool)
    untyped = np.zeros(labels.shape, dtype=bool)
    for _, kind, mask in sorted(parts, key=lambda part: part[1] != "blood"):
        untyped = untyped | mask if kind == "blood" else untyped & ~mask
        if kind == EXTRA_AXIAL:
            extra_axial |= mask
        else:
            labels[mask] = LABEL[kind]
    labels[extra_axial] = 0
    return labels, extra_axial, bool(untyped.any())

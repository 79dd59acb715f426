"""The series in a folder of DICOM files: which one is an axial head CT, and why each other one is not.

Descriptions carry series numbers, counts and geometry only: no name, identifier, date or file name.
"""

import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom

from ich.folders import files_below
from ich.grid import MIN_NORMAL_Z, ScanError
from ich.slices import DAMAGED, Slice, read_slices

MIN_SLICES = 4
SAME_POSITION_MM = 0.05
SAME_SPACING = 1e-3  # of the spacing: writers round it to some digits
SAME_DIRECTION = 1e-3  # of direction cosines
FAR = 3  # times the steps beside it: no spacing of the same acquisition
DEFECTS = ("slice missing", "slices missing", "doubled slices", "header has no", "position, orientation")


@dataclass(frozen=True, eq=False)
class Series:
    """Images of one series with one geometry, and whether they are an axial CT volume."""

    name: str  # series number, with a letter where several share it
    slices: tuple[Slice, ...]  # from foot to head if kept
    positions_mm: np.ndarray  # (K,) along the slice normal if kept
    kept: bool
    reason: str  # why left out; empty if kept
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = len(self.slices)
        text = f"series {self.name}: {count} image{'s' if count > 1 else ''}"
        if not self.kept:
            return f"{text}, left out: {self.reason}"
        first = self.slices[0]
        spacing = float(np.median(np.diff(self.positions_mm)))
        kernel = f", kernel {first.kernel}" if first.kernel else ""
        return f"{text} of {first.size[0]} x {first.size[1]}, {spacing:.2f} mm apart{kernel}"


def find_series(folder: str | Path) -> list[Series]:
    """Every series below `folder`, kept or left out with the reason, ordered by series number.

    Files that are not DICOM are passed over, as are DICOMDIR indexes.

    Raises
    ------
    ScanError : `folder` is missing or holds no DICOM image at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScanError(f"{folder}: no such folder")
    files = files_below(folder)
    groups: dict[tuple, list[Slice]] = defaultdict(list)
    known: dict[str, list[tuple]] = defaultdict(list)
    for path in files:
        for image in read_slices(path):
            own = image.uid or f"{image.study} {path.parent}"  # without a UID, series of one folder and study
            geometry = _geometry(image, known[own]) if image.kind == "image" else ()
            groups[(own, image.patient, image.kind, *geometry)].append(image)
    if not groups:
        raise ScanError(f"{folder}: no DICOM images among {len(files)} files")
    per_uid = Counter(key[:2] for key in groups)
    patients = Counter(uid for uid, _ in per_uid)
    parts = [part for key, group in groups.items() for part in _judge(group, per_uid[key[:2]], patients[key[0]])]
    return _named(parts)


def choose_series(folder: str | Path, name: str | None = None) -> Series:
    """The one usable axial CT series below `folder`, or the one called `name`.

    Raises
    ------
    ScanError : listing the series found, if none is usable, several are, or `name` is not among them.
    """
    found = find_series(folder)
    kept = [s for s in found if s.kept]
    listing = "; ".join(str(s) for s in found)
    if name is not None:
        named = [s for s in found if s.name == str(name)]
        if not named:
            raise ScanError(f"{folder}: no series {name} among {len(found)} found: {listing}")
        if not named[0].kept:
            raise ScanError(f"{folder}: {named[0]}")
        return _warned(named[0], found)
    if not kept:
        raise ScanError(f"{folder}: no usable axial CT series among {len(found)} found: {listing}")
    if len(kept) > 1:
        patients = len({part.slices[0].patient for part in kept})
        whose = f"scans of {patients} patients, " if patients > 1 else ""
        raise ScanError(
            f"{folder}: {whose}{len(kept)} usable axial CT series among {len(found)} found, choose one by "
            f'its name, with --series {kept[0].name} or read_scan(folder, series="{kept[0].name}"): {listing}'
        )
    return _warned(kept[0], found)


def _warned(chosen: Series, found: list[Series]) -> Series:
    damaged = sum(len(s.slices) for s in found if s.slices[0].kind == DAMAGED)
    note = f"damaged DICOM files beside the series, whose slices they may be: {damaged}"
    notes = (*chosen.notes, note) if damaged else chosen.notes
    lost = [
        str(part)
        for part in found
        if part.slices[0].modality == "CT" and (part.reason.startswith(DEFECTS) or _same_uid(part, chosen))
    ]
    return replace(chosen, notes=(*notes, *(f"beside it lies {text}" for text in lost)))


def _same_uid(part: Series, chosen: Series) -> bool:
    """Whether images that are left out are of the chosen series, of whose volume they may be a part."""
    one, other = part.slices[0], chosen.slices[0]
    return not part.kept and one.kind == "image" and bool(one.uid) and one.uid == other.uid


def _judge(group: list[Slice], geometries: int, patients: int) -> list[Series]:
    """The series that a group of equal geometry makes: one, or several that lie on top of each other."""
    reasons = _reasons(group)
    if reasons:
        if geometries > 1 and group[0].kind == "image":
            first = group[0]
            spacing = " x ".join(f"{mm:g}" for mm in first.spacing_mm) or "unknown"
            own = f"{first.size[0]} x {first.size[1]} pixels of {spacing} mm"
            reasons.append(f"one of {geometries} geometries in its series ({own})")
        if patients > 1 and group[0].kind == "image":
            reasons.append(f"the images of its series name {patients} patients")
        return [_left_out(group, "; ".join(reasons))]
    positions, ordered = _sorted(group)
    if np.all(np.diff(positions) > SAME_POSITION_MM):
        return [_stack(images, places, ()) for places, images in _kernels_apart(ordered, positions)]
    unique = _without_copies(ordered)
    copies = len(ordered) - len(unique)
    notes = (f"exact copies of other images, passed over: {copies}",) if copies else ()
    positions, ordered = _sorted(unique)
    if np.all(np.diff(positions) > SAME_POSITION_MM):
        return [_stack(ordered, positions, notes)] if len(ordered) >= MIN_SLICES else [_doubled(ordered, positions)]
    for key in ("acquisition", "kernel", "image_type"):
        split: dict[str, list[Slice]] = defaultdict(list)
        for image in ordered:
            split[getattr(image, key)].append(image)
        stacks = [_sorted(part) for part in split.values()]
        if all(len(p) >= MIN_SLICES and np.all(np.diff(p) > SAME_POSITION_MM) for p, _ in stacks):
            return [_stack(images, places, notes) for places, images in stacks]
    return [_doubled(ordered, positions)]


def _kernels_apart(ordered: list[Slice], positions: np.ndarray) -> list[tuple[np.ndarray, list[Slice]]]:
    """Positions and images of each kernel where two reconstructions lie between each other, else of all.

    One that changes once, as from base to vertex, makes no second volume.
    """
    kernels = [image.kernel for image in ordered]
    changes = sum(one != other for one, other in pairwise(kernels))
    split = [_sorted([image for image in ordered if image.kernel == kernel]) for kernel in dict.fromkeys(kernels)]
    if changes > len(ordered) / 2 and all(len(images) >= MIN_SLICES for _, images in split):
        return split
    return [(positions, ordered)]


def _reasons(group: list[Slice]) -> list[str]:
    first = group[0]
    if first.kind != "image":
        return [first.kind]
    reasons = [] if first.modality == "CT" else [f"{first.modality} images, wanted CT"]
    if any(not s.orientation or not s.position_mm or not s.spacing_mm for s in group):
        reasons.append("header has no position, orientation or pixel spacing")
    elif not all(np.isfinite([*s.orientation, *s.position_mm, *s.spacing_mm]).all() for s in group) or not np.any(
        np.cross(first.orientation[:3], first.orientation[3:])
    ):
        reasons.append("position, orientation or pixel spacing is no usable number")
    else:
        normal = slice_normal_lps(first.orientation)
        if abs(normal[2]) < MIN_NORMAL_Z:
            across = ("sagittal", "coronal", "oblique")[int(np.argmax(np.abs(normal)))]
            reasons.append(f"{across} slices, wanted axial")
        if min(first.spacing_mm) < 0.05 or max(first.spacing_mm) > 5:
            reasons.append(f"pixel spacing {first.spacing_mm} mm, wanted 0.05 to 5 mm")
    if len(group) < MIN_SLICES:
        reasons.append("a single image" if len(group) == 1 else f"{len(group)} slices, wanted {MIN_SLICES} or more")
    return reasons


def _stack(ordered: list[Slice], positions: np.ndarray, notes: tuple[str, ...]) -> Series:
    missing = _missing(positions)
    if not missing:
        if any(image.contrast for image in ordered):
            notes = (*notes, "the header names a contrast agent: vessels may look like blood")
        return Series("", tuple(ordered), positions, True, "", notes)
    found = ", ".join(
        f"{count} between images {ordered[n].instance} and {ordered[n + 1].instance} (a gap of {gap:.2f} mm "
        f"where neighboring slices are {neighbor:.2f} mm apart)"
        for n, count, gap, neighbor in missing
    )
    total = sum(count for _, count, _, _ in missing)
    return _left_out(ordered, f"slice{'s' if total > 1 else ''} missing: {found}")


def _missing(positions: np.ndarray) -> list[tuple[int, int, float, float]]:
    """Gaps where slices must be missing: (index before, slices missing, gap, step beside it).

    Those are runs of wide steps, each a multiple of the steps on either side of the run, and any step of over three
    times the wider of both: an acquisition that goes on elsewhere.
    """
    steps = np.diff(positions)
    found, n = [], 0
    while n < len(steps):
        end = n + 1
        while n and end < len(steps) and _multiple(steps[n : end + 1], steps[n - 1]):
            end += 1
        around = [steps[m] for m in (n - 1, end) if 0 <= m < len(steps)]
        run = steps[n:end]
        if len(run) > 1 and len(around) < 2:  # wide to the end: a scan of two spacings
            break
        neighbor = float(np.mean(around)) if around else math.inf
        times = np.rint(run / neighbor)
        alike = not around or np.ptp(around) <= 0.05 * neighbor
        lone = alike and _multiple(run, neighbor)
        apart = run[0] > FAR * max(around, default=math.inf)
        if lone or apart:
            found += [
                (n + k, max(int(count) - 1, 1), float(step), neighbor)
                for k, (step, count) in enumerate(zip(run, times, strict=True))
            ]
        n = end if lone or apart else n + 1
    return found


def _multiple(steps: np.ndarray, step: float) -> bool:
    """Whether each of `steps` is twice, three times, ... a step."""
    times = np.rint(steps / step)
    return bool(np.all((times >= 2) & (np.abs(steps / step - times) <= 0.05 * times)))


def _doubled(ordered: list[Slice], positions: np.ndarray) -> Series:
    places = 1 + np.count_nonzero(np.diff(positions) > SAME_POSITION_MM)
    if places == 1:
        return _left_out(ordered, f"{len(ordered)} images at one position: a time series, not a volume")
    return _left_out(ordered, f"doubled slices: {len(ordered)} images at {places} positions")


def _without_copies(ordered: list[Slice]) -> list[Slice]:
    """Images whose position or pixels differ from every earlier one."""
    seen: set[tuple] = set()
    unique = []
    for image in ordered:
        place = tuple(np.round(image.position_mm, 2))
        content = (place, hashlib.sha256(_pixel_bytes(image)).digest())
        if content not in seen:
            seen.add(content)
            unique.append(image)
    return unique


def _pixel_bytes(image: Slice) -> bytes:
    data = pydicom.dcmread(image.path, force=True).get("PixelData", b"")
    return image.frame.to_bytes(4, "big") + data if image.frame else data


def _sorted(group: list[Slice]) -> tuple[np.ndarray, list[Slice]]:
    normal = slice_normal_lps(group[0].orientation)
    along = np.array([s.position_mm for s in group]) @ normal
    order = np.argsort(along, kind="stable")
    return along[order], [group[n] for n in order]


def slice_normal_lps(orientation: tuple[float, ...]) -> np.ndarray:
    """Unit slice normal in LPS, on the side of the head."""
    normal = np.cross(orientation[:3], orientation[3:])
    return normal / np.linalg.norm(normal) * (1.0 if normal[2] >= 0 else -1.0)


def _left_out(group: list[Slice], reason: str) -> Series:
    return Series("", tuple(group), np.array([]), False, reason)


def _named(parts: list[Series]) -> list[Series]:
    """The series with names: the series number, with a letter where parts share it."""

    def order(part: Series) -> tuple[int, str]:
        number = part.slices[0].number
        return (int(number) if number.isdecimal() else 10**9, number)

    total = Counter(part.slices[0].number for part in parts)
    used: Counter[str] = Counter()
    named = []
    for part in sorted(parts, key=order):
        number = part.slices[0].number
        letter = chr(ord("a") + used[number]) if total[number] > 1 else ""
        used[number] += 1
        named.append(replace(part, name=number + letter))
    return named


def _geometry(image: Slice, known: list[tuple]) -> tuple:
    """Size, spacing and orientation; those of an earlier image of the series where they agree but for rounding.

    Rounding both to some digits would part two that differ by 1e-7 about the middle between two rounded values.
    """
    own = (image.size, image.spacing_mm, image.orientation)
    for each in known:
        if [len(part) for part in each] == [len(part) for part in own] and (
            each[0] == own[0]
            and np.allclose(each[1], own[1], rtol=SAME_SPACING, atol=0)
            and np.allclose(each[2], own[2], rtol=0, atol=SAME_DIRECTION)
        ):
            return each
    known.append(own)
    return own

"""What is wrong with a scan or with the mask on it: every check a number, a limit and a sentence.

The checks look at the scan on a grid of about 2 mm in plane. Left and right cannot be told apart by them.
"""

import math
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd
from scipy import ndimage

from ich.grid import Grid, Scan
from ich.hounsfield import AIR_HU, AS_AIR, LOWEST_HU

FAR_MM = 1e6  # between slices: distances are taken within them
IN_PLANE = ndimage.generate_binary_structure(2, 1)[..., None]
LAYERS = np.zeros((3, 3, 3), int)  # neighbors within a slice only
LAYERS[:, :, 1] = ndimage.generate_binary_structure(2, 1)

# Faults that leave nothing to measure; the other checks warn.
EXCLUDING = ("values", "head", "orientation", "mask_outside")


def _limit(value: float, check: str, text: str):
    """A limit with the check it belongs to and the sentence of the report, `{}` standing for the value."""
    return field(default=value, metadata={"check": check, "text": text})


@dataclass(frozen=True)
class QualityLimits:
    """Limits of the checks. Chosen from anatomy and physics and tried on real and simulated scans, not fitted."""

    head_ml: float = _limit(800, "head", "tissue of less than {} ml")
    wide: float = _limit(1.1, "orientation", "head wider than {} times its length")
    upside_down: float = _limit(
        1.5, "orientation", "bone and air deep in the upper half over {} times the lower half's"
    )
    air_behind_mm: float = _limit(15, "orientation", "air-filled spaces on average more than {} mm behind the center")
    base_share: float = _limit(0.75, "coverage", "lowest slice encloses over {} of the largest section: no skull base")
    vertex_share: float = _limit(0.5, "coverage", "highest slice encloses over {} of the largest section: no vertex")
    intracranial_ml: float = _limit(600, "coverage", "less than {} ml within the skull")
    cut_mm: float = _limit(20, "field_of_view", "over {} mm of one slice's outline at the edge of the picture")
    bright_ml: float = _limit(6, "contrast", "over {} ml of 110-400 HU deep in the brain")
    metal_ml: float = _limit(0.3, "metal", "over {} ml of more than 2500 HU")
    jump_mm: float = _limit(4, "motion", "a slice displaced by over {} mm against its neighbors")
    streak_hu: float = _limit(60, "motion", "stripes of over {} HU in the air around the head")
    slice_mm: float = _limit(7.5, "slices", "slices over {} mm apart")
    gap: float = _limit(1.9, "slices", "a gap of over {} times both neighboring distances")
    mask_low_hu: float = _limit(40, "mask_hu", "mean of the mask below {} HU")
    mask_high_hu: float = _limit(95, "mask_hu", "mean of the mask above {} HU")
    outside_percent: float = _limit(5, "mask_outside", "over {} % of the mask outside the head")
    hard_percent: float = _limit(20, "mask_bone", "over {} % of the mask in bone (>200 HU) or air (<-200 HU)")
    shift_mm: float = _limit(3, "mask_shifted", "mask brighter by over 8 HU when moved by {} mm or more, or mirrored")


def limits_from(text: str) -> QualityLimits:
    """Limits of a text such as `slice_mm=10,mask_high_hu=100`; those that it does not name are as they are.

    Raises
    ------
    ValueError : a part is no `name=number`, or no limit has that name.
    """
    changed = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in (known := [each.name for each in fields(QualityLimits)]):
            raise ValueError(f"quality_limits: no limit {name!r}; there are {', '.join(known)}")
        try:
            changed[name] = float(value)
        except ValueError as error:
            raise ValueError(f"quality_limits: {part!r}, wanted {name}=NUMBER") from error
        if math.isnan(changed[name]):
            raise ValueError(f"quality_limits: {part!r}, wanted a number")
    return QualityLimits(**changed)


@dataclass
class Quality:
    """What the checks found."""

    row: dict[str, float] = field(default_factory=dict)  # measured columns
    flags: dict[str, str] = field(default_factory=dict)  # check: what was found and what the limit is
    slices: dict[str, int] = field(default_factory=dict)  # check: the slice that shows it best, from 0

    def flag(self, check: str, text: str, k: int) -> None:
        text = text.replace(";", ",")  # parts the flags of a case in its table
        self.flags[check] = f"{self.flags[check]}, {text}" if check in self.flags else text
        self.slices.setdefault(check, int(k))


def checks(excluding: tuple[str, ...] = EXCLUDING, limits: QualityLimits | None = None) -> pd.DataFrame:
    """Every check: check, flagged when, excludes, limits (each `name=value`, as `limits_from` takes them).

    Raises
    ------
    ValueError
        `excluding` names a check that does not exist.
    """
    limits = limits or QualityLimits()
    rows: dict[str, list[str]] = {
        "values": ["values are no Hounsfield units (shifted by 1024, or gray levels)"],
        "reading": ["the header names a contrast agent, or files are damaged or doubled, or bone is cut off"],
    }
    named: dict[str, list[str]] = {}
    for each in fields(limits):
        check, value = each.metadata["check"], f"{getattr(limits, each.name):g}"
        rows.setdefault(check, []).append(each.metadata["text"].format(value))
        named.setdefault(check, []).append(f"{each.name}={value}")
    unknown = [name for name in excluding if name not in rows]
    if unknown:
        raise ValueError(f"exclude_flagged: no check {', '.join(unknown)}; there are {', '.join(rows)}")
    return pd.DataFrame(
        [
            {
                "check": name,
                "flagged when": "; ".join(texts),
                "excludes": name in excluding,
                "limits": ", ".join(named.get(name, [])),
            }
            for name, texts in rows.items()
        ]
    )


def check_quality(scan: Scan, labels: np.ndarray, limits: QualityLimits | None = None) -> Quality:
    """Check one scan and the mask on it.

    Parameters
    ----------
    scan : HU (I, J, K), I to the left, J to the back, K to the head.
    labels : (I, J, K), 0 is background.

    Returns
    -------
    Quality : its row has every column for a scan in HU with a head in it; NaN where there is nothing to measure.
    """
    limits = limits or QualityLimits()
    found = Quality()
    middle = scan.hu.shape[2] // 2
    _check_slices(scan.grid, limits, found)
    if scan.kind != "hu":
        found.flag("values", "; ".join(scan.notes), middle)
        return found
    if told := [note for note in scan.notes if not note.endswith(AS_AIR)]:
        found.flag("reading", "; ".join(told), middle)
    coarse = _Coarse.of(scan)
    found.row["head_ml"] = coarse.ml(coarse.head)
    if found.row["head_ml"] < limits.head_ml:
        found.flag("head", f"{found.row['head_ml']:.0f} ml of tissue, wanted {limits.head_ml:g} or more", middle)
        return found
    _check_orientation(coarse, limits, found)
    _check_coverage(coarse, limits, found)
    _check_field_of_view(coarse, limits, found)
    _check_bright(coarse, scan, limits, found)
    _check_motion(coarse, limits, found)
    if labels.any():
        _check_mask(coarse, scan, labels > 0, limits, found)
    return found


@dataclass(frozen=True)
class _Coarse:
    """The scan averaged to about 2 mm in plane, and what is head, bone and skull content in it."""

    hu: np.ndarray
    head: np.ndarray
    bone: np.ndarray
    inner: np.ndarray  # enclosed by bone in its slice, without air
    spacing_mm: tuple[float, float]
    weights_mm: np.ndarray
    step: tuple[int, int]

    @classmethod
    def of(cls, scan: Scan) -> "_Coarse":
        spacing = scan.grid.spacing_mm[:2]
        step = max(1, round(2.0 / spacing[0])), max(1, round(2.0 / spacing[1]))
        hu = block_mean(scan.hu, step)
        size = (step[0] * spacing[0], step[1] * spacing[1])
        tissue = ndimage.binary_opening(hu > -300, IN_PLANE, iterations=2)  # a head holder is a thin sheet
        head = _closed_off(_largest(tissue))
        bone = (hu > 200) & head
        # Bridges sutures and burr holes; the orbits and the foramen magnum stay open.
        shell = ndimage.binary_closing(np.pad(bone, ((4, 4), (4, 4), (0, 0))), IN_PLANE, iterations=2)[4:-4, 4:-4]
        inner = _closed_off(shell) & ~bone & (hu > -100)
        return cls(hu, head, bone, inner, size, scan.grid.slice_weights_mm, step)

    def area_mm2(self, mask: np.ndarray) -> np.ndarray:
        return mask.sum(axis=(0, 1)) * self.spacing_mm[0] * self.spacing_mm[1]

    def ml(self, mask: np.ndarray) -> float:
        return float(self.area_mm2(mask) @ self.weights_mm / 1000)

    def depth_mm(self) -> np.ndarray:
        """Distance in plane from the head's surface, 0 outside."""
        padded = np.pad(self.head, ((1, 1), (1, 1), (0, 0)))
        return ndimage.distance_transform_edt(padded, sampling=(*self.spacing_mm, FAR_MM))[1:-1, 1:-1]


def block_mean(values: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    """Mean of blocks of `step` pixels in plane, (I // step, J // step, K) float32; a rest at the far edge goes."""
    rows, columns = (values.shape[n] // step[n] for n in (0, 1))
    cut = values[: rows * step[0], : columns * step[1]]
    total = np.zeros((rows, columns, values.shape[2]), np.float32)
    for i in range(step[0]):
        for j in range(step[1]):
            total += cut[i :: step[0], j :: step[1]]
    return total / (step[0] * step[1])


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count else mask


def _closed_off(wall: np.ndarray) -> np.ndarray:
    """The wall and all that it encloses in its slice."""
    parts, _ = ndimage.label(~wall, LAYERS)
    outside = np.zeros(parts.max() + 1, bool)
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        outside[edge.ravel()] = True
    outside[0] = False
    return ~outside[parts]


def _check_slices(grid: Grid, limits: QualityLimits, found: Quality) -> None:
    found.row["slice_distance_max_mm"] = float(np.diff(grid.positions_mm).max()) if grid.shape[2] > 1 else np.nan
    if grid.shape[2] < 2:
        return
    steps = np.diff(grid.positions_mm)
    thickest = int(np.argmax(steps))
    if steps[thickest] > limits.slice_mm:
        found.flag("slices", f"{steps[thickest]:.1f} mm apart, limit {limits.slice_mm:g}", thickest)
    beside = np.maximum(np.r_[steps[1:2], steps[:-1]], np.r_[steps[1:], steps[-2:-1]])
    lone = np.flatnonzero(steps > limits.gap * beside)
    if len(lone):
        text = f"gap of {steps[lone[0]]:.1f} mm after slice {lone[0] + 1}: slices missing there"
        found.flag("slices", text, lone[0])


def _check_orientation(coarse: _Coarse, limits: QualityLimits, found: Quality) -> None:
    middle = coarse.hu.shape[2] // 2
    width = float(np.ptp(np.flatnonzero(coarse.head.any(axis=(1, 2)))) * coarse.spacing_mm[0])
    along_j = np.flatnonzero(coarse.head.any(axis=(0, 2))) * coarse.spacing_mm[1]
    length = float(np.ptp(along_j))
    found.row["head_width_mm"], found.row["head_length_mm"] = width, length
    if width > limits.wide * length:
        found.flag("orientation", f"head {width:.0f} mm wide and {length:.0f} mm long", middle)
    depth = coarse.depth_mm()
    bone, air = coarse.bone & (depth > 20), (depth > 6) & (coarse.hu < -300)
    along = np.cumsum(coarse.weights_mm)
    upper = along > along[-1] / 2
    dense = [coarse.area_mm2(each) * coarse.weights_mm / 1000 for each in (bone, air)]
    above, below = (float(sum(ml[half].sum() for ml in dense)) for half in (upper, ~upper))
    found.row["base_upper_ml"], found.row["base_lower_ml"] = above, below
    if above > max(limits.upside_down * below, 10):
        text = (
            f"{above:.0f} ml of deep bone and air in the upper half, {below:.0f} in the lower: head and feet reversed"
        )
        found.flag("orientation", text, int(np.argmax(dense[0])))
    found.row["air_behind_mm"] = np.nan
    if dense[1].sum() >= 2:
        places = np.arange(air.shape[1]) * coarse.spacing_mm[1]
        behind = float(np.average(places, weights=air.sum(axis=(0, 2))) - np.mean(along_j))
        found.row["air_behind_mm"] = behind
        if behind > limits.air_behind_mm:
            text = f"air-filled spaces {behind:.0f} mm behind the center: front and back reversed"
            found.flag("orientation", text, int(np.argmax(dense[1])))


def _check_coverage(coarse: _Coarse, limits: QualityLimits, found: Quality) -> None:
    area = coarse.area_mm2(coarse.inner)
    volume, largest = coarse.ml(coarse.inner), area.max()
    found.row["intracranial_ml"] = volume
    found.row["base_share"], found.row["vertex_share"] = np.nan, np.nan
    if volume < limits.intracranial_ml:
        text = (
            f"{volume:.0f} ml within the skull, wanted {limits.intracranial_ml:g} or more (open skull, or partial scan)"
        )
        found.flag("coverage", text, int(np.argmax(area)))
        return
    base, vertex = float(area[0] / largest), float(area[-1] / largest)
    found.row["base_share"], found.row["vertex_share"] = base, vertex
    if base > limits.base_share:
        found.flag("coverage", f"lowest slice encloses {base:.2f} of the largest section: skull base not covered", 0)
    if vertex > limits.vertex_share:
        text = f"highest slice encloses {vertex:.2f} of the largest section: vertex not covered"
        found.flag("coverage", text, len(area) - 1)


def _check_field_of_view(coarse: _Coarse, limits: QualityLimits, found: Quality) -> None:
    """Length of the head's outline that lies on the border of the picture or of its padding."""
    beyond = np.pad(coarse.hu <= LOWEST_HU + 0.5, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    beyond = _joined_to_edge(beyond)
    touching = coarse.head & ndimage.binary_dilation(beyond, IN_PLANE)[1:-1, 1:-1]
    length = touching.sum(axis=(0, 1)) * float(np.mean(coarse.spacing_mm))
    found.row["cut_mm"] = float(length.max())
    if length.max() > limits.cut_mm:
        text = f"{length.max():.0f} mm of the head's outline at the edge of the picture, limit {limits.cut_mm:g}"
        found.flag("field_of_view", text, int(np.argmax(length)))


def _joined_to_edge(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask that are joined, in their slice, to the first row, which belongs to the mask."""
    parts, _ = ndimage.label(mask, LAYERS)
    keep = np.zeros(parts.max() + 1, bool)
    keep[parts[0].ravel()] = True
    keep[0] = False
    return keep[parts]


def _check_bright(coarse: _Coarse, scan: Scan, limits: QualityLimits, found: Quality) -> None:
    deep = ndimage.binary_erosion(coarse.inner | ndimage.binary_closing(coarse.inner, IN_PLANE, iterations=4), IN_PLANE,
                                  iterations=5)  # fmt: skip
    upper = np.cumsum(coarse.weights_mm) > coarse.weights_mm.sum() / 3  # below lie petrous bone and sella
    bright = deep & upper & (coarse.hu > 110) & (coarse.hu < 400)
    found.row["bright_ml"] = coarse.ml(bright)
    if found.row["bright_ml"] > limits.bright_ml:
        text = f"{found.row['bright_ml']:.1f} ml of 110-400 HU deep in the brain, limit {limits.bright_ml:g}"
        found.flag("contrast", text + ": contrast medium, or much calcification", int(bright.sum(axis=(0, 1)).argmax()))
    pixel = scan.grid.spacing_mm[0] * scan.grid.spacing_mm[1]
    metal = np.count_nonzero(scan.hu > 2500, axis=(0, 1)) * pixel * coarse.weights_mm / 1000
    found.row["metal_ml"] = float(metal.sum())
    if metal.sum() > limits.metal_ml:
        text = f"{metal.sum():.1f} ml of more than 2500 HU, limit {limits.metal_ml:g}"
        found.flag("metal", text, int(np.argmax(metal)))


def _check_motion(coarse: _Coarse, limits: QualityLimits, found: Quality) -> None:
    area = coarse.area_mm2(coarse.inner)  # where the skull is closed: below, the outline follows the face
    found.row["jump_mm"] = found.row["streak_hu"] = np.nan
    wide = np.flatnonzero(area > 0.6 * area.max())
    if len(wide) >= 3:
        axes = [np.arange(n) * mm for n, mm in zip(coarse.head.shape[:2], coarse.spacing_mm, strict=True)]
        center = np.array([[axes[0] @ plane.sum(1), axes[1] @ plane.sum(0)] / plane.sum()
                           for plane in np.moveaxis(coarse.head[:, :, wide], 2, 0)])  # fmt: skip
        # Against the mean of both neighbors: a tilted or leaning head moves evenly from slice to slice.
        jump = np.linalg.norm(center[1:-1] - (center[:-2] + center[2:]) / 2, axis=1)
        found.row["jump_mm"] = float(jump.max())
        if jump.max() > limits.jump_mm:
            k = int(wide[1 + np.argmax(jump)])
            text = f"slice {k + 1} displaced by {jump.max():.1f} mm against its neighbors, limit {limits.jump_mm:g}"
            found.flag("motion", text, k)
    # Away from the slope of the forehead, which fades into air within a slice.
    far = ndimage.distance_transform_edt(~coarse.head, sampling=(*coarse.spacing_mm, FAR_MM))
    air = (far > 16) & (far < 50) & (coarse.hu < -700)
    front = np.flatnonzero(coarse.head.any(axis=(0, 2)))
    air[:, front[len(front) // 3] :] = False  # holder and cushions lie beside and behind the head
    enough = air.sum(axis=(0, 1)) > 200
    if enough.any():
        spread = [float(np.percentile(coarse.hu[:, :, k][air[:, :, k]], 95)) - AIR_HU for k in np.flatnonzero(enough)]
        found.row["streak_hu"] = max(spread)
        if max(spread) > limits.streak_hu:
            k = int(np.flatnonzero(enough)[np.argmax(spread)])
            text = f"stripes of {max(spread):.0f} HU in the air around the head, limit {limits.streak_hu:g}"
            found.flag("motion", text, k)


def _check_mask(coarse: _Coarse, scan: Scan, mask: np.ndarray, limits: QualityLimits, found: Quality) -> None:
    values = scan.hu[mask]
    k = int(mask.sum(axis=(0, 1)).argmax())
    mean = float(values.mean())
    hard = 100 * float(np.mean((values > 200) | (values < -200)))
    share = block_mean(mask, coarse.step)
    near = ndimage.binary_dilation(coarse.head, IN_PLANE)
    blocks = mask.sum() / (coarse.step[0] * coarse.step[1])  # a rest at the far edge lies outside, too
    outside = 100 * max(0.0, 1 - float(share[near].sum() / blocks))
    found.row |= {"mask_hu": mean, "mask_hard_percent": hard, "mask_outside_percent": outside}
    if not limits.mask_low_hu <= mean <= limits.mask_high_hu:
        text = f"mean of the mask {mean:.0f} HU, wanted {limits.mask_low_hu:g} to {limits.mask_high_hu:g} for blood"
        found.flag("mask_hu", text, k)
    if outside > limits.outside_percent:
        text = f"{outside:.0f} % of the mask outside the head, limit {limits.outside_percent:g}"
        found.flag("mask_outside", text, k)
    if hard > limits.hard_percent:
        found.flag("mask_bone", f"{hard:.0f} % of the mask in bone or air, limit {limits.hard_percent:g}", k)
    _check_shift(coarse, share, limits, found, k)


def _check_shift(coarse: _Coarse, share: np.ndarray, limits: QualityLimits, found: Quality, k: int) -> None:
    """Whether another place in the same slices, up to 16 mm away, or a mirror image, is clearly brighter."""
    if not share.any():  # all of the mask lies in the rest at the far edge
        return
    # Bone, calcification and metal must not draw the mask to them: as dark as brain.
    hu = np.where((coarse.hu > 100) | ~coarse.inner, 30, np.clip(coarse.hu, 0, 100))
    total = share.sum()
    here = float((hu * share).sum() / total)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(share))
    weight, reach = share[box], [round(16 / mm) for mm in coarse.spacing_mm]
    best, shift = here, (0.0, 0.0)
    for i in range(-reach[0], reach[0] + 1):
        for j in range(-reach[1], reach[1] + 1):
            moved = (slice(box[0].start + i, box[0].stop + i), slice(box[1].start + j, box[1].stop + j), box[2])
            if min(moved[0].start, moved[1].start) < 0 or hu[moved].shape != weight.shape:
                continue
            score = float(np.vdot(hu[moved], weight) / total)
            if score > best:
                best, shift = score, (i * coarse.spacing_mm[0], j * coarse.spacing_mm[1])
    distance = float(np.hypot(*shift))
    mirrored = {name: float((np.flip(hu, axis) * share).sum() / total) - here
                for axis, name in enumerate(("left to right", "front to back", "head to foot"))}  # fmt: skip
    name, gain = max(mirrored.items(), key=lambda item: item[1])
    found.row |= {"mask_shift_mm": distance, "mask_shift_gain_hu": best - here, "mask_mirror_gain_hu": gain}
    if gain > 8 and gain > best - here:
        found.flag("mask_shifted", f"mask {gain:.0f} HU brighter when mirrored {name}", k)
    elif best - here > 8 and distance >= limits.shift_mm:
        text = f"mask {best - here:.0f} HU brighter when moved by {distance:.0f} mm, limit {limits.shift_mm:g}"
        found.flag("mask_shifted", text, k)

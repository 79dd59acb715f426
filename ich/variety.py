"""Simulated patients and scans far more varied than the embedded cohort's: what the shipped weights learn from.

Real scans differ from the embedded cohort in anatomy, scanner and disease. Here all three vary more widely than on any
ward, a third of the patients do not bleed, and what is often taken for blood is common: dense sinuses and vessels,
calcium, old infarcts, subdural and epidural blood, shunts, clips, operated skulls.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from ich import bleeds
from ich.anatomy import BASE, DURA, OUTSIDE_MM, VENTRICLE_MM, Field, template
from ich.artifacts import Quality, draw_quality, spoil
from ich.bleeds import Bleed
from ich.head import CALCIUM, FOLDS, LESION, MIDDLE_MM, REACH_MM, VAULT, Head, draw_head
from ich.phantom import one_thread, outline
from ich.render import render
from ich.scan import Grid
from ich.scanner import PADDING_HU, Acquisition, rotation

TYPE_SHARES = {"none": 0.34, "parenchymal": 0.24, "ventricular": 0.08, "subarachnoid": 0.18, "mixed": 0.16}
CISTERNAL_SHARE = 0.45  # of subarachnoid bleeds; thin blood in sulci is harder, and so the more common kind here
COLLECTION_SHARE = {"none": 0.5, "ventricular": 0.15}  # of patients, with blood or fluid beneath the skull
THROUGH_MM = 130.0
MOST_SLICES = 32  # of a thin-slice scan only a part is rendered
VERSION = 4  # raised when a seed gives other scans than before
CONTRAST_HU = 5.5  # how much denser than grey matter blood in CSF must be to be outlined, as in the embedded cohort
LARGEST_HU = 120.0  # noise-free HU beyond which no voxel is labeled
SIZE = 256  # pixels of 0.9 to 1.0 mm: no coarser than the network sees

# Ends of vessels and sinuses that are dense on some scans, MNI mm; the sign of x is drawn.
VESSELS = (
    ((8, 4, -18), (32, 2, -16)),  # middle cerebral artery
    ((32, 2, -16), (44, 2, 2)),  # its branches in the insula
    ((0, -20, -38), (0, -12, -16)),  # basilar artery
    ((10, 4, -32), (9, 6, -18)),  # internal carotid artery
    ((0, -38, 6), (0, -30, 8)),  # vein of Galen
    ((0, -40, 6), (0, -80, -4)),  # straight sinus
    ((4, -24, -26), (24, -32, -8)),  # posterior cerebral artery, tentorial edge
    ((24, -32, -8), (40, -70, -10)),  # tentorium at a slant
)


@dataclass(frozen=True, eq=False)
class Findings:
    """What a head has besides the anatomy of `Head`; positions in MNI mm.

    Attributes
    ----------
    lines : start, end, radius mm and HU of dense vessels, shunts and clips.
    collections : direction, cosine of its extent, thickness mm and HU of blood or fluid beneath the skull.
    swelling, gap : direction and cosine of the extent of a scalp swelling and of a missing piece of skull.
    infarct_depth : how much of an infarct has become fluid.
    dura_gain : thickness of falx, tentorium and sinuses.
    bone_gain, muscle_gain : density of skull base and of muscles.
    opacified : share of air cells that fluid fills.
    bumps_mm : unevenness of the inner table.
    lean_mm : how much wider one lateral ventricle is.
    """

    lines: tuple[tuple[np.ndarray, np.ndarray, float, float], ...] = ()
    collections: tuple[tuple[np.ndarray, float, float, float], ...] = ()
    swelling: tuple[np.ndarray, float] | None = None
    gap: tuple[np.ndarray, float] | None = None
    infarct_depth: float = 1.0
    dura_gain: float = 1.0
    bone_gain: float = 1.0
    muscle_gain: float = 1.0
    opacified: float = 0.0
    bumps_mm: float = 0.0
    lean_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class WideHead(Head):
    """A head with findings."""

    findings: Findings = Findings()

    def _add_findings(self, found: torch.Tensor, mni: torch.Tensor) -> None:
        has = self.findings
        noise = found[FOLDS]
        found[OUTSIDE_MM] += has.bumps_mm * noise.clamp(-2, 2)
        found[VENTRICLE_MM] -= has.lean_mm * (mni[..., 0] / 8).clamp(-1, 1)
        found[LESION] *= has.infarct_depth
        found[DURA] = (found[DURA] * has.dura_gain).clamp_(0, 1)
        base = found[BASE]
        fluid = (base < -0.5) & (noise < -2 + 4 * has.opacified)
        base = torch.where(base > 0.3, (base * has.bone_gain).clamp(max=1.6), base)
        base = torch.where((base > 0.03) & (base < 0.09), base * has.muscle_gain, base)
        found[BASE] = torch.where(fluid, 0.03 + 0.01 * noise.clamp(-2, 2), base)
        for start, end, radius, level in has.lines:
            near = ((radius - _from_line_mm(mni, start, end)) / 0.8 + 0.5).clamp_(0, 1)
            torch.maximum(found[CALCIUM], level * near, out=found[CALCIUM])
        if has.collections or has.swelling or has.gap:
            ray = mni - torch.as_tensor(MIDDLE_MM, dtype=torch.float32)
            self._add_on_shell(found, ray / (ray**2).sum(-1, keepdim=True).clamp(min=1).sqrt())

    def _add_on_shell(self, found: torch.Tensor, ray: torch.Tensor) -> None:
        """Findings given by a direction (..., 3) from the middle of the brain."""
        has = self.findings

        def within(direction: np.ndarray, cosine: float) -> torch.Tensor:
            """0 at the rim and outside, 1 in the middle."""
            along = ray @ torch.as_tensor(direction, dtype=torch.float32)
            return ((along - cosine) / (1 - cosine)).clamp_(0, 1)

        for direction, cosine, thickness, level in has.collections:
            middle = within(direction, cosine)
            depth = found[OUTSIDE_MM] - self.gap_mm + thickness * middle**0.6
            share = (depth / 0.8).clamp_(0, 1) * (middle > 0)
            if level < self.white_hu:
                found[LESION] = torch.maximum(found[LESION], share)
            else:
                torch.maximum(found[CALCIUM], (level + 3 * found[FOLDS]) * share, out=found[CALCIUM])
        if has.swelling:
            fat = (found[BASE] < 0.0) & (found[BASE] > -0.2)
            found[BASE] = torch.where(fat & (within(*has.swelling) > 0), 0.06, found[BASE])
        if has.gap:
            found[VAULT] *= 1 - (within(*has.gap) * 12).clamp_(max=1)


def _from_line_mm(points: torch.Tensor, start: np.ndarray, end: np.ndarray) -> torch.Tensor:
    """Distance (...) of points (..., 3) from the line between two points, mm."""
    axis = end - start
    # One axis at a time: a norm over the last one takes ten times as long.
    x, y, z = (place - float(first) for place, first in zip(points.unbind(-1), start, strict=True))
    a, b, c = (float(length) for length in axis)
    along = ((a * x + b * y + c * z) / max(float(axis @ axis), 1e-3)).clamp_(0, 1)
    return ((x - a * along) ** 2 + (y - b * along) ** 2 + (z - c * along) ** 2).sqrt_()


def _direction(rng: np.random.Generator, up: tuple[float, float] = (-0.3, 1.0)) -> np.ndarray:
    """A direction from the middle of the brain to the skull; `up` limits its height."""
    height, angle = rng.uniform(*up), rng.uniform(0, 2 * np.pi)
    flat = np.sqrt(1 - height**2)
    return np.array([flat * np.cos(angle), flat * np.sin(angle), height])


def _lines(rng: np.random.Generator, kind: str) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """Dense vessels, shunts and clips."""
    lines: list[tuple[np.ndarray, np.ndarray, float, float]] = []
    for start, end in VESSELS:
        for side in (-1, 1) if start[0] > 0 or end[0] > 0 else (1,):
            if rng.random() < 0.16:
                first, last = (np.array(point) * (side, 1, 1) + rng.normal(0, 1.5, 3) for point in (start, end))
                lines.append((first, last, rng.uniform(0.8, 3.2), rng.uniform(44, 78)))
    if rng.random() < 0.05:  # shunt or drain
        side = rng.choice([-1, 1])
        entry = np.array([side * rng.uniform(20, 50), rng.choice([-75, 45]), 48]) + rng.normal(0, 5, 3)
        tip = np.array([side * rng.uniform(0, 8), rng.uniform(-10, 20), 12])
        lines.append((entry, tip, rng.uniform(0.9, 1.8), rng.uniform(90, 600)))
    if rng.random() < (0.08 if kind == "subarachnoid" else 0.03):  # clip or coil
        place = np.array([rng.normal(0, 16), rng.normal(8, 8), -16 + rng.normal(0, 4)])
        lines.append((place, place + rng.normal(0, 3, 3), rng.uniform(1.2, 4), 2600.0))
    return lines


def _collections(rng: np.random.Generator) -> list[tuple[np.ndarray, float, float, float]]:
    """Subdural and epidural blood of any age, one or two of them."""
    found = []
    for _ in range(rng.choice([1, 1, 2])):
        epidural = rng.random() < 0.3
        cosine = rng.uniform(0.75, 0.92) if epidural else rng.uniform(-0.1, 0.7)
        thickness = rng.uniform(6, 22) if epidural else rng.uniform(2, 14)
        level = rng.uniform(8, 24) if rng.random() < 0.25 else rng.uniform(34, 82)
        found.append((_direction(rng, (-0.2, 0.8)), cosine, thickness, level))
    return found


def draw_findings(rng: np.random.Generator, kind: str) -> Findings:
    """Findings of a patient; blood outside our labels only where it cannot cross the outline of another."""
    lines = _lines(rng, kind)
    collections = _collections(rng) if rng.random() < COLLECTION_SHARE.get(kind, 0) else []
    return Findings(
        lines=tuple(lines),
        collections=tuple(collections),
        swelling=(_direction(rng), rng.uniform(0.75, 0.95)) if rng.random() < 0.12 else None,
        gap=(_direction(rng, (0.0, 0.8)), rng.uniform(0.82, 0.97)) if rng.random() < 0.07 else None,
        infarct_depth=rng.uniform(0.15, 1.3),
        dura_gain=float(np.exp(rng.uniform(-0.7, 1.1))),
        bone_gain=rng.uniform(0.75, 1.5),
        muscle_gain=rng.uniform(0.7, 1.45),
        opacified=rng.uniform(0, 1) if rng.random() < 0.3 else 0.0,
        bumps_mm=rng.uniform(0, 1.1),
        lean_mm=rng.normal(0, 1.0),
    )


def _more_infarcts(rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Old infarcts of whole territories: posterior, middle and cerebellar artery."""
    found = []
    for center, radii in (((20, -78, 4), (12, 30)), ((44, -8, 14), (16, 40)), ((24, -66, -36), (8, 22))):
        if rng.random() < 0.09:
            place = np.array(center) * (rng.choice([-1, 1]), 1, 1) + rng.normal(0, 6, 3)
            found.append((place, rng.uniform(*radii)))
    return found


def _more_calcium(rng: np.random.Generator) -> list[tuple[np.ndarray, float, float]]:
    """Falx, choroid plexus anywhere along the ventricles, habenula, dentate nuclei, vessels, meningiomas."""
    found = []
    for center, scatter, radius, level in (
        ((0, 30, 50), (0.5, 25, 20), (1.5, 5), (80, 900)),
        ((0, -50, 50), (0.5, 25, 15), (1.5, 5), (80, 900)),
        ((0, -28, 4), (1, 2, 2), (1.5, 4.5), (60, 400)),
        ((22, -38, 8), (4, 5, 4), (1.5, 5), (50, 300)),
        ((-22, -38, 8), (4, 5, 4), (1.5, 5), (50, 300)),
        ((18, 2, 0), (2, 5, 3), (1.5, 5), (45, 150)),
        ((-18, 2, 0), (2, 5, 3), (1.5, 5), (45, 150)),
        ((12, 2, -22), (4, 5, 3), (1, 2.5), (80, 500)),
        ((0, 0, 45), (45, 45, 20), (2, 6), (50, 250)),
    ):
        if rng.random() < 0.12:
            found.append((np.array(center) + rng.normal(0, scatter), rng.uniform(*radius), rng.uniform(*level)))
    return found


def draw_wide_head(rng: np.random.Generator, kind: str) -> WideHead:
    """A head of any shape, age and density."""
    wide_csf = rng.uniform(0, 1.2) * (1.0 if kind in ("subarachnoid", "ventricular") else rng.random())
    head = draw_head(rng, wide_csf=wide_csf)
    bend = ndimage.zoom(rng.normal(0, rng.uniform(0, 2.2), (3, 7, 8, 7)).astype(np.float32), (1, 3, 3, 3), order=3)
    control = head.control.values.numpy()
    factors = np.array(bend.shape[1:]) / control.shape[:3]
    control = ndimage.zoom(control, (*factors, 1), order=1) * rng.uniform(0.6, 1.7) + np.moveaxis(bend, 0, -1)
    grey = rng.uniform(30, 43)
    named = {name: getattr(head, name) for name in head.__dataclass_fields__}
    named |= {
        "scale": head.scale * rng.normal(1, 0.035) * rng.normal(1, 0.025, 3),
        "control": Field(torch.from_numpy(np.ascontiguousarray(control, dtype=np.float32)), -REACH_MM, REACH_MM),
        "fold_width": max(0.02, head.fold_width * rng.uniform(0.4, 1.4)),
        "ventricle_mm": head.ventricle_mm + rng.normal(0, 0.7) + (rng.uniform(1, 5) if rng.random() < 0.12 else 0),
        # CSF between brain and inner table: in half of the heads none that a scan could show
        "gap_mm": float(
            rng.choice([rng.uniform(-1, 0.7), rng.uniform(0.5, 3), rng.uniform(3, 7)], p=[0.5, 0.38, 0.12])
        ),
        "skull_mm": rng.uniform(3.5, 12.0),
        "scalp_mm": rng.uniform(2.5, 10.0),
        "grey_hu": grey,
        "white_hu": grey - rng.uniform(3, 11),
        "csf_hu": rng.uniform(0, 14),
        "dura_hu": rng.uniform(40, 82),
        "bone_hu": rng.uniform(900, 1600),
        "leukoaraiosis": head.leukoaraiosis if rng.random() < 0.6 else rng.uniform(0, 15),
        "calcified": head.calcified + tuple(_more_calcium(rng)),
        "infarcts": head.infarcts + tuple(_more_infarcts(rng)),
    }
    return WideHead(**named, findings=draw_findings(rng, kind))


def _stained(rng: np.random.Generator, part: Bleed, grey_hu: float) -> Bleed:
    """The same bleed with a density from hardly visible to clotted."""
    texture = rng.uniform(0.5, 7) if part.label == 1 else rng.uniform(0.5, 4)
    lowest = grey_hu + (11 if part.label == 1 else 13)
    return replace(
        part,
        hu=rng.uniform(lowest, 88),
        texture_hu=texture,
        settled_hu=rng.uniform(0, 12) if rng.random() < 0.3 else 0.0,
        edema_width_mm=rng.uniform(1, 14),
    )


def _growth(rng: np.random.Generator, smallest: float) -> float:
    """Factor on the volumes of the embedded cohort: small bleeds are as common as large ones.

    From 0.02 on, a fifth of parenchymal bleeds are below 2 ml; a quarter are of the first scans in Song et al. 2024.
    """
    return float(np.exp(rng.uniform(np.log(smallest), np.log(1.6)))) if rng.random() < 0.5 else 1.0


def draw_wide_patient(rng: np.random.Generator, maps: Field) -> tuple[str, Head, tuple[Bleed, ...]]:
    """Type, head and bleeds of one patient."""
    kind = str(rng.choice(list(TYPE_SHARES), p=list(TYPE_SHARES.values())))
    head: Head = draw_wide_head(rng, kind)
    with_sah = kind == "subarachnoid" or (kind == "mixed" and rng.random() < 0.5)
    with_ivh = kind == "ventricular" or (kind == "mixed" and (not with_sah or rng.random() < 0.5))
    without_icb = kind == "mixed" and with_sah and with_ivh and rng.random() < 0.6  # as after a ruptured aneurysm
    parts: list[Bleed] = []
    if kind in ("parenchymal", "mixed") and not without_icb:
        scatter, margin_mm = rng.uniform(0.7, 3.0), rng.uniform(1, 3)
        part, head = bleeds.parenchymal(
            rng, head, maps, _growth(rng, 0.02), with_ivh and scatter < 2, scatter, margin_mm
        )
        parts.append(part)
    if with_ivh:
        parts.append(bleeds.ventricular(rng, head, maps, _growth(rng, 0.06), parts))
    if with_sah:
        parts.append(bleeds.subarachnoid(rng, head, maps, _growth(rng, 0.1), parts, CISTERNAL_SHARE))
    return kind, head, tuple(_stained(rng, part, head.grey_hu) for part in parts)


def _table_mm(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Position and thickness of each slice along the normal: thick or thin, with gaps or overlap, or in two parts."""
    length, top = rng.uniform(115, 180), rng.uniform(76, 96)
    draw = rng.random()
    if draw < 0.2:
        thin, thick = rng.uniform(2.5, 5), rng.uniform(5, 10)
        steps = np.r_[np.full(int(rng.uniform(35, 60) / thin), thin), np.full(40, thick)]
        thickness = steps
    else:
        step = rng.uniform(1, 3) if draw < 0.3 else float(rng.choice([3, 4, 4.5, 5, 5, 5, 5.5, 6, 7, 8, 10]))
        steps = np.full(200, step)
        thickness = steps * rng.choice([1.0, 1.0, 1.0, rng.uniform(0.3, 1.0), rng.uniform(1, 1.5)])
    position = np.cumsum((steps + np.r_[steps[0], steps[:-1]]) / 2)
    position -= position[0]
    kept = position < length
    position, thickness = position[kept] + top - position[kept].max(), thickness[kept]
    if len(position) > MOST_SLICES:
        first = rng.integers(len(position) - MOST_SLICES + 1)
        chosen = slice(first, first + MOST_SLICES)
        position, thickness = position[chosen], thickness[chosen]
    return position, thickness


def draw_wide_acquisition(rng: np.random.Generator, size: int = SIZE) -> Acquisition:
    """Where a scan's slices lie, in any position of the head; noise and blur are the matter of `artifacts`."""
    tilt = float(rng.uniform(-28, 28)) if rng.random() < 0.5 else 0.0
    angles = rng.normal([0, 0, 0], [9, 6, 9])
    angles[0] += 0.7 * tilt - 4
    position, thickness = _table_mm(rng)
    return Acquisition(
        size=size,
        pixel_mm=rng.uniform(222, 256) / size,
        table_mm=(position + rng.normal(0, 4)) / np.cos(np.radians(tilt)),
        thickness_mm=thickness,
        tilt_deg=tilt,
        rotation=rotation(angles),
        center_mm=rng.normal([0, 8, 0], [5, 6, 0]),
        noise_hu=0.0,
        blur_mm=0.0,
        streak_hu=0.0,
        offset_hu=0.0,
        padding_hu=int(rng.choice(PADDING_HU)),
        rest=(rng.uniform(92, 112), rng.uniform(110, 126)) if rng.random() < 0.8 else None,
    )


@dataclass(frozen=True, eq=False)
class WideCase:
    """hu : (I, J, K) int16. labels : (I, J, K) uint8, 0..3, of visible blood."""

    hu: np.ndarray
    labels: np.ndarray
    grid: Grid
    hemorrhage_type: str


def in_steps(acquisition: Acquisition, quality: Quality, step_mm: float) -> tuple[Acquisition, Quality]:
    """The same scanner with slices of `step_mm` through 13 cm of head, and the noise that comes with such slices.

    The noise drawn, at most 4.5 HU, is taken as that of 5 mm: photons are counted, so its variance goes with 1 over the
    thickness.
    """
    along = np.cos(np.radians(acquisition.tilt_deg))
    top = float(acquisition.table_mm.max())
    table_mm = np.arange(top - THROUGH_MM / along, top, step_mm / along)
    noise_hu = min(quality.noise_hu, 4.5) * float(np.sqrt(5 / step_mm))
    return (
        replace(acquisition, table_mm=table_mm, thickness_mm=np.full(len(table_mm), step_mm)),
        replace(quality, noise_hu=noise_hu),
    )


def make_wide_case(seed: int, index: int, size: int = SIZE, step_mm: float | None = None) -> WideCase:
    """Case `index` of the varied patients with this seed; it depends on these alone.

    Parameters
    ----------
    size : pixels on a side; the field of view is 222 to 256 mm whatever the size.
    step_mm : of the slices, see `in_steps`; drawn unless given.
    """
    rng = np.random.default_rng([seed, index, 7])
    random = torch.Generator().manual_seed(int(rng.integers(2**62)))
    maps = template("cpu")
    with torch.no_grad(), one_thread():
        kind, head, parts = draw_wide_patient(rng, maps)
        acquisition, quality = draw_wide_acquisition(rng, size), draw_quality(rng)
        if step_mm is not None:
            acquisition, quality = in_steps(acquisition, quality, step_mm)
        hu, shares = render(head, parts, acquisition, "cpu")
        labels = torch.zeros(hu.shape, dtype=torch.uint8)
        bleeding = shares.amax((0, 2, 3)) > 0.05
        if bool(bleeding.any()):
            labels[bleeding] = outline(shares[:, bleeding], hu[bleeding], visible_hu=head.grey_hu + CONTRAST_HU)
            labels[hu > LARGEST_HU] = 0  # calcium, metal or the bumps of the inner table
        hu = spoil(hu, quality, acquisition.pixel_mm, random).round_().clamp_(-1024, 3071)
        axis = torch.arange(size) - (size - 1) / 2
        if rng.random() < 0.7:
            hu[:, axis[:, None] ** 2 + axis[None] ** 2 > (size / 2) ** 2] = max(acquisition.padding_hu, -1024)
    pixels, outlines = (stack.permute(1, 2, 0).numpy() for stack in (hu, labels))
    return WideCase(pixels.astype(np.int16), outlines.astype(np.uint8), acquisition.grid(), kind)

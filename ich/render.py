"""A head with its bleeds as a scanner's slices see it, before blur and noise: slab means of HU and of blood.

Everything is composed at the slices' own points (three across a slice, at each pixel): no fine volume is rendered.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ich.anatomy import OUTSIDE_MM, Field, template
from ich.bleeds import Bleed
from ich.head import Head
from ich.scanner import Acquisition

LATTICE_MM = 1.4  # in-plane distance of the points at which the template is sampled; its voxels have 1.5 mm
SUB_SLICES = 3  # points across a slice whose mean is the slab's HU


def _head_box(head: Head, maps: Field, acquisition: Acquisition, k: int) -> tuple[slice, slice] | None:
    """Rows and columns of slice k in which the head lies; None where there is only air."""
    limits = acquisition.box()
    axes = [torch.linspace(s.start, s.stop - 1, round((s.stop - s.start) * acquisition.pixel_mm / 8)) for s in limits]
    near = head.skin_mm(head.sample(maps, acquisition.points(k, np.zeros(1), *axes)))[0] < 9
    box = []
    for axis, other, limit in zip(axes, (1, 0), limits, strict=True):
        hit = axis[near.any(other)]
        if not len(hit):
            return None
        margin = 4 / acquisition.pixel_mm
        low, high = max(limit.start, int(hit[0] - margin)), min(limit.stop, int(hit[-1] + margin) + 2)
        box.append(slice(low, high))
    return box[0], box[1]


def _compose(
    head: Head,
    parts: list[Bleed],
    maps: Field,
    acquisition: Acquisition,
    k: int,
    box: tuple[slice, slice],
    device: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slab means of slice k within a box of rows and columns: HU (I, J) and shares of blood by label (3, I, J)."""
    shape = tuple(s.stop - s.start for s in box)
    shifts = ((np.arange(SUB_SLICES) + 0.5) / SUB_SLICES - 0.5) * acquisition.thickness_mm[k]
    # Maps are sampled about as finely as the template is and brought to pixels before they are combined: what is sharp
    # in the scan (bone, sulci) comes from thresholds of smooth maps.
    lattice = [
        torch.linspace(s.start, s.stop - 1, 2 * round(n * acquisition.pixel_mm / LATTICE_MM / 2) + 1, device=device)
        for s, n in zip(box, shape, strict=True)
    ]
    points = acquisition.points(k, shifts, *lattice)
    in_csf = [part for part in parts if part.label != 1]
    coarse = torch.cat([head.sample(maps, points, planes=True), *(part.field.sample(points) for part in in_csf)])
    found = F.interpolate(coarse.movedim(1, 0), shape, mode="bilinear", align_corners=True).movedim(0, 1)
    fluids = head.fluids(found)
    inner = head.brain_hu(found, fluids)
    inside = head.inside(found)
    shares = torch.zeros((3, SUB_SLICES, *shape), device=device)
    for part, level in zip(in_csf, found[13:], strict=True):
        fluid = fluids[0] if part.label == 2 else fluids[1] * (found[OUTSIDE_MM] < -1.0)
        share = (level + 0.5).clamp_(0, 1) * fluid
        inner += (part.hu - inner) * share
        shares[part.label - 1] = share * inside
    for part in parts:
        if part.label == 1:
            _add_hematoma(part, acquisition, k, shifts, box, inner, shares, head.csf_hu)
    hu = head.with_surroundings(found, inner)
    return hu.clamp_(-1000, 1800).mean(0), shares.mean(1)


def _add_hematoma(
    part: Bleed,
    acquisition: Acquisition,
    k: int,
    shifts: np.ndarray,
    box: tuple[slice, slice],
    inner: torch.Tensor,
    shares: torch.Tensor,
    csf_hu: float,
) -> None:
    """Blood and edema of a parenchymal bleed into HU (S, I, J) and shares (3, S, I, J), in place."""
    low, high = part.field.low_mm, part.field.high_mm
    corners = low + np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (high - low)
    ranges = acquisition.reach(k, corners)
    if ranges[2][0] > shifts[-1] or ranges[2][1] < shifts[0]:
        return
    cut = [
        (max(limit.start, int(lowest)), min(limit.stop, int(highest) + 2))
        for limit, (lowest, highest) in zip(box, ranges[:2], strict=True)
    ]
    if any(stop <= start for start, stop in cut):
        return
    points = acquisition.points(k, shifts, *(torch.arange(a, b, device=inner.device) for a, b in cut))
    rows, columns = (slice(a - limit.start, b - limit.start) for (a, b), limit in zip(cut, box, strict=True))
    share, edema_mm, slow = part.field.sample(points)
    around = inner[:, rows, columns]
    rim = (1 - edema_mm / part.edema_width_mm).clamp_(0, 1).sqrt_()
    around -= 9 * rim * ((around - csf_hu) / 15).clamp(0, 1) * (around < 45)  # neither CSF nor calcium swells
    deep = 0.5 - (points[..., 1] - float(low[1])) / float(high[1] - low[1])
    settled = (4 * part.settled_hu * deep).clamp_(-part.settled_hu, part.settled_hu)
    around += (part.hu + slow * part.texture_hu + settled - around) * share
    shares[:, :, rows, columns] *= 1 - share
    shares[0, :, rows, columns] = share


def render(
    head: Head, parts: Sequence[Bleed], acquisition: Acquisition, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise-free HU (K, I, J) and shares of blood by label (3, K, I, J), float32, foot to head.

    Where the head lies in a slice is found on the CPU whatever the device: those few points are computed there in less
    time than a GPU is told to, and it would have to be waited for.
    """
    n, size = len(acquisition.table_mm), acquisition.size
    rest = acquisition.rest_hu(device)
    hu = rest.expand(n, size, size).clone()
    shares = torch.zeros((3, n, size, size), device=device)
    here, maps_here, maps = head, template("cpu"), template(device)
    head, parts = head.to(device), [part.to(device) for part in parts]
    for k in range(n):
        box = _head_box(here, maps_here, acquisition, k)
        if box is not None:
            slab, blood = _compose(head, parts, maps, acquisition, k, box, device)
            hu[k][box] = torch.maximum(slab, rest[box])
            shares[:, k, box[0], box[1]] = blood
    return hu, shares

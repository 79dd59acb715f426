"""Surface elements of a mask: where they lie, how large they are, how far they are from another surface.

Two definitions, both in use, never to be mixed:

area   A cell spans eight neighboring voxel centers; it holds a surface element if the centers are not all
       inside or all outside. The element's area follows from the cell's corners, the distance is taken
       between cell centers. Source: Nikolov et al., J Med Internet Res 2021;23:e26151 (surface-distance).
voxel  A voxel of the mask with one of its six neighbors outside counts once, whatever the area of its
       outer faces; the distance is taken between voxel centers. This is what MONAI computes by default.

Lattices here are (K, I, J): layers first, so that work on whole layers runs through memory in order. A shear says how
far their layers move along I and J per mm along the normal, as those of a tilted scan do.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial import cKDTree

Corner = tuple[int, ...]
Axes = tuple[np.ndarray, np.ndarray, np.ndarray]  # where the layers, rows and columns of a lattice lie, mm
Shear = tuple[float, float]
UPRIGHT: Shear = (0.0, 0.0)
CORNERS: tuple[Corner, ...] = tuple(itertools.product((0, 1), repeat=3))


@dataclass(frozen=True, eq=False)
class Elements:
    """Surface elements of one mask on a lattice."""

    on: np.ndarray  # (K, I, J) boolean: True where an element lies
    weights: np.ndarray  # (n,) of each element in C order: area in mm2, or 1 per voxel


def area_elements(
    padded: np.ndarray, spacing_mm: tuple[float, float], heights_mm: np.ndarray, shear: Shear = UPRIGHT
) -> Elements:
    """Surface elements by area.

    Parameters
    ----------
    padded : (K, I, J) boolean with a border of background on all sides.
    spacing_mm : between voxel centers along I and J.
    heights_mm : (K - 1,) distances between neighboring slices; they need not be equal.
    """
    code = np.zeros(np.subtract(padded.shape, 1), dtype=np.uint8)
    view = padded.view(np.uint8)
    for bit, corner in enumerate(CORNERS):
        code |= view[tuple(slice(c, n - 1 + c) for c, n in zip(corner, padded.shape, strict=True))] << bit
    on = (code != 0) & (code != 255)
    heights, layer = np.unique(heights_mm, return_inverse=True)
    tables = np.stack([area_table((height, *spacing_mm), shear) for height in heights])
    return Elements(on, tables[layer[np.nonzero(on)[0]], code[on]])


def voxel_elements(padded: np.ndarray) -> Elements:
    """Voxels of the mask with a six-neighbor outside, each of weight 1, on the lattice without the border."""
    inner = (slice(1, -1),) * 3
    inside = padded[inner].copy()
    for axis in range(3):
        for neighbor in (slice(None, -2), slice(2, None)):
            place = list(inner)
            place[axis] = neighbor
            inside &= padded[tuple(place)]
    on = padded[inner] & ~inside
    return Elements(on, np.ones(np.count_nonzero(on)))


def distances(elements: Elements, other: Elements, axes_mm: Axes, shear: Shear = UPRIGHT) -> np.ndarray:
    """Distance of each element to the nearest of `other`, (n,) mm; infinite if `other` has none.

    Taken between coordinates in mm, so slices may lie at unequal distances.
    """
    result = np.full(len(elements.weights), np.inf)
    if not len(other.weights):
        return result
    shared = other.on[elements.on]
    result[shared] = 0.0
    alone = elements.on & ~other.on
    upright = shear == UPRIGHT  # the other elements of a column are above and below
    candidates = _points(_rim(other.on) if upright else other.on, axes_mm, shear)
    tree = cKDTree(candidates, leafsize=32, balanced_tree=False, compact_nodes=False)
    found = tree.query(_points(alone, axes_mm, shear))[0]
    result[~shared] = np.minimum(found, _column_distances(other.on, axes_mm[0])[alone]) if upright else found
    return result


def _rim(on):
    """Elements with a gap beside them in their layer.

    An element with neighbors on all four sides of its layer can be nearest to points of its own column
    only: for any other point, the neighbor towards it is nearer. On thick slices most elements are such.
    """
    full = np.zeros_like(on)
    full[:, 1:-1, 1:-1] = on[:, :-2, 1:-1] & on[:, 2:, 1:-1] & on[:, 1:-1, :-2] & on[:, 1:-1, 2:]
    return on & ~full


def _column_distances(on, heights_mm):
    """Distance of each lattice point to the nearest element above or below it, infinite without one."""
    nearest = np.where(on, 0.0, np.inf)
    steps = np.diff(heights_mm)
    # One sweep up, one down, each taking the neighbor's distance plus the step between the layers.
    for k, step in enumerate(steps, start=1):
        np.minimum(nearest[k], nearest[k - 1] + step, out=nearest[k])
    for k, step in reversed(list(enumerate(steps))):
        np.minimum(nearest[k], nearest[k + 1] + step, out=nearest[k])
    return nearest


def _points(on, axes_mm, shear):
    height, row, column = (axis[index] for axis, index in zip(axes_mm, np.nonzero(on), strict=True))
    return np.stack([height, row + shear[0] * height, column + shear[1] * height], axis=1)


def area_table(spacing_mm: tuple[float, float, float], shear: Shear = UPRIGHT) -> np.ndarray:
    """Area of the surface element in a cell for each of the 256 patterns of its corners, (256,) mm2.

    Bit n of a pattern says that `CORNERS[n]` lies inside the mask.
    """
    a, b, c = spacing_mm
    normals = _normals() * (b * c, a * c, a * b)  # as normals turn where space is stretched: by the cofactors
    normals[..., 0] -= shear[0] * normals[..., 1] + shear[1] * normals[..., 2]
    return np.linalg.norm(normals, axis=2).sum(axis=1)


@cache
def _normals() -> np.ndarray:
    """Normals of the triangles of each pattern's surface at unit spacing, as long as their area, (256, 4, 3).

    The surface goes through the middles of the cell's edges. Corners on the side with fewer of them are one
    sheet if cell edges join them. Where a sheet is no plane, it is folded so that its area is largest.
    """
    normals = np.zeros((256, 4, 3))
    for pattern in range(1, 255):
        inside = frozenset(corner for bit, corner in enumerate(CORNERS) if pattern >> bit & 1)
        fewer = inside if len(inside) <= 4 else frozenset(CORNERS) - inside
        found = np.concatenate([_sheet(part) for part in _joined(fewer)])
        normals[pattern, : len(found)] = found
    return normals


def _apart(a: Corner, b: Corner) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def _joined(corners: frozenset[Corner]) -> list[frozenset[Corner]]:
    parts: list[frozenset[Corner]] = []
    for corner in corners:
        touching = [part for part in parts if any(_apart(corner, other) == 1 for other in part)]
        parts = [part for part in parts if part not in touching] + [frozenset({corner}).union(*touching)]
    return parts


@cache
def _sheet(part: frozenset[Corner]) -> np.ndarray:
    outside = [corner for corner in CORNERS if corner not in part]
    cuts = [np.add(a, b) / 2 for a in part for b in outside if _apart(a, b) == 1]
    loop = [cuts.pop()]
    while cuts:
        # The next cut edge lies on a face of the cell that the last one lies on too.
        on_face = [bool(np.any((cut == loop[-1]) & (cut != 0.5))) for cut in cuts]
        loop.append(cuts.pop(on_face.index(True)))
    triangles = np.array(list(_triangulations(tuple(range(len(loop))))))
    folds = np.stack(loop)[triangles]  # (fold, triangle, tip, xyz)
    normals = np.cross(folds[:, :, 1] - folds[:, :, 0], folds[:, :, 2] - folds[:, :, 0]) / 2
    return normals[np.argmax(np.linalg.norm(normals, axis=2).sum(axis=1).round(9))]


def _triangulations(polygon: tuple[int, ...]) -> Iterator[list[tuple[int, int, int]]]:
    if len(polygon) < 3:
        yield []
        return
    for tip in range(1, len(polygon) - 1):
        for left in _triangulations(polygon[: tip + 1]):
            for right in _triangulations(polygon[tip:]):
                yield [*left, (polygon[0], polygon[tip], polygon[-1]), *right]

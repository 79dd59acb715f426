"""Longest diameter of a region in one slice and its extent perpendicular to it, in exact lattice geometry."""

import itertools
from dataclasses import dataclass

import numpy as np

TIE = 1e-9  # relative difference of two lengths that is rounding, not shape

# Every way in which flips and 90 degree rotations can lay a slice: axes swapped or not, each mirrored or not.
POSES = tuple(itertools.product((False, True), (1, -1), (1, -1)))


@dataclass(frozen=True, eq=False)
class Diameters:
    """A and B of one region. Ends are rows of (i, j) in pixels, centers at whole numbers."""

    a_mm: float
    b_chord_mm: float
    b_width_mm: float
    a_ends: np.ndarray  # (2, 2)
    chord_ends: np.ndarray  # (2, 2)
    width_ends: np.ndarray  # (2, 2) drawn through the chord's place on A
    hull: np.ndarray  # (m, 2) vertices in order

    @property
    def lengths(self) -> tuple[float, ...]:
        """What ranks two regions: A, then B, each to a micrometer; then the unrounded lengths."""
        exact = (self.a_mm, self.b_chord_mm, self.b_width_mm)
        return (round(self.a_mm, 3), round(self.b_chord_mm, 3), *exact)


def edge_midpoints(region: np.ndarray) -> np.ndarray:
    """Outermost edge midpoints of a region's rows and columns, (n, 2) integers in half pixels.

    These are the 0.5 level of marching squares at the ends of each row and column; the other boundary
    points lie between them, so the convex hull is that of the whole boundary. Beyond the array is background.
    """
    ends = []
    for axis, view in enumerate((region, region.T)):
        rows = np.flatnonzero(view.any(axis=1))
        first = view[rows].argmax(axis=1)
        last = view.shape[1] - 1 - view[rows, ::-1].argmax(axis=1)
        for column in (2 * first - 1, 2 * last + 1):
            ends.append(np.stack((2 * rows, column)[:: 1 - 2 * axis], axis=1))
    return np.concatenate(ends)


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Vertices of the convex hull of integer points (n, 2), counterclockwise, none collinear; exact."""
    ordered = points[np.lexsort(points.T[::-1])]
    first = np.flatnonzero(np.diff(ordered[:, 0], prepend=ordered[0, 0] - 1))
    last = np.append(first[1:], len(ordered)) - 1
    lower, upper = _convex_chain(ordered[first]), _convex_chain(ordered[last][::-1])
    loop = np.concatenate([lower, upper])
    return loop[np.any(loop != np.roll(loop, 1, axis=0), axis=1)]


def _convex_chain(chain: np.ndarray) -> np.ndarray:
    """The left turns of a chain that is sorted along its first axis.

    A point on or inside the segment between its neighbors is no vertex of the hull, so all such points can
    go at once; a few rounds leave the hull.
    """
    while len(chain) > 2:
        before, after = np.diff(chain[:-1], axis=0), np.diff(chain[1:], axis=0)
        left = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0] > 0
        if left.all():
            break
        chain = chain[np.concatenate([[True], left, [True]])]
    return chain


def solidity(mask: np.ndarray, weights_mm: np.ndarray) -> float:
    """Volume over the volume of each slice's convex hull, 0..1: 1 for convex slices, less for irregular or split ones.

    Parameters
    ----------
    mask : (I, J, K) boolean.
    weights_mm : (K,) extent each slice stands for.

    Returns
    -------
    NaN for an empty mask.
    """
    filled = hulls = 0.0
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        x, y = convex_hull(edge_midpoints(mask[:, :, k])).T
        area = abs(int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 8  # shoelace, in half pixels
        count = int(np.count_nonzero(mask[:, :, k]))
        filled += count * weights_mm[k]
        # The hull of the edge midpoints lacks the outermost corners: half a pixel for a box.
        hulls += max(area, count) * weights_mm[k]
    return filled / hulls if hulls else float("nan")


def diameters(region: np.ndarray, spacing_mm: tuple[float, float]) -> Diameters:
    """A, B (chord and width) of a region (I, J) boolean with at least one pixel.

    The hull is turned into a pose that depends on its shape alone before anything is computed, so flips and
    90 degree rotations of the slice change no bit of the result.
    """
    hull = convex_hull(edge_midpoints(region))
    turned, spacing, back = _canonical(hull, spacing_mm)
    half_mm = np.array(spacing) / 2
    points = turned * half_mm
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    longest = apart.max()
    pairs = np.argwhere(np.triu(apart >= longest * (1 - TIE)))
    measured = [_across(turned, points, int(p), int(q)) for p, q in pairs]
    # A tie in A goes to the larger B; among equal B the first pair of the canonical pose.
    top = max(across[0] for across in measured)
    best = next(n for n, across in enumerate(measured) if across[0] >= top * (1 - TIE))
    chord, width, chord_ends, width_ends = measured[best]
    p, q = pairs[best]
    return Diameters(
        a_mm=float(apart[p, q]),
        b_chord_mm=chord,
        b_width_mm=width,
        a_ends=back(turned[[p, q]]),
        chord_ends=back(chord_ends / half_mm),
        width_ends=back(width_ends / half_mm),
        hull=hull / 2,
    )


def _canonical(hull, spacing_mm):
    """The pose of the hull that sorts first, its spacing, and the way back to (i, j) in pixels."""
    best = None
    for swap, *signs in POSES:
        points = hull * signs
        if swap:
            points = points[:, ::-1]
        low = points.min(axis=0)
        ordered = sorted((points - low).tolist())
        key = (tuple(spacing_mm[::-1]) if swap else tuple(spacing_mm), ordered)
        if best is None or key < best[0]:
            best = key, low, swap, signs
    (spacing, ordered), low, swap, signs = best

    def back(points):
        points = points + low
        return (points[:, ::-1] if swap else points) * signs / 2

    return np.array(ordered), spacing, back


def _across(turned, points, p, q):
    """Longest chord and extent of the hull perpendicular to the diameter p-q, with their end points in mm."""
    axis = points[q] - points[p]
    along = axis / np.hypot(*axis)
    normal = np.array([-along[1], along[0]])
    t, w = (points - points[p]) @ along, (points - points[p]) @ normal
    step = turned[q] - turned[p]
    side = step[0] * (turned - turned[p])[:, 1] - step[1] * (turned - turned[p])[:, 0]  # integers: exact
    # The chord's length is concave and piecewise linear along A, so its maximum lies at a vertex.
    at = np.unique(t)
    bounds = []
    for chain in (side <= 0, side >= 0):
        order = np.flatnonzero(chain)[np.argsort(t[chain])]
        bounds.append(np.interp(at, t[order], w[order]))
    lengths = bounds[1] - bounds[0]
    place = int(np.argmax(lengths >= lengths.max() * (1 - TIE)))

    def ends(low, high):
        return points[p] + at[place] * along + np.outer((low, high), normal)

    chord_ends = ends(bounds[0][place], bounds[1][place])
    return float(lengths[place]), float(np.ptp(w)), chord_ends, ends(w.min(), w.max())

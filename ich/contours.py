"""Contours in a plane to pixels."""

import numpy as np

ALIKE = 0.95  # shared pixels over those of either: one contour stored twice, perhaps from another vertex on


def inside(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels, (columns, rows) bool, whose centers lie inside an odd number of the closed polygons.

    A center on an edge belongs to the side of greater column, or row: polygons that share an edge share no pixel,
    and an edge that is run both ways (keyhole) counts for nothing.

    Parameters
    ----------
    polygons : one or more, each (N, 2) float: column and row of its vertices; pixel centers at whole numbers.
    shape : columns and rows.
    """
    columns, rows = shape
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    # The end of lower row first, so that both directions of an edge give the same crossings to the last bit.
    backwards = (ends[:, 1] < starts[:, 1])[:, None]
    low, high = np.where(backwards, ends, starts), np.where(backwards, starts, ends)
    first = np.clip(np.ceil(low[:, 1]), 0, rows).astype(int)
    counts = np.clip(np.ceil(high[:, 1]), 0, rows).astype(int) - first
    edge = np.repeat(np.arange(len(low)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (high[edge, 0] - low[edge, 0]) / (high[edge, 1] - low[edge, 1])
    crossing = np.round(low[edge, 0] + slope * (row - low[edge, 1]), 6)
    toggles = np.zeros((columns + 1, rows), dtype=np.int64)
    np.add.at(toggles, (np.clip(np.ceil(crossing), 0, columns).astype(int), row), 1)
    return np.cumsum(toggles[:-1], axis=0) % 2 == 1


def filled(polygons: list[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, dict[str, int]]:
    """Pixels, (columns, rows) bool, that separate contours of one structure enclose, and counts of what was met.

    A contour inside another one is a hole, as DICOM has no other way to draw one of CLOSED_PLANAR contours but a
    keyhole; a third inside it is filled again. Contours that overlap in part are taken together, and one that is stored
    twice counts once: only CLOSEDPLANAR_XOR contours cancel each other (DICOM PS3.3, C.8.8.6.3).

    Parameters
    ----------
    polygons, shape : as `inside` takes them.
    """
    planes = sorted((inside([polygon], shape) for polygon in polygons), key=np.count_nonzero, reverse=True)
    total, met, kept = np.zeros(shape, dtype=bool), dict[str, int](), list[np.ndarray]()
    for plane in planes:
        size = np.count_nonzero(plane)
        shared = [np.count_nonzero(plane & other) for other in kept]
        if any(n > ALIKE * np.count_nonzero(plane | other) for n, other in zip(shared, kept, strict=True)):
            met["repeated"] = met.get("repeated", 0) + 1
            continue
        within = sum(n == size for n in shared)
        if any(0 < n < size for n in shared):
            met["overlapping in part, taken together"] = met.get("overlapping in part, taken together", 0) + 1
            total |= plane
        elif size and within % 2:
            met["inside another one, taken for a hole"] = met.get("inside another one, taken for a hole", 0) + 1
            total &= ~plane
        else:
            total |= plane
        kept.append(plane)
    return total, met

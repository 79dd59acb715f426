"""Where a mask is and which parts it has."""

import numpy as np
from scipy import ndimage, sparse

SMALL_COMPONENT_ML = 0.1  # parts below this are what a second reader would call a speck

Box = tuple[slice, slice, slice]


def bounding_box(mask: np.ndarray) -> Box:
    """Smallest box (I, J, K) that holds every nonzero voxel; three empty slices if there is none.

    Whole planes are reduced first, along the axis with the longest stride whatever the memory order is:
    under 1 ms for 512 x 512 x 32.
    """
    axes = sorted(range(3), key=lambda axis: -abs(mask.strides[axis]))
    planes = mask.transpose(axes)
    first = _extent(np.logical_or.reduce(planes, axis=(1, 2)))
    plane = np.logical_or.reduce(planes[first], axis=0)
    extents = (
        first,
        _extent(np.logical_or.reduce(plane, axis=1)),
        _extent(np.logical_or.reduce(plane, axis=0)),
    )
    i, j, k = (extents[axes.index(axis)] for axis in range(3))
    return i, j, k


def volume_ml(part: np.ndarray, voxel_ml: np.ndarray) -> float:
    """Volume of a part (I, J, K), ml, from that of a voxel of each slice (K,), to a millionth of a cubic millimeter.

    So that one of exactly 0.1 ml reaches 0.1 ml, in whatever order its slices are added.
    """
    return round(float(np.count_nonzero(part, axis=(0, 1)) @ voxel_ml), 9)


def _extent(occupied: np.ndarray) -> slice:
    found = np.flatnonzero(occupied)
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def layers_first(mask: np.ndarray) -> np.ndarray:
    """The same (I, J, K) array with each slice in one piece of memory; counting and labeling run along it."""
    return np.ascontiguousarray(mask.transpose(2, 0, 1)).transpose(1, 2, 0)


def shifted(inner: Box, outer: Box) -> Box:
    """A box given relative to `outer`, relative to what `outer` is relative to."""
    i, j, k = (slice(o.start + n.start, o.start + n.stop) for n, o in zip(inner, outer, strict=True))
    return i, j, k


def holes(mask: np.ndarray) -> np.ndarray:
    """(K,) background pixels of each slice that the lesion encloses on all four sides, corners not counted."""
    background = np.pad(~mask, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    # Within slices alone; the border of background makes what is outside one part a slice.
    labels, n = ndimage.label(background, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])[:, :, None] * [0, 1, 0])
    if n == mask.shape[2]:
        return np.zeros(mask.shape[2], dtype=int)
    return (background & (labels != labels[0, 0])).sum(axis=(0, 1))


def label_components(mask: np.ndarray) -> tuple[np.ndarray, list[Box]]:
    """Connected components of a boolean mask: labels (I, J, K) int32 from 1, and the box of each.

    Voxels that share a face, edge or corner touch. Works on runs of voxels instead of voxels, since a
    bleed has some thousand runs in a box of millions of voxels.
    """
    # Runs lie along J; a border of background keeps a run from reaching into the next line.
    slices, rows, columns = mask.shape[2], mask.shape[0], mask.shape[1]
    padded = np.zeros((slices + 1, rows + 1, columns + 2), dtype=bool)
    padded[:slices, :rows, :columns] = mask.transpose(2, 0, 1)
    flat = padded.ravel()
    # The array ends in background, so changes come in pairs once its first voxel is given one before it.
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        changes = np.concatenate([[0], changes])
    starts, stops = changes[::2], changes[1::2]
    label = _join(starts, stops, line=columns + 2, plane=(rows + 1) * (columns + 2))
    lengths = stops - starts
    voxels = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    labels = np.zeros(padded.shape, dtype=np.int32)
    labels.ravel()[voxels] = np.repeat(label, lengths)
    k, rest = np.divmod(starts, padded[0].size)
    i, j = np.divmod(rest, columns + 2)
    boxes = _boxes(label, (i, i + 1), (j, j + lengths), (k, k + 1))
    return labels[:slices, :rows, :columns].transpose(1, 2, 0), boxes


def drop_specks(
    labels: np.ndarray,
    voxel_ml: np.ndarray,
    smallest_ml: float,
    probability: np.ndarray | None = None,
    certain_ml: float = 0.0,
    certain: float = 0.0,
    certain_beside: float = 1.0,
) -> None:
    """Unmark, in place, connected blood that is too small, or small and not certain; an empty mask stays empty.

    Blood of all labels is connected as one: a thin clot beside a hematoma is not a speck.

    Parameters
    ----------
    labels : (I, J, K) of labels, 0 where there is no blood. voxel_ml : (K,) volume of a voxel of each slice.
    smallest_ml : below it no connected blood stays.
    probability : (I, J, K) of blood. Connected blood of `certain_ml` or more is certain, and below that if the mean is
        `certain` or more. In a scan that shows such blood `certain_beside` is enough: thin blood in sulci falls into
        pieces.
    """
    box = bounding_box(labels > 0)
    parts, found = label_components(labels[box] > 0)
    volumes, means = np.zeros(len(found)), np.ones(len(found))
    for number, part in enumerate(found):
        inside = parts[part] == number + 1
        volumes[number] = volume_ml(inside, voxel_ml[box[2]][part[2]])
        if probability is not None and volumes[number] < certain_ml:
            means[number] = probability[box][part][inside].mean(dtype=float)
    large = volumes >= smallest_ml
    sure = large & (means >= certain)
    kept = large & (means >= min(certain, certain_beside)) if sure.any() else sure
    for number in np.flatnonzero(~kept).tolist():
        part = found[number]
        labels[box][part][parts[part] == number + 1] = 0


def _join(starts, stops, line, plane):
    """Component number from 1 of each run, in the order in which components first appear."""
    pairs = []
    for apart in (line, plane - line, plane, plane + line):
        # Runs of the line `apart` further on that overlap this run, or touch it at a corner.
        first = np.searchsorted(stops, starts + apart, side="left")
        beyond = np.searchsorted(starts, stops + apart, side="right")
        counts = np.maximum(beyond - first, 0)
        own = np.repeat(np.arange(starts.size), counts)
        other = np.arange(own.size) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
        pairs.append((own, other))
    own, other = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    touching = np.ones(own.size, dtype=np.int8)
    graph = sparse.coo_array((touching, (own, other)), shape=(starts.size, starts.size))
    _, label = sparse.csgraph.connected_components(graph, directed=False)
    _, first_run, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(first_run.size, dtype=np.int64)
    rank[np.argsort(first_run)] = np.arange(1, first_run.size + 1)
    return rank[inverse]


def _boxes(label, *extents) -> list[Box]:
    if not label.size:
        return []
    order = np.argsort(label, kind="stable")
    first = np.flatnonzero(np.diff(label[order], prepend=0))
    slices = []
    for low, high in extents:
        lows, highs = np.minimum.reduceat(low[order], first), np.maximum.reduceat(high[order], first)
        slices.append([slice(int(a), int(b)) for a, b in zip(lows, highs, strict=True)])
    i, j, k = slices
    return list(zip(i, j, k, strict=True))

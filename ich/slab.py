"""Thin slices as a network trained on thick ones can read them: averaged over a slab, with neighbors a slab away.

A slice of 0.7 mm has some three times the noise of one of 5 mm, and its neighbors show the same as it does. The mask is
still made for every slice of the scan.
"""

import numpy as np
import torch

from ich.grid import Grid
from ich.model import Settings, neighbor_index


def in_slabs(hu: torch.Tensor, grid: Grid, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network sees of the slices of a scan: those that stand for less than a slab averaged over it.

    Parameters
    ----------
    hu : (K, H, W), slices in the order of the grid. settings : `slab_mm`, 0 for none.

    Returns
    -------
    hu : (K, H, W); the same tensor where no slice is thin.
    neighbors : (K, 2 * neighbors + 1) slice numbers, the slice itself in the middle: the next ones, of a thin slice
        those nearest to one slab away, two slabs and so on. A slice beyond the scan is replaced by its end.
    """
    next_to = neighbor_index(len(hu), settings.neighbors)
    thin = np.flatnonzero(grid.slice_weights_mm < settings.slab_mm)
    if not len(thin):
        return hu, next_to.to(hu.device)
    averaged = hu.clone()
    shares = torch.from_numpy(_shares(grid, thin, settings.slab_mm)).to(hu)
    averaged[thin] = (shares @ hu.flatten(1)).view(len(thin), *hu.shape[1:])
    next_to[thin] = torch.from_numpy(_neighbors(grid.positions_mm, thin, settings))
    return averaged, next_to.to(hu.device)


def _shares(grid: Grid, thin: np.ndarray, slab_mm: float) -> np.ndarray:
    """(thin, K) share of each slice in the slab about a thin one, by how much of its extent lies in it; sums are 1."""
    positions = grid.positions_mm
    middles = (positions[1:] + positions[:-1]) / 2
    ends = positions[0] - grid.slice_weights_mm[0] / 2, positions[-1] + grid.slice_weights_mm[-1] / 2
    edges = np.concatenate([[ends[0]], middles, [ends[1]]])
    low, high = (positions[thin, None] + sign * slab_mm / 2 for sign in (-1, 1))
    overlap = (np.minimum(high, edges[None, 1:]) - np.maximum(low, edges[None, :-1])).clip(min=0)
    return overlap / overlap.sum(1, keepdims=True)


def _neighbors(positions: np.ndarray, thin: np.ndarray, settings: Settings) -> np.ndarray:
    found = np.empty((len(thin), 2 * settings.neighbors + 1), dtype=np.int64)
    for column, step in enumerate(range(-settings.neighbors, settings.neighbors + 1)):
        away = positions[None] - positions[thin, None]
        off = np.abs(away - step * settings.slab_mm)
        nearest = (off + 1e-6 * np.abs(away)).argmin(1)  # of two as far off the one that is less away
        at_least = thin + step  # where the next slice is farther than a slab, it is the neighbor
        found[:, column] = np.minimum(nearest, at_least) if step < 0 else np.maximum(nearest, at_least)
    found[:, settings.neighbors] = thin
    return found.clip(0, len(positions) - 1)

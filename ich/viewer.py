"""Slice viewer for JupyterLab: windows, three planes, outlines of several readers, and a caliper for ABC/2.

Needs a kernel and a browser, no network; `ich.widgets.SliceViewer` is what remains of it in an exported page.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from ich.canvas import BLUE, ORANGE, VERMILION
from ich.grid import Grid, Scan

ASSETS = Path(__file__).with_name("templates")
COLORS = {"reference": "#19c37d", "network": VERMILION, "second reader": ORANGE}  # on black, green shows best
OTHER_COLORS = (BLUE, "#cc79a7", "#f0e442")
MAX_SOURCES = 8  # bits of a byte


class Viewer(anywidget.AnyWidget):
    """One scan in the browser. Made by `view`; `ich.reading` adds what a reader's caliper needs.

    Attributes
    ----------
    slice : number of the axial slice shown, from 0.
    index_slice : where "index slice" leads, -1 where it is not known or not to be told.
    marks : what the caliper drew: `index`, `a` and `b` (two ends (i, j) in voxels or nothing), `weights` by slice.
    readout, message : what is written below the slices.
    """

    _esm = ASSETS / "viewer.js"
    _css = ASSETS / "viewer.css"
    shape = traitlets.List(traitlets.Int()).tag(sync=True)
    spacing_mm = traitlets.List(traitlets.Float()).tag(sync=True)
    slice_mm = traitlets.List(traitlets.Float()).tag(sync=True)
    hu = traitlets.Bytes().tag(sync=True)
    masks = traitlets.Bytes().tag(sync=True)
    sources = traitlets.List(traitlets.Dict()).tag(sync=True)
    caliper = traitlets.Bool(False).tag(sync=True)
    slice = traitlets.Int().tag(sync=True)
    index_slice = traitlets.Int(-1).tag(sync=True)
    marks = traitlets.Dict().tag(sync=True)
    readout = traitlets.Unicode().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)


def _sent(stack: np.ndarray) -> bytes:
    """(I, J, K) as the browser wants it: slice by slice, row by row (J), gzipped."""
    return gzip.compress(np.ascontiguousarray(stack.transpose(2, 1, 0)).tobytes(), compresslevel=1)


def _bits(masks: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    bits = np.zeros(shape, np.uint8)
    for n, (name, mask) in enumerate(masks.items()):
        if mask.shape != shape:
            raise ValueError(f"mask of {name}: shape {mask.shape}, wanted that of the scan, {shape}")
        bits |= (mask > 0).astype(np.uint8) << n
    return bits


def view(
    scan: Scan, masks: Mapping[str, np.ndarray] | None = None, caliper: bool = False, index: bool = True
) -> Viewer:
    """Show a scan, with outlines by name.

    Parameters
    ----------
    masks : name, such as reference, network or second reader -> (I, J, K) mask on the scan's grid; above 0 is blood.
    caliper : offer to draw A and B and to weigh slices.
    index : lead to the slice with the largest area of the first mask, and begin there.

    Raises
    ------
    ValueError : a mask has another shape than the scan, or there are more than eight.
    """
    masks = dict(masks or {})
    if len(masks) > MAX_SOURCES:
        raise ValueError(f"{len(masks)} masks, wanted at most {MAX_SOURCES}")
    bits = _bits(masks, scan.hu.shape)
    others = iter(OTHER_COLORS * MAX_SOURCES)
    areas = np.count_nonzero(bits & 1, axis=(0, 1))
    known = index and bool(areas.any())
    grid: Grid = scan.grid
    return Viewer(
        shape=list(scan.hu.shape),
        spacing_mm=[float(step) for step in grid.spacing_mm],
        slice_mm=[float(step) for step in grid.slice_weights_mm],
        hu=_sent(np.clip(scan.hu, -32768, 32767).astype("<i2")),
        masks=_sent(bits),
        sources=[{"name": name, "color": COLORS.get(name) or next(others)} for name in masks],
        caliper=caliper,
        slice=int(areas.argmax()) if known else scan.hu.shape[2] // 2,
        index_slice=int(areas.argmax()) if known else -1,
    )

"""The shape of a hematoma: its surface seen from three sides, lit from the viewer."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from scipy import ndimage

from ich.canvas import set_title
from ich.components import bounding_box
from ich.grid import Grid
from ich.slice_figures import BAR_MM, outline_looks

# Which axis of (I, J, K) is looked along, from its far end or not, and which way up the picture is.
VIEWS = {"from the front": (1, False), "from the left": (0, True), "from above": (2, True)}
STEP_MM = 0.7


def isotropic(labels: np.ndarray, grid: Grid, step_mm: float = STEP_MM) -> np.ndarray:
    """Labels (I, J, K) on cubes of `step_mm`, cut to the lesion and a rim; unequal slice distances are honored.

    Outlines are interpolated between slices: for looking at, never for measuring.
    """
    box = bounding_box(labels > 0)
    cut = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
    small, positions = labels[cut], grid.positions_mm[cut[2]]
    places = [
        np.arange(0, (n - 1) * mm + 1e-6, step_mm) / mm for n, mm in zip(small.shape, grid.spacing_mm, strict=False)
    ]
    along = np.arange(positions[0], positions[-1] + 1e-6, step_mm)
    places.append(np.interp(along, positions, np.arange(len(positions))))
    where = np.meshgrid(*places, indexing="ij", copy=False)
    present = [label for label in np.unique(small) if label]
    depths = np.stack([ndimage.map_coordinates(_depth_mm(small == label, grid), where, order=1) for label in present])
    inside = ndimage.gaussian_filter(depths.max(0), 1.0) > 0
    # A rim, as a lesion of one slice or at the edge of a scan has none.
    return np.pad(np.where(inside, np.array(present, np.uint8)[depths.argmax(0)], 0), 1)


def _depth_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Signed distance in plane from the outline, positive inside, cut at 4 mm: outlines blend from slice to slice.

    Source: shape-based interpolation, Raya SP, Udupa JK. IEEE Trans Med Imaging 1990;9:32-42.
    """
    sampling = (*grid.spacing_mm, 1e6)
    depth = ndimage.distance_transform_edt(mask, sampling) - ndimage.distance_transform_edt(~mask, sampling)
    return np.clip(depth, -4, 4).astype(np.float32)


def shaded(cubes: np.ndarray, axis: int, reverse: bool, colors: Mapping[int, str]) -> np.ndarray:
    """(rows, columns, 3) picture of the surface seen along `axis`; white where there is none.

    Brightness is the cosine between the surface's normal and the line of sight, the normal from the depth map.
    """
    seen = np.moveaxis(np.flip(cubes, axis) if reverse else cubes, axis, 0)
    hit = seen > 0
    covered = np.asarray(hit.any(axis=0))
    first = hit.argmax(axis=0)
    label = np.take_along_axis(seen, first[None], 0)[0]
    depth = np.where(covered, first, first[covered].mean() if covered.any() else 0).astype(np.float32)
    weight = ndimage.gaussian_filter(covered.astype(np.float32), 1.5) + 1e-6
    depth = ndimage.gaussian_filter(np.where(covered, depth, 0).astype(np.float32), 1.5) / weight
    slope = np.gradient(depth)
    light = 0.25 + 0.75 / np.sqrt(1 + slope[0] ** 2 + slope[1] ** 2)
    picture = np.ones((*covered.shape, 3), np.float32)
    for value, color in colors.items():
        picture[covered & (label == value)] = to_rgb(color)
    picture[covered] *= light[covered][:, None]
    return picture


def draw_surface(
    labels: np.ndarray, grid: Grid, axes: list[Axes], names: Mapping[str, int], *, simulated: bool = False
) -> None:
    """Draw the lesion on three axes, one for each of `VIEWS`; `names` is label name -> number."""
    cubes = isotropic(labels, grid)
    colors = {number: look[0] for number, look in zip(names.values(), outline_looks(names).values(), strict=True)}
    pictures = [shaded(cubes, axis, reverse, colors).swapaxes(0, 1) for axis, reverse in VIEWS.values()]
    tall, wide = (max(picture.shape[side] for picture in pictures) for side in (0, 1))  # one scale for the three
    wide = max(wide, BAR_MM / STEP_MM + 4)  # with room for the bar
    for ax, picture, (title, (axis, _)) in zip(axes, pictures, VIEWS.items(), strict=True):
        ax.imshow(picture, origin="upper" if axis == 2 else "lower", interpolation="bilinear")
        (low, high), (left, right) = (
            (has / 2 - span / 2, has / 2 + span / 2) for has, span in zip(picture.shape, (tall, wide), strict=False)
        )
        ax.set(xlim=(left, right), ylim=(high, low) if axis == 2 else (low, high))
        set_title(ax, title, simulated)
        ax.set_axis_off()
        at = high - 1 if axis == 2 else low + 1
        ax.plot([left + 2, left + 2 + BAR_MM / STEP_MM], [at, at], color="black", linewidth=2)
        ax.annotate(f"{BAR_MM} mm", (left + 2, at), xytext=(0, 3), textcoords="offset points", fontsize=6.5)
    present = {name: colors[number] for name, number in names.items() if (labels == number).any()}
    handles = [Patch(color=color, label=name) for name, color in present.items()]
    axes[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)

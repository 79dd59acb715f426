"""Slices of a scan with outlines, in radiological display: front up, the patient's right on the left."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ich.abc2 import ABC2
from ich.canvas import GREEN, ORANGE, PURPLE, VERMILION, set_title
from ich.hounsfield import head_box
from ich.tables import LABELS

# Bright lines on grey tissue; the dash keeps readers apart in grayscale.
OUTLINES: tuple[tuple[str, Any], ...] = (
    ("#ffd92f", "-"),
    ("#56b4e9", (0, (3, 1.2))),
    (VERMILION, (0, (1, 1))),
    (PURPLE, "-"),
    (GREEN, (0, (4, 1, 1, 1))),
)
# Labels look alike in every picture of a case, whichever of them it has.
LABEL_OUTLINES = dict(zip(LABELS, OUTLINES, strict=False))


def outline_looks(names: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Color and dash of each outline: a label's own, or in order where other than labels are outlined."""
    named = list(names)
    if all(name in LABEL_OUTLINES for name in named):
        return {name: LABEL_OUTLINES[name] for name in named}
    return dict(zip(named, OUTLINES, strict=False))


BRAIN_WINDOW = (0.0, 80.0)  # HU
BAR_MM = 20


def draw_slice(
    image: np.ndarray,
    ax: Axes,
    *,
    outlines: Mapping[str, np.ndarray] | None = None,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    window: tuple[float, float] = BRAIN_WINDOW,
    sides: bool = True,
    legend: bool = True,
    title: str = "",
    simulated: bool = False,
) -> None:
    """One slice (I, J) in HU, in the order of a `Grid`, with the outline of each mask.

    Parameters
    ----------
    outlines : label -> (I, J) boolean mask; an empty one keeps its place in the legend.
    window : HU shown as black and as white.
    sides : letters R and L for the patient's sides.
    """
    ax.imshow(
        np.asarray(image, dtype=np.float32).T,  # I runs to the patient's left, J to the back
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        aspect=spacing_mm[1] / spacing_mm[0],
        interpolation="bilinear",
    )
    handles = []
    looks = outline_looks(outlines or {})
    for label, mask in (outlines or {}).items():
        color, style = looks[label]
        _outline(ax, np.asarray(mask, dtype=bool).T, color, style)
        handles.append(Line2D([], [], color=color, linestyle=style, linewidth=1.2, label=label))
    if sides:
        for x, letter in ((0.03, "R"), (0.97, "L")):
            ax.text(
                x,
                0.5,
                letter,
                transform=ax.transAxes,
                color="white",
                ha="center",
                va="center",
                fontsize=7,
                alpha=0.9,
            )
    if handles and legend:
        ax.legend(handles=handles, loc="lower left", labelcolor="white", fontsize=6.5, borderpad=0.2)
    ax.set_axis_off()
    set_title(ax, title, simulated)


def _outline(ax: Axes, mask: np.ndarray, color: str, style) -> None:
    """The 0.5 level around a displayed mask, closed at the image's edge."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(np.float32), 1)
    rows, columns = np.arange(padded.shape[0]) - 1, np.arange(padded.shape[1]) - 1
    ax.contour(columns, rows, padded, levels=[0.5], colors=[color], linestyles=[style], linewidths=0.9)


def draw_montage(
    hu: np.ndarray,
    masks: Mapping[str, np.ndarray],
    fig: Figure,
    *,
    spacing_mm: tuple[float, float],
    positions_mm: np.ndarray | None = None,
    n_slices: int = 12,
    columns: int = 6,
    window: tuple[float, float] = BRAIN_WINDOW,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Slices evenly over the lesion and two beyond it, from bottom to top, with outlines; sets the figure's
    height.

    Parameters
    ----------
    hu : (I, J, K) HU in the order of a `Grid`.
    masks : label -> (I, J, K) boolean mask; without lesion the whole scan is shown.
    positions_mm : (K,) printed in the corner of each slice, from the first.
    """
    lesion = np.zeros(hu.shape[2], dtype=bool)
    for mask in masks.values():
        lesion |= np.asarray(mask).any(axis=(0, 1))
    inside = np.flatnonzero(lesion) if lesion.any() else np.arange(hu.shape[2])
    low, high = max(0, inside[0] - 2), min(hu.shape[2] - 1, inside[-1] + 2)
    shown = np.unique(np.linspace(low, high, min(n_slices, high - low + 1)).round().astype(int))
    columns = min(columns, shown.size)
    rows = -(-shown.size // columns)
    head = head_box(hu, spacing_mm, margin_mm=4.0) or (slice(None), slice(None))
    rows_mm, columns_mm = (
        len(range(*part.indices(n))) * mm for part, n, mm in zip(head, hu.shape, spacing_mm, strict=False)
    )
    width = fig.get_size_inches()[0]
    tall = columns_mm / rows_mm
    words = ", ".join(part for part in (title, "simulated" if simulated else "") if part)
    fig.set_size_inches(width, rows * width / columns * tall + 0.22 + (0.22 if words else 0))
    fig.set_layout_engine("constrained", w_pad=0.01, h_pad=0.03, wspace=0, hspace=0)
    fig.set_facecolor("black")
    axes = np.atleast_1d(fig.subplots(rows, columns)).ravel()
    for ax in axes:
        ax.set_axis_off()
    for at, (ax, k) in enumerate(zip(axes, shown, strict=False)):
        here = {label: np.asarray(mask)[head][:, :, k] for label, mask in masks.items()}
        draw_slice(
            hu[head][:, :, k],
            ax,
            outlines=here,
            spacing_mm=spacing_mm,
            window=window,
            sides=at == 0,
            legend=False,
        )
        where = f"{k + 1}" if positions_mm is None else f"{k + 1}: {positions_mm[k] - positions_mm[0]:.0f} mm"
        ax.text(0.02, 0.98, where, transform=ax.transAxes, color="white", ha="left", va="top", fontsize=6)
    if words:
        fig.suptitle(words, color="white", fontsize=8.5, fontweight="bold", x=0.01, ha="left")
    handles = [
        Line2D([], [], color=color, linestyle=style, linewidth=1.4, label=label)
        for label, (color, style) in outline_looks(masks).items()
    ]
    if handles:
        fig.legend(handles=handles, loc="outside lower left", ncols=len(handles), labelcolor="white")


def _scale_bar(ax: Axes, length_mm: float, spacing_mm: float) -> None:
    """A bar in the lower left corner of an image whose pixels are `spacing_mm` wide."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    start, height = left + 0.05 * (right - left), bottom + 0.05 * (top - bottom)
    ax.plot([start, start + length_mm / spacing_mm], [height, height], color="white", linewidth=2)
    ax.annotate(
        f"{length_mm:g} mm", (start, height), xytext=(0, 3), textcoords="offset points", fontsize=6.5, color="white"
    )


def draw_abc(
    measurement: ABC2,
    mask: np.ndarray,
    ax: Axes,
    *,
    hu: np.ndarray | None = None,
    window: tuple[float, float] = BRAIN_WINDOW,
    margin_mm: float = 15.0,
    side_mm: float | None = None,
    title: str = "",
    simulated: bool = False,
) -> None:
    """A and B on the index slice, as they were measured, on the scan where there is one.

    Parameters
    ----------
    measurement : of `mask`; an empty mask has nothing to draw.
    mask : (I, J, K) in the order of a `Grid`.
    hu : (I, J, K).
    margin_mm : tissue shown around the lesion.
    side_mm : of the square that is shown instead, so that several figures have one scale.

    Raises
    ------
    ValueError : the measurement is of an empty mask.
    """
    if measurement.index_slice is None:
        raise ValueError("draw_abc: the mask is empty, so there is no index slice")
    inside = np.asarray(mask)[:, :, measurement.index_slice] != 0
    image = np.where(inside, 55.0, 15.0) if hu is None else np.asarray(hu)[:, :, measurement.index_slice]
    outlines = {"outline": inside}
    draw_slice(
        image,
        ax,
        outlines=outlines,
        spacing_mm=measurement.spacing_mm,
        window=window,
        legend=False,
    )
    texts = []
    kind = {"chord": "B (chord)", "width": "B (width)"}[measurement.b_rule]
    for name, ends, length, color in (
        ("A", measurement.a_ends_voxel, measurement.a_mm, ORANGE),
        (kind, measurement.b_ends_voxel, measurement.b_mm, "#56b4e9"),
    ):
        ax.plot(ends[:, 0], ends[:, 1], color=color, linewidth=1.6, marker="o", markersize=2.5, zorder=4)
        at = ends[0] + 0.22 * (ends[1] - ends[0])
        ax.text(
            at[0], at[1], name[0], color="white", fontsize=8, fontweight="bold", ha="center", va="center",
            zorder=5,
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "black", "edgecolor": color, "linewidth": 0.8},
        )  # fmt: skip
        texts.append(f"{name} {length:.1f} mm")
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    reach = [margin_mm / spacing for spacing in measurement.spacing_mm]
    if side_mm is None:
        ax.set_xlim(max(-0.5, rows[0] - reach[0]), min(inside.shape[0] - 0.5, rows[-1] + reach[0]))
        ax.set_ylim(min(inside.shape[1] - 0.5, columns[-1] + reach[1]), max(-0.5, columns[0] - reach[1]))
    else:
        half = [side_mm / 2 / spacing for spacing in measurement.spacing_mm]
        middle = [(lines[0] + lines[-1]) / 2 for lines in (rows, columns)]
        ax.set_xlim(middle[0] - half[0], middle[0] + half[0])
        ax.set_ylim(middle[1] + half[1], middle[1] - half[1])
        ax.set_facecolor("black")
    _scale_bar(ax, BAR_MM, measurement.spacing_mm[0])
    texts += [
        f"C {measurement.c_mm:.1f} mm ({measurement.slices.size} slices), Kothari {measurement.c_kothari_mm:.1f} mm",
        f"ABC/2 {measurement.abc2_ml:.1f} ml, Kothari {measurement.abc2_kothari_ml:.1f} ml",
        f"planimetry {measurement.volume_ml:.1f} ml",
    ]
    ax.text(
        0.5,
        -0.02,
        "\n".join([", ".join(texts[:2]), *texts[2:]]),
        transform=ax.transAxes,
        ha="center",
        va="top",
        fontsize=7,
    )
    set_title(ax, title, simulated)

"""Figures of the cohort, the training and the test set: tables in, one of the axes filled."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch

from ich.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    TYPE_SERIES,
    VERMILION,
    groups_of,
    legend_below,
    log_ticks,
    series,
    set_count,
    set_title,
)

WIDE = 40  # characters of a reason beside the flow


def _jitter(n: int, width: float) -> np.ndarray:
    """Even offsets in a fixed order, so that points of one row lie apart without chance."""
    return ((np.arange(n) * 0.618034) % 1 - 0.5) * width


def draw_volume_distribution(
    cohort: pd.DataFrame,
    ax: Axes,
    *,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Every reference volume by type on a logarithmic axis, with median and quartiles; volumes of 0 are counted."""
    found = groups_of(cohort, "hemorrhage_type")
    looks = series([name for name, _ in found])
    names = []
    for row, (name, inside) in enumerate(found):
        values = cohort.loc[inside, "reference_volume_ml"].dropna().to_numpy(dtype=float)
        shown = values[values > 0]
        color, marker = looks[name]
        y = row + _jitter(shown.size, 0.5)
        ax.scatter(
            shown,
            y,
            s=10,
            marker=marker,
            color=color,
            alpha=0.7,
            edgecolors="white",
            linewidths=0.2,
            zorder=2,
        )
        if shown.size >= 3:
            ax.boxplot(
                shown, positions=[row], orientation="horizontal", widths=0.62, showfliers=False,
                manage_ticks=False, medianprops={"color": INK, "linewidth": 1.6}, boxprops={"color": INK,
                "linewidth": 0.8}, whiskerprops={"color": INK, "linewidth": 0.8}, showcaps=False, zorder=3,
            )  # fmt: skip
        zero = f", {values.size - shown.size} at 0 ml" if shown.size < values.size else ""
        names.append(f"{name}\nn = {values.size}{zero}")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xscale("log")
    log_ticks(ax.xaxis, *ax.get_xlim())
    ax.grid(axis="x", color=PALE, linewidth=0.5)
    ax.set_xlabel("reference volume, ml")
    set_title(ax, title, simulated)


def draw_spacing_tilt(cohort: pd.DataFrame, ax: Axes, *, title: str = "", simulated: bool = False) -> None:
    """Slice spacing against gantry tilt; area shows the number of scans, hollow means mixed spacing."""
    known = cohort.dropna(subset=["slice_spacing_mm", "tilt_deg"])
    rounded = pd.DataFrame(
        {
            "spacing": known["slice_spacing_mm"].astype(float).round(1),
            "tilt": known["tilt_deg"].astype(float).round(0),
            "uniform": known["slice_spacing_uniform"].fillna(True).astype(bool),
        }
    )
    handles = []
    for uniform, part in rounded.groupby("uniform"):
        counts = part.groupby(["spacing", "tilt"]).size().reset_index(name="n")
        name = "uniform spacing" if uniform else "mixed spacing (median shown)"
        color, marker = (BLUE, "o") if uniform else (ORANGE, "s")
        ax.scatter(
            counts["tilt"], counts["spacing"], s=14 * counts["n"], marker=marker, alpha=0.85, linewidths=1.0,
            facecolor=color if uniform else "none", edgecolor="white" if uniform else color,
            zorder=3 if uniform else 4,
        )  # fmt: skip
        handles.append(
            Line2D(
                [], [], linestyle="none", marker=marker, markersize=5, markeredgecolor=color,
                markerfacecolor=color if uniform else "none", label=f"{name}, n = {len(part)}",
            )
        )  # fmt: skip
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    ax.margins(0.12)
    ax.set(xlabel="gantry tilt, degrees", ylabel="slice spacing along the normal, mm")
    legend_below(ax, 1, handles)
    text = f"n = {len(known)}" + (f", {len(cohort) - len(known)} unknown" if len(known) < len(cohort) else "")
    set_count(ax, text)
    set_title(ax, title, simulated)


def draw_flow(stages: pd.DataFrame, ax: Axes, *, title: str = "", simulated: bool = False) -> None:
    """Flow of cases: boxes downward, what was excluded to the right of each, the branches side by side below.

    Parameters
    ----------
    stages : rows stage, n, excluded (text of reasons with counts, empty for none), branch (bool, the last
        rows).
    """
    main, branches = stages[~stages["branch"].astype(bool)], stages[stages["branch"].astype(bool)]
    levels = len(main) + (1 if len(branches) else 0)
    step = 1 / levels
    tall, wide, left = 0.52 * step, 0.36, 0.24
    middles = [1 - step * (index + 0.5) for index in range(levels)]
    for index, (row, y) in enumerate(zip(main.to_dict("records"), middles, strict=False)):
        _box(ax, left, y, wide, tall, f"{row['stage']}\nn = {int(row['n'])}")
        last = index == len(main) - 1
        if not last:
            _arrow(ax, (left, y - tall / 2), (left, middles[index + 1] + tall / 2))
        if isinstance(row["excluded"], str) and row["excluded"]:
            between = y - step / 2
            _arrow(ax, (left, between), (0.56, between))
            lines = [part for line in row["excluded"].splitlines() for part in wrap(line, WIDE, subsequent_indent="  ")]
            ax.text(0.575, between, "\n".join(lines), ha="left", va="center", color=INK, fontsize=7)
    if len(branches):
        room = 1 / len(branches)
        bottom, top = middles[-1], middles[-2] - tall / 2
        bend = (top + bottom + tall / 2) / 2
        at = [room * (index + 0.5) for index in range(len(branches))]
        ax.plot([left, left], [top, bend], color=INK, linewidth=0.8)
        ax.plot([min(*at, left), max(*at, left)], [bend, bend], color=INK, linewidth=0.8)
        for x, row in zip(at, branches.to_dict("records"), strict=True):
            _arrow(ax, (x, bend), (x, bottom + tall / 2))
            _box(ax, x, bottom, room * 0.88, tall, f"{row['stage']}\nn = {int(row['n'])}")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    set_title(ax, title, simulated)


def _box(ax: Axes, x: float, y: float, wide: float, tall: float, text: str) -> None:
    corner = (x - wide / 2, y - tall / 2)
    ax.add_patch(
        FancyBboxPatch(corner, wide, tall, boxstyle="square,pad=0", facecolor="#f4f6f8", edgecolor=INK, linewidth=0.8)
    )
    ax.text(x, y, text, ha="center", va="center", color=INK, linespacing=1.35)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": INK,
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 7,
        },
    )


def draw_training(history: pd.DataFrame, axes: Sequence[Axes], *, title: str = "", simulated: bool = False) -> None:
    """Loss and validation Dice against step on two axes; the weights kept are marked.

    Parameters
    ----------
    history : step, loss, validation_dice (0..1, empty where not measured).
    """
    axes[0].plot(history["step"], history["loss"], color=BLUE)
    axes[0].set(xlabel="step", ylabel="training loss")
    axes[0].set_ylim(bottom=0)
    measured = history.dropna(subset=["validation_dice"])
    when, dice = (measured[name].to_numpy(dtype=float) for name in ("step", "validation_dice"))
    axes[1].plot(when, dice, color=BLUE, marker="o", markersize=3)
    if dice.size:
        best = int(dice.argmax())
        axes[1].scatter(when[best], dice[best], s=55, facecolor="none", edgecolor=VERMILION, linewidths=1.3, zorder=3)
        axes[1].annotate(
            f"kept: {dice[best]:.3f} at step {when[best]:.0f}", (0.98, 0.04),
            xycoords="axes fraction", ha="right", va="bottom", color=VERMILION,
        )  # fmt: skip
    axes[1].set(xlabel="step", ylabel="mean validation Dice", ylim=(0, 1))
    set_title(axes[0], title, simulated)
    if simulated:
        set_title(axes[1], "Validation", simulated)


def draw_dice_by_type(
    metrics: pd.DataFrame,
    summary: pd.DataFrame,
    ax: Axes,
    *,
    published: pd.DataFrame | None = None,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Every case by type, the mean with its interval, and the published mean beside it.

    Parameters
    ----------
    metrics : one row per case with hemorrhage_type and dice.
    summary : rows of `mean_by_group`: hemorrhage_type, n, n_patients, mean, mean_ci_low, mean_ci_high.
    published : hemorrhage_type and dice.
    """
    by = "hemorrhage_type"
    order = [name for name in TYPE_SERIES if name in set(summary[by])]
    order += [name for name in summary[by] if name not in order]
    looks = series(order)
    rows: dict = dict(zip(summary[by], summary.to_dict("records"), strict=True))
    for at, name in enumerate(order):
        values = metrics.loc[metrics[by] == name, "dice"].dropna().to_numpy(dtype=float)
        color, marker = looks[str(name)]
        ax.scatter(
            at - 0.2 + _jitter(values.size, 0.26),
            values,
            s=11,
            marker=marker,
            color=color,
            alpha=0.65,
            edgecolors="white",
            linewidths=0.2,
        )
        row = rows[name]
        ends = [[row["mean"] - row["mean_ci_low"]], [row["mean_ci_high"] - row["mean"]]]
        ax.errorbar(
            [at + 0.1],
            [row["mean"]],
            ends,
            fmt=marker,
            color=INK,
            markersize=5,
            capsize=2.5,
            elinewidth=1.2,
            zorder=3,
        )
        if published is not None and (published[by] == name).any():
            known = float(published.loc[published[by] == name, "dice"].iloc[0])
            ax.scatter(at + 0.3, known, s=28, marker="D", facecolor="white", edgecolor=GREY, linewidths=1.1, zorder=3)
    ax.errorbar([], [], [], fmt="o", color=INK, markersize=5, capsize=2.5, label="mean, 95 % interval over patients")
    if published is not None:
        ax.scatter(
            [],
            [],
            s=28,
            marker="D",
            facecolor="white",
            edgecolor=GREY,
            linewidths=1.1,
            label="published mean (other data)",
        )
    ticks = [
        f"{name}\nn = {int(row['n'])}"
        + (f" ({int(row['n_patients'])} patients)" if row["n_patients"] != row["n"] else "")
        for name, row in ((name, rows[name]) for name in order)
    ]
    ax.set_xticks(range(len(order)), ticks)
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(-0.5, len(order) - 0.5), ylim=(0, 1.02), ylabel="Dice")
    ax.grid(axis="y", color=PALE, linewidth=0.5)
    legend_below(ax, 1)
    set_title(ax, title, simulated)

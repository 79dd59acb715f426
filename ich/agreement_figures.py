"""Figures of method comparison: they draw tables and statistics that were computed elsewhere."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ich.bland_altman import BlandAltman
from ich.canvas import (
    BLUE,
    GREY,
    INK,
    SERIES,
    VERMILION,
    column_label,
    draw_points,
    legend_below,
    log_ticks,
    note,
    set_count,
    set_title,
    side_labels,
)
from ich.regression import Line
from ich.volume_limits import RegressionLimits
from ich.wording import enough_digits, number

_UNITS = {"ml": "difference, ml", "percent": "difference, % of mean", "ratio": "ratio"}


def _axes_values(table: pd.DataFrame, method: str, reference: str, x: str) -> tuple[np.ndarray, ...]:
    first, second = (table[name].to_numpy(dtype=float) for name in (method, reference))
    if x not in ("mean", "reference"):
        raise ValueError(f"x: got {x!r}, wanted 'mean' or 'reference'")
    return first, second, (first + second) / 2 if x == "mean" else second


def _missing(stats) -> str:
    parts = [f"n = {stats.n}"]
    if getattr(stats, "n_missing", 0):
        parts.append(f"{stats.n_missing} missing")
    if getattr(stats, "undefined_ids", ()):
        parts.append(f"{len(stats.undefined_ids)} not defined")
    return ", ".join(parts)


def draw_bland_altman(
    table: pd.DataFrame,
    stats: BlandAltman,
    ax: Axes,
    *,
    method: str,
    reference: str,
    group: str | None = None,
    x: str = "mean",
    log_x: bool = False,
    margin: float | None = None,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Differences against volume with bias, limits and exact intervals as bands, on the scale of `stats`.

    Parameters
    ----------
    table : one row per case with the columns `method` and `reference`, ml, and `group`.
    x : "mean" of both or "reference"; `log_x` spreads small volumes (the scale "ratio" always does).
    margin : difference that would not change treatment, drawn on both sides: in ml, for the scales "percent" and
        "ratio" in percent of the reference (20 % of it are 18.2 % and -22.2 % of the mean of both).
    """
    first, second, across = _axes_values(table, method, reference, x)
    ratio = stats.scale == "ratio"
    with np.errstate(divide="ignore", invalid="ignore"):
        up = {
            "ml": first - second,
            "percent": 200 * (first - second) / (first + second),
            "ratio": np.where((first > 0) & (second > 0), first / second, np.nan),
        }[stats.scale]
    digits = 2 if ratio or max(abs(stats.loa_lower), abs(stats.loa_upper)) < 2 else 1
    limits = (("lower", stats.loa_lower, stats.loa_lower_ci), ("upper", stats.loa_upper, stats.loa_upper_ci))
    ax.axhline(1 if ratio else 0, color=GREY, linewidth=0.6, zorder=1)
    ax.axhspan(*stats.bias_ci, color=BLUE, alpha=0.18, linewidth=0, zorder=0)
    ax.axhline(stats.bias, color=INK, linewidth=1.2, zorder=2)
    of_bias = enough_digits(stats.bias_ci, digits)
    labels = [(stats.bias, f"bias {number(stats.bias, of_bias)}\n({_ends(stats.bias_ci, of_bias)})", INK)]
    for name, limit, interval in limits:
        ax.axhspan(*interval, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        ax.axhline(limit, color=INK, linewidth=1.0, linestyle=(0, (5, 2.5)), zorder=2)
        labels.append((limit, f"{name} limit {number(limit, digits)}\n({_ends(interval, digits)})", INK))
    margins = _margins(margin, stats.scale)
    _draw_margins(ax, margins)
    draw_points(ax, across, up, table, group)
    if ratio:
        ax.set_yscale("log")
        shown = np.concatenate([up, stats.loa_lower_ci, stats.loa_upper_ci, margins])
        shown = shown[np.isfinite(shown)]
        ax.set_ylim(shown.min() / 1.05, shown.max() * 1.05)
        log_ticks(ax.yaxis, *ax.get_ylim())
    if ratio or log_x:
        ax.set_xscale("log")
        log_ticks(ax.xaxis, *ax.get_xlim())
    ax.set_xlabel("mean of both, ml" if x == "mean" else f"{column_label(reference)} volume, ml")
    sign = "/" if ratio else "−"
    ax.set_ylabel(f"{column_label(method)} {sign} {column_label(reference)}, {_UNITS[stats.scale].split(', ')[-1]}")
    side_labels(ax, labels)
    set_count(ax, _missing(stats))
    set_title(ax, title, simulated)


def _ends(interval, digits: int) -> str:
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"


def _margins(margin: float | None, scale: str) -> tuple[float, ...]:
    """Upper and, where it can be reached, lower margin on a scale, from ml or percent of the reference."""
    if margin is None:
        return ()
    if scale == "ml":
        return (margin, -margin)
    ratios = (1 + margin / 100, 1 - margin / 100) if margin < 100 else (1 + margin / 100,)
    return ratios if scale == "ratio" else tuple(200 * (ratio - 1) / (ratio + 1) for ratio in ratios)


def _draw_margins(ax: Axes, margins: Sequence[float]) -> None:
    if not margins:
        return
    for end in margins:
        ax.axhline(end, color=VERMILION, linewidth=1.0, linestyle=":", zorder=2)
    ax.annotate(
        "margin",
        (0, margins[0]),
        xycoords=("axes fraction", "data"),
        xytext=(2, 1.5),
        textcoords="offset points",
        ha="left",
        va="bottom",
        color=VERMILION,
        fontsize=6.5,
        zorder=1,
        annotation_clip=True,
    )  # fmt: skip; below the points: none is hidden


def draw_regression_limits(
    table: pd.DataFrame,
    stats: RegressionLimits,
    ax: Axes,
    *,
    method: str,
    reference: str,
    group: str | None = None,
    margin: float | None = None,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Differences against the mean of both with the limits that follow the volume and their intervals as bands."""
    first, second, across = _axes_values(table, method, reference, "mean")
    ends = np.linspace(np.nanmin(across), np.nanmax(across), 200)
    lines = stats.at(ends)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=1)
    ax.plot(ends, lines.bias, color=INK, linewidth=1.2, zorder=2)
    for name in ("loa_lower", "loa_upper"):
        ax.fill_between(
            ends, lines[f"{name}_ci_low"], lines[f"{name}_ci_high"], color=GREY, alpha=0.18, linewidth=0, zorder=0
        )
        ax.plot(ends, lines[name], color=INK, linewidth=1.0, linestyle=(0, (5, 2.5)), zorder=2)
    _draw_margins(ax, _margins(margin, "ml"))
    draw_points(ax, across, first - second, table, group)
    ax.set_xlabel("mean of both, ml")
    ax.set_ylabel(f"{column_label(method)} − {column_label(reference)}, ml")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.2 * (high - low))  # room for the equations above all that is drawn
    sign = "+" if stats.b1 >= 0 else "−"
    spread_sign = "+" if stats.c1 >= 0 else "−"
    note(
        ax,
        f"bias = {number(stats.b0, 2)} {sign} {abs(stats.b1):.3f} V\n"
        f"|residual| = {number(stats.c0, 2)} {spread_sign} {abs(stats.c1):.3f} V (V: mean of both)",
    )
    set_count(ax, f"n = {stats.n}")
    set_title(ax, title, simulated)


def draw_scatter(
    table: pd.DataFrame,
    fit: Line | None,
    ax: Axes,
    *,
    method: str,
    reference: str,
    group: str | None = None,
    log: bool = False,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Method against reference with the line of identity and a fitted line; `log` for logarithmic axes."""
    first, second, _ = _axes_values(table, method, reference, "mean")
    both = np.isfinite(first) & np.isfinite(second)
    drawn = both & (first > 0) & (second > 0) if log else both
    values = np.concatenate([first[drawn], second[drawn]])
    low, high = (values.min() / 1.15, values.max() * 1.15) if log else (min(0, values.min()), values.max() * 1.04)
    line = np.geomspace(low, high, 200) if log else np.array([low, high])
    lines = ax.plot(line, line, color=GREY, linewidth=0.9, linestyle=(0, (5, 2.5)), zorder=1, label="identity")
    draw_points(ax, np.where(drawn, second, np.nan), first, table, group)
    if fit is not None:
        fitted = fit.intercept + fit.slope * line
        shown = fitted > 0 if log else np.ones(fitted.shape, dtype=bool)
        label = (
            f"{fit.name}: slope {number(fit.slope, 2)} ({_ends(fit.slope_ci, 2)}),\n"
            f"intercept {number(fit.intercept, 2)} ml ({_ends(fit.intercept_ci, 2)})"
        )
        lines += ax.plot(line[shown], fitted[shown], color=INK, zorder=2, label=label)
    legend_below(ax, 1, handles=lines)
    if log:
        ax.set(xscale="log", yscale="log")
        log_ticks(ax.xaxis, low, high)
        log_ticks(ax.yaxis, low, high)
    ax.set(xlim=(low, high), ylim=(low, high))
    ax.set_aspect("equal")
    ax.set_xlabel(f"{column_label(reference)} volume, ml")
    ax.set_ylabel(f"{column_label(method)} volume, ml")
    left_out = int((both & ~drawn).sum())
    set_count(ax, f"n = {int(both.sum())}" + (f", {left_out} at zero not shown" if left_out else ""))
    set_title(ax, title, simulated)


def draw_mountain(mountains: Mapping[str, pd.DataFrame], ax: Axes, *, title: str = "", simulated: bool = False) -> None:
    """Folded distributions of the differences of one or more methods; `mountains` maps labels to tables."""
    for (name, table), (color, _), style in zip(
        mountains.items(),
        SERIES,
        ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), "-", "-"),
        strict=False,
    ):
        ax.plot(
            table["difference"],
            table["percentile"],
            color=color,
            linestyle=style,
            label=f"{name} (n = {len(table)})",
        )
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    ax.set(ylim=(0, 52), xlabel="method − reference, ml", ylabel="folded percentile")
    legend_below(ax, 1)
    set_title(ax, title, simulated)

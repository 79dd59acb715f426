"""Figures of volume errors and classes, of published results beside a run, and of study size."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ich.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    SERIES,
    VERMILION,
    column_label,
    legend_below,
    log_ticks,
    note,
    set_count,
    set_title,
)


def draw_error_by_group(
    errors: pd.DataFrame,
    ax: Axes,
    *,
    labels: Mapping[str, str] | None = None,
    published: pd.DataFrame | None = None,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Mean absolute error with SD by volume group, this run's bars beside hatched published ones.

    Parameters
    ----------
    errors : rows of `absolute_errors_by_group`; "all" is left out.
    labels : column -> name in the legend; the published table is matched by this name.
    published : method, group, mean_ml, sd_ml.
    """
    rows = errors[errors["group"] != "all"]
    groups, methods = list(rows["group"].unique()), list(rows["method"].unique())
    names = {method: (labels or {}).get(method, column_label(method)) for method in methods}
    bars: list[tuple[str, str, pd.DataFrame, bool]] = []
    for (method, name), (color, _) in zip(names.items(), ((BLUE, ""), (ORANGE, ""), *SERIES[2:]), strict=False):
        bars.append((name, color, rows[rows["method"] == method].set_index("group"), False))
        if published is not None and (published["method"] == name).any():
            found = published[published["method"] == name].set_index("group")
            bars.append((f"{name}, published (other data)", color, found, True))
    width = 0.84 / len(bars)
    for index, (name, color, table, hollow) in enumerate(bars):
        at = np.arange(len(groups)) + (index - (len(bars) - 1) / 2) * width
        mean, sd = (table[column].reindex(groups).to_numpy(dtype=float) for column in ("mean_ml", "sd_ml"))
        fill, hatch = ("white", "////") if hollow else (color, "")
        ax.bar(
            at, mean, width * 0.88, label=name, facecolor=fill, edgecolor=color, hatch=hatch, linewidth=0.8,
            zorder=2,
        )  # fmt: skip
        up = np.vstack([np.zeros_like(sd), np.nan_to_num(sd)])
        ax.errorbar(at, mean, up, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2, zorder=3)
        for x, m, s in zip(at, mean, sd, strict=True):
            if np.isfinite(m):
                text = f"{m:.2f} ± {s:.2f}" if np.isfinite(s) else f"{m:.2f}"
                ax.annotate(
                    text, (x, m + np.nan_to_num(s)), xytext=(0, 3), textcoords="offset points", rotation=90,
                    ha="center", va="bottom", fontsize=6.5, color=INK,
                )  # fmt: skip
    counts = rows.groupby("group", sort=False)["n"].agg(["min", "max"])
    ticks = [
        f"{group} ml\nn = {counts.loc[group, 'min']}"
        + (f"-{counts.loc[group, 'max']}" if counts.loc[group, "min"] != counts.loc[group, "max"] else "")
        for group in groups
    ]
    ax.set_xticks(range(len(groups)), ticks)
    ax.tick_params(axis="x", length=0)
    tallest = max(float((table["mean_ml"] + table["sd_ml"].fillna(0)).max()) for _, _, table, _ in bars)
    ax.set_ylim(0, 1.4 * tallest)
    ax.set(xlabel="reference volume", ylabel="absolute error, ml (mean, SD)")
    ax.legend(loc="upper left")
    set_title(ax, title, simulated)


def draw_error_by_volume(
    table: pd.DataFrame,
    ax: Axes,
    *,
    methods: Mapping[str, str],
    reference: str,
    x: str | None = None,
    x_label: str | None = None,
    margin_ml: float = 5.0,
    margin_percent: float = 20.0,
    title: str = "",
    simulated: bool = False,
) -> None:
    """Absolute error of each case against its reference volume, or against another column `x` (irregularity).

    Errors below 0.01 ml are drawn at 0.01 ml.
    """
    floor = 0.01
    volume = table[reference].to_numpy(dtype=float)
    across = volume if x is None else table[x].to_numpy(dtype=float)
    for (column, name), (color, marker) in zip(methods.items(), SERIES, strict=False):
        error = np.maximum(np.abs(table[column].to_numpy(dtype=float) - volume), floor)
        drawn = np.isfinite(error) & np.isfinite(across)
        ax.scatter(
            across[drawn], error[drawn], s=13, marker=marker, color=color, edgecolors="white", linewidths=0.3,
            alpha=0.85, label=f"{name} (n = {int(drawn.sum())})", zorder=3,
        )  # fmt: skip
    ax.axhline(margin_ml, color=VERMILION, linestyle=":", linewidth=1.0, label=f"{margin_ml:g} ml")
    ax.set_yscale("log")
    if x is None:
        ax.set_xscale("log")
        shown = across[across > 0]
        ends = np.array([shown.min(), shown.max()])
        ax.plot(
            ends,
            margin_percent / 100 * ends,
            color=GREY,
            linestyle=(0, (5, 2.5)),
            linewidth=1.0,
            label=f"{margin_percent:g} %",
        )
        log_ticks(ax.xaxis, *ax.get_xlim())
    log_ticks(ax.yaxis, *ax.get_ylim())
    ax.set_xlabel(x_label or (f"{column_label(reference)} volume, ml" if x is None else x))
    ax.set_ylabel("absolute error, ml")
    legend_below(ax, 2)
    set_title(ax, title, simulated)


def draw_confusion(counts: pd.DataFrame, ax: Axes, *, title: str = "", simulated: bool = False) -> None:
    """Counts of cases by reference class (rows) and method class; shade and percent are shares of the row."""
    values = counts.to_numpy(dtype=float)
    total = values.sum(axis=1, keepdims=True)
    share = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for (row, column), value in np.ndenumerate(values):
        text = f"{int(value)}" + (f"\n{100 * share[row, column]:.0f} %" if total[row, 0] else "")
        color = "white" if share[row, column] > 0.6 else INK
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(values.shape[1]), [f"{name} ml" for name in counts.columns])
    ax.set_yticks(
        range(values.shape[0]),
        [f"{name} ml\nn = {int(n)}" for name, n in zip(counts.index, total[:, 0], strict=True)],
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel=counts.columns.name or "method", ylabel=counts.index.name or "reference")
    set_count(ax, f"n = {int(values.sum())}")
    set_title(ax, title, simulated)


def draw_forest(rows: pd.DataFrame, ax: Axes, *, value_label: str, title: str = "", simulated: bool = False) -> None:
    """One line per result: this run filled, published hollow.

    Parameters
    ----------
    rows : label, value, low, high (interval or range, may be empty), n, published (bool), optional text.
    """
    height = np.arange(len(rows))[::-1]
    for y, row in zip(height, rows.to_dict("records"), strict=True):
        color = GREY if row["published"] else BLUE
        if pd.notna(row["low"]) and pd.notna(row["high"]):
            ends = [row["low"], row["high"]]
            ax.plot(ends, [y, y], color=color, linewidth=1.4, solid_capstyle="butt", zorder=2)
        if pd.notna(row["value"]):
            shape, fill = ("s", "white") if row["published"] else ("o", color)
            ax.scatter(row["value"], y, s=26, marker=shape, facecolor=fill, edgecolor=color, linewidths=1.1, zorder=3)
        detail = row.get("text")
        text = f"n = {row['n']:.0f}" + (f", {detail}" if isinstance(detail, str) and detail else "")
        ax.text(1.015, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=6.5)
    ax.set_yticks(height, rows["label"])
    for tick, published in zip(ax.get_yticklabels(), rows["published"], strict=True):
        tick.set_fontweight("normal" if published else "bold")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color=PALE, linewidth=0.5)
    ax.set(
        xlabel=f"{value_label}; hollow: published, other data",
        ylim=(-0.6, len(rows) - 0.4),
    )
    set_title(ax, title, simulated)


def draw_planning(
    curve: pd.DataFrame, ax: Axes, *, sd: float | None = None, title: str = "", simulated: bool = False
) -> None:
    """Expected width of a limit's exact interval against the number of cases.

    Parameters
    ----------
    curve : rows of `ich.planning.width_curve`: n, expected_width_sd.
    sd : SD of the differences, ml; adds an axis in ml.
    """
    ax.plot(curve["n"], curve["expected_width_sd"], color=BLUE)
    ax.set_xscale("log")
    log_ticks(ax.xaxis, *ax.get_xlim())
    ax.set_ylim(bottom=0)
    ax.grid(color=PALE, linewidth=0.5)
    ax.set(xlabel="cases, n", ylabel="width of a limit's 95 % interval, SD")
    if sd is not None:
        to_ml, to_sd = (lambda w: np.asarray(w) * sd), (lambda w: np.asarray(w) / sd)
        right = ax.secondary_yaxis("right", functions=(to_ml, to_sd))
        right.set_ylabel(f"ml, at an SD of {sd:.1f} ml")
    set_title(ax, title, simulated)


def draw_reliability(bins: pd.DataFrame, ax: Axes, *, error: float, title: str = "", simulated: bool = False) -> None:
    """Share of voxels that are blood against the probability that the network gave them.

    Parameters
    ----------
    bins : `ich.calibration.reliability`: n, probability, share. error : expected calibration error, 0..1.
    """
    known = bins.dropna()
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8, label="as often as said")
    n = known["n"].to_numpy(dtype=float)
    ax.plot(known["probability"], known["share"], color=BLUE, zorder=3)
    size = 8 + 72 * np.sqrt(n / n.max()) if len(n) else n
    ax.scatter(known["probability"], known["share"], s=size, color=BLUE, edgecolors="white", zorder=4, clip_on=False)
    ax.set(xlabel="probability of blood", ylabel="share that is blood", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    note(ax, f"calibration error {error:.3f}\nlarger point: more voxels\ndashed: as often as said")
    set_title(ax, title, simulated)
    set_count(ax, f"{n.sum() / 1000:,.0f} thousand voxels" if n.sum() >= 1000 else f"{n.sum():.0f} voxels")

"""What all figures share: size and type, colors with markers, labels, saving, alternative text."""

import io
import json
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from ich.atomic import replacing, write_text
from ich.drawn import describe

MM_PER_INCH = 25.4
PNG_DPI = 300
DISPLAY_DPI = 144

# Okabe and Ito's colors: apart for the color-blind; markers keep the groups apart in grayscale too.
INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
SERIES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (VERMILION, "v"), (INK, "P"))
TYPE_SERIES = {
    "parenchymal": SERIES[0],
    "ventricular": SERIES[1],
    "subarachnoid": SERIES[2],
    "mixed": SERIES[3],
}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that files are the same everywhere
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.2,
    "figure.dpi": DISPLAY_DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "svg.fonttype": "path",
    "svg.hashsalt": "ich",
    "hatch.linewidth": 0.6,
}


def use_style() -> None:
    """Set matplotlib to the study's type, lines and sizes."""
    for name, value in STYLE.items():
        plt.rcParams[name] = value


def subplots(rows: int = 1, columns: int = 1, *, size_mm: tuple[float, float] = (85, 75), **options):
    """A figure and its axes in the study's style; `size_mm` is width and height for each of the axes."""
    use_style()
    size = (columns * size_mm[0] / MM_PER_INCH, rows * size_mm[1] / MM_PER_INCH)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **options)


def show(fig: Figure, alt: str) -> None:
    """Display a figure in a notebook with its alternative text, once."""
    display(fig, metadata={"image/png": {"alt": alt}})
    plt.close(fig)


def save_figure(fig: Figure, folder: str | Path, name: str, *, simulated: bool = False) -> tuple[Path, Path]:
    """Write SVG and 300-dpi PNG, each in one step and without dates, so that the same figure gives the same bytes.

    Parameters
    ----------
    name : file name without ending; simulated data add `_simulated`.

    Returns
    -------
    Paths of the SVG and the PNG.
    """
    folder = Path(folder)
    stem = f"{name}_simulated" if simulated else name
    svg, png = folder / f"{stem}.svg", folder / f"{stem}.png"
    text = {"Date": None, "Creator": None, "Description": describe(fig)}
    with plt.rc_context({name: STYLE[name] for name in ("svg.hashsalt", "svg.fonttype")}), replacing(svg) as part:
        fig.savefig(part, format="svg", metadata=text)
    drawn = io.BytesIO()
    fig.savefig(drawn, format="png", dpi=PNG_DPI, metadata={"Software": None})
    drawn.seek(0)
    # 256 colors are enough for lines and grey slices and take a third of the space.
    small = Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    with replacing(png) as part:
        small.save(part, "PNG", optimize=True, dpi=(PNG_DPI, PNG_DPI))
    return svg, png


def keep(fig: Figure, run_dir: Path, name: str, caption: str, simulated: bool) -> None:
    """Save a notebook's figure into the run folder with its caption, show it and close it.

    The caption goes to figures/captions.json, where the report's first page finds it, and is the image's
    alternative text.
    """
    folder = run_dir / "figures"
    forget(run_dir, name)
    save_figure(fig, folder, name, simulated=simulated)
    store_caption(folder, name, caption)
    show(fig, caption)


def forget(run_dir: Path, *names: str) -> None:
    """Remove figures of an earlier run, simulated or not, and their captions: of those drawn anew, or only at times."""
    folder = run_dir / "figures"
    for name in names:
        for path in (*folder.glob(f"{name}.*"), *folder.glob(f"{name}_simulated.*")):
            path.unlink()
    captions = folder / "captions.json"
    if captions.is_file():
        kept = {name: said for name, said in json.loads(captions.read_text()).items() if name not in names}
        write_text(captions, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def store_caption(folder: Path, name: str, caption: str) -> None:
    """Put a figure's caption into captions.json of its folder; it is the image's alternative text too."""
    path = folder / "captions.json"
    captions = json.loads(path.read_text()) if path.is_file() else {}
    captions[name] = {"caption": caption, "alt": caption}
    write_text(path, json.dumps(captions, indent=1, sort_keys=True) + "\n")


def set_title(ax: Axes, title: str, simulated: bool) -> None:
    """Title of one of the axes; simulated data say so."""
    parts = [part for part in (title, "simulated" if simulated else "") if part]
    ax.set_title(", ".join(parts))


def set_count(ax: Axes, text: str) -> None:
    """The n of one of the axes, at the right end of the title's line."""
    ax.set_title(text, loc="right", fontsize=7, fontweight="normal", color=INK)


def column_label(name: str) -> str:
    """A column as a reader's word: network_ml -> network."""
    words = name.removesuffix("_ml").replace("_", " ")
    return words.replace("abc2", "ABC/2").replace("abc3", "ABC/3")


def note(ax: Axes, text: str, *, x: float = 0.02, y: float = 0.98) -> None:
    """Small text inside the axes, by its upper left corner or, right of the middle, its upper right one."""
    ax.text(
        x,
        y,
        text,
        transform=ax.transAxes,
        ha="left" if x < 0.5 else "right",
        va="top" if y > 0.5 else "bottom",
        color=INK,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        zorder=6,
    )


def side_labels(ax: Axes, labels: list[tuple[float, str, str]], gap: float = 0.075) -> None:
    """Text beside the right edge at given heights (y, text, color), moved apart where it would overlap."""
    low, high = ax.get_ylim()
    scale = ax.yaxis.get_transform().transform
    bottom, top = (float(v) for v in scale(np.array([low, high])))
    wanted = sorted(
        ((float(scale(np.array([y]))[0]) - bottom) / (top - bottom), text, color, 1 + text.count("\n"))
        for y, text, color in labels
        if low <= y <= high
    )
    placed: list[float] = []
    for index, (height, _, _, lines) in enumerate(wanted):
        room = gap * (lines + wanted[index - 1][3]) / 2 if index else 0
        placed.append(max(height, placed[-1] + room) if index else height)
    # What was pushed up goes back down by half of the push, so that the block stays around its middle.
    push = max((new - old[0] for new, old in zip(placed, wanted, strict=True)), default=0) / 2
    for height, (_, text, color, _) in zip(placed, wanted, strict=True):
        ax.text(
            1.015,
            height - push,
            text,
            transform=ax.transAxes,
            ha="left",
            va="center",
            color=color,
            fontsize=6.5,
        )


def legend_below(ax: Axes, columns: int = 3, handles=None, title: str | None = None) -> None:
    """Legend under the label of the x axis; a second one goes below the first."""
    before = ax.get_legend()
    if before is not None:
        ax.add_artist(before)
    down = ScaledTranslation(0, -(29 if before is None else 40) / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=handles or ax.get_legend_handles_labels()[0], loc="upper left", bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + down, ncols=columns, columnspacing=1.0, handletextpad=0.4,
        borderaxespad=0, title=title, alignment="left", title_fontsize="medium",
    )  # fmt: skip


def series(names) -> dict[str, tuple[str, str]]:
    """Color and marker of each group name; the four hemorrhage types keep theirs in every figure."""
    names = [str(name) for name in names]
    if all(name in TYPE_SERIES for name in names):
        return {name: TYPE_SERIES[name] for name in names}
    if len(names) > len(SERIES):
        raise ValueError(f"groups: got {len(names)}, at most {len(SERIES)} can be told apart")
    return dict(zip(names, SERIES, strict=False))


def groups_of(table: pd.DataFrame, column: str | None) -> list[tuple[str, np.ndarray]]:
    """Groups of a column and which rows they hold; categories and hemorrhage types in their order."""
    if column is None:
        return [("", np.ones(len(table), dtype=bool))]
    values = table[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        names = list(values.cat.categories)
    else:
        names = sorted(
            values.dropna().unique(),
            key=lambda name: (list(TYPE_SERIES).index(name), "") if name in TYPE_SERIES else (9, str(name)),
        )
    return [(str(name), (values == name).to_numpy()) for name in names if (values == name).any()]


def draw_points(ax: Axes, x: np.ndarray, y: np.ndarray, table: pd.DataFrame, column: str | None) -> None:
    """Scatter colored and marked by group, with a legend that carries each group's n."""
    found = groups_of(table, column)
    looks = series([name for name, _ in found]) if column else {"": SERIES[0]}
    for name, inside in found:
        color, marker = looks[name]
        drawn = inside & np.isfinite(x) & np.isfinite(y)
        label = f"{name} ({int(drawn.sum())})" if column else None
        ax.scatter(
            x[drawn], y[drawn], s=13, marker=marker, color=color, edgecolors="white", linewidths=0.3,
            alpha=0.85, label=label, zorder=3,
        )  # fmt: skip
    if column:
        title = "reference volume, ml (scans)" if column == "volume_group" else None
        legend_below(ax, handles=ax.collections[-len(found) :], title=title)


def log_ticks(axis, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis, 1-2-5 a decade, or closer where the range is short."""
    decades = math.log10(high / low) if low > 0 else 2
    subs: tuple[float, ...] = (1.0, 2.0, 5.0) if decades > 0.9 else (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)
    if decades > 2.2:
        subs = (1.0,)
    axis.set_major_locator(ticker.LogLocator(subs=subs) if decades > 0.9 else ticker.FixedLocator(list(subs)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())

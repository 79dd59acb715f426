"""What a figure shows, in numbers: kept inside its SVG, so that it can be held against the tables it was drawn from."""

import html
import json
import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

DESCRIPTION = re.compile(r"<dc:description>(.*?)</dc:description>", re.DOTALL)


def describe(fig: Figure) -> str:
    """JSON of each of the axes that have points or numbers: title, texts, labels of the axes, x and y of the points."""
    panels = [_panel(ax) for ax in fig.axes]
    return json.dumps([panel for panel in panels if panel["x"] or panel["texts"]], ensure_ascii=False)


def _panel(ax: Axes) -> dict:
    found = [np.asarray(part.get_offsets(), float) for part in ax.collections if isinstance(part, PathCollection)]
    points = np.concatenate(found) if found else np.empty((0, 2))
    texts = [text.get_text() for text in ax.texts if re.search(r"\d", text.get_text())]
    return {
        "title": ax.get_title("left") or ax.get_title(), "texts": texts,
        "x_label": ax.get_xlabel(), "y_label": ax.get_ylabel(),
        "x": [float(f"{value:.8g}") for value in points[:, 0]],
        "y": [float(f"{value:.8g}") for value in points[:, 1]],
    }  # fmt: skip


def read(svg: Path) -> list[dict]:
    """What `describe` said of a figure; empty for an SVG that was not made here.

    Raises
    ------
    ValueError : the description is none of a figure's.
    """
    found = DESCRIPTION.search(svg.read_text(encoding="utf-8"))
    if not found:
        return []
    panels = json.loads(html.unescape(found.group(1)))
    if not isinstance(panels, list) or not all(isinstance(panel, dict) for panel in panels):
        raise ValueError(f"{svg.name}: its description is no list of panels")
    return panels

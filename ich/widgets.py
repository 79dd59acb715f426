"""Slice viewer that needs no kernel (one image of all slices behind a range input), and what is built on it."""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from ich.atomic import replacing
from ich.hounsfield import head_box
from ich.scan import ScanError, read_mask, read_scan
from ich.slice_figures import BRAIN_WINDOW, LABEL_OUTLINES
from ich.tables import LABELS

MAX_SPRITE_PX = 16383  # tallest WebP


def windowed(hu: np.ndarray, window: tuple[float, float] = BRAIN_WINDOW) -> np.ndarray:
    """HU to gray 0..255 (uint8); `window` is the HU shown black and white."""
    low, high = window
    return (np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def sprite(
    hu: np.ndarray,
    labels: np.ndarray,
    spacing_mm: tuple[float, float],
    side: int = 320,
    window: tuple[float, float] = BRAIN_WINDOW,
) -> Image.Image:
    """The head on all slices of (I, J, K) HU, foot to head, below each other in radiological view, outlines drawn by
    label."""
    whole = slice(0, hu.shape[0]), slice(0, hu.shape[1])
    rows, columns = head_box(hu, spacing_mm, margin_mm=4.0) or whole
    side = min(side, MAX_SPRITE_PX // hu.shape[2])
    size_mm = ((rows.stop - rows.start) * spacing_mm[0], (columns.stop - columns.start) * spacing_mm[1])
    shown = tuple(max(1, round(side * length / max(size_mm))) for length in size_mm)
    tiles = []
    for k in range(hu.shape[2]):
        # Axis I runs to the patient's left, which radiological view shows on the right: (J, I) is (row, column).
        rgb = np.repeat(windowed(hu[rows, columns, k].T, window)[:, :, None], 3, axis=2)
        for label, color in ((number, LABEL_OUTLINES[name][0]) for name, number in LABELS.items()):
            mask = label == labels[rows, columns, k].T
            if bool(np.any(mask)):
                rgb[mask & ~ndimage.binary_erosion(mask)] = tuple(int(color[n : n + 2], 16) for n in (1, 3, 5))
        tile = Image.fromarray(rgb).resize((shown[0], shown[1]), Image.Resampling.LANCZOS)
        canvas = Image.new("RGB", (side, side))
        canvas.paste(tile, ((side - tile.width) // 2, (side - tile.height) // 2))
        tiles.append(canvas)
    out = Image.new("RGB", (side, side * len(tiles)))
    for k, tile in enumerate(tiles):
        out.paste(tile, (0, k * side))
    return out


@dataclass(frozen=True, eq=False)
class SliceViewer:
    """Scrolls through the slices of a scan in a notebook, in exported HTML and without a network.

    Attributes
    ----------
    hu : (I, J, K) HU.
    labels : (I, J, K) uint8, 0..3, outlined.
    spacing_mm : of the pixels along I and J.
    start : slice shown first; by default the one with the most blood, the middle one where there is none.
    name : what a screen reader says of the image.
    """

    hu: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float]
    start: int | None = None
    name: str = "CT slices with outlines"

    def html(self) -> str:
        """The viewer as one HTML element; it holds its image."""
        image = sprite(self.hu, self.labels, self.spacing_mm)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=72, method=4)
        data = base64.b64encode(buffer.getvalue()).decode()
        n, side = self.hu.shape[2], image.width
        blood = (self.labels > 0).sum(axis=(0, 1))
        start = (int(np.argmax(blood)) if blood.any() else n // 2) if self.start is None else self.start
        move = (
            "var r=this.closest('.ich-viewer');"
            f"r.querySelector('.ich-slice').style.backgroundPositionY=(-this.value*{side})+'px';"
            f"r.querySelector('output').textContent='slice '+(+this.value+1)+' of {n}'"
        )
        present = [name for name, number in LABELS.items() if (self.labels == number).any()]
        legend = "".join(
            '<span style="white-space:nowrap">'
            f'<span style="color:{LABEL_OUTLINES[name][0]};background:#000">&#9632;</span> {name}</span> '
            for name in present
        )
        low, high = BRAIN_WINDOW
        return (
            f'<div class="ich-viewer" style="max-width:{side}px">'
            f'<div class="ich-slice" role="img" aria-label="{self.name}" '
            f'style="width:{side}px;height:{side}px;'
            f'background:#000 url(data:image/webp;base64,{data}) 0 {-start * side}px">'
            f'</div><label>Slice, foot to head<br><input type="range" min="0" max="{n - 1}" value="{start}" '
            f'style="width:100%" oninput="{move}"></label><output>slice {start + 1} of {n}</output>'
            f'<p style="margin:.3rem 0;font-size:.85rem">{legend}{"<br>" if legend else ""}'
            f"The patient's right is on the left; {low:g} to {high:g} HU.</p></div>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": f"SliceViewer: {self.hu.shape[2]} slices"}


def case_browser(cases: pd.DataFrame, run_dir: Path, out: Path):
    """Click through the scans of a cohort and set cases aside with a reason, in JupyterLab.

    Parameters
    ----------
    cases : cohort rows with case_id, image (may be empty) and reference_mask, paths from `run_dir`.
    out : CSV of case_id and reason that the buttons write; give it to 01_cohort as `set_aside`.

    Returns
    -------
    An ipywidgets box; its `children` are the choice of the case, the viewer, the reason, both buttons and a message.
    """
    import ipywidgets  # a second to import; reports do without

    rows = cases[cases["reference_mask"].notna()].set_index("case_id")
    chosen = pd.read_csv(out, dtype=str) if out.is_file() else pd.DataFrame(columns=["case_id", "reason"], dtype=str)
    aside = dict(zip(chosen["case_id"], chosen["reason"], strict=True))
    case = ipywidgets.Dropdown(options=list(rows.index), description="case")
    viewer = ipywidgets.HTML()
    reason = ipywidgets.Text(description="reason", placeholder="why this case is set aside")
    put, take_back = (ipywidgets.Button(description=text) for text in ("set aside", "take back"))
    message = ipywidgets.HTML()

    def show(_=None) -> None:
        row = rows.loc[case.value]
        try:
            labels, grid = read_mask(run_dir / row["reference_mask"])
            hu = read_scan(run_dir / row["image"]).hu if isinstance(row["image"], str) else np.where(labels > 0, 60, 0)
            viewer.value = SliceViewer(hu, labels, grid.spacing_mm).html()
        except (ScanError, OSError) as error:
            viewer.value = html.escape(str(error))
        reason.value = aside.get(case.value, "")

    def write(text: str) -> None:
        with replacing(out) as part:
            pd.DataFrame(sorted(aside.items()), columns=["case_id", "reason"]).to_csv(part, index=False)
        message.value = html.escape(f"{text}; {len(aside)} set aside in {out.name}")

    def on_put(_) -> None:
        if not reason.value.strip():
            message.value = "a reason is wanted"
            return
        aside[case.value] = reason.value.strip()
        write(f"{case.value} set aside")

    def on_take_back(_) -> None:
        aside.pop(case.value, None)
        reason.value = ""
        write(f"{case.value} taken back")

    put.on_click(on_put)
    take_back.on_click(on_take_back)
    case.observe(show, "value")
    if len(rows):
        show()
    return ipywidgets.VBox([case, viewer, reason, put, take_back, message])

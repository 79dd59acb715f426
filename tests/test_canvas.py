"""What all figures share: files that repeat, alternative text, labels that stay apart."""

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ich.canvas import column_label, forget, groups_of, keep, save_figure, series, show, side_labels, subplots
from ich.wording import number

mpl.use("Agg")


def _figure():
    fig, ax = subplots()
    ax.plot([0, 1], [0, 1])
    ax.set_xlabel("volume, ml")
    return fig


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    first = save_figure(_figure(), tmp_path / "a", "line")
    second = save_figure(_figure(), tmp_path / "b", "line")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"<dc:date>" not in first[0].read_bytes()


def test_png_has_300_dpi_and_the_size_asked_for(tmp_path):
    fig, _ = subplots(1, 2, size_mm=(85, 60))
    _, png = save_figure(fig, tmp_path, "two")
    with Image.open(png) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.size == pytest.approx((170 / 25.4 * 300, 60 / 25.4 * 300), abs=1)


def test_simulated_data_show_in_the_file_name(tmp_path):
    svg, png = save_figure(_figure(), tmp_path, "volumes", simulated=True)
    assert (svg.name, png.name) == ("volumes_simulated.svg", "volumes_simulated.png")


def test_no_figure_of_an_earlier_run_is_left_beside_the_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr("ich.canvas.display", lambda *figures, **options: None)
    for name in ("volumes", "volumes_by_site"):
        keep(_figure(), tmp_path, name, f"Of {name}.", simulated=True)
    keep(_figure(), tmp_path, "volumes", "Of patients.", simulated=False)
    forget(tmp_path, "reliability")  # which was never drawn
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"captions.json", "volumes.svg", "volumes.png", "volumes_by_site_simulated.svg",
                     "volumes_by_site_simulated.png"}  # fmt: skip
    forget(tmp_path, "volumes")
    assert set(json.loads((tmp_path / "figures" / "captions.json").read_text())) == {"volumes_by_site"}


def test_alternative_text_goes_with_the_image(monkeypatch):
    seen = {}
    monkeypatch.setattr("ich.canvas.display", lambda fig, metadata: seen.update(metadata))
    show(_figure(), "volumes of 12 cases")
    assert seen == {"image/png": {"alt": "volumes of 12 cases"}}


def test_side_labels_stay_apart_and_in_order():
    _, ax = subplots()
    ax.set_ylim(0, 100)
    side_labels(ax, [(50, "b", "k"), (49, "a", "k"), (51, "c", "k"), (500, "outside", "k")])
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert set(heights) == {"a", "b", "c"}
    assert np.diff([heights[name] for name in "abc"]) == pytest.approx([0.075, 0.075])


def test_numbers_as_text():
    assert number(-1.25, 2) == "−1.25"
    assert number(-0.01) == "0.0"
    assert column_label("abc2_kothari_ml") == "ABC/2 kothari"


def test_groups_have_colors_and_markers_of_their_own():
    looks = series(["mixed", "parenchymal"])
    assert looks["parenchymal"] == series(["parenchymal"])["parenchymal"]
    assert len({marker for _, marker in series("abcdef").values()}) == 6
    with pytest.raises(ValueError, match="at most 6 can be told apart"):
        series("abcdefg")


def test_groups_in_their_order():
    types = pd.DataFrame({"t": ["mixed", "parenchymal", "mixed", None]})
    assert [name for name, _ in groups_of(types, "t")] == ["parenchymal", "mixed"]
    groups = pd.DataFrame({"g": pd.Categorical(["<5", ">25"], ["<5", "5-25", ">25"])})
    assert [name for name, _ in groups_of(groups, "g")] == ["<5", ">25"]


def test_every_figure_of_the_demo_is_there_as_svg_and_as_png_of_300_dpi_with_a_caption():
    folder = Path(__file__).resolve().parents[1] / "reports" / "demo" / "figures"
    captions = json.loads((folder / "captions.json").read_text())
    stems = {path.stem for path in folder.glob("*.*")} - {"captions"}
    assert stems
    for stem in stems:
        assert stem.removesuffix("_simulated") in captions
        width_pt = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', (folder / f"{stem}.svg").read_text()).group(1))
        with Image.open(folder / f"{stem}.png") as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert image.width == pytest.approx(width_pt / 72 * 300, abs=2)  # both are of one size

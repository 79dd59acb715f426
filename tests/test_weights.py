"""The shipped weights are whole, small, used by default, and say of themselves what they are."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ich import model
from ich.case import analyze
from ich.case_files import segment
from ich.grid import Grid
from ich.scan import write_scan

ROOT = Path(__file__).resolve().parents[1]
CARD = (model.SHIPPED_WEIGHTS / "MODEL_CARD.md").read_text()


def test_shipped_weights_load_and_are_small():
    network, settings, card = model.load_weights(model.SHIPPED_WEIGHTS, torch.device("cpu"))
    assert sum(path.stat().st_size for path in model.SHIPPED_WEIGHTS.iterdir()) < 20e6
    with torch.no_grad():
        logits = network(torch.rand(1, settings.in_channels, settings.size, settings.size))
    assert logits.shape == (1, settings.classes, settings.size, settings.size)
    assert bool(logits.isfinite().all())
    assert card["simulated"] is True
    assert "simulated CT only" in card["trained_on"]
    assert "research only" in card["use"]


@pytest.fixture
def ball(tmp_path) -> Path:
    """A scan of a ball of brain in a skull."""
    axis = (np.arange(96) - 47.5) * 2.0
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + (np.arange(6) * 5.0 - 12) ** 2)
    hu = np.select([radius < 66, radius < 73, radius < 79], [33, 1000, -80], -1000).astype(np.int16)
    path = tmp_path / "ball.nii.gz"
    write_scan(path, hu, Grid(hu.shape, (2.0, 2.0), np.arange(6) * 5.0, np.diag([-2.0, -2, 5, 1]), 0.0, 5.0))
    return path


def test_segment_uses_them_by_default_and_says_what_they_are(ball, tmp_path):
    result = segment(ball, tmp_path / "out")
    shipped = json.loads((model.SHIPPED_WEIGHTS / "settings.json").read_text())
    assert result["weights"]["sha256"] == shipped["sha256"]
    assert any("simulated" in text for text in result["warnings"])
    page = (tmp_path / "out" / "case.html").read_text()
    assert "Research use only" in page
    assert "trained on: simulated CT only" in page


def test_a_simulated_scan_is_said_to_be_one(ball):
    for simulated in (True, False):
        warned = analyze(ball, simulated=simulated).content["warnings"]
        assert ("of no patient" in warned[0]) == simulated


def test_command_segments_with_them(ball, tmp_path, capsys):
    from ich.cli import main

    assert main(["segment", str(ball), "--out", str(tmp_path / "out")]) == 0
    assert "trained on simulated CT only, research use only" in capsys.readouterr().out


def test_command_refuses_changed_weights(ball, tmp_path, capsys):
    from ich.cli import main

    for name in ("weights.safetensors", "settings.json"):
        (tmp_path / name).write_bytes((model.SHIPPED_WEIGHTS / name).read_bytes())
    with (tmp_path / "weights.safetensors").open("ab") as stream:
        stream.write(b"0")
    assert main(["segment", str(ball), "--out", str(tmp_path / "out"), "--weights", str(tmp_path)]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_card_quotes_the_committed_table():
    """Rows of the card's table are rows of reports/checks/weights.csv, rounded to two digits."""
    rows = list(csv.DictReader((ROOT / "reports" / "checks" / "weights.csv").read_text().splitlines()))
    quoted = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([a-z_0-9.]+) \| (\d+) \| (-?[\d.]+) \|", CARD, re.MULTILINE)
    assert len(quoted) == len(rows)
    for row, (group, stratum, quantity, n, value) in zip(rows, quoted, strict=True):
        assert (row["group"], row["stratum"], row["quantity"], row["n"]) == (group, stratum, quantity, n)
        assert float(value) == pytest.approx(float(row["value"]), abs=0.00501)


def test_card_names_the_weights_it_is_about():
    shipped = json.loads((model.SHIPPED_WEIGHTS / "settings.json").read_text())
    assert shipped["sha256"][:12] in CARD
    assert "Research use only" in CARD
    assert "ich pretrain" in CARD

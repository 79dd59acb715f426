"""A folder of scans in one call; DICOM out; an earlier scan."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made_seg import write_ct

from ich import batch, model, predict
from ich.batch import scans_in, segment_all
from ich.case import segment
from ich.cli import main
from ich.dicom_masks import read_dicom_mask
from ich.dicom_report import read_volumes
from ich.novelty import Familiar
from ich.scan import read_mask
from ich.series import choose_series


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that calls everything over about 50 HU parenchymal blood."""
    settings = model.Settings(pixel_mm=2.0, size=32, channels=(4, 8), strides=(2,))
    torch.manual_seed(0)
    network = model.build_network(settings)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    last.bias.data[1] = 1.0  # blood everywhere the network looks
    folder = tmp_path_factory.mktemp("weights")
    model.save_weights(network, settings, folder, trained_on="nothing", simulated=True, best_step=0, use="test",
                       volume_calibration={"level": 0.9, "n": 20, "factor": 0.2})  # fmt: skip
    return folder


def head(shift=0):
    """(rows, columns, K) HU of a disc of brain in a ring of bone."""
    y, x = np.ogrid[:64, :64]
    radius = np.hypot(y - 32, x - 32 - shift)
    plane = np.select([radius < 20, radius < 24], [35, 900], -1000).astype(np.int16)
    return np.repeat(plane[:, :, None], 10, axis=2)


@pytest.fixture
def scans(tmp_path):
    """Three folders of which the second is damaged."""
    root = tmp_path / "scans"
    for name in ("Jane", "John", "Jim"):
        write_ct(root / name, np.arange(10) * 5.0, hu=head(), PixelSpacing=[2.0, 2.0])
    for path in (root / "John").iterdir():
        path.write_bytes(path.read_bytes()[:600])
    return root


def test_a_folder_of_scans_is_one_call_and_a_damaged_one_stops_nothing(scans, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["segment", str(scans), "--out", str(out), "--weights", str(weights)]) == 1
    summary = pd.read_csv(out / "summary.csv")
    assert summary["case"].tolist() == ["case-001", "case-002", "case-003"]
    assert summary["reason"].notna().tolist() == [False, False, True]
    assert summary["volume_ml"].notna().tolist() == [True, True, False]
    said = capsys.readouterr()
    assert "2 of 3 scans" in said.out
    assert said.err.splitlines()[-1].startswith("case-003: ")
    assert pd.read_csv(out / "key.csv")["scan"].str.rsplit("/").str[-1].tolist() == ["Jane", "Jim", "John"]
    text = "".join(path.read_text() for path in out.rglob("*") if path.suffix in (".json", ".html")) + summary.to_csv()
    assert not any(name in text for name in ("Jane", "Jim", "John", "Secret", "SECRET"))


def test_dicom_comes_out_as_dicom(scans, weights, tmp_path):
    result = segment(scans / "Jane", tmp_path / "out", weights)
    assert not any("No DICOM" in text for text in result["warnings"]), result["warnings"]
    series = choose_series(scans / "Jane")
    labels, _ = read_mask(tmp_path / "out" / "mask.nii.gz")
    np.testing.assert_array_equal(read_dicom_mask(tmp_path / "out" / "mask.dcm", series).labels, labels)
    volumes = read_volumes(tmp_path / "out" / "report.dcm")
    assert volumes == {"Intraparenchymal hemorrhage": pytest.approx(result["volume_ml"], abs=1e-3)}


def test_an_earlier_scan_is_compared_with(scans, weights, tmp_path):
    result = segment(scans / "Jane", tmp_path / "out", weights, earlier=scans / "Jim")
    assert result["growth"]["change_ml"] == 0
    assert result["growth"]["by_error"] == 1
    assert json.loads((tmp_path / "out" / "case.json").read_text())["growth"]["expansion"] is False
    assert "Expansion of the total (over 6 ml or 33 %)" in (tmp_path / "out" / "case.html").read_text()


def test_what_a_path_names(scans, tmp_path):
    assert [path.name for path in scans_in(scans)] == ["Jane", "Jim", "John"]
    assert scans_in(scans / "Jane") == [scans / "Jane"]
    single = tmp_path / "export"
    shutil.copytree(scans / "Jane", single / "series")
    assert scans_in(single) == [single]
    nifti = tmp_path / "nifti"
    nifti.mkdir()
    for name in ("b.nii", "a.nii.gz", "note.txt"):
        (nifti / name).touch()
    assert [path.name for path in scans_in(nifti)] == ["a.nii.gz", "b.nii"]


def test_weights_are_loaded_once(scans, weights, tmp_path, monkeypatch):
    loads = []
    real = model.load_weights
    predict._loaded.cache_clear()
    monkeypatch.setattr("ich.predict.load_weights", lambda *given: loads.append(1) or real(*given))
    segment_all([scans / "Jane", scans / "Jim"], tmp_path / "out", weights)
    assert len(loads) == 1


@pytest.mark.parametrize(("limit", "unlike"), [(1e9, False), (1e-9, True)])
def test_a_scan_unlike_those_of_training_is_warned_of(scans, weights, tmp_path, limit, unlike):
    loaded = predict.Weights.load(weights)
    familiar = Familiar(np.ones(8), np.ones(8), np.eye(8), limit, 40, 20)
    result = segment(scans / "Jane", tmp_path / "out", replace(loaded, familiar=familiar))
    assert any("is unlike those" in text for text in result["warnings"]) is unlike
    assert (result["novelty"] > 1) is unlike
    assert segment(scans / "Jane", tmp_path / "plain", loaded)["novelty"] is None


def test_two_processes_give_the_same_summary(scans, weights, tmp_path):
    one = segment_all(scans_in(scans), tmp_path / "one", weights)
    two = segment_all(scans_in(scans), tmp_path / "two", weights, jobs=2)
    assert one["reason"].notna().tolist() == [False, False, True]
    pd.testing.assert_frame_equal(one, two)


def test_a_broken_device_is_no_fault_of_a_scan(scans, weights, tmp_path, monkeypatch, capsys):
    """What a device that fails for good raises at the second scan: no scan is blamed, the rest is done later."""
    real, given = batch.segment, ["segment", str(scans), "--out", str(tmp_path / "out"), "--weights", str(weights)]

    def broken(scan, out, ready):
        if out.name == "case-002":
            raise torch.AcceleratorError("an illegal memory access was encountered")
        return real(scan, out, ready)

    monkeypatch.setattr(batch, "segment", broken)
    assert main(given) == 2
    assert "the device failed while case-002 was segmented, --resume goes on" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["case"].tolist() == ["case-001"]
    monkeypatch.setattr(batch, "segment", real)
    main([*given, "--resume"])
    done = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert done["volume_ml"].notna().tolist() == [True, True, False]  # the third scan is damaged

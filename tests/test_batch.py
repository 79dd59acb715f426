"""A folder of scans in one call; DICOM out; an earlier scan."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from made_dicom import write_series
from made_seg import read_volumes, write_ct

from ich import batch, model, predict
from ich.batch import scans_in, segment_all
from ich.case_files import segment
from ich.cli import main
from ich.dicom_masks import read_dicom_mask
from ich.earlier import doubts
from ich.novelty import Familiar
from ich.scan import ScanError, read_mask, write_mask
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


def test_a_series_of_the_earlier_scan_can_be_named(scans, weights, tmp_path):
    for number in (2, 3):
        write_ct(tmp_path / "before" / str(number), np.arange(10) * 5.0, hu=head(), PixelSpacing=[2.0, 2.0],
                 SeriesNumber=number, SeriesInstanceUID=f"1.2.{number}")  # fmt: skip
    call = ["segment", str(scans / "Jane"), "--earlier", str(tmp_path / "before"), "--weights", str(weights)]
    assert main([*call, "--out", str(tmp_path / "out")]) == 2
    assert main([*call, "--out", str(tmp_path / "out"), "--earlier-series", "3"]) == 0


def test_an_earlier_scan_in_other_values_is_refused(weights, tmp_path):
    """By 1024 too high it would show no blood, and so an expansion."""
    for name, hu in (("now", head()), ("before", head() + np.int16(1024))):
        volume = nibabel.Nifti1Image(hu.transpose(1, 0, 2), np.diag([-2.0, -2, 5, 1]))
        nibabel.save(volume, tmp_path / f"{name}.nii.gz")
    with pytest.raises(ScanError, match=r"before\.nii\.gz: .*1024"):
        segment(tmp_path / "now.nii.gz", tmp_path / "out", weights, earlier=tmp_path / "before.nii.gz")
    assert not (tmp_path / "out").exists()


def test_a_scan_of_one_slice_is_marked_and_measured(weights, tmp_path):
    """5 mm of a disc of 20 pixels radius, each 4 mm²: 25 ml."""
    hu = head()[:, :, :1].transpose(1, 0, 2)
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([-2.0, -2, 5, 1])), tmp_path / "slice.nii.gz")
    found = segment(tmp_path / "slice.nii.gz", tmp_path / "out", weights)
    assert found["volume_ml"] > 20
    assert found["abc2"]["c_mm"] == 5
    assert (tmp_path / "out" / "case.html").is_file()


def test_a_folder_of_patients_is_a_batch_though_one_scan_alone_can_be_used(tmp_path):
    for name, z in (("a", np.arange(10) * 5.0), ("b", np.delete(np.arange(10) * 5.0, 4))):
        write_series(tmp_path / name, z, PatientID=name)
    assert [path.name for path in scans_in(tmp_path)] == ["a", "b"]


def test_a_link_to_nothing_is_a_scan_that_fails(tmp_path):
    (tmp_path / "lost.nii.gz").symlink_to(tmp_path / "nowhere")
    assert [path.name for path in scans_in(tmp_path)] == ["lost.nii.gz"]


def test_what_is_wrong_with_a_scan_is_told(scans, weights, tmp_path):
    said = segment(scans / "Jane", tmp_path / "out", weights)["warnings"]
    assert any(text.startswith("Quality: ") and "wanted 800 or more" in text for text in said)  # a ball for a head


def test_the_output_folder_is_no_scan(scans, weights, tmp_path, capsys):
    shutil.rmtree(scans / "John")
    call = ["segment", str(scans), "--out", str(scans / "out"), "--weights", str(weights), "--jobs", "1"]
    assert (main(call), main([*call, "--resume"])) == (0, 0)


def test_an_empty_text_is_no_scan(capsys, tmp_path):
    assert main(["segment", "", "--out", str(tmp_path)]) == 2
    assert "an empty text stands for a scan" in capsys.readouterr().err


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


def test_what_lies_beside_scans_is_passed_over(scans, tmp_path):
    (scans / "README.txt").write_text("PACS export")
    (scans / "._x.nii.gz").touch()
    (scans / "V.NII.GZ").touch()
    assert [path.name for path in scans_in(scans)] == ["V.NII.GZ", "Jane", "Jim", "John"]
    (scans / "mask.nii.gz").touch()
    assert len(scans_in(scans)) == 5
    (scans / "case.json").touch()
    assert len(scans_in(scans)) == 4, "a mask beside case.json is one of ours"


def test_what_an_earlier_call_left_is_not_taken_for_another_patients(scans, weights, tmp_path):
    out = tmp_path / "out"
    segment(scans / "Jane", out, weights)
    assert (out / "mask.dcm").is_file()
    nifti = tmp_path / "v.nii.gz"
    shutil.copy(out / "mask.nii.gz", nifti)
    with pytest.raises(ValueError, match="a mask, or scaled, not HU"):
        segment(nifti, out, weights)
    assert not list(out.iterdir()), "what Jane's scan gave would stand for this one"
    (out / "mask.nii.gz").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"mask\.nii\.gz would be overwritten and is not what"):
        segment(scans / "Jane", out, weights)
    assert (out / "mask.nii.gz").read_bytes() == b"mine"


def test_a_call_that_was_interrupted_leaves_a_folder_that_can_be_used_again(scans, weights, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ich.case_files.case_page", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segment(scans / "Jane", tmp_path / "out", weights)
        patch.setattr("ich.case_files._write_dicom", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segment(scans / "Jane", tmp_path / "out", weights)
    assert (tmp_path / "out" / "mask.nii.gz").is_file()
    segment(scans / "Jim", tmp_path / "out", weights)
    assert (tmp_path / "out" / "case.html").is_file()


def test_two_batches_cannot_write_into_one_folder(scans, weights, tmp_path, held_by_another):
    with held_by_another(tmp_path / "out" / ".lock"), pytest.raises(OSError, match="out is in use by process 4711"):
        segment_all(scans_in(scans), tmp_path / "out", weights)
    assert not (tmp_path / "out" / "key.csv").exists()
    assert len(segment_all(scans_in(scans), tmp_path / "out", weights)) == len(scans_in(scans))


def test_a_batch_does_not_go_into_the_folder_of_another(scans, weights, tmp_path):
    segment_all([scans / "Jane", scans / "Jim"], tmp_path / "out", weights)
    with pytest.raises(ValueError, match=r"key\.csv lists other scans than these: choose another folder"):
        segment_all([scans / "Jim", scans / "Jane"], tmp_path / "out", weights)


def test_scans_that_have_come_since_are_added_to_a_batch(scans, weights, tmp_path):
    out = tmp_path / "out"
    segment_all([scans / "Jim"], out, weights)
    first = (out / "case-001" / "case.json").stat().st_mtime_ns
    both = segment_all([scans / "Jane", scans / "Jim"], out, weights, resume=True)
    assert both["case"].tolist() == ["case-001", "case-002"]
    assert [Path(scan).name for scan in pd.read_csv(out / "key.csv")["scan"]] == ["Jim", "Jane"]
    assert (out / "case-001" / "case.json").stat().st_mtime_ns == first, "done before"


def correct(mask):
    """Take the blood of one slice away, as a reader may; the bytes of the file."""
    labels, grid = read_mask(mask)
    labels[..., 5] = 0
    write_mask(mask, labels, grid)
    return mask.read_bytes()


def test_a_result_stays_where_the_next_is_not_there_and_where_a_reader_has_changed_it(scans, weights, tmp_path):
    out = tmp_path / "out"
    segment(scans / "Jane", out, weights)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for call in ((tmp_path / "typo.nii.gz", out, weights), (scans / "Jane", out, tmp_path / "no weights")):
        with pytest.raises((ScanError, FileNotFoundError)):
            segment(*call)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    corrected = correct(out / "mask.nii.gz")
    with pytest.raises(FileExistsError, match=r"mask\.nii\.gz was changed after `ich segment` wrote it"):
        segment(scans / "Jim", out, weights)
    assert (out / "mask.nii.gz").read_bytes() == corrected


def test_a_mask_that_a_reader_has_changed_is_kept_when_a_batch_is_taken_up(scans, weights, tmp_path):
    out = tmp_path / "out"
    segment_all([scans / "Jane", scans / "Jim"], out, weights)
    corrected = correct(out / "case-002" / "mask.nii.gz")
    again = segment_all([scans / "Jane", scans / "Jim"], out, weights, resume=True)
    assert again["reason"].isna().tolist() == [True, False]
    assert again["reason"][1].startswith("case-002/mask.nii.gz was changed after")
    assert (out / "case-002" / "mask.nii.gz").read_bytes() == corrected


def test_an_earlier_scan_that_cannot_be_one_is_doubted(tmp_path, weights):
    def made(name, **tags):
        return write_ct(tmp_path / name, np.arange(10) * 5.0, hu=head(), PixelSpacing=[2.0, 2.0], **tags)

    made("one", PatientID="A", SeriesInstanceUID="1.2.3", StudyDate="20240101")
    made("later", PatientID="A", SeriesInstanceUID="1.2.4", StudyDate="20240102")
    made("other", PatientID="B", SeriesInstanceUID="1.2.5", StudyDate="20230101")
    one, later, other = (tmp_path / name for name in ("one", "later", "other"))
    assert doubts(later, one) == []
    assert doubts(one, later) == ["The earlier scan was made after the scan: they may be the wrong way round."]
    assert doubts(one, other)[0].startswith("The earlier scan has another patient ID")
    assert doubts(one, one) == ["The scan and the earlier scan are the same."]
    shutil.copytree(one, tmp_path / "copy")
    assert doubts(one, tmp_path / "copy") == ["The scan and the earlier scan are the same series."]
    result = segment(one, tmp_path / "out", weights, earlier=other)
    assert any("another patient ID" in text for text in result["warnings"])


def test_one_of_several_series_can_be_named(tmp_path, weights, capsys):
    for number, kernel in ((2, "SOFT"), (3, "BONE")):
        write_ct(
            tmp_path / kernel, np.arange(10) * 5.0, hu=head(), PixelSpacing=[2.0, 2.0], SeriesNumber=number,
            SeriesInstanceUID=f"1.2.{number}", ConvolutionKernel=kernel,
        )  # fmt: skip
        for path in (tmp_path / kernel).iterdir():
            (tmp_path / "scan").mkdir(exist_ok=True)
            path.rename(tmp_path / "scan" / f"{kernel}{path.name}")
    given = ["segment", str(tmp_path / "scan"), "--out", str(tmp_path / "out"), "--weights", str(weights)]
    assert main(given) == 2
    assert "with --series 2" in capsys.readouterr().err
    assert main([*given, "--series", "3"]) == 0


def test_a_process_keeps_the_weights_of_every_device(weights):
    """Scans are given to the GPUs of a machine in turn, and to processes as these are free."""
    cpu, auto = predict.ready(weights, "cpu"), predict.ready(weights, "auto")
    assert cpu is not auto
    assert predict.ready(weights, "cpu") is cpu
    assert predict.ready(weights, "auto") is auto


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
    real, given = batch.segment, ["segment", str(scans), "--out", str(tmp_path / "out")]
    given += ["--weights", str(weights), "--jobs", "1"]

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


def nifti(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(head(), np.diag([-2.0, -2.0, 5.0, 1.0])), path)
    return path


def test_scans_are_found_wherever_below_the_folder_they_lie(tmp_path):
    root = tmp_path / "all"
    write_ct(root / "p0", np.arange(10) * 5.0, hu=head(), PixelSpacing=[2.0, 2.0])
    deep, flat = nifti(root / "p1" / "study" / "ct.nii.gz"), nifti(root / "p2.nii.gz")
    other = root / "p3" / "ct.nrrd"
    other.parent.mkdir()
    other.write_bytes(b"NRRD0004")
    nifti(root / ".trash" / "old.nii.gz")
    assert scans_in(root) == [deep, flat, other, root / "p0"]
    flat.unlink()
    assert scans_in(root) == [deep, other, root / "p0"]


def test_a_file_of_a_kind_that_is_not_read_is_a_scan_that_fails(weights, tmp_path):
    nifti(tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "scans" / "b.nrrd").write_bytes(b"NRRD0004")
    found = segment_all(scans_in(tmp_path / "scans"), tmp_path / "out", weights)
    assert found["reason"].isna().tolist() == [True, False]


def test_resume_does_again_what_other_weights_or_another_scan_made(weights, tmp_path):
    scans = [nifti(tmp_path / "scans" / f"{name}.nii.gz") for name in "ab"]
    out = tmp_path / "out"
    segment_all(scans, out, weights)
    made = [(out / name / "case.json").stat().st_mtime_ns for name in ("case-001", "case-002")]

    def again(by=weights):
        segment_all(scans, out, by, resume=True)
        return [(out / name / "case.json").stat().st_mtime_ns for name in ("case-001", "case-002")]

    assert again() == made
    os.utime(scans[1], (time.time() + 5,) * 2)
    second = again()
    assert second[0] == made[0]
    assert second[1] > made[1]
    os.utime(scans[1], (time.time() - 5,) * 2)
    others = shutil.copytree(weights, tmp_path / "others")
    network, settings, card = model.load_weights(weights, torch.device("cpu"))
    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    last.bias.data[1] = 2.0
    known = ("trained_on", "simulated", "best_step", "use", "volume_calibration")
    model.save_weights(network, settings, others, **{name: card[name] for name in known})
    assert all(new > old for new, old in zip(again(others), second, strict=True))


@pytest.mark.parametrize("text", ["", "case;volume_ml\ncase-001;3,4\n"])
def test_a_summary_that_was_saved_otherwise_is_said_to_be(weights, tmp_path, text):
    scans, out = [nifti(tmp_path / "scans" / f"{name}.nii.gz") for name in "ab"], tmp_path / "out"
    out.mkdir()
    (out / "summary.csv").write_text(text)
    with pytest.raises(ValueError, match=r"holds a summary\.csv that is not of these scans"):
        segment_all(scans, out, weights)
    (out / "summary.csv").unlink()
    segment_all(scans, out, weights)
    (out / "summary.csv").write_text(text)
    with pytest.raises(ValueError, match=r"summary.csv: .*remove it, or leave out --resume"):
        segment_all(scans, out, weights, resume=True)

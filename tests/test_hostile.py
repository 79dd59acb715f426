"""Input that means harm, or is merely absurd, ends in an error that names it; nothing is run, written or filled."""

import gzip
import io
import os
import pickle
import struct
import threading
import time
import tracemalloc
import zlib

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from made_dicom import image, write_series

from ich import checkpoint, cohort, nifti, own_cases, study, tables
from ich.cli import main
from ich.dicom import read_dicom_scan
from ich.html import notebook_html
from ich.model import load_weights
from ich.scan import ScanError, read_mask, read_scan
from ich.series import find_series
from ich.sources import find_cases

SCRIPT = "<script>alert(1)</script>"


def nifti_bytes(shape=(4, 4, 3)):
    return nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([1.0, 1, 5, 1])).to_bytes()


def with_shape(shape, dtype=16):
    """A NIfTI-1 header that claims `shape` over a few bytes."""
    raw = bytearray(nifti_bytes())
    raw[40:56] = struct.pack("<8h", len(shape), *shape, *[1] * (7 - len(shape)))
    raw[70:72] = struct.pack("<h", dtype)
    return bytes(raw)


def test_a_header_that_claims_a_million_million_voxels(tmp_path):
    (tmp_path / "a.nii").write_bytes(with_shape((10_000, 10_000, 10_000)))
    tracemalloc.start()
    with pytest.raises(ScanError, match="claims 1000000000000 voxels, wanted at most 268435456"):
        read_scan(tmp_path / "a.nii")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_nifti2_header_whose_voxels_overflow_64_bits(tmp_path):
    raw = bytearray(nib.Nifti2Image(np.zeros((4, 4, 3), np.uint8), np.eye(4)).to_bytes())
    raw[16:80] = struct.pack("<8q", 3, 2**32, 2**31, 2, 1, 1, 1, 1)  # 2**64 voxels: 0 in 64 bits
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(ScanError, match="claims 18446744073709551616 voxels"):
        read_scan(tmp_path / "a.nii")


def test_voxels_that_start_within_the_header(tmp_path):
    raw = bytearray(nifti_bytes())
    raw[108:112] = struct.pack("<f", 16.0)
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(ScanError, match="voxels start at byte 16, wanted 352"):
        read_mask(tmp_path / "a.nii")


def test_a_gzip_bomb_is_stopped_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "MAX_BYTES", 2**24)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with (tmp_path / "a.nii.gz").open("wb") as file:
        for _ in range(512):  # 512 MiB in half a MiB
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    tracemalloc.start()
    with pytest.raises(ScanError, match="more than 16777216 bytes when unpacked"):
        read_scan(tmp_path / "a.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 2**24 * 4
    tracemalloc.stop()


def test_a_pipe_is_no_scan_and_nothing_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.nii")
    with pytest.raises(ScanError, match="not a file"):
        read_scan(tmp_path / "a.nii")


def test_a_pipe_among_dicom_files_is_passed_over(tmp_path):
    write_series(tmp_path / "s", range(0, 40, 5))
    os.mkfifo(tmp_path / "s" / "pipe")
    assert [part.kept for part in find_series(tmp_path / "s")] == [True]


@pytest.mark.parametrize(
    "comment",
    [
        '{"ich":', '{"ich": 1}', '{"ich": {"positions_mm": "x"}}', '{"ich":' + "[" * 100_000,
        '{"ich": {"positions_mm": [[1]]}}'],
)  # fmt: skip
def test_a_comment_that_somebody_wrote_into_is_not_believed(tmp_path, comment):
    made = nib.Nifti1Image(np.zeros((4, 4, 3), np.uint8), np.diag([1.0, 1, 5, 1]))
    made.header.extensions.append(nib.nifti1.Nifti1Extension(6, comment.encode()))
    nib.save(made, tmp_path / "a.nii")
    _, grid = read_mask(tmp_path / "a.nii")
    assert any("no longer match" in note for note in grid.notes)
    np.testing.assert_allclose(np.diff(grid.positions_mm), 5)


def test_links_that_lead_in_a_circle(tmp_path):
    write_series(tmp_path / "s", range(0, 40, 5))
    (tmp_path / "s" / "again").symlink_to(tmp_path / "s", target_is_directory=True)
    (tmp_path / "s" / "a").symlink_to(tmp_path / "s" / "b")
    (tmp_path / "s" / "b").symlink_to(tmp_path / "s" / "a")
    usable, lost = find_series(tmp_path / "s")
    assert (usable.kept, len(usable.slices)) == (True, 8)
    assert (lost.kept, len(lost.slices)) == (False, 2)  # each may have stood for a slice
    (tmp_path / "cases.csv").write_text("case_id,reference_mask\n1,s/a\n")
    rows = own_cases.from_manifest(tmp_path / "cases.csv", tmp_path)
    built = cohort.build(rows, tmp_path, need_image=False, jobs=1)
    assert not built["included"].any()
    found = find_cases("manifest", tmp_path / "cases.csv")
    assert found.cases["reason"].tolist() == ["the reference mask that is named is not there"]


def test_scans_whose_links_lead_in_a_circle(tmp_path, capsys):
    folder = tmp_path / "nnunet"
    for place in ("imagesTr", "labelsTr"):
        (folder / place).mkdir(parents=True)
        (folder / place / "a.nii.gz").symlink_to("b.nii.gz")
        (folder / place / "b.nii.gz").symlink_to("a.nii.gz")
    assert main(["segment", str(folder), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 1
    assert capsys.readouterr().out.startswith("0 of 4 scans")
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "hemorrhage": 1}, "file_ending": ".nii.gz"}'
    )
    found = find_cases("nnunet", folder)
    assert (len(found.cases), found.left_out["file"].tolist()) == (2, ["dataset.json"])


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/passwd", "..", "a\\b", "a\tb", "a\x1b[31mb", "é" * 150, "x" * 300]
)
def test_a_case_id_names_no_file_elsewhere(tmp_path, name):
    pd.DataFrame({"case_id": [name], "reference_mask": ["m.nii"]}).to_csv(tmp_path / "cases.csv", index=False)
    with pytest.raises(ValueError, match=r"cases\.csv: case .* (holds a separator|has \d+ bytes)"):
        own_cases.from_manifest(tmp_path / "cases.csv", tmp_path)
    with pytest.raises(ValueError, match=r"splits\.csv: splits: case "):
        tables.write(pd.DataFrame({"case_id": [name], "patient_id": "p", "split": "test"}), tmp_path / "splits.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["cases.csv"]


def test_a_mask_whose_name_is_too_long_to_have_a_scan(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "masks" / f"{'x' * 248}.nii").write_bytes(nifti_bytes())
    with pytest.raises(ValueError, match="has 248 bytes, wanted at most 200"):
        own_cases.from_folders(tmp_path / "masks", tmp_path / "images", tmp_path)


def test_ids_of_any_script_are_kept(tmp_path):
    names = ["患者一", "Пациент-2", "é̂", "🧠", "a b", "001"]
    frame = pd.DataFrame({"case_id": names, "patient_id": names, "split": "test"})
    tables.write(frame, tmp_path / "splits.csv")
    assert tables.read(tmp_path / "splits.csv")["case_id"].tolist() == names


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    (tmp_path / "m.nii").write_bytes(nifti_bytes())
    (tmp_path / "cases.csv").write_bytes(b"\xef\xbb\xbfcase_id,reference_mask\r\n001,m.nii\r\n")
    rows = own_cases.from_manifest(tmp_path / "cases.csv", tmp_path)
    assert rows[["case_id", "reference_mask"]].to_numpy().tolist() == [["001", "m.nii"]]


def test_a_windows_path_says_what_is_wanted(tmp_path):
    (tmp_path / "cases.csv").write_text("case_id,reference_mask\n001,scans\\1.nii\n")
    with pytest.raises(ValueError, match="wanted / between folders"):
        own_cases.from_manifest(tmp_path / "cases.csv", tmp_path)


@pytest.mark.parametrize("content", [
    b"", b"\x00\xff" * 100, b'case_id,reference_mask\n"1,a\n', b"a" * 10_000,
    b"case_id,reference_mask\n1,2,3,4\n1\n"])  # fmt: skip
def test_a_manifest_that_is_no_table(tmp_path, content):
    (tmp_path / "cases.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"cases\.csv: "):
        own_cases.from_manifest(tmp_path / "cases.csv", tmp_path)


@pytest.mark.parametrize(
    "cell", ["=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1"]
)
def test_no_cell_of_an_exported_table_is_a_formula(tmp_path, cell):
    tables.write_plain(pd.DataFrame({"note": [cell], cell: [1.0]}), tmp_path / "a.csv")
    found = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    assert [found.columns[1], found["note"][0]] == ["'" + cell.replace("\r", "\n")] * 2


@pytest.mark.parametrize("cell", ["-1.2", "+3", "-1.2 (-3.4, 5)", "-5.6 – 3.6", "-", "–", "a=b"])
def test_numbers_with_a_sign_are_no_formula(tmp_path, cell):
    tables.write_plain(pd.DataFrame({"note": [cell]}), tmp_path / "a.csv")
    assert pd.read_csv(tmp_path / "a.csv", dtype=str)["note"].tolist() == [cell]


def test_numbers_of_a_table_are_written_as_before(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": [0.1, -1 / 3], "c": [None, -2.0], "d": [True, False]})
    tables.write_plain(frame, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "a,b,c,d\n1,0.1,,True\n2,-0.33333333,-2,False\n"


def test_markup_in_a_table_is_shown_as_text():
    shown = tables.show(pd.DataFrame({"case_id": [SCRIPT], "p_value": [0.2], SCRIPT: ["x"]}), "t").to_html()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 2


def test_markup_in_what_a_cell_says_is_shown_as_text(tmp_path):
    output = nbformat.v4.new_output(
        "display_data", {"text/markdown": f"3 files of {SCRIPT} <img src=x onerror=a()> p<0.05"}
    )
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    notebook_html(tmp_path / "a.ipynb", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "p&lt;0.05" in page


def test_markup_in_a_dicom_header_reaches_no_description(tmp_path):
    write_series(tmp_path / "s", range(0, 40, 5), PatientName=SCRIPT, SeriesDescription=SCRIPT, StudyDescription=SCRIPT)
    scan = read_dicom_scan(tmp_path / "s")
    said = [*scan.notes, *scan.grid.notes, *map(str, find_series(tmp_path / "s"))]
    assert not [text for text in said if "script" in text]


class Run:
    def __reduce__(self):
        return (os.mkdir, ("was_run",))


def test_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(Run()))
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="settings"):
        load_weights(tmp_path, torch.device("cpu"))
    torch.save({"network": Run()}, tmp_path / "state.pt")
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        checkpoint.load(tmp_path / "state.pt", "mark", torch.device("cpu"))
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.mkdir [was_run]", "title: !!python/name:os.system", "a: &a [*a]", "[" * 5000,
     "title: x\nnotebooks: [\n", "\x00", "- 1", "title: " + "x" * 2**20, "{? {a: 1}: 2}"],
)  # fmt: skip
def test_a_profile_runs_nothing_and_its_fault_is_named(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        study.read_profile("mine.yaml", tmp_path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": "100000000"},
        {"BitsAllocated": 64},
        {"RescaleSlope": "1e308"},
        {"RescaleIntercept": "-1e40"},
    ],
)
def test_a_dicom_header_that_claims_more_than_there_is(tmp_path, fields):
    write_series(tmp_path / "s", range(0, 40, 5), **fields)
    begun = time.monotonic()
    with pytest.raises(ScanError):
        read_dicom_scan(tmp_path / "s")
    assert time.monotonic() - begun < 5


def test_sequences_within_sequences_without_end(tmp_path):
    header = image(np.zeros((4, 4), np.int16), [0, 0, 0], 1, "1.2.3")
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    deep = b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff" + (
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff") * 3000  # fmt: skip
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.dcm").write_bytes(stream.getvalue() + deep)
    with pytest.raises(ScanError):
        read_dicom_scan(tmp_path / "s")


def test_a_truncated_gzip_is_named(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti_bytes())[:-9])
    with pytest.raises(ScanError, match="truncated or damaged"):
        read_mask(tmp_path / "a.nii.gz")
    assert threading.active_count() < 50

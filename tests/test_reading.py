"""What the viewer sends to the browser, and a reader's session, without a browser."""

import gzip

import nibabel
import numpy as np
import pandas as pd
import pytest

from ich import tables
from ich.reading import Session, view_case
from ich.scan import read_scan
from ich.viewer import view

MARKS = {"index": 2, "a": [[4, 10], [24, 10]], "b": [[14, 2], [14, 18]], "weights": {"1": 0.5, "2": 1, "3": 0.5}}


@pytest.fixture
def run(tmp_path):
    """Three cases of 30 x 20 x 5 voxels of 1 x 1 x 5 mm, the third without a readable scan."""
    rows = []
    for number in range(3):
        hu = np.full((30, 20, 5), -1000, np.int16)
        hu[5:25, 3:17] = 40 + number
        mask = np.zeros(hu.shape, np.uint8)
        mask[10:14, 8:12, number : number + 2] = 1
        mask[9:15, 8:12, number + 1] = 1
        for name, volume in (("image", hu), ("mask", mask)):
            nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1, 5, 1])), tmp_path / f"{name}{number}.nii.gz")
        rows.append(
            {"case_id": f"c{number}", "image": f"image{number}.nii.gz", "reference_mask": f"mask{number}.nii.gz"}
        )
    (tmp_path / "image2.nii.gz").write_bytes(b"nothing")
    return tmp_path, pd.DataFrame(rows)


def unpacked(sent, kind, shape):
    return np.frombuffer(gzip.decompress(sent), kind).reshape(shape[::-1]).transpose(2, 1, 0)


def test_the_browser_gets_every_voxel_and_one_bit_for_each_source(run):
    folder, _ = run
    scan = read_scan(folder / "image0.nii.gz")
    one, two = np.zeros(scan.hu.shape, bool), np.zeros(scan.hu.shape, bool)
    one[3:6, 3:6, 1], two[4:8, 4:8, 1:3] = True, True
    shown = view(scan, {"reference": one, "network": two})
    assert np.array_equal(unpacked(shown.hu, "<i2", scan.hu.shape), scan.hu)
    bits = unpacked(shown.masks, np.uint8, scan.hu.shape)
    assert np.array_equal(bits & 1, one)
    assert np.array_equal(bits >> 1, two)
    assert [source["name"] for source in shown.sources] == ["reference", "network"]
    assert (shown.slice, shown.index_slice) == (1, 1)


def test_a_case_is_shown_with_what_outlines_it_has(run):
    folder, cases = run
    case = cases.iloc[1].copy()
    case["second_mask"], case["prediction"] = "image2.nii.gz", None
    shown = view_case(case, folder)
    assert [source["name"] for source in shown.sources] == ["reference"]
    assert "second reader: " in shown.message
    assert shown.index_slice == 2


def test_a_mask_of_another_shape_is_refused(run):
    folder, _ = run
    with pytest.raises(ValueError, match=r"mask of network: shape \(2, 2, 2\)"):
        view(read_scan(folder / "image0.nii.gz"), {"network": np.zeros((2, 2, 2), bool)})


def test_nothing_of_the_reference_leaves_a_blinded_session(run):
    folder, cases = run
    session = Session(cases.head(2), folder, folder / "readers.csv", "R1")
    sent = session.viewer.get_state()
    assert not any(unpacked(sent["masks"], np.uint8, (30, 20, 5)).ravel())
    assert (sent["sources"], sent["index_slice"], sent["slice"]) == ([], -1, 2)
    assert not any(case in session.box.children[0].value for case in cases["case_id"])
    open_session = Session(cases.head(2), folder, folder / "readers.csv", "R1", blinded=False)
    assert [source["name"] for source in open_session.viewer.sources] == ["reference"]
    assert "c0" in open_session.box.children[0].value


def test_a_reading_is_measured_saved_and_the_session_goes_on_with_what_is_not_read(run):
    folder, cases = run
    out = folder / "tables" / "readers.csv"
    session = Session(cases.head(2), folder, out, "R1")
    viewer = session.viewer
    viewer.marks = MARKS
    # 20 x 16 mm over 10 mm: 20 x 16 x 10 / 2 = 1,600 mm³
    assert viewer.readout == "A 20.0 mm, B 16.0 mm at 90°, C 10.0 mm: ABC/2 1.6 ml"
    viewer._handle_custom_msg({"do": "save", "marks": MARKS}, [])
    assert viewer.message.startswith("saved: reading 1 of this case, 1.6 ml")
    first = session.case_id
    read = tables.read(out, "readers")
    assert read[["case_id", "reader", "reading", "blinded"]].to_numpy().tolist() == [[first, "R1", 1, True]]
    again = Session(cases.head(2), folder, out, "R1")
    assert again.case_id != first
    again.viewer._handle_custom_msg({"do": "save", "marks": MARKS}, [])
    assert Session(cases.head(2), folder, out, "R1").case_id == first  # all read: the second round


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"b": []}, "A and B are not both drawn"),
        ({"a": [[4, 10], [4, 10]]}, "no length"),
        ({"weights": {"2": 0.5}}, "index slice 3 has the weight"),
    ],
)
def test_an_unfinished_reading_is_not_saved(run, changed, said):
    folder, cases = run
    session = Session(cases.head(1), folder, folder / "readers.csv", "R1")
    session.viewer._handle_custom_msg({"do": "save", "marks": MARKS | changed}, [])
    assert said in session.viewer.message
    assert not (folder / "readers.csv").exists()


def test_a_scan_that_cannot_be_read_does_not_end_the_session(run):
    folder, cases = run
    session = Session(cases, folder, folder / "readers.csv", "R1", blinded=False)
    session.go(2)
    assert session.viewer is None
    assert "cannot be read" in session.box.children[1].children[0].value
    assert str(folder) not in session.box.children[1].children[0].value
    session.go(3)
    assert session.case_id == "c0"


def test_who_reads_has_to_be_said(run):
    folder, cases = run
    with pytest.raises(ValueError, match="who reads"):
        Session(cases, folder, folder / "readers.csv", " ")

"""What is clicked in JupyterLab, without a browser."""

import nibabel
import numpy as np
import pandas as pd
import pytest

from ich.widgets import SliceViewer, case_browser, sprite


def test_browser_writes_and_takes_back_what_is_set_aside(tmp_path):
    rows = []
    for number in range(2):
        mask = np.zeros((20, 20, 4), np.uint8)
        mask[5:9, 5:9, 1 + number] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([1.0, 1, 5, 1])), tmp_path / f"{number}.nii.gz")
        rows.append({"case_id": f"c{number}", "image": None, "reference_mask": f"{number}.nii.gz"})
    out = tmp_path / "aside" / "list.csv"
    case, viewer, reason, put, _take_back, message = case_browser(pd.DataFrame(rows), tmp_path, out).children
    assert "slice 2 of 4" in viewer.value
    put.click()
    assert message.value == "a reason is wanted"
    assert not out.exists()
    case.value = "c1"
    assert "slice 3 of 4" in viewer.value
    reason.value = "after surgery, <b>drained</b>"
    put.click()
    assert pd.read_csv(out).to_dict("records") == [{"case_id": "c1", "reason": "after surgery, <b>drained</b>"}]
    again = case_browser(pd.DataFrame(rows), tmp_path, out)
    again.children[0].value = "c1"
    assert again.children[2].value == "after surgery, <b>drained</b>"
    again.children[4].click()
    assert pd.read_csv(out).empty


def test_viewer_holds_every_slice_and_asks_the_network_for_nothing():
    hu, labels = np.full((40, 30, 7), -1000, np.int16), np.zeros((40, 30, 7), np.uint8)
    hu[10:30, 8:22] = 40
    labels[12:20, 10:14, 4] = 1
    page = SliceViewer(hu, labels, (1.0, 1.0)).html()
    assert 'max="6" value="4"' in page
    assert "data:image/webp;base64," in page
    assert "http" not in page


def test_the_head_fills_the_picture_in_its_own_proportions_without_the_head_rest():
    hu, labels = np.full((120, 200, 3), -1000, np.int16), np.zeros((120, 200, 3), np.uint8)
    hu[40:80, 20:140] = 1000  # 40 pixels of 2 mm by 120 of 1 mm
    hu[10:110, 170:173] = 300  # head rest of 3 mm
    tile = np.asarray(sprite(hu, labels, (2.0, 1.0), side=100))[:100, :, 0] > 100
    rows, columns = (np.flatnonzero(tile.any(axis=axis)) for axis in (1, 0))
    # 80 by 120 mm with 4 mm about them: 120 of 128 mm and 80 of 128 mm of the picture's side, to the 4 mm of the box
    assert np.ptp(rows) + 1 == pytest.approx(94, abs=4)
    assert np.ptp(columns) + 1 == pytest.approx(62, abs=4)

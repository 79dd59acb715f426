"""What the network sees of a scan can be brought back to the scan's own voxels, and weights carry their settings."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ich import model
from ich.hounsfield import AIR_HU
from ich.scan import Grid, Scan

SETTINGS = model.Settings(channels=(4, 8), strides=(2,))
CPU = torch.device("cpu")


def head(shape=(256, 240, 6), spacing=(0.9, 0.9), center=(128, 120), radius_mm=80):
    """A ball of soft tissue in air, with a thin head rest below it, and the grid it lies on."""
    i, j = np.ogrid[: shape[0], : shape[1]]
    disc = ((i - center[0]) * spacing[0]) ** 2 + ((j - center[1]) * spacing[1]) ** 2 < radius_mm**2
    hu = np.full(shape, -1000, np.int16)
    hu[disc] = 35
    hu[:, -3:] = 200
    affine = np.diag([-spacing[0], -spacing[1], 5.0, 1.0])
    return hu, Grid(shape, spacing, np.arange(shape[2]) * 5.0, affine, 0.0, 5.0)


@pytest.mark.parametrize(
    ("shape", "spacing", "center"),
    [
        ((256, 240, 6), (0.9, 0.9), (128, 120)),
        ((512, 512, 4), (0.45, 0.45), (200, 300)),
        ((160, 200, 3), (1.2, 1.0), (75, 90)),
    ],
)
def test_view_is_centered_on_the_head_and_can_be_undone(shape, spacing, center):
    hu, grid = head(shape, spacing, center)
    view = model.look_at(hu, grid, SETTINGS)
    for axis in (0, 1):
        assert view.start[axis] + view.extent[axis] / 2 == pytest.approx(center[axis], abs=3)
        assert view.extent[axis] * spacing[axis] == pytest.approx(SETTINGS.size * SETTINGS.pixel_mm, rel=0.01)
    i, j = np.ogrid[: shape[0], : shape[1]]
    lesion = ((i - center[0]) * spacing[0]) ** 2 + ((j - center[1] - 10) * spacing[1]) ** 2 < 25**2
    mask = np.repeat(lesion[:, :, None], shape[2], 2)
    seen = model.crop(mask, view, SETTINGS, CPU, 0)
    # 25 mm radius: the area on network pixels is that of the disc
    assert float(seen[0].sum()) * SETTINGS.pixel_mm**2 == pytest.approx(np.pi * 25**2, rel=0.02)
    box = model.native_box(seen.amax(0) > 0, view, shape[:2])
    back = np.zeros(mask.shape, bool)
    back[box] = model.uncrop(seen[:, None], view, box)[:, 0].permute(1, 2, 0).numpy() > 0.5
    overlap = 2 * (back & mask).sum() / (back.sum() + mask.sum())
    assert overlap > 0.985


def test_air_fills_what_lies_beyond_the_image():
    hu, grid = head((100, 100, 3), (1.0, 1.0), (50, 50), radius_mm=45)
    seen = model.crop(hu, model.look_at(hu, grid, SETTINGS), SETTINGS, CPU, AIR_HU)
    assert seen.shape == (3, SETTINGS.size, SETTINGS.size)
    assert float(seen[:, 0, 0].max()) == AIR_HU


def test_many_slices_are_cropped_as_each_alone_is():
    hu = np.random.default_rng(1).normal(30, 300, (60, 50, 2 * model.SLICES_AT_ONCE + 3)).astype(np.float32)
    view = model.View((-5, 3), (64, 64))
    together = model.crop(hu, view, SETTINGS, CPU, AIR_HU)
    alone = [model.crop(hu[:, :, k : k + 1], view, SETTINGS, CPU, AIR_HU) for k in range(hu.shape[2])]
    torch.testing.assert_close(together, torch.cat(alone))


def test_end_slices_are_their_own_neighbors():
    assert model.neighbor_index(3, 1).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]


def test_channels_are_windows_of_hu():
    stack = torch.tensor([-1000.0, 40.0, 160.0]).reshape(1, 3, 1, 1)  # neighbor, center, neighbor
    values = model.channels(stack, model.Settings())[0, :, 0, 0].tolist()
    assert values == pytest.approx([0, 0.5, 1, 0])  # (40 + 20) / 120; the center is below the bone window


def test_a_blood_window_is_a_channel_more_and_travels_with_the_weights(tmp_path):
    settings = model.Settings(size=32, channels=(4, 8), strides=(2,), blood_window=(40.0, 90.0))
    stack = torch.tensor([[0.0, 65.0, 0.0]]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    image = model.channels(stack, settings)
    assert image.shape[1] == settings.in_channels == 5
    assert image[0, 4, 0, 0] == 0.5, "of the center slice: halfway from 40 to 90 HU"
    model.save_weights(model.build_network(settings), settings, tmp_path, trained_on="nothing")
    network, read, _ = model.load_weights(tmp_path, CPU)
    assert read == settings
    assert network(image).shape == (1, settings.classes, 32, 32)


def test_weights_carry_their_settings(tmp_path):
    network = model.build_network(SETTINGS).eval()
    model.save_weights(network, SETTINGS, tmp_path, trained_on="nothing")
    loaded, settings, card = model.load_weights(tmp_path, CPU)
    assert settings == SETTINGS
    assert card["trained_on"] == "nothing"
    image = torch.rand(1, 4, 128, 128)
    torch.testing.assert_close(loaded(image), network(image))


def test_changed_weights_are_refused(tmp_path):
    model.save_weights(model.build_network(SETTINGS), SETTINGS, tmp_path)
    card = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.raises(ValueError, match="SHA-256"):
        model.load_weights(tmp_path, CPU)


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="make study"):
        model.load_weights(tmp_path, CPU)


def calls_everything(label: int) -> torch.nn.Module:
    """A network whose logits are 1 for one label and 0 for the others, wherever it looks."""
    network = model.build_network(SETTINGS).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        last = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)][-1]
        last.bias[label] = 1.0
    return network


def test_prediction_is_on_the_native_grid():
    from ich.predict import predict

    hu, grid = head((256, 240, 6))
    network = calls_everything(2)
    result = predict(network, SETTINGS, Scan(grid, hu, "nifti"))
    assert result.labels.shape == hu.shape
    assert set(np.unique(result.labels)) == {0, 2}
    view = model.look_at(hu, grid, SETTINGS)
    box = [range(max(s, 0), min(s + e, n)) for s, e, n in zip(view.start, view.extent, hu.shape, strict=False)]
    expected_ml = len(box[0]) * len(box[1]) * 6 * 0.9 * 0.9 * 5 / 1000
    assert result.volume_ml == pytest.approx(expected_ml)
    assert result.volume_by_label_ml[1] == 0
    # logits 0, 0, 1, 0: blood with probability (e + 2) / (e + 3), at every pixel that the network sees
    p = (np.e + 2) / (np.e + 3)
    seen_ml = np.prod(view.extent) * 6 * 0.9 * 0.9 * 5 / 1000
    assert result.uncertain_ml == pytest.approx(p * (1 - p) * seen_ml, rel=1e-3)
    assert result.probability is None
    asked = predict(network, SETTINGS, Scan(grid, hu, "nifti"), with_probability=True)
    assert np.array_equal(asked.labels, result.labels)
    assert asked.probability[result.labels > 0] == pytest.approx(p, abs=2e-3)
    assert not asked.probability[result.labels == 0].any()


def test_blood_below_the_smallest_volume_is_not_marked_and_air_is_looked_at_all_the_same():
    from ich.predict import predict

    network = calls_everything(1)
    hu, grid = head((256, 240, 3))
    all_ml = predict(network, SETTINGS, Scan(grid, hu, "nifti")).volume_ml
    for smallest_ml, kept_ml in ((0.99 * all_ml, all_ml), (1.01 * all_ml, 0)):
        found = predict(network, replace(SETTINGS, smallest_ml=smallest_ml), Scan(grid, hu, "nifti"))
        assert (found.volume_ml, found.volume_by_label_ml[1]) == pytest.approx((kept_ml, kept_ml))
    air = predict(network, SETTINGS, Scan(grid, np.full_like(hu, -1000), "nifti"))
    assert air.labels.any(axis=(0, 1)).all()
    half = hu.copy()
    half[:, :, 2] = -1000  # where some slices show a head the others are not looked at
    assert predict(network, SETTINGS, Scan(grid, half, "nifti")).labels.any(axis=(0, 1)).tolist() == [True, True, False]


def test_predicted_cases_have_the_volumes_and_masks_of_their_scans(tmp_path):
    from ich import predict
    from ich.calibration import count_bins
    from ich.nifti import read_mask, write_mask, write_scan

    torch.manual_seed(1)
    network = model.build_network(SETTINGS).eval()
    model.save_weights(network, SETTINGS, tmp_path / "model", volume_calibration={})
    hu, grid = head((128, 120, 3), (1.8, 1.8), (64, 60))
    reference = (hu > 0).astype(np.uint8)
    write_scan(tmp_path / "scan.nii.gz", hu, grid)
    write_mask(tmp_path / "mask.nii.gz", reference, grid)
    cases = pd.DataFrame(
        {"case_id": ["a", "b"], "image": ["scan.nii.gz", "none.nii.gz"], "reference_mask": "mask.nii.gz"}
    )
    table, failures, bins = predict.predict_cases(tmp_path / "model", cases, tmp_path, "cpu")
    expected = predict.predict(network, SETTINGS, Scan(grid, hu, "nifti"), with_probability=True)
    row = table.iloc[0]
    assert (row["case_id"], row["prediction"]) == ("a", "predictions/a.nii.gz")
    assert (row["network_ml"], row["uncertain_ml"]) == pytest.approx(
        (expected.volume_ml, expected.uncertain_ml), rel=1e-4
    )
    assert np.isnan(row["novelty"])
    assert np.array_equal(read_mask(tmp_path / row["prediction"])[0], expected.labels)
    assert failures[["case_id", "stage"]].to_numpy().tolist() == [["b", "prediction"]]
    known = count_bins(expected.probability, reference > 0)
    assert bins[0]["blood"].tolist() == known["blood"].tolist()
    assert bins[0]["n"].sum() == np.count_nonzero(expected.probability > 0.01) > 0


def test_given_masks_are_matched_by_case(tmp_path):
    from ich.predict import given_predictions

    (tmp_path / "reader").mkdir()
    for name in ("a.nii.gz", "c.nii", "other.nii.gz"):
        (tmp_path / "reader" / name).touch()
    found, failures = given_predictions(pd.DataFrame({"case_id": ["a", "b", "c"]}), tmp_path / "reader", tmp_path)
    assert found.to_numpy().tolist() == [["a", "reader/a.nii.gz"], ["c", "reader/c.nii"]]
    assert failures.to_numpy().tolist() == [["other", "prediction", "prediction without a reference"]]


def test_weights_without_settings_are_refused(tmp_path):
    model.save_weights(model.build_network(SETTINGS), SETTINGS, tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"settings\.json"):
        model.load_weights(tmp_path, CPU)


def test_a_run_in_the_place_of_its_model_folder_gets_a_hint(tmp_path):
    model.save_weights(model.build_network(SETTINGS), SETTINGS, tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*/model\?"):
        model.load_weights(tmp_path, CPU)


@pytest.mark.parametrize("change", [{"channels": [4, 16]}, {"heads": 3}])
def test_weights_of_another_network_are_refused(tmp_path, change):
    model.save_weights(model.build_network(SETTINGS), SETTINGS, tmp_path)
    card = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(card | {"settings": card["settings"] | change}))
    with pytest.raises(ValueError, match="does not fit") as error:
        model.load_weights(tmp_path, CPU)
    assert len(str(error.value)) < 500, "torch names every weight that does not fit"


def test_damaged_files_are_named(tmp_path):
    model.save_weights(model.build_network(SETTINGS), SETTINGS, tmp_path)
    weights, described = tmp_path / "weights.safetensors", tmp_path / "settings.json"
    card = json.loads(described.read_text())
    weights.write_bytes(b"no weights")
    described.write_text(json.dumps(card | {"sha256": None}))
    with pytest.raises(ValueError, match=r"weights\.safetensors: SHA-256 .* differs from None"):
        model.load_weights(tmp_path, CPU)
    described.write_text(json.dumps(card | {"sha256": hashlib.sha256(b"no weights").hexdigest()}))
    with pytest.raises(ValueError, match=r"weights\.safetensors: does not fit"):
        model.load_weights(tmp_path, CPU)
    described.write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json: damaged"):
        model.load_weights(tmp_path, CPU)


def test_specks_are_unmarked_and_a_clot_beside_a_hematoma_is_none():
    from ich.components import drop_specks

    _, grid = head((40, 40, 4), (1.0, 1.0))
    labels = np.zeros((40, 40, 4), np.uint8)
    labels[5:15, 5:15, 1] = 1  # 100 voxels of 5 mm³: 0.5 ml
    labels[15, 5, 1] = 2  # touches it
    labels[30:33, 30:33, 2] = 3  # 0.045 ml
    wanted = labels.copy()
    wanted[30:33, 30:33, 2] = 0
    drop_specks(labels, grid.voxel_ml, 0.1)
    assert np.array_equal(labels, wanted)
    empty = np.zeros((40, 40, 4), np.uint8)
    drop_specks(empty, grid.voxel_ml, 0.1)
    assert not empty.any()


def test_small_blood_stays_only_if_it_is_certain():
    from ich.components import drop_specks

    _, grid = head((40, 40, 4), (1.0, 1.0))
    labels, probability = np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 4), np.float16)
    for place, size, sure in ((2, 10, 0.7), (15, 20, 0.7), (36, 3, 0.95)):  # 0.5, 2 and 0.045 ml
        labels[place : place + size, 2 : 2 + size, 1] = 1
        probability[place : place + size, 2 : 2 + size, 1] = sure
    drop_specks(labels, grid.voxel_ml, 0.0, probability, certain_ml=1.0, certain=0.9)
    assert not labels[2:12, 2:12, 1].any(), "small and doubtful"
    assert labels[15:35, 2:22, 1].all(), "large"
    assert labels[36:39, 2:5, 1].all(), "small and certain"


@pytest.mark.parametrize(("other", "stays"), [(0.95, True), (0.85, False), (None, False)])
def test_small_blood_stays_beside_blood_that_is_certain(other, stays):
    from ich.components import drop_specks

    _, grid = head((40, 40, 4), (1.0, 1.0))
    labels, probability = np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 4), np.float16)
    for place, sure in ((2, 0.85), (15, 0.7), (28, other)):  # 0.5 ml each, far from each other
        labels[place : place + 10, 2:12, 1] = sure is not None
        probability[place : place + 10, 2:12, 1] = sure or 0
    drop_specks(labels, grid.voxel_ml, 0.1, probability, certain_ml=1.0, certain=0.9, certain_beside=0.8)
    assert labels[2:12, 2:12, 1].all() == stays
    assert not labels[15:25].any(), "too doubtful even so"


@pytest.mark.parametrize(("start", "extent"), [((-20, 7), (300, 260)), ((40, -3), (90, 128)), ((5, 60), (128, 200))])
def test_a_box_is_brought_back_as_the_whole_would_be(start, extent):
    """Beside torch's own interpolation of the whole picture, cut to the image."""
    view, shape = model.View(start, extent), (240, 250)
    torch.manual_seed(0)
    values = torch.randn(2, 3, 64, 64)
    found = torch.zeros(64, 64, dtype=torch.bool)
    found[20:41, 9:30] = True
    values[:, :, ~found] = -5
    whole = torch.nn.functional.interpolate(values, extent, mode="bilinear", align_corners=False)
    canvas = torch.full((2, 3, *shape), -5.0)
    low, high = ([max(s, 0) for s in start], [min(s + e, n) for s, e, n in zip(start, extent, shape, strict=True)])
    canvas[:, :, low[0] : high[0], low[1] : high[1]] = whole[
        :, :, low[0] - start[0] : high[0] - start[0], low[1] - start[1] : high[1] - start[1]
    ]
    box = model.native_box(found, view, shape)
    torch.testing.assert_close(model.uncrop(values, view, box), canvas[:, :, box[0], box[1]], rtol=1e-4, atol=1e-4)
    canvas[:, :, box[0], box[1]] = -5
    torch.testing.assert_close(canvas, torch.full_like(canvas, -5), rtol=1e-6, atol=1e-5)  # nothing lies beyond


def test_the_box_of_a_picture_s_edge_reaches_the_view_s():
    found = torch.zeros(64, 64, dtype=torch.bool)
    found[0, 63] = True
    rows, columns = model.native_box(found, model.View((10, 10), (100, 100)), (300, 300))
    assert rows.start == 10
    assert columns.stop == 110
    assert model.native_box(found & False, model.View((10, 10), (100, 100)), (300, 300)) == (slice(0, 0), slice(0, 0))


def test_the_largest_is_what_argmax_says():
    torch.manual_seed(1)
    logits = torch.randint(0, 3, (4, 4, 9, 9)).float()  # with ties
    assert torch.equal(model.largest(logits), logits.argmax(1).to(torch.uint8))

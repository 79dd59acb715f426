"""Training learns, repeats itself, never reads the test split, and says what is wrong with its input."""

import math
from contextlib import nullcontext

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from ich import batches, calibration, model, predict, replay, splits, train, training_slices, validation
from ich.batches import Batches
from ich.loss import segmentation_loss, slice_loss
from ich.scan import read_scan
from ich.tables import LABELS
from ich.trained import Start, begin, card_of, check_trained_on, keep
from ich.training_errors import LAST_GOOD, BatchTooLarge, LossNotFinite, in_memory

SETTINGS = model.Settings(pixel_mm=4.0, size=48, channels=(8, 16), strides=(2,))
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread adds in one order, so that two trainings can be equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Eight discs of 35 HU in air with one ball of 65 HU each: blood that a threshold finds."""
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(8):
        i, j, k = np.ogrid[:90, :90, :6]
        hu = np.where((i - 45) ** 2 + (j - 45) ** 2 + 0 * k < 40**2, 35, -1000)
        ci, cj = rng.integers(30, 60, 2)
        ball = (i - ci) ** 2 + (j - cj) ** 2 + 4 * (k - 3) ** 2 < 10**2
        hu = np.where(ball, 65, hu) + rng.normal(0, 3, hu.shape)
        affine = np.diag([-2.0, -2.0, 5.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(hu.astype(np.int16), affine), folder / f"{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(ball.astype(np.uint8), affine), folder / f"{number}_mask.nii.gz")
        rows.append({"case_id": str(number), "image": f"{number}.nii.gz", "reference_mask": f"{number}_mask.nii.gz"})
    return folder, pd.DataFrame(rows)


def as_in_cohort(cases):
    """With what the cohort table tells of a case."""
    blood = {f"reference_{label}_ml": 0.0 for label in LABELS} | {"reference_parenchymal_ml": 2.0}
    return cases.assign(hemorrhage_type="parenchymal", content=cases["case_id"], **blood)


@pytest.mark.parametrize(
    ("stated", "label"), [("ventricular", 2), ("subarachnoid", 3), ("parenchymal", 1), ("mixed", 1), (None, 1)]
)
def test_a_binary_mask_takes_its_type_from_the_cohort_table(discs, stated, label):
    folder, cases = discs
    seen = training_slices.load_cases(cases[:1].assign(hemorrhage_type=stated), folder, SETTINGS)["0"]
    assert np.unique(seen.labels).tolist() == [0, label]
    assert training_slices.of_type(np.array([0, 1, 2]), stated).tolist() == [0, 1, 2]  # labels say it themselves


def test_slices_keep_the_volume_of_the_masks(discs):
    folder, cases = discs
    slices = training_slices.load_slices(cases, folder, SETTINGS, CPU)
    native = [nibabel.load(folder / name).get_fdata().sum() * 0.02 for name in cases["reference_mask"]]  # 20 mm3 voxels
    assert validation.case_volumes(slices.labels, slices).numpy() == pytest.approx(native, rel=0.08)  # 4 mm pixels
    assert slices.hu.shape == (48, 48, 48)
    assert (slices.case[slices.neighbors] == slices.case[:, None]).all(), "a neighbor lies in another case"


def test_training_learns_and_repeats_itself(discs):
    folder, cases = discs
    part, held = (training_slices.load_slices(rows, folder, SETTINGS, CPU) for rows in (cases[:6], cases[6:]))
    recipe = train.Recipe(steps=120, batch_size=6, validate_every=60, seed=3, ema_decay=0.9)
    network, history = train.train(part, held, SETTINGS, recipe)
    assert history["step"].tolist() == [60, 120]
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert history["validation_dice"].max() > 0.8
    again, _ = train.train(part, held, SETTINGS, recipe)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_bias_that_normalization_takes_away_is_not_trained(discs, monkeypatch, dtype):
    """Any value gives the same network; Adam would make whole steps of the rounding of its gradient."""
    monkeypatch.setattr(model, "autocast_dtype", lambda device: dtype)
    folder, cases = discs
    part = training_slices.load_slices(cases[:6], folder, SETTINGS, CPU)
    torch.manual_seed(5)
    start = model.build_network(SETTINGS).state_dict()
    recipe = train.Recipe(steps=20, batch_size=6, validate_every=20, seed=5)
    network, _ = train.train(part, part, SETTINGS, recipe, start=start)
    moved = {
        name: float((value - start[name]).abs().max())
        for name, value in network.state_dict().items()
        if name.endswith("conv.bias")
    }
    last = max(moved)  # of the logits, which nothing normalizes
    assert moved.pop(last) > 0
    assert set(moved.values()) == {0.0}


def test_slices_of_a_label_share_one_unit_of_weight():
    """Two slices of label 1, one of 1 and 2, one of none: a third of a unit each, a whole one more for label 2."""
    labels = torch.zeros((4, 4, 4), dtype=torch.uint8)
    labels[:3, 0, 0] = 1
    labels[2, 1, 1] = 2
    assert batches._blood_weights(labels, 4).tolist() == pytest.approx([1 / 3, 1 / 3, 4 / 3, 0])


def test_a_case_without_blood_is_scored_by_what_is_marked_on_it(monkeypatch):
    labels = torch.zeros((4, 8, 8), dtype=torch.uint8)
    labels[:2, 2:4, 2:4] = 1
    slices = training_slices.Slices(
        labels.short(),
        labels,
        model.neighbor_index(4, 1),
        torch.tensor([0, 0, 1, 1]),
        torch.full((4,), 0.05),
        ("a", "b"),
        CPU,
    )
    found = labels.clone()
    found[2, 0, :6] = 2  # 0.3 ml: 0.1 / (0.1 + 0.3)
    monkeypatch.setattr(validation, "predict_slices", lambda *arguments: found)
    assert validation.validate(torch.nn.Identity(), slices, SETTINGS) == pytest.approx(((1 + 0.25) / 2 + 1) / 2)


def test_loss_that_is_not_finite_names_the_cases(discs):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    recipe = train.Recipe(steps=4, batch_size=4, learning_rate=math.inf, validate_every=2)
    with pytest.raises(LossNotFinite, match=r"not finite at step [23], batch of cases .*[01]"):
        train.train(part, part, SETTINGS, recipe)


def test_gradient_that_is_not_finite_ends_a_training_that_can_go_on(discs, tmp_path, monkeypatch):
    """The loss is finite: were its gradient not looked at, the weights kept at step 4 would be no numbers."""
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    recipe = train.Recipe(steps=6, batch_size=4, validate_every=2, seed=3)
    file, seen, whole = tmp_path / "model" / "checkpoint.pt", [], train.segmentation_loss

    def broken(logits, labels):
        seen.append(1)
        loss = whole(logits, labels)
        return loss + (0 * logits.sum()).sqrt() if len(seen) == 4 else loss  # the root's slope at 0 is infinite

    expected = train.train(part, part, SETTINGS, train.Recipe(steps=2, batch_size=4, validate_every=2, seed=3))[1]
    monkeypatch.setattr(train, "segmentation_loss", broken)
    with pytest.raises(LossNotFinite, match=r"at step 4, batch of cases .*weights of step 2 are in .*last_good"):
        train.train(part, part, SETTINGS, recipe, checkpoint_file=file)
    good = begin(str(file.parent / LAST_GOOD), model.Settings(), file.parent)
    assert good.settings == SETTINGS
    assert good.card["validation_dice"] == pytest.approx(expected["validation_dice"].iloc[0], abs=0.2)
    assert all(bool(value.isfinite().all()) for value in good.state.values())
    with pytest.raises(ValueError, match=r"ended early.*start_from"):
        predict.Weights.load(file.parent / LAST_GOOD)
    monkeypatch.setattr(train, "segmentation_loss", whole)
    rows = []
    train.train(part, part, SETTINGS, recipe, rows.append, file)  # its checkpoint is that of step 2
    assert [row["step"] for row in rows] == [2, 4, 6]


class NoGraph:
    """Records nothing: what was run stays as it was when it runs again."""

    def __init__(self, *given):
        self.replays = 0

    def replay(self):
        self.replays += 1

    def wait_stream(self, other):
        pass


def test_passes_told_to_a_gpu_once_leave_the_network_as_it_was(monkeypatch):
    """Warming up runs the network on a batch that it will see again: its statistics do not keep that."""
    monkeypatch.setattr(replay, "ON", True)
    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, NoGraph)
    for name in ("stream", "device", "graph"):
        monkeypatch.setattr(torch.cuda, name, nullcontext)
    network, image = model.build_network(SETTINGS).train(), torch.rand(2, 4, 48, 48)
    labels, runs = torch.randint(4, (2, 48, 48)), []

    def passes(image, labels):
        logits = network(image)
        runs.append(image)
        return segmentation_loss(logits, labels).detach(), logits.detach()

    assert replay.replayed(network, passes, image, labels, CPU) is passes
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run = replay.replayed(network, passes, image, labels, torch.device("cuda"))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert len(runs) == replay.WARM_UP + 1
    later = torch.rand_like(image), torch.randint(4, (2, 48, 48))
    loss, logits = run(*later)
    assert len(runs) == replay.WARM_UP + 1
    assert torch.equal(runs[-1], later[0])  # where the graph reads
    assert torch.equal(labels, later[1])
    assert (loss.shape, logits.shape) == ((), (2, 4, 48, 48))


def test_checkpoint_of_another_device_is_taken_up_with_other_random_numbers(discs, tmp_path):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    recipe, file = train.Recipe(steps=6, batch_size=4, validate_every=2), tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train.train(part, part, SETTINGS, recipe, stop_after(4), file)
    kept = torch.load(file, weights_only=True)
    kept["state"] |= {"device": "cuda", "random": torch.zeros(16, dtype=torch.uint8)}  # as long as that of a GPU
    torch.save(kept, file)
    rows = []
    with pytest.warns(UserWarning, match="step 2 was written on cuda: the training goes on from it on cpu"):
        train.train(part, part, SETTINGS, recipe, rows.append, file)
    assert [row["step"] for row in rows] == [2, 4, 6]


def stop_after(step):
    def report(row):
        if row["step"] == step:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("hard_share", [0.0, 0.4])
def test_training_that_was_stopped_ends_with_the_same_weights(discs, tmp_path, hard_share):
    folder, cases = discs
    part, held = (training_slices.load_slices(rows, folder, SETTINGS, CPU) for rows in (cases[:6], cases[6:]))
    recipe = train.Recipe(
        steps=12, batch_size=4, validate_every=4, seed=3, ema_decay=0.9, positive_share=0.5, hard_share=hard_share
    )
    whole, expected = train.train(part, held, SETTINGS, recipe)
    kept = tmp_path / "model" / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train.train(part, held, SETTINGS, recipe, stop_after(8), kept)  # stopped before step 8 is kept
    seen = []
    again, history = train.train(part, held, SETTINGS, recipe, seen.append, kept)
    pd.testing.assert_frame_equal(history, expected)
    assert [row["step"] for row in seen] == [4, 8, 12]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_checkpoint_of_another_training_is_not_taken_up(discs, tmp_path):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    kept = tmp_path / "checkpoint.pt"
    short = train.Recipe(steps=4, batch_size=4, validate_every=2)
    train.train(part, part, SETTINGS, short, checkpoint_file=kept)
    longer = train.Recipe(steps=6, batch_size=4, validate_every=2)
    with pytest.warns(UserWarning, match=r"kept as checkpoint_of_another_training\.pt, and this training begins anew"):
        _, history = train.train(part, part, SETTINGS, longer, checkpoint_file=kept)
    assert (tmp_path / "checkpoint_of_another_training.pt").is_file()
    pd.testing.assert_frame_equal(history, train.train(part, part, SETTINGS, longer)[1])


def test_damaged_checkpoint_is_an_error(discs, tmp_path):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="damaged checkpoint"):
        train.train(part, part, SETTINGS, train.Recipe(steps=2), checkpoint_file=tmp_path / "checkpoint.pt")


def test_training_goes_on_from_given_weights(discs):
    folder, cases = discs
    part, held = (training_slices.load_slices(rows, folder, SETTINGS, CPU) for rows in (cases[:6], cases[6:]))
    recipe = train.Recipe(steps=60, batch_size=6, validate_every=60, seed=3, ema_decay=0.9)
    network, history = train.train(part, held, SETTINGS, recipe)
    short = train.Recipe(steps=2, batch_size=6, validate_every=2, seed=3, ema_decay=0.1, learning_rate=1e-6)
    _, anew = train.train(part, held, SETTINGS, short)
    _, further = train.train(part, held, SETTINGS, short, start=network.state_dict())
    assert further["loss"].iloc[0] < 0.7 * anew["loss"].iloc[0]
    assert further["validation_dice"].iloc[0] == pytest.approx(history["validation_dice"].iloc[0], abs=0.02)


def test_slices_labeled_poorly_come_back(discs):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    batches = Batches(part, SETTINGS, train.Recipe(batch_size=10, positive_share=0.3, hard_share=0.5))
    batches.hardness[:] = 1e-6
    batches.hardness[7] = 1.0
    drawn = batches.draw(torch.Generator().manual_seed(0))
    assert len(drawn) == 10
    assert (drawn[-5:] == 7).all()


def none_left(*arguments, **named):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_of_a_cpu_is_said_to_be_too_small_too():
    """Of 40 petabytes; torch has no class of its own for this error."""
    with pytest.raises(BatchTooLarge, match=r"6 slices .* set batch_size=3"), in_memory(6, SETTINGS, CPU):
        torch.empty(10**16)


def test_other_errors_of_torch_pass_as_they_are():
    with pytest.raises(RuntimeError, match="must match"), in_memory(6, SETTINGS, CPU):
        torch.zeros(2) + torch.zeros(3)


@pytest.mark.parametrize(("batch_size", "positive", "hard"), [(3, 0.5, 0.5), (1, 0.5, 0.3), (10, 0.5, 0.3)])
def test_a_batch_has_its_size_whatever_the_shares(discs, batch_size, positive, hard):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    recipe = train.Recipe(batch_size=batch_size, positive_share=positive, hard_share=hard)
    assert len(Batches(part, SETTINGS, recipe).draw(torch.Generator().manual_seed(1))) == batch_size


@pytest.mark.parametrize(
    ("place", "batch_size", "advice"),
    [
        ((train, "segmentation_loss"), 6, "set batch_size=3"),
        ((train, "augment"), 6, "set batch_size=3"),
        ((torch.optim.AdamW, "step"), 5, "set batch_size=2"),
        ((torch.optim.AdamW, "step"), 1, "set a smaller network_size"),
        ((validation, "predict_slices"), 6, "set a smaller network_size"),
    ],
)
def test_memory_is_said_to_be_too_small_wherever_it_is(discs, monkeypatch, place, batch_size, advice):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    monkeypatch.setattr(*place, none_left)
    with pytest.raises(BatchTooLarge, match=rf"slices of 48 x 48 pixels do not fit .* {advice}"):
        train.train(part, part, SETTINGS, train.Recipe(steps=2, batch_size=batch_size, validate_every=1))


def test_slices_beyond_the_memory_of_the_device_stay_in_main_memory(discs, monkeypatch):
    """The meta device stands for a GPU: it holds no values, but says where a tensor would lie."""
    folder, cases = discs
    gpu = torch.device("meta")
    loaded = training_slices.load_cases(cases[:2], folder, SETTINGS)
    monkeypatch.setattr(training_slices, "free_bytes", lambda device: 1000)
    with pytest.warns(UserWarning, match=r"2 cases take 0\.0 GB of slices and meta has 0\.0 GB free: they stay"):
        part = training_slices.side_by_side(loaded, SETTINGS, gpu)
    assert part.hu.device == CPU
    rows = torch.tensor([3, 4])
    assert part.hu_of(rows).device == part.labels_of(rows).device == gpu
    assert part.hu_of(rows).shape == (2, 3, 48, 48)
    assert Batches(part, SETTINGS, train.Recipe()).hardness.device == gpu


def test_label_that_no_case_holds_is_named(discs):
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    assert training_slices.absent_labels(part, SETTINGS) == ["ventricular", "subarachnoid"]


def test_one_case_a_split_is_enough_to_run(discs, tmp_path):
    folder, cases = discs
    part, held = (training_slices.load_slices(rows, folder, SETTINGS, CPU) for rows in (cases[:1], cases[1:2]))
    network, history = train.train(part, held, SETTINGS, train.Recipe(steps=4, batch_size=4, validate_every=2))
    assert history["step"].tolist() == [2, 4]
    assert calibration.calibrate(network, held, SETTINGS)[1]["factor"] is None
    keep(network, SETTINGS, part, held, history, tmp_path, trained_on="one disc", simulated=True)
    weights = predict.Weights.load(tmp_path)
    assert weights.familiar is None, "one scan does not tell what is unlike it"
    assert predict.predict(weights.network, weights.settings, read_scan(folder / "2.nii.gz")).labels.shape == (
        90,
        90,
        6,
    )


def test_calibration_knows_whose_the_scans_are(discs):
    folder, cases = discs
    owned = cases[:4].assign(patient_id=["a", "a", "b", "c"])
    slices = training_slices.load_slices(owned, folder, SETTINGS, CPU)
    found = calibration.calibrate(model.build_network(SETTINGS).eval(), slices, SETTINGS, level=0.5)[1]
    assert (found["n"], found["n_patients"]) == (4, 3)


def test_empty_split_is_an_error(discs):
    folder, cases = discs
    with pytest.raises(ValueError, match="this split is empty"):
        training_slices.load_slices(cases[:0], folder, SETTINGS, CPU)


def test_split_without_blood_is_an_error(discs, tmp_path):
    folder, cases = discs
    affine = np.diag([-2.0, -2.0, 5.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.zeros((90, 90, 6), np.uint8), affine), tmp_path / "empty.nii.gz")
    rows = cases[:1].assign(image=str(folder / "0.nii.gz"), reference_mask="empty.nii.gz")
    with pytest.raises(ValueError, match="nothing to learn"):
        training_slices.load_slices(rows, tmp_path, SETTINGS, CPU)


def test_mask_on_another_grid_names_the_case(discs, tmp_path):
    folder, cases = discs
    nibabel.save(
        nibabel.Nifti1Image(np.ones((80, 90, 6), np.uint8), np.diag([-2.0, -2.0, 5.0, 1.0])), tmp_path / "m.nii.gz"
    )
    rows = cases[:1].assign(image=str(folder / "0.nii.gz"), reference_mask="m.nii.gz")
    with pytest.raises(ValueError, match=r"case 0: shape \(90, 90, 6\).*\(80, 90, 6\)"):
        training_slices.load_slices(rows, tmp_path, SETTINGS, CPU)


def test_a_slice_whose_loss_is_not_finite_is_drawn_no_more_often():
    """The weights of a draw may not add up to infinity: a GPU would give up there, and with it what is kept."""
    logits = torch.zeros(3, 4, 2, 2)
    logits[0, 1], logits[1] = -torch.inf, torch.nan
    labels = torch.ones(3, 2, 2, dtype=torch.long)
    losses = slice_loss(logits, labels)
    assert losses.tolist() == pytest.approx([1e-4, 1e-4, np.log(4)])


def test_a_network_that_saw_other_cases_is_refused(discs):
    _, cases = discs
    cases = as_in_cohort(cases)
    check_trained_on({"training_data_sha256": splits.fingerprint(cases[:2])}, cases[:2])
    changed = cases[:2].assign(reference_parenchymal_ml=[1.0, 2.5])
    for others in (cases[1:3], changed, cases[:2].assign(hemorrhage_type="ventricular")):
        with pytest.raises(ValueError, match="trained on other cases than this run's training split"):
            check_trained_on({"training_data_sha256": splits.fingerprint(others)}, cases[:2])
    with pytest.raises(ValueError, match="trained on other cases"):
        check_trained_on({}, cases[:2])


def test_card_says_what_a_network_was_trained_on_before_and_then(discs):
    folder, cases = discs
    cases = as_in_cohort(cases)[:2].assign(source="manifest own.csv", simulated=False)
    base = training_slices.load_cases(cases, folder, SETTINGS)
    slices = training_slices.side_by_side(base, SETTINGS, CPU)
    recipe = train.Recipe()
    anew = card_of({"train": cases}, slices, Start(None, SETTINGS, {}), recipe, 0)
    assert anew["trained_on"] == "manifest own.csv"
    assert anew["absent_labels"] == ["ventricular", "subarachnoid"]
    assert not anew["simulated"]
    before = {"trained_on": "simulated CT only", "simulated": True, "absent_labels": [], "sha256": "ab"}
    further = card_of({"train": cases}, slices, Start({}, SETTINGS, before), recipe, 20)
    assert further["trained_on"].startswith("simulated CT only; then on manifest own.csv and simulated cases beside it")
    assert further["absent_labels"] == ["ventricular", "subarachnoid"], "it met them before, and forgets them"
    assert further["started_from"] == "ab"
    simulated = {"train": cases.assign(simulated=True)}
    assert card_of(simulated, slices, Start({}, SETTINGS, before), recipe, 0)["simulated"]


def test_pixels_asked_for_beside_a_network_that_has_others_are_an_error(tmp_path):
    model.save_weights(model.build_network(SETTINGS), SETTINGS, tmp_path)
    assert begin(str(tmp_path), model.Settings(), tmp_path).settings == SETTINGS
    with pytest.raises(ValueError, match=r"pixel_mm=4 and network_size=48, asked for are 2 and 128: leave them out"):
        begin(str(tmp_path), model.Settings(pixel_mm=2.0), tmp_path)


def test_a_checkpoint_knows_its_data_by_name_where_it_has_one(discs, tmp_path):
    """Another processor may resample a pixel to another last digit: the training goes on nevertheless."""
    folder, cases = discs
    part = training_slices.load_slices(cases[:2], folder, SETTINGS, CPU)
    recipe, kept = train.Recipe(steps=4, batch_size=4, validate_every=2), tmp_path / "checkpoint.pt"
    train.train(part, part, SETTINGS, recipe, checkpoint_file=kept, data="these")
    before = kept.read_bytes()
    part.hu[0, 0, 0] += 1
    rows = []
    train.train(part, part, SETTINGS, recipe, rows.append, kept, data="these")
    assert rows[0]["step"] == 2
    assert kept.read_bytes() == before, "nothing was left to validate but the end"


def test_a_network_takes_slices_that_its_levels_halve():
    with pytest.raises(ValueError, match="network_size 100: wanted a multiple of 8, such as 96"):
        model.Settings(size=100)


def test_the_interval_of_the_volume_is_of_masks_as_they_are(discs):
    """Twice the blood in the masks: references grow, and with them the factor of the interval."""
    folder, cases = discs
    network = model.build_network(SETTINGS).eval()
    cases = cases.assign(patient_id=cases["case_id"])
    factors = []
    for ml in (None, 0.0, 500.0):
        known = cases if ml is None else cases.assign(reference_volume_ml=ml)
        part = training_slices.load_slices(known, folder, SETTINGS, CPU)
        assert part.reference_ml == (None if ml is None else (ml,) * 8)
        factors.append(calibration.calibrate(network, part, SETTINGS, level=0.5)[1]["factor"])
    assert len(set(factors)) == 3

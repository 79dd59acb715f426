"""What a GPU would refuse or wait for, on a device that is none: what is computed there is what the CPU computes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ich import calibration, model, phantom, predict, trained, training_slices
from ich.calibration import calibrate
from ich.model import Settings
from ich.scan import Scan
from ich.train import Recipe, train
from tests.pretend_device import NAME, pretending

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="torch takes one device beside the CPU, and there is a GPU"
)
SETTINGS = Settings(pixel_mm=8.0, size=32, channels=(8, 16), strides=(2,))
RECIPE = Recipe(steps=4, batch_size=4, validate_every=2, scanner_share=0.5, hard_share=0.25)


@pytest.fixture(scope="module")
def seen():
    made = [phantom.make_case(3019, index, 64) for index in range(2)]
    return {case.case_id: training_slices.as_seen(case.hu, case.labels, case.grid, SETTINGS) for case in made}


@pytest.fixture(scope="module")
def case():
    return phantom.make_case(3019, 1, 128)


def fit(seen, device: str, recipe=RECIPE):
    slices = training_slices.side_by_side(seen, SETTINGS, torch.device(device))
    return (*train(slices, slices, SETTINGS, recipe), slices)


def test_what_lies_elsewhere_is_not_mixed_with_what_lies_here(monkeypatch):
    with pretending(monkeypatch) as device:
        there = torch.ones(3, device=NAME)
        assert there.device.type == NAME
        assert (there + 1).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="some of its tensors"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert bool(there.any())
        assert float(there[there > 2].sum()) == 0
        assert device.waits == {
            "aten._to_copy.default": 1, "aten._local_scalar_dense.default": 2, "aten.index.Tensor": 1,
        }  # fmt: skip


@pytest.mark.parametrize("room", [1e12, 0], ids=["on the device", "in main memory"])
def test_training_on_a_device_is_that_on_the_cpu(seen, monkeypatch, tmp_path, room):
    expected = fit(seen, "cpu")[1]
    for module in (training_slices, calibration):
        monkeypatch.setattr(module, "free_bytes", lambda device: room if device.type == NAME else 1e12)
    with pretending(monkeypatch):
        if room:
            network, found, slices = fit(seen, NAME)
        else:
            with pytest.warns(UserWarning, match="stay in main memory"):
                network, found, slices = fit(seen, NAME)
        assert slices.hu.device.type == (NAME if room else "cpu")
        assert {each.device.type for each in network.parameters()} == {NAME}
        trained.keep(network, SETTINGS, slices, slices, found, tmp_path, simulated=True)
        there, interval = calibrate(network, slices, SETTINGS, level=0.3)
    assert found["loss"].tolist() == pytest.approx(expected["loss"].tolist(), rel=1e-3)
    network, settings, _ = model.load_weights(tmp_path, torch.device("cpu"))
    slices = training_slices.side_by_side(seen, SETTINGS, torch.device("cpu"))
    here, expected_interval = calibrate(network, slices, SETTINGS, level=0.3)
    assert settings == there
    assert there.temperature == pytest.approx(here.temperature, rel=0.02)
    assert interval["factor"] == pytest.approx(expected_interval["factor"], rel=0.02)


def test_steps_between_validations_never_wait_for_the_device(seen, monkeypatch):
    """Each wait leaves a GPU without work for as long as it takes to ask and to go on."""
    waits = []
    with pretending(monkeypatch) as device:
        for steps in (3, 6):
            device.waits.clear()
            fit(seen, NAME, recipe=Recipe(**vars(RECIPE) | {"steps": steps, "validate_every": 100}))
            waits.append(dict(device.waits))
    assert waits[0] == waits[1]


def test_a_device_marks_what_the_cpu_does(case, monkeypatch):
    scan = Scan(case.grid, case.hu, "simulated")
    weights = predict.Weights.load(model.SHIPPED_WEIGHTS, "cpu")
    here = predict.predict(weights.network, weights.settings, scan, with_probability=True).labels > 0
    with pretending(monkeypatch) as device:
        weights = predict.Weights.load(model.SHIPPED_WEIGHTS, NAME)
        device.waits.clear()
        there = predict.predict(weights.network, weights.settings, scan, with_probability=True).labels > 0
        assert sum(device.waits.values()) < 40, "more than one for a slice, and some"
    assert here.sum() > 500
    assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.99


def test_a_device_renders_what_the_cpu_does(case, monkeypatch):
    with pretending(monkeypatch):
        there = phantom.make_case(3019, 1, 128, NAME)
        resampled = training_slices.as_seen(there.hu, there.labels, there.grid, SETTINGS, NAME)
    assert np.array_equal(there.labels, case.labels)
    assert np.array_equal(there.hu, case.hu)
    expected = training_slices.as_seen(case.hu, case.labels, case.grid, SETTINGS)
    assert np.array_equal(resampled.hu, expected.hu)
    assert np.array_equal(resampled.labels, expected.labels)


def test_networks_that_answer_together_lie_on_one_device(monkeypatch, tmp_path: Path):
    settings = replace(SETTINGS, members=2, mirrored=True)
    model.save_weights(model.build_network(settings), settings, tmp_path)
    image = torch.rand(2, 4, 32, 32)
    expected = model.logits_of(model.load_weights(tmp_path, torch.device("cpu"))[0], image, settings)
    with pretending(monkeypatch):
        network = model.load_weights(tmp_path, torch.device(NAME))[0]
        found = model.logits_of(network, image.to(NAME), settings).detach().cpu()
    assert torch.allclose(found.float(), expected.float(), atol=0.02)  # bfloat16 where the CPU has it

"""Simulated cases that a training is given anew."""

import numpy as np
import pytest
import torch

from ich import model, train
from ich.stream import Stream, embedded_case, embedded_stream
from ich.training_slices import Seen

CPU = torch.device("cpu")
SETTINGS = model.Settings(pixel_mm=6.0, size=32, channels=(4, 8), strides=(2,))


def render(index):
    """A case of two slices: all pixels hold its index, a square in it is blood."""
    hu = np.full((2, 32, 32), index, np.int16)
    labels = np.zeros((2, 32, 32), np.uint8)
    labels[:, 8:16, 8:16] = 1
    return Seen(hu, labels, np.ones(2, np.float32), model.neighbor_index(2, 1).numpy())


def no_room(index):
    raise torch.AcceleratorError("CUDA error: out of memory")


def test_a_device_without_room_for_rendering_is_said_to_have_none():
    """What a process is told that finds no room for CUDA itself, in the class that torch has for CUDA's own errors."""
    with (
        pytest.raises(MemoryError, match="no room on cpu to simulate cases beside the training: CUDA error"),
        Stream(no_room, 2, 1, SETTINGS, CPU) as stream,
    ):
        stream(0)


def test_the_window_moves_on_and_the_base_stays():
    with Stream(render, 4, 2, SETTINGS, CPU, {"real": render(-5)}) as stream:
        first, second, again = stream(0), stream(1), stream(3)
    assert first.case_ids == ("real", *(f"simulated-{n}" for n in (0, 1, 2, 3)))
    assert first.hu[::2, 0, 0].tolist() == [-5, 0, 1, 2, 3]
    assert second.hu[::2, 0, 0].tolist() == [-5, 2, 3, 4, 5]
    assert again.hu[::2, 0, 0].tolist() == [-5, 6, 7, 8, 9]
    assert second.neighbors.tolist()[2:4] == [[2, 2, 3], [2, 3, 3]]  # slices of one case are not neighbors of another's


def test_without_simulated_cases_nothing_is_renewed():
    stream = embedded_stream({"real": render(1)}, 0, SETTINGS, CPU, seed=1)
    assert stream(0).case_ids == ("real",)
    assert stream.renew is None


def test_a_simulated_case_is_the_same_in_another_process():
    here = embedded_case(3, SETTINGS, 64, "cpu", 1)
    with embedded_stream({}, 2, SETTINGS, CPU, seed=3, size=64) as stream:
        there = stream(0)
    mine = there.case == 1
    assert torch.equal(there.hu[mine], torch.from_numpy(here.hu))
    assert torch.equal(there.labels[mine], torch.from_numpy(here.labels))


def test_a_training_that_stops_goes_on_with_the_same_cases(tmp_path):
    torch.set_num_threads(1)
    asked = []

    def renewed(renewal):
        asked.append(renewal)
        return stream(renewal)

    recipe = train.Recipe(steps=9, batch_size=4, validate_every=3, seed=3)
    with Stream(render, 4, 2, SETTINGS, CPU) as stream:
        begun = stream(0), stream(0)
        whole, _ = train.train(*begun, SETTINGS, recipe, renew=renewed)
        assert asked == [1, 2]

        class StoppedError(Exception):
            pass

        def stop(row):
            if row["step"] == 6:
                raise StoppedError

        file = tmp_path / "training.ckpt"
        with pytest.raises(StoppedError):  # after the checkpoint of step 3
            train.train(*begun, SETTINGS, recipe, stop, file, renew=renewed)
        asked.clear()
        resumed, _ = train.train(*begun, SETTINGS, recipe, checkpoint_file=file, renew=renewed)
    assert asked == [1, 2]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_window_cannot_renew_more_than_it_holds():
    with pytest.raises(ValueError, match="5 of 4"):
        Stream(render, 4, 5, SETTINGS, CPU)

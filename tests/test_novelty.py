"""A scan like those of training is close to them, anything else is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf

from ich import model, novelty
from ich.training_slices import Slices

SETTINGS = model.Settings(pixel_mm=6.0, size=32, channels=(4, 8), strides=(2,))


def split(n, seed, change=lambda hu: hu):
    """`n` cases of four slices: a disc of brain in air with a lesion of its own."""
    random = torch.Generator().manual_seed(seed)
    i, j = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    radius = 10 + 3 * torch.rand((n, 1, 1), generator=random)
    hu = torch.where((i - 16) ** 2 + (j - 16) ** 2 < radius**2, 35.0, -1000.0)
    hu = hu + torch.rand((n, 1, 1), generator=random) * 10 + torch.randn((n, 32, 32), generator=random) * 4
    hu = change(hu).repeat_interleave(4, 0).to(torch.int16)
    case = torch.arange(n).repeat_interleave(4)
    neighbors = torch.cat([model.neighbor_index(4, 1) + 4 * k for k in range(n)])
    return Slices(
        hu, torch.zeros_like(hu, dtype=torch.uint8), neighbors, case, torch.ones(4 * n), tuple("x" * n), hu.device
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return model.build_network(SETTINGS).eval()


@pytest.fixture(scope="module")
def familiar(network):
    return novelty.fit(network, split(40, 1), split(20, 2), SETTINGS)


def distances(familiar, network, slices):
    found = novelty.embeddings(network, slices, SETTINGS, 99)
    return np.array([familiar.distance(each) for each in found])


def test_scans_of_the_same_kind_are_within_the_limit(familiar, network):
    assert familiar.n_training == 40
    assert familiar.n_validation == 20
    assert np.mean(distances(familiar, network, split(30, 3)) <= familiar.limit) > 0.85


@pytest.mark.parametrize(
    "change",
    [lambda hu: 70 - hu.clamp(-1000, 1000), lambda hu: hu + 60, lambda hu: hu * 0],
    ids=["inverted", "60 HU too bright", "nothing"],
)
def test_scans_of_another_kind_are_far_beyond_it(familiar, network, change):
    assert (distances(familiar, network, split(10, 3, change)) > 1.5 * familiar.limit).all()


def test_distance_is_that_of_mahalanobis():
    precision = np.array([[2.0, 0.5], [0.5, 1.0]])
    known = novelty.Familiar(np.array([1.0, 2]), np.array([2.0, 4]), precision, 1.0, 9, 9)
    # z = (1, -1): 2 - 2 * 0.5 + 1 = 2, over two features
    assert known.distance(np.array([3.0, -2.0])) == pytest.approx(1.0)


def test_what_is_known_is_mean_spread_and_ledoit_wolf_covariance(familiar, network):
    known, held = (novelty.embeddings(network, split(n, seed), SETTINGS, 99) for n, seed in ((40, 1), (20, 2)))
    assert familiar.mean == pytest.approx(known.mean(0))
    assert familiar.sd == pytest.approx(known.std(0), abs=2e-3)
    covariance, _ = ledoit_wolf((known - known.mean(0)) / familiar.sd, assume_centered=True)
    inverse = np.linalg.inv(covariance * np.outer(familiar.sd, familiar.sd))
    far = [mahalanobis(each, known.mean(0), inverse) for each in held]
    assert familiar.limit == pytest.approx(max(far) / np.sqrt(known.shape[1]), rel=1e-3)


def test_cases_that_are_one_or_all_alike_tell_nothing(network):
    assert novelty.fit(network, split(1, 1), split(3, 2), SETTINGS) is None
    assert novelty.fit(network, split(2, 1), split(3, 2), SETTINGS).n_training == 2
    alike = split(2, 1, lambda hu: hu * 0 + 30)
    assert novelty.fit(network, alike, alike, SETTINGS) is None


def test_slices_without_a_head_do_not_count():
    hu = torch.full((3, 32, 32), -1000.0)
    hu[2, 8:24, 8:24] = 30
    features = torch.tensor([[1.0], [5.0], [9.0]])
    assert novelty.scan_embedding(features, hu, SETTINGS).tolist() == [9.0]
    assert novelty.scan_embedding(features, hu * 0 - 1000, SETTINGS).tolist() == [5.0], "no head at all: the mean"


def test_what_is_known_is_kept_with_the_weights(familiar, tmp_path):
    digest = novelty.save(familiar, tmp_path)
    again = novelty.load(tmp_path, digest)
    for name in ("mean", "sd", "precision", "limit", "n_training", "n_validation"):
        assert np.array_equal(getattr(again, name), getattr(familiar, name))
    assert novelty.load(tmp_path, None) is None
    with pytest.raises(ValueError, match="SHA-256 differs"):
        novelty.load(tmp_path, "0" * 64)
    (tmp_path / novelty.FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"settings\.json names"):
        novelty.load(tmp_path, digest)


def test_features_are_those_of_both_mirror_images(network):
    image = model.channels(split(1, 4).hu[:3].float()[None].expand(2, -1, -1, -1), SETTINGS)
    with model.bottom_features(network) as seen, torch.inference_mode():
        model.logits_of(network, image, replace(SETTINGS, mirrored=True))
    assert [tuple(each.shape) for each in seen] == [(2, 8), (2, 8)]
    with torch.inference_mode():
        model.logits_of(network, image, SETTINGS)
    assert len(seen) == 2, "nothing is collected outside the block"

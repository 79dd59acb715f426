"""A network with one more level begins with the answers of the one it is put around, and learns from there."""

from dataclasses import replace

import torch

from ich import finer, model

INNER = model.Settings(pixel_mm=6.0, size=32, channels=(4, 8, 12), strides=(2, 2))
OUTER = replace(INNER, channels=(6, 4, 8, 12), strides=(1, 2, 2))


def trained_a_little() -> tuple[torch.nn.Module, torch.Tensor]:
    """A network whose normalization has met images, and others than those."""
    torch.manual_seed(0)
    network = model.build_network(INNER)
    with torch.no_grad():
        for weight in network.parameters():
            weight += torch.randn_like(weight) * 0.1
        for _ in range(20):
            network(torch.rand(8, INNER.in_channels, 32, 32))
    return network.eval(), torch.rand(8, INNER.in_channels, 32, 32)


def test_the_answers_are_those_of_the_network_inside():
    inner, image = trained_a_little()
    outer = model.build_network(OUTER)
    outer.load_state_dict(finer.around(inner, OUTER, torch.rand_like(image)))
    with torch.no_grad():
        expected = inner(image)
        assert expected.std() > 0.1
        torch.testing.assert_close(outer.eval()(image), expected, rtol=0, atol=1e-4)


def test_what_is_new_takes_part_once_it_is_trained():
    inner, image = trained_a_little()
    outer = model.build_network(OUTER)
    outer.load_state_dict(finer.around(inner, OUTER, image))
    target = (image[:, 0] > 0.5).long()  # of single pixels, which the network inside cannot tell apart

    def learned(network: torch.nn.Module) -> float:
        optimizer = torch.optim.Adam(network.train().parameters(), 0.01)
        for _ in range(60):
            loss = torch.nn.functional.cross_entropy(network(image), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    assert learned(outer) < 0.5 * learned(inner)


def test_which_network_lies_within_which():
    assert finer.lies_within(INNER, OUTER)
    assert finer.lies_within(replace(INNER, pixel_mm=5.0, size=40), OUTER)
    assert not finer.lies_within(OUTER, INNER)
    assert not finer.lies_within(INNER, INNER)
    assert not finer.lies_within(replace(INNER, classes=2), OUTER)
    assert not finer.lies_within(replace(INNER, channels=(4, 8, 16)), OUTER)
    assert not finer.lies_within(replace(INNER, neighbors=2), OUTER)

"""A network with one more level, at full resolution, that begins with the answers of one without.

The U-Net inside halves the picture before its first features; the level around it sees every pixel, so edges and thin
blood are no longer guessed from features of twice the size. What is new adds nothing until it is trained: its features
meet weights of 0 (as Chen and others' Net2Net, ICLR 2016, grows a network without changing its function), and its
normalization has a gain of 0 (as in Goyal and others 2017, arXiv 1706.02677).
"""

from dataclasses import replace

import torch

from ich.model import Settings, build_network

WITHOUT_SKIP = {"0": "model.1.submodule.0.", "1": "model.1.submodule.1."}  # where parts of the network inside lie


def lies_within(inner: Settings, outer: Settings) -> bool:
    """Whether the outer network is the inner one with a level at full resolution around it."""
    around = replace(inner, channels=(outer.channels[0], *inner.channels), strides=(1, *inner.strides))
    return (around.channels, around.strides, around.in_channels, around.classes, around.members) == (
        outer.channels,
        outer.strides,
        outer.in_channels,
        outer.classes,
        outer.members,
    )


def _place(name: str) -> str:
    """Name of a weight of the inner network in the outer one: all but its last unit is a level further in."""
    top, part, rest = name.removeprefix("model.").split(".", 2)
    if top in WITHOUT_SKIP:
        return f"{WITHOUT_SKIP[top]}{part}.{rest}"
    return f"model.1.submodule.2.{part}.{rest}" if part == "0" else name


@torch.no_grad()
def around(inner: torch.nn.Module, settings: Settings, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights of the network of `settings` that answers as `inner` does, which `lies_within` it.

    Parameters
    ----------
    image : (B, in_channels, H, W) as `model.channels` makes it, of some slices: the last normalization, which is new,
        starts with the mean and variance that it meets on them.
    """
    image_channels, classes, width = settings.in_channels, settings.classes, settings.channels[0]
    state = build_network(settings).state_dict()
    for name, value in inner.state_dict().items():
        place = state[_place(name)]
        corner = tuple(slice(length) for length in value.shape)
        if place.shape != value.shape and place.ndim == 4 and name.startswith("model.0."):
            place.zero_()  # the first features meet what is new besides the image
        place[corner] = value

    # The new level passes the image on, and its other features are of weights at random.
    state["model.0.conv.unit0.adn.N.weight"][:image_channels] = 0
    passed = state["model.0.residual.weight"]
    passed[:image_channels] = 0
    middle = passed.shape[-1] // 2
    for channel in range(image_channels):
        passed[channel, channel, middle, middle] = 1
    state["model.0.residual.bias"][:image_channels] = 0

    # On the way up, a unit that adds nothing yet, then one that passes the logits on.
    state["model.1.submodule.2.1.conv.unit0.adn.N.weight"].zero_()
    last = state["model.2.0.conv.weight"].zero_()
    for label in range(classes):
        last[width + label, label, 1, 1] = 1
    state["model.2.0.conv.bias"].zero_()
    met = _met_by_the_last(inner, image)
    variance, mean = torch.var_mean(met.transpose(0, 1).flatten(1), 1)
    normalization = "model.2.0.adn.N."
    state[f"{normalization}running_mean"].copy_(mean)
    state[f"{normalization}running_var"].copy_(variance)
    state[f"{normalization}weight"].copy_((variance + torch.nn.BatchNorm2d(1).eps).sqrt())
    state[f"{normalization}bias"].copy_(mean)
    state["model.2.0.adn.A.weight"].fill_(1)  # its activation, a straight line
    return state


def _met_by_the_last(inner: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """(B, classes, H, W) that the last unit of a network adds to."""
    met: list[torch.Tensor] = []
    last = inner.get_submodule("model.2.0")
    handle = last.register_forward_hook(lambda module, given, made: met.append(made))
    try:
        inner.eval()(image)
    finally:
        handle.remove()
    return met[0]

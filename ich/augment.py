"""Random changes of a batch, on its device."""

import torch
import torch.nn.functional as F

from ich.model import AIR_HU


def augment(
    stack: torch.Tensor, labels: torch.Tensor, random: torch.Generator, batch: int, mine: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random rotation, scale, shift, mirror and HU changes of (B, C, H, W) HU and (B, H, W) labels.

    Parameters
    ----------
    random : draws for the whole batch, whichever part of it is given: processes that share a batch stay in step.
    batch : size of the whole batch. mine : the part of it that is given.
    """
    device = stack.device

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(batch, *shape, generator=random, device=device)[mine] * (high - low) + low

    angle = uniform(-0.3, 0.3)
    scale = uniform(0.88, 1.12)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(len(stack), 2, 3, device=device)
    # grid_sample's x is the last axis (front to back), y the one from side to side, which may be mirrored
    theta[:, 0, 0] = torch.cos(angle) / scale
    theta[:, 0, 1] = -torch.sin(angle) / scale
    theta[:, 1, 0] = torch.sin(angle) / scale * mirror
    theta[:, 1, 1] = torch.cos(angle) / scale * mirror
    theta[:, :, 2] = uniform(-0.08, 0.08, 2)
    grid = F.affine_grid(theta, [len(stack), 1, *stack.shape[2:]], align_corners=False)
    moved = F.grid_sample(stack - AIR_HU, grid, align_corners=False) + AIR_HU
    turned = F.grid_sample(labels[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    moved = moved * uniform(0.96, 1.04, 1, 1, 1) + uniform(-4, 4, 1, 1, 1)
    noise = torch.randn((batch, *moved.shape[1:]), generator=random, device=device)[mine]
    return moved + noise * uniform(0, 5, 1, 1, 1), turned

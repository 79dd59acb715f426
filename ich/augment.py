"""Random changes of a batch, on its device."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ich.hounsfield import AIR_HU

BENDS = 6  # control points along a side of the field that bends a slice
BEND = 0.03  # SD of their displacement, in halves of the image's side
BLUR = 1.0  # largest SD of the blur, pixels
THICKER = 0.25  # largest share of a neighbor in a slice
SHEAR = 0.02  # largest shift between a slice and the next, in halves of the image's side


@dataclass(frozen=True)
class Draws:
    """Random numbers of a whole batch; processes that share it draw the same and keep their own part."""

    random: torch.Generator
    batch: int
    mine: slice

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """(own slices, *shape) between two bounds."""
        drawn = torch.rand(self.batch, *shape, generator=self.random, device=self.random.device)
        return drawn[self.mine] * (high - low) + low

    def normal(self, *shape: int) -> torch.Tensor:
        """(own slices, *shape) of mean 0 and SD 1."""
        return torch.randn((self.batch, *shape), generator=self.random, device=self.random.device)[self.mine]


def augment(
    stack: torch.Tensor, labels: torch.Tensor, draws: Draws, scanner_share: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random rotation, scale, shift, mirror, HU changes and noise of (B, C, H, W) HU and (B, H, W) labels.

    Parameters
    ----------
    scanner_share : of the slices that are also bent, blurred, made thicker and sheared against their neighbors, as by
        another gantry tilt. The center slice alone is labeled, so a shear moves its neighbors.
    """
    angle = draws.uniform(-0.3, 0.3)
    scale = draws.uniform(0.88, 1.12)
    mirror = 1 - 2 * (draws.uniform(0, 1) < 0.5).float()
    theta = torch.zeros(len(stack), 2, 3, device=stack.device)
    # grid_sample's x is the last axis (front to back), y the one from side to side, which may be mirrored
    theta[:, 0, 0] = torch.cos(angle) / scale
    theta[:, 0, 1] = -torch.sin(angle) / scale
    theta[:, 1, 0] = torch.sin(angle) / scale * mirror
    theta[:, 1, 1] = torch.cos(angle) / scale * mirror
    theta[:, :, 2] = draws.uniform(-0.08, 0.08, 2)
    grid = F.affine_grid(theta, [len(stack), 1, *stack.shape[2:]], align_corners=False)
    if scanner_share > 0:
        stack, grid = _by_scanner(stack, grid, draws, scanner_share)
    moved = F.grid_sample(stack - AIR_HU, grid, align_corners=False) + AIR_HU
    turned = F.grid_sample(labels[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    moved = moved * draws.uniform(0.96, 1.04, 1, 1, 1) + draws.uniform(-4, 4, 1, 1, 1)
    return moved + draws.normal(*moved.shape[1:]) * draws.uniform(0, 5, 1, 1, 1), turned


def _by_scanner(
    stack: torch.Tensor, grid: torch.Tensor, draws: Draws, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices (B, C, H, W) sheared, thickened and blurred, and their grid (B, H, W, 2) bent, on a share of them."""
    chosen = (draws.uniform(0, 1) < share).float()[:, None, None, None]
    bend = draws.normal(2, BENDS, BENDS) * BEND * chosen
    bent = F.interpolate(bend, grid.shape[1:3], mode="bicubic", align_corners=True)
    shear = draws.uniform(-SHEAR, SHEAR) * chosen[:, 0, 0, 0]
    away = torch.arange(stack.shape[1], device=stack.device) - stack.shape[1] // 2
    stack = _shifted(stack, shear[:, None] * away)
    stack = _thicker(stack, draws.uniform(0, THICKER) * chosen[:, 0, 0, 0])
    return _blurred(stack, draws.uniform(0, BLUR) * chosen[:, 0, 0, 0]), grid + bent.movedim(1, -1)


def _shifted(stack: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Each slice of (B, C, H, W) moved front to back by (B, C) halves of its side."""
    theta = torch.eye(2, 3, device=stack.device).repeat(by.numel(), 1, 1)
    theta[:, 0, 2] = by.flatten()
    single = stack.flatten(0, 1)[:, None]
    grid = F.affine_grid(theta, list(single.shape), align_corners=False)
    return F.grid_sample(single - AIR_HU, grid, align_corners=False).view_as(stack) + AIR_HU


def _thicker(stack: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Each slice of (B, C, H, W) with a share (B,) of the slice before and of the one after; an end slice is its own
    neighbor."""
    before = torch.cat([stack[:, :1], stack[:, :-1]], 1)
    after = torch.cat([stack[:, 1:], stack[:, -1:]], 1)
    return stack + share[:, None, None, None] * (before + after - 2 * stack)


def _blurred(stack: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) blurred in the plane by a Gaussian of SD (B,) pixels."""
    offsets = torch.arange(-3, 4, device=stack.device)
    kernel = torch.exp(-0.5 * (offsets / sd.clamp(min=1e-2)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(stack.shape[1], 0)[:, None]
    flat = F.pad(stack.flatten(0, 1)[None], (3, 3, 3, 3), mode="replicate")
    flat = F.conv2d(flat, kernel[:, :, None, :], groups=len(kernel))
    return F.conv2d(flat, kernel[:, :, :, None], groups=len(kernel)).view_as(stack)

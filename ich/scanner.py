"""The simulated CT scanner: where each voxel of a stack lies in the head, and what blur, noise and bone do to it."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ich.scan import Grid

FIELD_MM = (222.0, 250.0)  # field of view: pixels of 0.43 to 0.49 mm at 512 x 512
SLICES = (24, 34)
PADDING_HU = (-1000, -1024, -2000, -3024)  # what scanners write outside their circle


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How the scanner takes the head."""

    size: int  # pixels on a side
    pixel_mm: float
    table_mm: np.ndarray  # (K,) table positions
    thickness_mm: np.ndarray  # (K,)
    tilt_deg: float
    rotation: np.ndarray  # (3, 3) head to scanner
    center_mm: np.ndarray  # scanner position of the head's origin, RAS
    noise_hu: float
    blur_mm: float
    streak_hu: float
    offset_hu: float
    padding_hu: int
    rest: tuple[float, float] | None  # half width and depth of the head rest, mm

    def grid(self) -> Grid:
        """The scan's grid: axes to the left, to the back and to the head; sheared where the gantry is tilted."""
        angle = np.radians(self.tilt_deg)
        half = (self.size - 1) / 2 * self.pixel_mm
        step = float(np.mean(np.diff(self.table_mm)))
        affine = np.eye(4)
        affine[:3, 0] = (-self.pixel_mm, 0, 0)
        affine[:3, 1] = (0, -self.pixel_mm * np.cos(angle), -self.pixel_mm * np.sin(angle))
        affine[:3, 2] = (0, 0, step)
        affine[:3, 3] = (half, half * np.cos(angle), float(self.table_mm[0]) + half * np.sin(angle))
        positions = self.table_mm * np.cos(angle)
        return Grid(
            shape=(self.size, self.size, len(self.table_mm)),
            spacing_mm=(self.pixel_mm, self.pixel_mm),
            positions_mm=positions - positions[0],
            affine=affine,
            tilt_deg=self.tilt_deg,
            header_slice_spacing_mm=step,
        )

    def box(self) -> tuple[slice, slice]:
        """Rows (I) and columns (J) that the head can reach."""
        reach = np.array([100, 128]) / self.pixel_mm  # with the tip of the nose and a turned head
        middle = (self.size - 1) / 2 - self.center_mm[:2] / self.pixel_mm
        low = np.clip(np.floor(middle - reach), 0, self.size - 2).astype(int)
        high = np.clip(np.ceil(middle + reach) + 1, 2, self.size).astype(int)
        return slice(low[0], high[0]), slice(low[1], high[1])

    def points(self, k: int, shifts_mm: np.ndarray, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Head-space points (S, I, J, 3), RAS mm, of slice k at rows and columns, moved along the normal."""
        device = rows.device
        angle = np.radians(self.tilt_deg)
        left = (rows - (self.size - 1) / 2) * self.pixel_mm
        back = (columns - (self.size - 1) / 2) * self.pixel_mm
        shift = torch.as_tensor(shifts_mm, dtype=torch.float32, device=device)[:, None, None]
        shape = (len(shifts_mm), len(rows), len(columns))
        scanner = torch.stack(
            [
                (-left[None, :, None]).expand(shape),
                (-back * np.cos(angle))[None, None] - shift * np.sin(angle) + torch.zeros(shape, device=device),
                (-back * np.sin(angle))[None, None] + shift * np.cos(angle) + float(self.table_mm[k])
                + torch.zeros(shape, device=device),
            ],
            -1,
        )  # fmt: skip
        turned = torch.as_tensor(self.rotation, dtype=torch.float32, device=device)
        return (scanner - torch.as_tensor(self.center_mm, dtype=torch.float32, device=device)) @ turned

    def reach(self, k: int, points_mm: np.ndarray) -> list[tuple[float, float]]:
        """Least and greatest row, column and distance from slice k (mm along the normal) of head points (N, 3)."""
        angle = np.radians(self.tilt_deg)
        scanner = points_mm @ self.rotation.T + self.center_mm
        up = scanner[:, 2] - self.table_mm[k]
        left, back = -scanner[:, 0], -scanner[:, 1] * np.cos(angle) - up * np.sin(angle)
        normal = -scanner[:, 1] * np.sin(angle) + up * np.cos(angle)
        middle = (self.size - 1) / 2
        values = left / self.pixel_mm + middle, back / self.pixel_mm + middle, normal
        return [(float(v.min()), float(v.max())) for v in values]

    def rest_hu(self, device: str) -> torch.Tensor:
        """Head rest (I, J), HU: a thin trough that runs along the table; -1000 beside it."""
        axis = (torch.arange(self.size, device=device) - (self.size - 1) / 2) * self.pixel_mm
        if self.rest is None:
            return torch.full((self.size, self.size), -1000.0, device=device)
        x, y = axis[:, None] + self.center_mm[0], axis[None, :] + self.center_mm[1]
        width, depth = self.rest
        radius = ((x / width) ** 2 + (y / depth) ** 2).sqrt()
        away = (radius - 1).abs() * min(width, depth)
        shell = (1.6 - away / max(1.0, self.pixel_mm)).clamp(0, 1) * (y > -10)
        foam = ((radius < 1) & (radius > 0.9) & (y > 10)).float()
        return -1000 + 1150 * shell + 35 * foam * (1 - shell)


def rotation(degrees: np.ndarray) -> np.ndarray:
    """(3, 3) turn by degrees (3,) about x, then y, then z."""
    a, b, c = np.radians(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def _thicknesses_mm(rng: np.random.Generator) -> np.ndarray:
    """Slice thicknesses from foot to head: uniform, or thin through the posterior fossa and thick above."""
    length = rng.uniform(142, 153)
    if rng.random() < 0.2:
        thin, thick = ((4.0, 7.0), (3.0, 6.0), (4.5, 6.0))[rng.integers(3)]
        n_thin = int(rng.uniform(36, 52) / thin)
        both = np.r_[np.full(n_thin, thin), np.full(int((length - n_thin * thin) / thick), thick)]
        return both[: SLICES[1]]
    thickness = float(rng.choice([4.5, 5.0, 5.0, 5.0, 5.5, 6.0]))
    return np.full(int(np.clip(length / thickness, *SLICES)), thickness)


def draw_acquisition(rng: np.random.Generator, size: int) -> Acquisition:
    """One scan: every other one with a tilted gantry, in steps of half a degree."""
    tilt = float(np.round(rng.uniform(-25, 25) * 2) / 2) if rng.random() < 0.55 else 0.0
    angles = rng.normal([0, 0, 0], [4.5, 3.5, 5])
    # The technician tilts the gantry to a plane of the head; the head answers for the rest of the angle.
    angles[0] += 0.8 * tilt - 5
    thickness = _thicknesses_mm(rng)
    perpendicular = np.r_[0, np.cumsum((thickness[:-1] + thickness[1:]) / 2)]
    cosine = np.cos(np.radians(tilt))
    center = rng.normal([0, 8, 0], [3, 4, 0])
    return Acquisition(
        size=size,
        pixel_mm=float(rng.uniform(*FIELD_MM)) / size,
        table_mm=perpendicular / cosine - perpendicular.mean() / cosine + 11 + rng.normal(0, 2.5),
        thickness_mm=thickness,
        tilt_deg=tilt,
        rotation=rotation(angles),
        center_mm=center,
        noise_hu=float(rng.uniform(2.0, 4.5)),
        blur_mm=float(rng.uniform(0.35, 0.65)),
        streak_hu=float(rng.uniform(1, 8)),
        offset_hu=float(rng.normal(0, 1.2)),
        padding_hu=int(rng.choice(PADDING_HU)),
        rest=(float(rng.uniform(98, 108)), float(rng.uniform(118, 124))) if rng.random() < 0.85 else None,
    )


def blur(stack: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of each plane of (N, H, W)."""
    radius = max(1, int(2.5 * sigma + 0.5))
    kernel = np.exp(-((np.arange(-radius, radius + 1) / sigma) ** 2) / 2)
    kernel /= kernel.sum()
    # Shifted sums take a tenth of the time of a one-channel convolution.
    for axis in (1, 2):
        n = stack.shape[axis]
        pad = (0, 0, radius, radius) if axis == 1 else (radius, radius)
        padded = (
            F.pad(stack, pad, mode="replicate") if axis == 2 else F.pad(stack[:, None], pad, mode="replicate")[:, 0]
        )
        stack = padded.narrow(axis, 0, n) * float(kernel[0])
        for shift in range(1, 2 * radius + 1):
            stack.add_(padded.narrow(axis, shift, n), alpha=float(kernel[shift]))
    return stack


def streaks(hu: torch.Tensor, strength_hu: float, random: torch.Generator) -> torch.Tensor:
    """Change of HU (K, H, W) between dense bones: dark bands and streaks along rays, most across the skull base."""
    n, coarse = len(hu), 64
    bone = F.adaptive_avg_pool2d((hu > 500).float()[:, None], coarse)
    total = torch.zeros_like(bone)
    for turn in (0.0, float(torch.rand((), generator=random)) * 1.2 - 0.6):
        theta = torch.tensor(
            [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]], dtype=torch.float32, device=hu.device
        )
        forth = F.affine_grid(theta.expand(n, 2, 3), [n, 1, coarse, coarse], align_corners=False)
        back = F.affine_grid(
            torch.cat([theta[:, :2].T, theta[:, 2:]], 1).expand(n, 2, 3), [n, 1, coarse, coarse], align_corners=False
        )
        turned = F.grid_sample(bone, forth, align_corners=False)
        # Rays run along I, from side to side: what lies between two bones is hardened.
        between = turned.cumsum(2).clamp(max=1) * turned.flip(2).cumsum(2).flip(2).clamp(max=1)
        load = ((turned.sum(2, keepdim=True) - 7) / 14).clamp(0, 1) ** 1.5
        wave = torch.randn((n, 1, 1, coarse), generator=random).to(hu.device)
        total += F.grid_sample(between * load * (1.1 * wave - 0.8), back, align_corners=False)
    return F.interpolate(total, hu.shape[1:], mode="bilinear", align_corners=False)[:, 0] * strength_hu


def degrade(hu: torch.Tensor, acquisition: Acquisition, random: torch.Generator) -> torch.Tensor:
    """Blur, beam hardening, streaks and correlated noise on noise-free HU (K, I, J)."""
    hu = blur(hu, acquisition.blur_mm / acquisition.pixel_mm)
    soft = ((hu + 400) / 300).clamp(0, 1)
    noise = torch.randn(hu.shape, generator=random).to(hu.device)
    # The grain of a scan has its size in mm, not in pixels.
    sigma = 0.55 / acquisition.pixel_mm
    noise = blur(noise, sigma) if sigma > 0.4 else noise
    noise *= acquisition.noise_hu / noise.std()
    hu = hu + soft * (streaks(hu, acquisition.streak_hu, random) + acquisition.offset_hu)
    return hu + noise * (0.3 + 0.7 * soft)

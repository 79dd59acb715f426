"""The network, what it sees of a scan, and its weights on disk.

A 2.5D U-Net: a slice with its neighbors as channels, at native slice spacing. Head CT slices are 4-7 mm thick, so
resampling through-plane would invent slices; in the plane every scan is brought to one pixel size and one orientation.
What is done about thinner ones is in `ich.slab`.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ich.atomic import replacing, write_text
from ich.hounsfield import head_box
from ich.provenance import file_hash
from ich.scan import Grid

SLICES_AT_ONCE = 32  # that `crop` resamples
SHIPPED_WEIGHTS = Path(__file__).parent / "weights"  # what `ich segment` uses unless told otherwise


@dataclass(frozen=True)
class Settings:
    """What must be known to rebuild the network and feed it as in training.

    Attributes
    ----------
    pixel_mm : in-plane pixel of the network's image.
    size : side of the network's square image in pixels.
    neighbors : slices on either side of the center slice that the network sees.
    slab_mm : what slices that stand for less are averaged over before the network sees them, see `ich.slab`.
    brain_window, bone_window : HU ranges scaled to 0..1; the brain window of every slice and the bone window of the
        center slice are input channels.
    blood_window : HU range of one more channel of the center slice, None without: a level of detail for acute blood.
    channels, strides : levels of the U-Net.
    classes : background, parenchymal, ventricular, subarachnoid.
    smallest_ml : connected blood below this volume is not marked.
    certain_ml, certain : connected blood below this volume is marked if its mean probability is `certain` or more.
    certain_beside : the same in a scan that shows other blood for certain.
    mirrored : the network also sees the mirror image, and the mean of both answers counts.
    temperature : what logits are divided by before they are read as probabilities; masks do not depend on it.
    members : networks whose mean logits count.
    """

    pixel_mm: float = 1.7
    size: int = 128
    neighbors: int = 1
    slab_mm: float = 2.0
    brain_window: tuple[float, float] = (-20.0, 100.0)
    bone_window: tuple[float, float] = (60.0, 260.0)
    blood_window: tuple[float, float] | None = None
    channels: tuple[int, ...] = (16, 32, 64, 128)
    strides: tuple[int, ...] = (2, 2, 2)
    classes: int = 4
    smallest_ml: float = 0.0
    certain_ml: float = 0.0
    certain: float = 0.0
    certain_beside: float = 1.0
    mirrored: bool = False
    temperature: float = 1.0
    members: int = 1

    def __post_init__(self):
        halved = math.prod(self.strides)
        if self.size % halved:
            near = max(round(self.size / halved), 1) * halved
            raise ValueError(f"network_size {self.size}: wanted a multiple of {halved}, such as {near}")

    @property
    def in_channels(self) -> int:
        """Channels of the network's image: the brain window of each slice, the other windows of the center slice."""
        return 2 * self.neighbors + 2 + (self.blood_window is not None)


@dataclass(frozen=True)
class View:
    """Box of a scan's plane that the network sees, in voxels; it may reach beyond the image."""

    start: tuple[int, int]
    extent: tuple[int, int]


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU.

    Raises
    ------
    ValueError
        The name is none of a device, or of a GPU that is not there.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r}: wanted auto, cpu, cuda, or cuda:1 for the second GPU") from None
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"device {name!r}: {gpus} GPUs that torch can use are here")
    return device


def autocast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies matrices of it, else float32.

    A CPU has to have AMX tiles for that: with AVX-512's bfloat16 alone a forward pass of the shipped network took 167
    instead of 110 ms (reports/checks/bench_train.csv).
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if tiles() else torch.float32


def half_precision(device: torch.device) -> torch.autocast:
    """Autocast to what `autocast_dtype` says; a context that changes nothing where that is float32."""
    dtype = autocast_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class Ensemble(torch.nn.Module):
    """Networks of one kind that answer together: the mean of their logits."""

    def __init__(self, networks: Sequence[torch.nn.Module]):
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, classes, H, W) of an image as `channels` makes it."""
        return torch.stack([network(image) for network in self.networks]).mean(0)


def build_network(settings: Settings) -> torch.nn.Module:
    """MONAI residual U-Net; input (B, in_channels, size, size) in 0..1, output (B, classes, size, size) logits.

    Batch normalization keeps absolute HU, which instance normalization divides out. Several members make an `Ensemble`.
    """
    if settings.members > 1:
        return Ensemble([build_network(replace(settings, members=1)) for _ in range(settings.members)])
    from monai.networks.nets import UNet  # seconds to import; only training and prediction need it

    network = UNet(
        spatial_dims=2,
        in_channels=settings.in_channels,
        out_channels=settings.classes,
        channels=settings.channels,
        strides=settings.strides,
        num_res_units=1,
        norm="batch",
    )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def look_at(hu: np.ndarray, grid: Grid, settings: Settings) -> View:
    """Square of the network's extent around the head; around the middle where there is none."""
    start, extent = [], []
    box = head_box(hu, grid.spacing_mm)
    for axis in (0, 1):
        center = (box[axis].start + box[axis].stop) / 2 if box else hu.shape[axis] / 2
        length = max(1, round(settings.size * settings.pixel_mm / grid.spacing_mm[axis]))
        start.append(round(center - length / 2))
        extent.append(length)
    return View((start[0], start[1]), (extent[0], extent[1]))


def _overlap(view: View, shape: tuple[int, ...]) -> tuple[slice, slice, slice, slice]:
    """The part of the view inside the image: rows and columns of the image, then of the view."""
    image, box = [], []
    for start, extent, length in zip(view.start, view.extent, shape, strict=False):
        low, high = max(start, 0), max(min(start + extent, length), max(start, 0))
        image.append(slice(low, high))
        box.append(slice(low - start, high - start))
    return image[0], image[1], box[0], box[1]


def crop(volume: np.ndarray, view: View, settings: Settings, device: torch.device, fill: float) -> torch.Tensor:
    """The view's box of a volume (I, J, K), averaged to network pixels: (K, size, size) float32."""
    rows, columns, box_rows, box_columns = _overlap(view, volume.shape)
    size = (settings.size, settings.size)
    found = torch.empty((volume.shape[2], *size), device=device)
    # Some slices at a time: the view of 300 slices with pixels of 0.15 mm takes 2.5 GB.
    for first in range(0, len(found), SLICES_AT_ONCE):
        part = np.ascontiguousarray(np.moveaxis(volume[rows, columns, first : first + SLICES_AT_ONCE], 2, 0))
        box = torch.full((len(part), 1, *view.extent), fill, dtype=torch.float32, device=device)
        box[:, 0, box_rows, box_columns] = torch.from_numpy(part).to(device).float()
        seen = F.interpolate(box, size, mode="bilinear", antialias=True, align_corners=False)
        found[first : first + len(part)] = seen[:, 0]
    return found


def native_box(found: torch.Tensor, view: View, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the image that `uncrop` reaches from pixels found (H, W) in the network's picture; empty
    where none is found."""
    box = []
    for axis in (0, 1):
        hit = found.any(1 - axis).nonzero().flatten().tolist()
        size, start, extent = found.shape[axis], view.start[axis], view.extent[axis]
        if not hit:
            return slice(0, 0), slice(0, 0)
        # A pixel adds to what lies within one pixel of its center, the outermost ones to all beyond them too.
        low = 0 if hit[0] == 0 else int((hit[0] - 0.5) * extent / size)
        high = extent if hit[-1] == size - 1 else int((hit[-1] + 1.5) * extent / size) + 1
        box.append(slice(max(0, start + low), max(0, min(shape[axis], start + high))))
    return box[0], box[1]


def uncrop(values: torch.Tensor, view: View, box: tuple[slice, slice]) -> torch.Tensor:
    """Bring (K, C, size, size) back to native pixels (K, C, rows, columns), bilinearly, for a box within the view."""
    values = values.float()
    for axis, place in enumerate(box, start=2):
        size, start, extent = values.shape[axis], view.start[axis - 2], view.extent[axis - 2]
        pixel = torch.arange(place.start - start, place.stop - start, device=values.device)
        at = ((pixel + 0.5) * (size / extent) - 0.5).clamp(0, size - 1)
        low = at.long()
        share = (at - low).view([-1 if dimension == axis else 1 for dimension in range(4)])
        first, second = (values.index_select(axis, index) for index in (low, (low + 1).clamp(max=size - 1)))
        values = first + share * (second - first)
    return values


def largest(logits: torch.Tensor) -> torch.Tensor:
    """(B, H, W) uint8 number of the largest of (B, C, H, W), the first where several are.

    Ten times as fast on a CPU as `argmax`, which walks across memory for every pixel.
    """
    best, label = logits[:, 0], torch.zeros_like(logits[:, 0], dtype=torch.uint8)
    for number in range(1, logits.shape[1]):
        label = torch.where(logits[:, number] > best, number, label)
        best = torch.maximum(best, logits[:, number])
    return label


def channels(stack: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Windowed channels (B, in_channels, H, W) in 0..1 of slices with neighbors in HU."""

    def scaled(hu: torch.Tensor, window: tuple[float, float]) -> torch.Tensor:
        low, high = window
        return ((hu - low) / (high - low)).clamp(0, 1)

    center = stack[:, settings.neighbors : settings.neighbors + 1]
    windows = [scaled(stack, settings.brain_window), scaled(center, settings.bone_window)]
    if settings.blood_window is not None:
        windows.append(scaled(center, settings.blood_window))
    return torch.cat(windows, 1).contiguous(memory_format=torch.channels_last)


def logits_of(network: torch.nn.Module, image: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Logits (B, classes, H, W) of an image as `channels` makes it, in half precision where that is fast."""
    with half_precision(image.device):
        logits = network(image)
        # Left and right lie along the first axis of the plane.
        return (logits + network(image.flip(2)).flip(2)) / 2 if settings.mirrored else logits


def shows_head(hu: torch.Tensor, settings: Settings) -> torch.Tensor:
    """(K,) whether each slice (K, size, size) of HU at network resolution shows a head: tissue on 1 % of it."""
    return (hu > 0).flatten(1).sum(1) > 0.01 * settings.size**2


@contextmanager
def bottom_features(network: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Features (B, C) at the bottom of the U-Net, averaged over the plane, of each forward pass inside the block; of
    the last member of an ensemble."""
    from monai.networks.layers.simplelayers import SkipConnection

    seen: list[torch.Tensor] = []
    deepest = [module for module in network.modules() if isinstance(module, SkipConnection)][-1].submodule
    handle = deepest.register_forward_hook(lambda module, image, output: seen.append(output.float().mean((2, 3))))
    try:
        yield seen
    finally:
        handle.remove()


def blood_probability(logits: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Probability of blood of any label (B, H, W) from logits (B, classes, H, W)."""
    scaled = logits / settings.temperature
    return torch.sigmoid(scaled[:, 1:].logsumexp(1) - scaled[:, 0])


def neighbor_index(n_slices: int, neighbors: int) -> torch.Tensor:
    """(K, 2 * neighbors + 1) slice numbers; an end slice is its own missing neighbor."""
    offsets = torch.arange(-neighbors, neighbors + 1)
    return (torch.arange(n_slices)[:, None] + offsets).clamp(0, n_slices - 1)


def save_weights(network: torch.nn.Module, settings: Settings, folder: Path, **card: object) -> None:
    """Write weights.safetensors and settings.json (settings, SHA-256 of the weights, and what `card` adds)."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(folder / "weights.safetensors") as part:
        save_file(state, part)
        digest = file_hash(part)
    text = json.dumps({"settings": asdict(settings), "sha256": digest, **card}, indent=2)
    write_text(folder / "settings.json", text + "\n")


def load_weights(folder: Path, device: torch.device) -> tuple[torch.nn.Module, Settings, dict]:
    """Network in evaluation mode, its settings, and its card (everything in settings.json).

    Raises
    ------
    FileNotFoundError
        There are no weights in `folder`, or no settings.json beside them.
    ValueError
        The weights are not those that settings.json describes, or do not fit the network it describes.
    """
    weights, described = folder / "weights.safetensors", folder / "settings.json"
    if not weights.is_file():
        inside = (folder / "model" / "weights.safetensors").is_file()
        hint = f"did you mean {folder / 'model'}?" if inside else "train a network first (`make study`, or 02_training)"
        raise FileNotFoundError(f"no weights.safetensors in {folder}: {hint}")
    if not described.is_file():
        raise FileNotFoundError(f"no settings.json beside {weights}: it says what network the weights are for")
    try:
        card = json.loads(described.read_text())
    except ValueError as error:
        raise ValueError(f"{described}: damaged: {error}") from error
    missing = [name for name in ("settings", "sha256") if name not in card]
    if missing:
        raise ValueError(f"{described}: has no {' and no '.join(missing)}")
    digest = file_hash(weights)
    if digest != card["sha256"]:
        raise ValueError(f"{weights}: SHA-256 {digest[:12]}… differs from {str(card['sha256'])[:12]}… in settings.json")
    fields: dict = {
        name: tuple(value) if isinstance(value, list) else value for name, value in card["settings"].items()
    }
    try:
        settings = Settings(**fields)
        network = build_network(settings)
        network.load_state_dict(load_file(weights))
    except (TypeError, RuntimeError, SafetensorError) as error:
        first = " ".join(str(error).split("\n")[:2])  # torch names every weight that does not fit, on a line each
        raise ValueError(f"{weights}: does not fit the network that settings.json describes: {first}") from error
    return network.to(device).eval(), settings, card

"""Several processes train as one: each takes its share of every batch, and the sums over the batch are those of all.

Loss, batch normalization and gradients are summed over processes, so the result does not depend on their number but for
rounding. Started by torchrun; without it, one process is all there is.
"""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ich.model import choose_device

TIMEOUT = timedelta(days=1)  # the first process may render or read for hours; torchrun ends all where one dies


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's."""

    rank: int = 0
    world: int = 1

    def of(self, n: int) -> slice:
        """This process's part of n things in a row."""
        return slice(n * self.rank // self.world, n * (self.rank + 1) // self.world)


def share() -> Share:
    """Of a process that has `joined` others; all of it otherwise."""
    if dist.is_available() and dist.is_initialized():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share()


def is_first() -> bool:
    """Whether this is the first of the processes that torchrun started, which they know before they have `joined`."""
    return os.environ.get("RANK", "0") == "0"


def on_this_machine() -> int:
    """Processes that torchrun started on this machine; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined(device: str = "auto") -> Iterator[torch.device]:
    """Join the processes that torchrun started, each with a GPU of its own where there are any; gives the device.

    Raises
    ------
    ValueError
        More processes were started on this machine than it has GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield choose_device(device)
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        gpus = torch.cuda.device_count()
        if on_this_machine() > gpus:
            raise ValueError(
                f"{on_this_machine()} processes were started here and there are {gpus} GPUs: --nproc-per-node {gpus}"
            )
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    # Waiting and what is pickled go over gloo, and leave a GPU free while the first process reads or renders.
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield chosen
    except BaseException:
        atexit.register(_end)
        raise
    dist.destroy_process_group()


def _end() -> None:
    """End this process without farewell, so that torchrun ends the others.

    Leaving the group in order, as its destructor does too, NCCL would wait for processes that wait for this one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context, values):
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient):
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def summed(values: torch.Tensor) -> torch.Tensor:
    """Sum over processes, with its gradient; the values themselves where there is one process."""
    return values if share().world == 1 else _Sum.apply(values)


def of_the_first(values: torch.Tensor) -> torch.Tensor:
    """The first process's values in every process, in place."""
    if share().world > 1:
        dist.broadcast(values, 0)
    return values


def as_the_first_has_it(value: Any) -> Any:
    """The first process's value, of any kind that can be pickled, in every process."""
    box = [value]
    if share().world > 1:
        dist.broadcast_object_list(box, 0)
    return box[0]


def of_all(values: dict) -> dict:
    """The entries of every process together, in every process; what is pickled passes through all of them."""
    world = share().world
    if world == 1:
        return values
    parts: list[dict] = [{}] * world
    dist.all_gather_object(parts, values)
    return {key: value for part in parts for key, value in part.items()}


def average_gradients(network: torch.nn.Module) -> None:
    """Make every process's gradients the mean over processes.

    Each process differentiates the same whole loss, through sums that every other process takes part in: the sum of
    their gradients is that many times the gradient of one process alone.
    """
    world = share().world
    if world == 1:
        return
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    flat = torch.cat([each.flatten() for each in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient) / world)


class _SharedBatchNorm(torch.nn.BatchNorm2d):
    """Batch normalization over the slices of all processes; torch's own needs a GPU."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(image)
        values = image.float()
        n = torch.full((1,), values[:, 0].numel(), dtype=torch.float32, device=values.device)
        sums = summed(torch.cat([values.sum((0, 2, 3)), n]))
        mean, n = sums[:-1] / sums[-1], sums[-1].detach()
        centered = values - mean[:, None, None]
        variance = summed((centered**2).sum((0, 2, 3))) / n
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * n / (n - 1), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scaled = centered * (variance + self.eps).rsqrt()[:, None, None]
        return (scaled * self.weight[:, None, None] + self.bias[:, None, None]).to(image.dtype)


def share_batch_norm(network: torch.nn.Module) -> torch.nn.Module:
    """Let the network's batch normalization see the slices of all processes; nothing changes for one process."""
    if share().world > 1:
        for module in network.modules():
            if type(module) is torch.nn.BatchNorm2d:
                module.__class__ = _SharedBatchNorm
    return network


def wait() -> None:
    """Until every process is here."""
    if share().world > 1:
        dist.barrier()

"""What can end a training, said so that the next one works: memory, and a loss that is no number."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ich import distributed
from ich.gpu import out_of_memory
from ich.model import Settings
from ich.training_slices import Slices

LAST_GOOD = "last_good"  # model folder of a training whose loss did not stay finite


class BatchTooLarge(MemoryError):
    """The memory of the device does not hold a batch; the checkpoint keeps the state before."""


@contextmanager
def in_memory(batch: int, settings: Settings, device: torch.device, fixed: bool = False) -> Iterator[None]:
    """Say what may fit where `batch` slices do not.

    Parameters
    ----------
    batch : slices at once, of a batch that several processes share this process's part.
    fixed : whether that number is none of the recipe's.

    Raises
    ------
    BatchTooLarge
        What is computed inside the block asks for more memory than there is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, BatchTooLarge) or not out_of_memory(error):
            raise
        used, world = "", distributed.share().world
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            used = f", {(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB in use"
        smaller = f"set batch_size={world * (batch // 2)}" if batch > 1 and not fixed else "set a smaller network_size"
        raise BatchTooLarge(
            f"{batch} slices of {settings.size} x {settings.size} pixels do not fit into the memory of {device}{used}: "
            f"{smaller}, or take a device with more memory"
        ) from error


class LossNotFinite(FloatingPointError):
    """The loss or its gradient became infinite or no number."""


class FiniteWatch:
    """First step whose numbers were not finite, kept on the device: asking at each step would make a GPU wait."""

    def __init__(self, batch_size: int, device: torch.device):
        self.step = torch.zeros((), dtype=torch.long, device=device)
        self.rows = torch.zeros(batch_size, dtype=torch.long, device=device)

    def see(self, step: int, rows: torch.Tensor, *numbers: torch.Tensor) -> None:
        """Note the step and the slices (batch,) of its batch unless all numbers are finite."""
        newly = (self.step == 0) & ~torch.stack([each.detach().float() for each in numbers]).isfinite().all()
        self.step, self.rows = self.step + newly * step, torch.where(newly, rows, self.rows)

    def check(self, slices: Slices, kept: Callable[[], str]) -> None:
        """Wait for the device, and raise LossNotFinite where a step was not finite; `kept` says what is left then."""
        if int(self.step):
            names = sorted({slices.case_ids[int(number)] for number in slices.case[self.rows.cpu()]})
            left = kept()
            distributed.wait()  # torchrun ends the process that writes when another has ended
            raise LossNotFinite(
                f"the loss or its gradient was not finite at step {int(self.step)}, batch of cases {', '.join(names)}: "
                f"look at their HU and masks, or set a lower learning_rate; {left}"
            )

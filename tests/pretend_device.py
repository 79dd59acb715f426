"""A device that is none, for machines without a GPU: its tensors say that they lie on `pretend`, and their numbers are
computed on the CPU.

What a GPU refuses is refused: an operation on tensors of two devices, numpy on a tensor that was not brought back. What
makes a GPU wait is counted: each number, shape or tensor that the program asks of the device before it goes on.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
aten = torch.ops.aten
ASKS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
INDEXES = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


class _Backend:
    """What torch asks of the module of a device."""

    is_initialized = is_available = staticmethod(lambda: True)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])


class There(torch.Tensor):
    """A tensor that says it lies on the device; `raw` holds its numbers."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> "There":
        tensor = torch.Tensor._make_wrapper_subclass(cls, raw.shape, strides=raw.stride(), dtype=raw.dtype, device=NAME)
        tensor.raw = raw
        return tensor

    def tolist(self) -> list:
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"There({self.raw})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, given=(), named=None):
        raise RuntimeError(f"{operation} outside of `pretending`")


class _Generator(torch.Generator):
    """Random numbers of the device: those of the CPU."""

    def __new__(cls, device: str | torch.device = "cpu") -> "_Generator":
        made = super().__new__(cls)
        made.where = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.where


class PretendDevice(TorchDispatchMode):
    """Computes what is asked of the device, and counts in `waits` what a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, given=(), named=None):
        named = dict(named or {})
        tensors = [each for each in tree_leaves((given, named)) if isinstance(each, torch.Tensor)]
        there = [each for each in tensors if isinstance(each, There)]
        here = [each for each in tensors if not isinstance(each, There)]
        target = named.get("device")
        if operation is aten.copy_.default:
            target = given[0].device
        if not there and (target is None or torch.device(target).type != NAME):
            return operation(*given, **named)
        if operation in INDEXES:  # indices may lie on the CPU, what they are indices of may not
            here = [each for each in here if each is given[0]]
        if there and operation not in COPIES and any(each.dim() for each in here):
            raise RuntimeError(f"{operation}: some of its tensors are on {NAME} and some on the CPU")
        stays = target is None or torch.device(target).type == NAME
        masked = operation in INDEXES and any(each is not None and each.dtype == torch.bool for each in given[1])
        # A copy to the device waits too, unless it is said not to: the CPU's memory may change as soon as it returns.
        brought = stays and operation in COPIES and here and not named.get("non_blocking")
        if operation in ASKS or masked or not stays or brought:
            self.waits[str(operation)] += 1
        if "device" in named:
            named["device"] = "cpu"
        raw_given, raw_named = tree_map_only(There, lambda each: each.raw, (given, named))
        found = operation(*raw_given, **raw_named)
        if not stays:
            return found
        owners = {id(each.raw): each for each in there}  # what is changed in place stays the same tensor
        return tree_map_only(torch.Tensor, lambda each: owners[id(each)] if id(each) in owners else There(each), found)


@contextmanager
def pretending(monkeypatch) -> Iterator[PretendDevice]:
    """Within this context `torch.device("pretend")` is there."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, _Backend())
        _LIBRARY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    monkeypatch.setattr(torch, "Generator", _Generator)
    # Tensors made of numbers, and parameters that are moved, go through the mode only so.
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        # No threads of the device: the mode is known to this one.
        with PretendDevice() as device, torch.autograd.set_multithreading_enabled(False):
            yield device
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)


_LIBRARY = torch.library.Library("_", "IMPL")

"""What the memory of a GPU, or of a machine without one, has room for."""

import os

import torch
from joblib import effective_n_jobs

PROCESS_BYTES = 2e9  # for one process: CUDA itself, a network or a simulated head, and what is computed


def free_bytes(device: torch.device) -> float:
    """Memory that a GPU has free for this process; infinite for a CPU, whose memory already holds the data."""
    if device.type != "cuda":
        return float("inf")
    # What torch keeps of this process for later counts as used to the driver.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def processes(device: torch.device, jobs: int) -> int:
    """Processes that share a device: as many as asked for, on a GPU no more than its free memory has room for.

    Parameters
    ----------
    jobs : -1 for one per core; on a CPU, no more than the machine's memory has room for.
    """
    if device.type == "cpu" and jobs != -1:
        return jobs
    memory = machine_bytes() if device.type == "cpu" else free_bytes(device)
    return max(1, min(effective_n_jobs(jobs), int(memory // PROCESS_BYTES)))


def machine_bytes() -> float:
    """Memory of the machine; without end where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return float("inf")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short.

    torch has a class of its own for what it allocates on a GPU itself, none for a CPU, CUDA's own and its libraries'.
    """
    said = ("DefaultCPUAllocator", "CUDA error: out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said)


def devices(device: torch.device, jobs: int) -> list[str]:
    """The devices that as many processes share: every GPU of the machine where several may be used."""
    n = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
    return [str(device)] if n == 1 else [f"{device.type}:{index}" for index in range(min(n, jobs))]

"""What a GPU's memory has room for."""

import torch
from joblib import effective_n_jobs

PROCESS_BYTES = 2e9  # for one process: CUDA itself, a network or a simulated head, and what is computed


def free_bytes(device: torch.device) -> float:
    """Memory that a GPU has free; without end for a CPU, whose memory the data fill already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def processes(device: torch.device, jobs: int) -> int:
    """Processes that share a device: as many as asked for, on a GPU no more than its free memory has room for.

    Parameters
    ----------
    jobs : -1 for one per core.
    """
    if device.type == "cpu":
        return jobs
    return max(1, min(effective_n_jobs(jobs), int(free_bytes(device) // PROCESS_BYTES)))

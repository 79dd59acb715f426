"""The passes of a training step told to a GPU once, and run again from there.

A GPU computes their small operations in less time than each takes to be launched, so this should pay; it stays off
until tests/benchmarks/bench_device.py, which times a step both ways, has shown so on one.
"""

from collections.abc import Callable

import torch

from ich import distributed

Passes = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
ON = False
WARM_UP = 3  # runs before the one that is recorded: libraries choose their kernels and get their memory


def replayed(
    network: torch.nn.Module, passes: Passes, image: torch.Tensor, labels: torch.Tensor, device: torch.device
) -> Passes:
    """`passes` as a CUDA graph; the function itself where that is off, where there is no GPU, and where processes that
    train as one exchange sums within it. What a graph gives, gradients too, lies where that of the next step will lie.

    Parameters
    ----------
    network : in training. passes : drops the gradients of the network, takes image and labels of a batch, and leaves
        new gradients; gives the loss and the logits, detached. It never waits for the device.
    image, labels : of the shape and memory format of all that follow; the graph keeps them.
    """
    if not ON or device.type != "cuda" or distributed.share().world > 1:
        return passes
    before = {name: value.clone() for name, value in network.named_buffers()}  # to which warming up adds
    beside = torch.cuda.Stream(device)
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            passes(image, labels)
    torch.cuda.current_stream(device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph):
        loss, logits = passes(image, labels)
    for name, value in network.named_buffers():
        value.copy_(before[name])

    def again(next_image: torch.Tensor, next_labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image.copy_(next_image)
        labels.copy_(next_labels)
        graph.replay()
        return loss, logits

    return again

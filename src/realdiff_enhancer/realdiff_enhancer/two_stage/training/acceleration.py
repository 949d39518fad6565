"""Faster training steps by compilation, with a fallback: a speed-up must never be what stops a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Acceleration = Literal["none", "graphs", "compile"]


def accelerated(network: nn.Module, how: Acceleration, report: Callable[[str], None]) -> nn.Module:
    """The network, compiled if that works.

    Args:
        network: the (wrapped) network in training.
        how: "compile" fuses kernels (torch.compile); "graphs" lets it also replay CUDA graphs, where there is a GPU.
        report: told about a fallback.
    """
    if how == "none":
        return network
    mode = None
    if how == "graphs":
        if not torch.cuda.is_available():
            report("acceleration graphs: no CUDA device, running without")
            return network
        mode = "reduce-overhead"
    return _Fallback(network, mode, report)


class _Fallback(nn.Module):
    """Tries the compiled network at the first call; goes on with the plain one if that fails."""

    def __init__(self, network: nn.Module, mode: str | None, report: Callable[[str], None]) -> None:
        super().__init__()
        self.network = network
        self._report = report
        # a list, so that the compiled module's parameters are not registered twice
        self._compiled: list[Callable[..., tuple[Tensor, ...]] | None] = [
            torch.compile(network, mode=mode, dynamic=False)
        ]

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool = False
    ) -> tuple[Tensor, ...]:
        """As the network."""
        compiled = self._compiled[0]
        if compiled is not None:
            try:
                return tuple(
                    values.clone() if values.is_cuda else values
                    for values in compiled(sample, timestep, class_labels=class_labels, return_dict=return_dict)
                )
            except Exception as error:  # the compiler and its back ends raise many kinds
                self._compiled[0] = None
                torch._dynamo.reset()
                self._report(f"compilation failed, running without: {str(error).splitlines()[0][:160]}")
        result: tuple[Tensor, ...] = self.network(sample, timestep, class_labels=class_labels, return_dict=return_dict)
        return result

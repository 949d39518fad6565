"""Faster training steps by CUDA graphs or compilation, with a fallback: a speed-up must never be what stops a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

Acceleration = Literal["none", "graphs", "compile"]


def accelerated(network: nn.Module, how: Acceleration, report: Callable[[str], None]) -> nn.Module:
    """The network, recorded or compiled if that works.

    Args:
        network: the network in training, not yet wrapped for several processes.
        how: "graphs" records its forward and backward pass as CUDA graphs, in seconds; "compile" fuses kernels
            (torch.compile), which takes minutes and pays in long runs.
        report: told about a fallback.
    """
    if how == "none":
        return network
    if how == "graphs":
        if not torch.cuda.is_available():
            report("acceleration graphs: no CUDA device, running without")
            return network
        return _Fallback(network, _record, report)
    return _Fallback(network, _compile, report)


class _Tensors(nn.Module):
    """A network called with tensors alone, as CUDA graphs are recorded."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        output: Tensor = self.network(sample, timestep, class_labels=class_labels, return_dict=False)[0]
        return output


Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def _record(network: nn.Module, inputs: tuple[Tensor, Tensor, Tensor]) -> Function:
    """CUDA graphs for inputs of these shapes; inputs of others fail."""
    module = _Tensors(network)
    examples = tuple(value.clone() for value in inputs)
    # Weights that autocast has cast stay valid for one recording only, not for later steps.
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.enable_grad():  # the first call may be one without gradient
            recorded = cast(Function, torch.cuda.make_graphed_callables(module, examples, allow_unused_input=True))
    finally:
        torch.set_autocast_cache_enabled(cached)
    # What a graph returns is overwritten by its next replay.
    return lambda *values: recorded(*values).clone()


def _compile(network: nn.Module, inputs: tuple[Tensor, Tensor, Tensor]) -> Function:
    """The compiled network. It is called once, because the compiler works, and fails, at the first call."""
    compiled = torch.compile(_Tensors(network), dynamic=False)
    compiled(*inputs)
    return compiled


class _Fallback(nn.Module):
    """Accelerates the network at the first call; goes on with the plain one if that fails."""

    def __init__(
        self,
        network: nn.Module,
        make: Callable[[nn.Module, tuple[Tensor, Tensor, Tensor]], Function],
        report: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.network = network
        self._make, self._report = make, report
        self._function: Function | None = None
        self._failed = False

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool = False
    ) -> tuple[Tensor, ...]:
        """As the network."""
        if self._function is None and not self._failed:
            try:
                self._function = self._make(self.network, (sample, timestep, class_labels))
            except Exception as error:  # the compiler, its back ends and CUDA raise many kinds
                self._failed = True
                torch._dynamo.reset()  # forgets what is half compiled
                self._report(f"acceleration failed, running without: {str(error).splitlines()[0][:160]}")
        if self._function is not None:
            return (self._function(sample, timestep, class_labels),)
        result: tuple[Tensor, ...] = self.network(sample, timestep, class_labels=class_labels, return_dict=return_dict)
        return result

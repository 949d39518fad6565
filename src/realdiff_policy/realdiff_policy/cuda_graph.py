"""A function of CUDA tensors that is captured once and replayed: small networks else wait for their launches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARM_UP = 3
"""Calls before the capture, as torch.cuda.graph asks for: they set up what must not be set up during it."""


class CudaGraph:
    """Captures a function at its first call.

    Args:
        function: Takes and returns tensors on one CUDA device; without random numbers, synchronisation or branches that
            depend on values.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's value.

        Args:
            *inputs: In the shapes and types of the first call.

        Raises:
            ValueError: The shapes are others than at the first call.
        """
        if self._graph is None:
            self._capture(inputs)
        assert self._graph is not None
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept.shape != given.shape:
                raise ValueError(f"captured for {tuple(kept.shape)}, called with {tuple(given.shape)}")
            kept.copy_(given)
        self._graph.replay()
        return self._output.clone()

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(given.clone() for given in inputs)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._output = self._function(*self._inputs)
        self._graph = graph

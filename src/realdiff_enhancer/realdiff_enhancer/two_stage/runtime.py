"""What evaluates the networks: torch on a CPU or GPU, compiled or not, CUDA graphs, OpenVINO."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from realdiff_core.errors import ConfigError
from torch import Tensor, nn

from ..models.device import Backend
from .networks import as_denoiser
from .solver import Denoiser

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def prepare_networks(
    networks: Sequence[nn.Module], device: torch.device, precision: str, backend: Backend
) -> list[Denoiser]:
    """Networks ready for sampling: frozen, on the device, in its fastest layout and precision."""
    prepared: list[Denoiser] = []
    for network in networks:
        network.eval().requires_grad_(False)
        if device.type == "cpu":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            prepared.append(OpenVinoDenoiser(network) if backend == "openvino" else as_denoiser(network))
            continue
        kind = PRECISIONS[precision]
        # not channels-last: group normalisation would copy to NCHW and back (3.1 instead of 3.7 ms on an H100)
        call = _in_precision(network.to(device, kind), kind)
        prepared.append(CompiledDenoiser(call) if backend == "compiled" else call)
    return prepared


def _in_precision(network: nn.Module, kind: torch.dtype) -> Denoiser:
    call = as_denoiser(network)

    def denoise(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        return call(sample.to(kind), timestep, labels)

    return denoise


class CompiledDenoiser:
    """A network whose small operations torch.compile fuses, at its first use for each shape.

    Rounding differs from the uncompiled network's.

    Args:
        network: the denoiser, on its device.
        backend: of torch.compile: a name or a function.
    """

    def __init__(self, network: Denoiser, backend: str | Callable[..., Any] = "inductor") -> None:
        self._function: Denoiser = torch.compile(network, dynamic=False, backend=backend)

    def __call__(self, sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """v (and auxiliary channels) of a sample [N,C,h,w].

        Raises:
            ConfigError: the compiler doesn't work here.
        """
        try:
            return self._function(sample, timestep, labels)
        except RuntimeError as error:
            from torch._dynamo.exc import TorchDynamoException  # slow to import

            if not isinstance(error, TorchDynamoException):
                raise
            cause = str(getattr(error, "inner_exception", error)).strip() or type(error).__name__
            raise ConfigError(
                "the networks can't be compiled here",
                where="device cuda-compiled",
                expected="torch with Triton, and a C compiler",
                got=cause.splitlines()[0],
                next_step="install a C compiler (gcc), or use --device cuda",
            ) from error


class GraphedFunction:
    """A function of tensors recorded as a CUDA graph: one launch instead of thousands.

    Args:
        function: works on tensors of fixed shapes on one CUDA device and never waits for it.
        example: arguments of the shapes that every call will have.
    """

    def __init__(self, function: Callable[[list[Tensor]], tuple[Tensor, ...]], example: list[Tensor]) -> None:
        self._inputs = [values.clone() for values in example]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries choose and load their kernels
                function(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # other threads may allocate pinned memory meanwhile
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(self._inputs)

    def __call__(self, arguments: list[Tensor]) -> tuple[Tensor, ...]:
        """The function's results; they are overwritten by the next call (in the same stream's order)."""
        for static, values in zip(self._inputs, arguments, strict=True):
            static.copy_(values, non_blocking=True)
        self._graph.replay()
        return self._outputs


class OpenVinoDenoiser:
    """A network in OpenVINO on the CPU, compiled at its first use for the shape that it sees; one request a thread.

    Args:
        network: the denoiser in torch, on the CPU.

    Raises:
        ConfigError: OpenVINO is not installed.
    """

    def __init__(self, network: nn.Module) -> None:
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "OpenVINO is not installed",
                expected="the Python package openvino",
                got="no such package",
                next_step="pip install -r requirements/openvino.txt, or use the device cpu",
            ) from error
        self._network = network
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._local = threading.local()

    def _compile(self, sample: Tensor) -> Any:
        import openvino as ov

        shape = tuple(sample.shape)
        with self._lock:
            if shape not in self._compiled:
                labels = torch.zeros(len(sample), dtype=torch.int64)
                example = (torch.zeros_like(sample), labels, labels)
                with torch.no_grad(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # shapes that tracing takes as constants are constants here
                    model = ov.convert_model(
                        _Plain(self._network), example_input=example, input=[list(v.shape) for v in example]
                    )
                threads = os.cpu_count() or 1
                self._compiled[shape] = ov.Core().compile_model(
                    model,
                    "CPU",
                    {
                        "INFERENCE_PRECISION_HINT": "f32",
                        "INFERENCE_NUM_THREADS": threads,
                        "NUM_STREAMS": threads,
                    },
                )
        return self._compiled[shape]

    def __call__(self, sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """v (and auxiliary channels) of a sample [N,C,h,w]."""
        requests = self._local.__dict__.setdefault("requests", {})
        shape = tuple(sample.shape)
        if shape not in requests:
            requests[shape] = self._compile(sample).create_infer_request()
        result = requests[shape].infer([sample.contiguous().numpy(), timestep.numpy(), labels.numpy()])
        return torch.from_numpy(result[0].copy())


class _Plain(nn.Module):
    """The network with positional arguments and one output, as converters want it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """v (and auxiliary channels)."""
        return as_denoiser(self.network)(sample, timestep, labels)

"""Policy bundles: what export writes and the run time loads.

BUNDLE/policy.json        contract, settings, statistics, how it was trained and exported
BUNDLE/model.safetensors  weights in float16
BUNDLE/encoder.onnx       observation to condition; its weights are those of model.safetensors, by offset
BUNDLE/denoiser.onnx      one denoising step; likewise
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from realdiff_core.errors import ConfigError
from torch import Tensor

from realdiff_policy.contract import FloatArray, Observation, PolicyContract, observation_problems
from realdiff_policy.cuda_graph import CudaGraph
from realdiff_policy.policies.diffusion_policy.checkpoint import (
    PolicyRecord,
    check_files,
    load_network,
    read_record,
    read_weights,
)
from realdiff_policy.policies.diffusion_policy.modeling_diffusion_policy import sampling_scheduler
from realdiff_policy.policies.diffusion_policy.processor_diffusion_policy import DiffusionPolicyProcessor, NetworkInput
from realdiff_policy.policies.diffusion_policy.sampling import Denoiser, sample_rows

ENCODER, DENOISER = "encoder.onnx", "denoiser.onnx"
Runtime = Literal["auto", "onnx", "torch"]
Encoder = Callable[[NetworkInput], Tensor]


class BundlePolicy:
    """A loaded policy; see `realdiff_policy.contract.Policy`.

    Args:
        record: The policy's record.
        encoder: Observations to condition.
        denoiser: One denoising step.
        device: Where both compute.
        steps: DDIM steps; None: the policy's own number.
    """

    def __init__(
        self, record: PolicyRecord, encoder: Encoder, denoiser: Denoiser, device: torch.device, steps: int | None = None
    ) -> None:
        self.contract: PolicyContract = record.contract
        self._config = record.config
        self._processor = DiffusionPolicyProcessor(record.config, record.statistics)
        self._encoder, self._denoiser, self._device = encoder, denoiser, device
        self._scheduler = sampling_scheduler(record.config.diffusion, steps)

    @torch.inference_mode()
    def predict(self, observation: Observation, seed: int) -> FloatArray:
        """Infers one chunk.

        Args:
            observation: As many observations as the contract says, in its image size.
            seed: Seed of the sampler.

        Returns:
            float64[chunk, size]; row k belongs to stamp_ns + (k + 1) / rate.

        Raises:
            ConfigError: The observation doesn't fit the contract.
        """
        problems = observation_problems(self.contract, observation)
        if problems:
            raise ConfigError(
                "an observation doesn't fit the policy",
                where=f"policy for {self.contract.task}",
                expected="the shapes of the contract",
                got="; ".join(problems),
                next_step="see what it expects: ros2 run realdiff_policy inspect BUNDLE",
            )
        inputs = self._processor.observation_input(observation, self._device)
        condition = self._encoder(inputs)
        action = self._config.action
        # On the CPU, so that a seed gives the same chunk on every device (up to rounding).
        generator = torch.Generator().manual_seed(seed & (2**63 - 1))
        rows = sample_rows(self._denoiser, condition, (1, action.horizon, action.size), self._scheduler, generator)
        restored = self._processor.statistics.action.restore(rows[0].double())
        return restored[action.observation_steps - 1 :].cpu().numpy()


def load_bundle(
    folder: Path | str, device: str = "auto", runtime: Runtime = "auto", steps: int | None = None, threads: int = 2
) -> BundlePolicy:
    """Loads a bundle, or the `policy` folder of a training run (which has no ONNX files).

    Args:
        folder: The bundle.
        device: "cpu", "cuda" or "auto" (the GPU where there is one).
        runtime: "onnx" is ONNX Runtime on the CPU, "torch" PyTorch on either; "auto" takes ONNX Runtime on the CPU
            where the bundle has its files.
        steps: DDIM steps; None: the policy's own number.
        threads: Threads of ONNX Runtime.

    Raises:
        ConfigError: The folder holds no policy, its weights are damaged, or the device is missing.
    """
    folder = Path(folder)
    record = read_record(folder)
    check_files(folder, record)
    chosen = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device", expected="a GPU", got=device, next_step="use device: cpu")
    has_onnx = (folder / ENCODER).is_file() and (folder / DENOISER).is_file()
    if runtime == "onnx" and not (has_onnx and chosen.type == "cpu"):
        raise ConfigError(
            "ONNX Runtime can't run this policy here",
            where=folder,
            expected=f"{ENCODER}, {DENOISER} and device cpu",
            got=f"device {chosen.type}, files {'there' if has_onnx else 'missing'}",
            next_step="export the run first, or use runtime: torch",
        )
    if chosen.type == "cpu" and has_onnx and runtime != "torch":
        encoder, denoiser = onnx_functions(folder, record, threads)
    else:
        encoder, denoiser = torch_functions(folder, record, chosen)
    return BundlePolicy(record, encoder, denoiser, chosen, steps)


def torch_functions(folder: Path, record: PolicyRecord, device: torch.device) -> tuple[Encoder, Denoiser]:
    """Encoder and denoiser in PyTorch, float32; on a GPU as CUDA graphs."""
    network = load_network(record, read_weights(folder), folder).to(device)
    encoder: Callable[..., Tensor] = network.encoder
    denoiser: Callable[..., Tensor] = network.denoiser
    if device.type == "cuda":
        encoder, denoiser = CudaGraph(encoder), CudaGraph(denoiser)
    return lambda inputs: encoder(*inputs.tensors), denoiser


def onnx_functions(folder: Path, record: PolicyRecord, threads: int) -> tuple[Encoder, Denoiser]:
    """Encoder and denoiser in ONNX Runtime on the CPU.

    Raises:
        ConfigError: A file is damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for work by spinning take the cores from the other session, from torch and from other nodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3

    def session(name: str) -> Any:
        try:
            return onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime raises types of its own, made in C++, without a common base that it exports.
            raise ConfigError(
                "the policy's network can't be read",
                where=folder / name,
                got=str(error)[:300],
                next_step="copy or export the bundle again",
            ) from None

    encoder, denoiser = session(ENCODER), session(DENOISER)
    has_depth = record.config.depth is not None

    def encode(inputs: NetworkInput) -> Tensor:
        feeds = {"colour": inputs.colour.numpy(), "state": inputs.state.numpy()}
        if has_depth:
            assert inputs.depth is not None
            feeds["depth"] = inputs.depth.numpy()
        return torch.from_numpy(encoder.run(["condition"], feeds)[0])

    def denoise(rows: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        feeds = {
            "rows": np.ascontiguousarray(rows.numpy()),
            "step": np.ascontiguousarray(step.numpy().astype(np.int64)),
            "condition": condition.numpy(),
        }
        return torch.from_numpy(denoiser.run(["noise"], feeds)[0])

    return encode, denoise

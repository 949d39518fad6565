"""The two-stage model behind the enhancer's common interface: clean depth in, noisy depth out."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError
from torch import Tensor, nn

from ..models.base import DepthFrames, EnhancedFrames
from ..models.device import pick_device
from ..models.noise import CorrelatedNoise, ar1_history
from .camera import check_camera, for_profile, on_stream, profile_setting
from .conditioning import (
    SIDE_MULTIPLE,
    Scene,
    SceneFeatures,
    known_mask,
    pad_to_multiple,
    scene_features,
    style_tensor,
    surface_layers,
)
from .config import StyleConfig, TemporalConfig, TwoStageConfig
from .decoding import apply_residual, decode_fields, native_size
from .device_noise import DeviceNoise
from .model_folder import load_model, save_model, shipped_weights
from .runtime import GraphedFunction, prepare_networks
from .sampling import CoarseSample, no_coarse, noise_shapes, plan_for, sample_coarse, sample_fine
from .solver import Denoiser

#: Frames that a GPU sees together. One fixed size, so that a frame's bytes can't depend on how many came with it.
GPU_BATCH = 32


class TwoStageModel:
    """Coarse-to-fine diffusion from clean to noisy depth.

    Args:
        config: settings that the weights were trained with.
        coarse: trained coarse denoiser; None in a single-stage model.
        fine: trained fine denoiser.
        steps: sampling steps of each stage; None takes the model's own default.
        device: a name that `pick_device` knows.
        weights_sha256: hash of the weights file, for provenance.
        style: the camera's setting; None takes the model's own default.
        batch: frames that a GPU sees together; the bytes of a frame are the same for the same number.
        precision: of the networks on a GPU.
        graphs: record the whole computation as a CUDA graph, per image size.
    """

    name = "two_stage"

    def __init__(
        self,
        config: TwoStageConfig,
        coarse: nn.Module | None,
        fine: nn.Module,
        *,
        steps: int | None = None,
        device: str = "auto",
        weights_sha256: str | None = None,
        style: StyleConfig | None = None,
        batch: int = GPU_BATCH,
        precision: Literal["fp16", "bf16", "fp32"] = "fp16",
        graphs: bool = True,
    ) -> None:
        if steps is not None and not 1 <= steps <= config.schedule.train_steps:
            raise ConfigError(
                "number of sampling steps out of range",
                expected=f"1 to {config.schedule.train_steps}",
                got=str(steps),
                next_step="pass --steps within the range, or leave it out for the model's default",
            )
        if config.direct and steps not in (None, 1):
            raise ConfigError(
                "this model makes its sample in one step",
                expected="1 step",
                got=str(steps),
                next_step="leave --steps out",
            )
        self.config = config
        self.steps = 1 if config.direct else steps or config.schedule.steps
        self.device, backend = pick_device(device)
        self.weights_sha256 = weights_sha256
        self.uses_colour = config.condition.colour
        self._plan, self._label_offset = plan_for(config, self.steps)
        self._calibration = config.calibrated(self.steps)
        self._modules = (coarse, fine)
        self._chosen_style = style or config.style
        self._style = style_tensor(self._chosen_style, config.codec, self.device)
        # On a CPU one frame a thread is faster than several threads in one frame.
        on_cpu = self.device.type == "cpu"
        self._batch = 1 if on_cpu else batch
        self._evaluation = {"backend": backend} | ({} if on_cpu else {"precision": precision, "batch": batch})
        networks = [network for network in (coarse, fine) if network is not None]
        prepared = prepare_networks(networks, self.device, precision, backend)
        self._coarse: Denoiser | None = prepared[0] if coarse is not None else None
        self._fine: Denoiser = prepared[-1]
        self._workers = ThreadPoolExecutor(
            max_workers=os.cpu_count() or 1,
            thread_name_prefix=self.name,
            initializer=_one_thread if on_cpu else None,
        )
        self._set_temporal(config.temporal)
        self._graphs = graphs and not on_cpu
        self._functions: dict[tuple[object, ...], GraphedFunction] = {}

    @classmethod
    def from_pretrained(
        cls,
        path: Path | None = None,
        *,
        profile: CameraProfile | None = None,
        steps: int | None = None,
        device: str = "auto",
        batch: int | None = None,
        stream_fx_px: float | None = None,
    ) -> TwoStageModel:
        """Loads a model folder (config.json, model.safetensors and, with distilled networks, few_steps.safetensors).

        Args:
            path: the folder; None takes the weights that ship with the package for the profile.
            profile: camera profile; names the shipped weights, and its `noise.two_stage` may set the style and the
                depth stream (`CameraSetting`). May be None where `path` is given.
            steps: sampling steps of each stage; None takes the model's default.
            device: a name that `pick_device` knows.
            batch: frames that a GPU sees together; None for `GPU_BATCH`.
            stream_fx_px: of `CameraSetting`, where there is no profile to name it.

        Raises:
            ConfigError: the folder lacks a file, a file doesn't fit, or the weights are another camera's.
        """
        name = (profile_setting(profile).weights or profile.name) if profile else "d435"
        folder = path or shipped_weights(name)
        loaded = load_model(folder, steps)
        config = loaded.config
        if profile:
            check_camera(folder, config, profile)
            config = for_profile(config, profile)
        config = on_stream(config, stream_fx_px)
        return cls(
            config,
            loaded.coarse,
            loaded.fine,
            steps=steps,
            device=device,
            weights_sha256=loaded.sha256,
            batch=batch or GPU_BATCH,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What decides on its results besides weights, number of steps and device; values as JSON has them."""
        # the style and the calibration in use are below; where the networks once came from doesn't matter
        left_out: dict[str, Any] = {"style": True, "calibration": True, "coarse": {"folder"}, "fine": {"folder"}}
        return {
            "config": self.config.model_dump(mode="json", exclude=left_out),
            "style": self._chosen_style.model_dump(mode="json"),
            "calibration": self._calibration.model_dump(mode="json"),
            **self._evaluation,
        }

    @property
    def preferred_batch(self) -> int:
        """Frames that it computes together; fewer take as long."""
        return self._batch

    def with_temporal(self, static_share: float, correlation: float) -> TwoStageModel:
        """The same model, its networks shared, with initial noise that behaves otherwise over time."""
        twin = copy.copy(self)
        changes = {"static_share": static_share, "correlation": correlation, "history": ar1_history(correlation)}
        temporal = TemporalConfig.model_validate(self.config.temporal.model_dump() | changes)
        twin.config = self.config.model_copy(update={"temporal": temporal})
        twin._set_temporal(temporal)
        return twin

    def _set_temporal(self, temporal: TemporalConfig) -> None:
        self.history = temporal.history
        streams = ("coarse", "fine") if self.config.stages == "two" else ("fine",)
        self._noise = [
            CorrelatedNoise.ar1(temporal.correlation, temporal.history, s, temporal.static_share) for s in streams
        ]
        on_cpu = self.device.type == "cpu"
        self._device_noise = [] if on_cpu else [DeviceNoise(n, self.device, self._workers) for n in self._noise]

    def save_pretrained(self, folder: Path) -> None:
        """Writes config.json and model.safetensors (fp16) into a folder."""
        save_model(folder, self.config, *self._modules)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Corrupts clean depth as the camera would; see `DepthModel`."""
        return EnhancedFrames(*self._begin(frames, outputs=3)())

    def begin(self, frames: DepthFrames) -> Callable[[], np.ndarray]:
        """Begins to do what `enhance` does; what it returns waits for the depth, float32 [N,H,W].

        A CPU does it all at once. With a GPU, the host can begin with the next frames while the device computes these;
        one thread at a time may. The frames must not change before the depth is there.
        """
        finish = self._begin(frames, outputs=1)
        return lambda: finish()[0]

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Room for depth, float32, from which the device takes it without a copy in between."""
        return torch.empty(shape, pin_memory=self.device.type == "cuda").numpy()

    def _begin(self, frames: DepthFrames, outputs: int) -> Callable[[], list[np.ndarray]]:
        """Begins with frames; what it returns waits for the first outputs: depth, coarse depth, discrepancy."""
        count, height, width = frames.depth.shape
        size = native_size(height, width, frames.camera.fx, self.config.codec.native_fx_px)
        padded = tuple(side + (-side % SIDE_MULTIPLE) for side in size)
        shapes = noise_shapes(padded[0], padded[1], self.config)
        if self.device.type == "cpu":
            parts = list(self._workers.map(lambda i: self._one_frame(frames, i, size, shapes), range(count)))
            columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
            return lambda: columns[:outputs]
        output = [torch.empty((count, height, width), pin_memory=True) for _ in range(outputs)]
        for start in range(0, count, self._batch):
            part = slice(start, min(start + self._batch, count))
            used = part.stop - start
            for source, shape in zip(self._device_noise, shapes, strict=True):
                source.draw_ahead(frames.seeds[part], shape, (*frames.previous_seeds, *frames.seeds[:start]))
            inputs = self._inputs(frames, part)
            surfaces = self._surfaces(inputs[0][:used], size, shapes)
            draw = partial(self._device_fields, frames, part, shapes, surfaces)
            result = self._run(inputs, draw, size)
            for target, values in zip(output, result, strict=False):
                target[start : start + used].copy_(values[:used], non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(self.device))

        def finish() -> list[np.ndarray]:
            done.synchronize()
            return [target.numpy() for target in output]

        return finish

    def _device_fields(
        self,
        frames: DepthFrames,
        part: slice,
        shapes: tuple[tuple[int, int, int], ...],
        surfaces: list[Tensor | None],
        stage: int,
    ) -> Tensor:
        """Noise of a stage for a part of the frames, filled up to a whole batch: float32 [batch,C,h,w]."""
        seeds, before = frames.seeds[part], (*frames.previous_seeds, *frames.seeds[: part.start])
        source = self._device_noise[stage]
        noise = source.fields(seeds, shapes[stage], before, frames.stream_seed, surfaces[stage])
        return torch.cat([noise, noise[:1].expand(self._batch - len(seeds), -1, -1, -1)])

    def _one_frame(
        self, frames: DepthFrames, index: int, size: tuple[int, int], shapes: tuple[tuple[int, int, int], ...]
    ) -> tuple[np.ndarray, ...]:
        seeds = (*frames.previous_seeds, *frames.seeds[: index + 1])
        inputs = self._inputs(frames, slice(index, index + 1))
        surfaces = self._surfaces(inputs[0], size, shapes)
        noise = []
        for source, shape, surface in zip(self._noise, shapes, surfaces, strict=True):
            layers = None if surface is None else surface[0].numpy()
            noise.append(torch.from_numpy(source.field(seeds, shape, frames.stream_seed, layers)).unsqueeze(0))
        return tuple(v.numpy() for v in self._run(inputs, noise.__getitem__, size))

    def _surfaces(
        self, depth: Tensor, size: tuple[int, int], shapes: tuple[tuple[int, int, int], ...]
    ) -> list[Tensor | None]:
        """Which fixed field every cell of the noise takes, int64 [N,h,w] a stage; None where there is no fixed part."""
        temporal = self.config.temporal
        if temporal.static_share == 0.0:
            return [None] * len(shapes)
        return [surface_layers(depth, size, shape[1:], self.config) for shape in shapes]

    def _inputs(self, frames: DepthFrames, part: slice) -> tuple[Tensor, Tensor | None]:
        """Depth [N,H,W] and, where colour is a condition, luminance [N,H,W] in [0,1] of a batch on the device."""
        depth = self._on_device(frames.depth[part])
        if not self.config.condition.colour or frames.colour is None:
            return depth, None
        weights = torch.tensor((0.299, 0.587, 0.114), device=self.device)  # ITU-R BT.601 luma
        return depth, (self._on_device(frames.colour[part]).float() @ weights) / 255.0

    def _on_device(self, images: np.ndarray) -> Tensor:
        """Images [n,…] on the device, filled up to a whole batch with the first.

        From pinned memory, so that the host doesn't wait for what the device still computes. NumPy copies: torch would
        start a thread a core for it, and these keep spinning when they have finished.
        """
        cuda = self.device.type == "cuda"
        shape = (self._batch, *images.shape[1:])
        if cuda and images.shape == shape and images.flags.c_contiguous and images.flags.writeable:
            given = torch.from_numpy(images)
            if given.is_pinned():
                return given.to(self.device, non_blocking=True)
        host = torch.empty(shape, dtype=torch.float32 if images.dtype == np.float32 else torch.uint8, pin_memory=cuda)
        room = host.numpy()
        room[: len(images)] = images
        room[len(images) :] = images[0]
        return host.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def _run(
        self, inputs: tuple[Tensor, Tensor | None], draw: Callable[[int], Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Final depth, coarse depth and discrepancy [N,H,W] on the device.

        Args:
            inputs: depth and luminance.
            draw: gives the initial noise of a stage. That of stage II is drawn when stage I is on its way: on a GPU the
                host draws while the device works.
            size: of the sensor's own pixel grid.
        """
        image, grey = inputs
        first = [image, *(() if self._coarse is None else (draw(0),)), *(() if grey is None else (grey,))]
        scene = self._recorded("first", lambda values: self._first_stage(values, size), first, size)
        second = [image, draw(-1), *scene]
        depth, coarse, region = self._recorded("second", lambda values: self._second_stage(values, size), second, size)
        return depth, coarse, region

    def _recorded(
        self,
        name: str,
        function: Callable[[list[Tensor]], tuple[Tensor, ...]],
        arguments: list[Tensor],
        size: tuple[int, int],
    ) -> tuple[Tensor, ...]:
        """What a function of tensors gives; on a GPU from the CUDA graph of these shapes."""
        if not self._graphs:
            return function(arguments)
        key = (name, size, *(tuple(values.shape) for values in arguments))
        if key not in self._functions:
            self._functions[key] = GraphedFunction(function, arguments)
        return self._functions[key](arguments)

    def _constants(self, count: int) -> tuple[Tensor, Tensor]:
        """f·B [N] and labels [N] of a batch."""
        config = self.config
        factors = torch.full((count,), config.codec.disparity_factor, device=self.device)
        source = config.sources.index(config.source)
        labels = torch.full((count,), source + self._label_offset, device=self.device, dtype=torch.int64)
        return factors, labels

    def _first_stage(self, values: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Features of the scene, and what stage I makes of them.

        Args:
            values: depth [N,H,W]; noise of stage I if there is one; luminance [N,H,W] if it is a condition.
            size: of the sensor's own pixel grid.

        Returns:
            The fields of `SceneFeatures` and of `CoarseSample`.
        """
        image, extra, config = values[0], values[1:], self.config
        native = image
        if size != tuple(image.shape[-2:]):
            native = F.interpolate(image.unsqueeze(1), size=size, mode="nearest-exact").squeeze(1)
        clean = pad_to_multiple(native, math.nan)
        factors, labels = self._constants(len(image))
        noise = None if self._coarse is None else extra.pop(0)
        grey = None
        if extra:
            small = F.interpolate(extra[0].unsqueeze(1), size=size, mode="bilinear", align_corners=False)
            grey = F.avg_pool2d(F.pad(small, (0, clean.shape[-1] - size[1], 0, clean.shape[-2] - size[0])), 2).squeeze(
                1
            )
        features = scene_features(Scene(clean, factors, labels, grey, self._style.expand(len(image), -1)), config)
        if self._coarse is None or noise is None:
            coarse = no_coarse(features, config)
        else:
            coarse = sample_coarse(self._coarse, self._plan, features, labels, noise, config)
        return features.full, features.half, features.style, features.proximity, coarse.code, coarse.discrepancy

    def _second_stage(self, values: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Final depth, coarse depth and discrepancy [N,H,W].

        Args:
            values: depth, noise of stage II, and what `_first_stage` returns.
            size: of the sensor's own pixel grid.
        """
        image, noise, config = values[0], values[1], self.config
        features, first = SceneFeatures(*values[2:6]), CoarseSample(*values[6:])
        factors, labels = self._constants(len(image))
        second = sample_fine(self._fine, self._plan, features, labels, noise, first, config)
        fields = decode_fields(first.code, second, config, self._calibration, features.proximity)
        coarse, noisy = apply_residual(image, factors, fields, config, size)
        padded = features.full.shape[-2:]
        region = F.interpolate(first.discrepancy, size=padded, mode="nearest")[..., : size[0], : size[1]]
        region = F.interpolate(region, size=image.shape[-2:], mode="nearest").squeeze(1)
        region = torch.where(known_mask(image, config.codec), region, torch.zeros_like(region))
        return noisy, coarse, region.float()


def _one_thread() -> None:
    torch.set_num_threads(1)


__all__ = [
    "GPU_BATCH",
    "TwoStageModel",
    "apply_residual",
    "native_size",
    "save_model",
    "shipped_weights",
]

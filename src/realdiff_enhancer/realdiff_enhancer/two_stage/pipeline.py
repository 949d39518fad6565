"""The two-stage model behind the enhancer's common interface: clean depth in, noisy depth out."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..models.base import DepthFrames, EnhancedFrames
from ..models.noise import CorrelatedNoise
from .codec import decode_residual, depth_to_disparity, upsample
from .conditioning import SIDE_MULTIPLE, known_mask, pad_to_multiple
from .config import TwoStageConfig
from .networks import FINE_RESIDUAL_FACTOR, fine_channels, make_coarse, make_fine
from .sampling import noise_shapes, sample_coarse, sample_fine
from .schedule import make_sampler

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


class TwoStageModel:
    """Coarse-to-fine diffusion from clean to noisy depth.

    Args:
        config: settings that the weights were trained with.
        coarse: trained coarse denoiser.
        fine: trained fine denoiser.
        steps: sampling steps of each stage; None takes the model's own default.
        device: "cpu", "cuda" or "auto".
        weights_sha256: hash of the weights file, for provenance.
    """

    name = "two_stage"
    uses_colour = False

    def __init__(
        self,
        config: TwoStageConfig,
        coarse: nn.Module,
        fine: nn.Module,
        *,
        steps: int | None = None,
        device: str = "auto",
        weights_sha256: str | None = None,
    ) -> None:
        if steps is not None and not 1 <= steps <= config.schedule.train_steps:
            raise ConfigError(
                "number of sampling steps out of range",
                expected=f"1 to {config.schedule.train_steps}",
                got=str(steps),
                next_step="pass --steps within the range, or leave it out for the model's default",
            )
        self.config = config
        self.steps = steps or config.schedule.steps
        self.device = _pick_device(device)
        self.weights_sha256 = weights_sha256
        self.history = config.temporal.history
        self._coarse = coarse.to(self.device).eval().requires_grad_(False)
        self._fine = fine.to(self.device).eval().requires_grad_(False)
        temporal = config.temporal
        self._noise = [
            CorrelatedNoise.ar1(temporal.correlation, temporal.history, stream=stage) for stage in ("coarse", "fine")
        ]
        # Networks always see batches of one fixed size, so that a frame's bytes can't depend on how many came with it.
        # On a CPU that is one frame a thread: faster than several threads in one frame.
        on_cpu = self.device.type == "cpu"
        self._micro_batch = 1 if on_cpu else 8
        if on_cpu:
            for network in (self._coarse, self._fine):
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._workers = ThreadPoolExecutor(
            max_workers=(os.cpu_count() or 1) if on_cpu else 1,
            thread_name_prefix=self.name,
            initializer=_one_thread if on_cpu else None,
        )

    @classmethod
    def from_pretrained(
        cls,
        path: Path | None = None,
        *,
        profile: CameraProfile | None = None,
        steps: int | None = None,
        device: str = "auto",
    ) -> TwoStageModel:
        """Loads a model folder (config.json and model.safetensors).

        Args:
            path: the folder; None takes the weights that ship with the package for the profile.
            profile: camera profile; names the shipped weights and may be None where `path` is given.
            steps: sampling steps of each stage; None takes the model's default.
            device: "cpu", "cuda" or "auto".

        Raises:
            ConfigError: the folder lacks a file, or a file doesn't fit.
        """
        folder = path or shipped_weights(profile.name if profile else "d435")
        config_file, weights_file = folder / CONFIG_NAME, folder / WEIGHTS_NAME
        for file in (config_file, weights_file):
            if not file.is_file():
                raise ConfigError(
                    "model folder is incomplete",
                    where=str(folder),
                    expected=f"{CONFIG_NAME} and {WEIGHTS_NAME}",
                    got=f"no {file.name}",
                    next_step="pass --weights with a folder that `ros2 run realdiff_enhancer train` wrote",
                )
        try:
            config = TwoStageConfig.model_validate(json.loads(config_file.read_text()))
            state = load_file(weights_file)
            coarse, fine = make_coarse(config), make_fine(config)
            for stage, network in (("coarse.", coarse), ("fine.", fine)):
                part = {k.removeprefix(stage): v.float() for k, v in state.items() if k.startswith(stage)}
                network.load_state_dict(part)
        except Exception as error:  # safetensors, JSON, pydantic and torch each raise their own kinds
            raise ConfigError(
                "model can't be loaded",
                where=str(folder),
                expected="a two-stage model of this version",
                got=str(error).splitlines()[0][:200],
                next_step="the file may be damaged or of another version: copy or train it again",
            ) from error
        digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
        return cls(config, coarse, fine, steps=steps, device=device, weights_sha256=digest)

    def save_pretrained(self, folder: Path) -> None:
        """Writes config.json and model.safetensors (fp16) into a folder."""
        save_model(folder, self.config, self._coarse, self._fine)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Corrupts clean depth as the camera would; see `DepthModel`."""
        count, height, width = frames.depth.shape
        channels = sum(fine_channels(self.config))
        size = native_size(height, width, frames.camera.fx, self.config.codec.native_fx_px)
        padded_h, padded_w = (side + (-side % SIDE_MULTIPLE) for side in size)
        shapes = noise_shapes(padded_h, padded_w, self.config, channels)
        noise = [
            source.fields(frames.seeds, shape, frames.previous_seeds)
            for source, shape in zip(self._noise, shapes, strict=True)
        ]

        def one_batch(start: int) -> tuple[np.ndarray, ...]:
            used = min(self._micro_batch, count - start)
            # a short last batch is filled up with its first frame
            index = [start + i if i < used else start for i in range(self._micro_batch)]
            result = self._enhance_batch(frames.depth[index], size, *(n[index] for n in noise))
            return tuple(values[:used] for values in result)

        parts = list(self._workers.map(one_batch, range(0, count, self._micro_batch)))
        depth, coarse, discrepancy = (np.concatenate(column) for column in zip(*parts, strict=True))
        return EnhancedFrames(depth, coarse, discrepancy)

    @torch.inference_mode()
    def _enhance_batch(
        self, depth: np.ndarray, size: tuple[int, int], coarse_noise: np.ndarray, fine_noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image = torch.from_numpy(np.ascontiguousarray(depth)).to(self.device)
        native = image
        if size != tuple(image.shape[-2:]):
            native = F.interpolate(image.unsqueeze(1), size=size, mode="nearest-exact").squeeze(1)
        clean = pad_to_multiple(native, float("nan"))
        factors = torch.full((len(depth),), self.config.codec.disparity_factor, device=self.device)
        labels = torch.full((len(depth),), self.config.sources.index(self.config.source), device=self.device)
        noise = [torch.from_numpy(np.ascontiguousarray(n)).to(self.device) for n in (coarse_noise, fine_noise)]
        sampler = make_sampler(self.config.schedule)  # holds the state of one run, so every thread has its own
        first = sample_coarse(self._coarse, sampler, clean, factors, labels, noise[0], self.config, self.steps)
        second = sample_fine(self._fine, sampler, clean, factors, labels, noise[1], first, self.config, self.steps)
        coarse, noisy = apply_residual(image, factors, first.code, second, self.config, size)
        region = F.interpolate(first.discrepancy, size=clean.shape[-2:], mode="nearest")[..., : size[0], : size[1]]
        region = F.interpolate(region, size=image.shape[-2:], mode="nearest").squeeze(1)
        region = torch.where(known_mask(image, self.config.codec), region, torch.zeros_like(region))
        return noisy.cpu().numpy(), coarse.cpu().numpy(), region.float().cpu().numpy()


def native_size(height: int, width: int, fx: float, native_fx: float) -> tuple[int, int]:
    """Size of an image on the sensor's own pixel grid.

    The sensor's errors arise on the pixels of its own depth stream: blobs of 10 to 20 of its pixels, σ as a share of
    its disparity. An image that was aligned to the colour camera or rescaled has other pixels but the same errors.

    Args:
        height: image rows.
        width: image columns.
        fx: the image's focal length [px].
        native_fx: focal length of the sensor's own depth stream [px].
    """
    scale = min(native_fx / fx, 4.0)
    if abs(scale - 1.0) < 0.02:
        return height, width
    return max(1, round(height * scale)), max(1, round(width * scale))


def apply_residual(
    clean: Tensor,
    factors: Tensor,
    coarse_code: Tensor,
    fine_sample: Tensor,
    config: TwoStageConfig,
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Adds sampled residuals and holes to clean depth, quantised as the sensor quantises.

    Args:
        clean: clean depth [N,H,W] m, NaN unknown.
        factors: f·B of the sensor's own stream [px·m], [N].
        coarse_code: n̂_L on the coarse grid of the padded native image.
        fine_sample: residual cells and hole bits on its fine grid.
        config: model settings.
        size: rows and columns of the native image without padding; None if they are the clean depth's own.

    Returns:
        Coarse and final depth [N,H,W] m. Pixels that are unknown or beyond the range are the input's own; pixels nearer
        than the sensor's near limit become NaN in the final depth.
    """
    codec = config.codec
    known = known_mask(clean, codec)
    cells, _ = fine_channels(config)
    low = upsample(coarse_code, config.coarse.stride)
    rest = F.pixel_shuffle(fine_sample[:, :cells], config.fine.stride // FINE_RESIDUAL_FACTOR)
    hole_bit = F.pixel_shuffle(fine_sample[:, cells:], config.fine.stride)
    fields = torch.cat([low, low + upsample(rest, FINE_RESIDUAL_FACTOR), hole_bit], dim=1)
    rows, columns = size or clean.shape[-2:]
    fields = fields[..., :rows, :columns]
    if (rows, columns) != tuple(clean.shape[-2:]):
        fields = F.interpolate(fields, size=clean.shape[-2:], mode="bilinear", align_corners=False)
    low, total, hole = fields[:, 0], fields[:, 1], fields[:, 2] > 0
    disparity = depth_to_disparity(torch.where(known, clean, torch.ones_like(clean)), factors)

    def to_depth(code: Tensor, step: float) -> Tensor:
        noisy = disparity + decode_residual(code, codec)
        if step > 0:
            noisy = torch.round(noisy / step) * step
        return factors.view(-1, 1, 1) / noisy.clamp_min(1e-3)

    coarse = torch.where(known, to_depth(low, 0.0), clean)
    noisy = to_depth(total, codec.disparity_step_px)
    lost = hole | (noisy < codec.near_m) | (noisy > 4.0 * codec.far_m)
    noisy = torch.where(lost, torch.full_like(noisy, float("nan")), noisy)
    too_near = torch.isfinite(clean) & (clean < codec.near_m)
    final = torch.where(known, noisy, clean)
    return coarse, torch.where(too_near, torch.full_like(final, float("nan")), final)


def save_model(folder: Path, config: TwoStageConfig, coarse: nn.Module, fine: nn.Module) -> None:
    """Writes a model folder: config.json and fp16 model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        f"{stage}.{key}": value.detach().half().cpu().contiguous()
        for stage, network in (("coarse", coarse), ("fine", fine))
        for key, value in network.state_dict().items()
    }
    save_file(state, folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def shipped_weights(profile: str) -> Path:
    """Folder of the weights that ship with the package for a camera profile."""
    root = Path(__file__).resolve().parent.parent / "weights"
    folder = root / f"two_stage_{profile}"
    if not folder.is_dir():
        available = sorted(p.name.removeprefix("two_stage_") for p in root.glob("two_stage_*"))
        raise ConfigError(
            "no shipped weights for this camera profile",
            expected=" or ".join(available) or "a weights folder",
            got=profile,
            next_step="pass --weights with a model folder, or use --profile d435",
        )
    return folder


def _one_thread() -> None:
    torch.set_num_threads(1)


def _pick_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA device", got=device, next_step="use --device cpu, or install a CUDA build of torch")
    return torch.device(device)

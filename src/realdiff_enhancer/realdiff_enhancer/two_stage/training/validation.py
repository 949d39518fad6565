"""How near samples come to the validation pairs: holes by nearness to an edge, σ, spatial correlation.

A quick look at what the realism metrics weigh most, for choosing between settings on validation frames; the held-out
scenes are `evaluate`'s alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codec import decode_residual
from ..conditioning import scene_features
from ..config import TwoStageConfig
from ..decoding import decode_fields
from ..geometry import PROXIMITY_LEVELS
from ..sampling import no_coarse, noise_shapes, plan_for, sample_coarse, sample_fine
from ..solver import Denoiser
from .store import PairStore, step_seed

_LAGS_PX = (1, 4, 8, 16, 32)


@torch.no_grad()
def validate(
    store: PairStore,
    config: TwoStageConfig,
    coarse: Denoiser | None,
    fine: Denoiser,
    steps: int,
    frames: int,
    seed: int,
) -> dict[str, list[float]]:
    """Statistics of real and sampled depth of the generated source.

    Args:
        store: pairs that were not trained on.
        config: the model's settings, calibration included.
        coarse: coarse denoiser; None in a single-stage model.
        fine: fine denoiser.
        steps: sampling steps a stage.
        frames: pairs used, spread evenly.
        seed: of the samples.

    Returns:
        For "real" and "ours": `holes_*` share of holes by proximity level, far to near (%), `sigma_*` robust σ away
        from edges (px of disparity), `correlation_*` along the rows at 1, 4, 8, 16 and 32 px.
    """
    device = store.clean.device
    own = torch.nonzero(store.label == config.sources.index(config.source)).flatten()
    own = own[torch.linspace(0, len(own) - 1, min(frames, len(own))).long().to(device)] if len(own) else own
    sums = {name: _Sums(device) for name in ("real", "ours")}
    generator = torch.Generator(device=device).manual_seed(step_seed(seed, "validation", steps))
    plan, offset = plan_for(config, steps)
    for some in own.split(4):
        scene, targets = store.frames(some)
        features = scene_features(scene, config)
        shapes = noise_shapes(scene.depth.shape[-2], scene.depth.shape[-1], config)
        noise = [torch.randn((len(some), *shape), generator=generator, device=device) for shape in shapes]
        labels = scene.label + offset
        if coarse is None:
            first = no_coarse(features, config)
        else:
            first = sample_coarse(coarse, plan, features, labels, noise[0], config)
        second = sample_fine(fine, plan, features, labels, noise[-1], first, config)
        _, code, hole = decode_fields(first.code, second, config, config.calibrated(steps), features.proximity)
        level = F.interpolate(features.proximity.round(), scale_factor=2, mode="nearest")
        known = targets.known > 0
        sums["real"].add(decode_residual(targets.code, config.codec), targets.hole > 0, known, level)
        sums["ours"].add(decode_residual(code, config.codec), hole > 0, known, level)
    return {f"{what}_{who}": values for who, found in sums.items() for what, values in found.result().items()}


class _Sums:
    """Statistics of one kind of depth, frame by frame."""

    def __init__(self, device: torch.device) -> None:
        self._holes = torch.zeros((2, PROXIMITY_LEVELS), device=device)
        self._products = torch.zeros((len(_LAGS_PX), 3), device=device)
        self._deviations: list[Tensor] = []

    def add(self, residual_px: Tensor, hole: Tensor, known: Tensor, level: Tensor) -> None:
        """Adds frames [N,1,H,W]."""
        for value in range(PROXIMITY_LEVELS):
            here = known & (level == value)
            self._holes[:, value] += torch.stack([(hole & here).sum(), here.sum()])
        far = known & ~hole & (level <= 1) & (residual_px.abs() < 2.0)
        for values, inside in zip(residual_px, far, strict=True):
            if inside.sum() < 100:
                continue
            centred = torch.where(inside, values - values[inside].median(), torch.zeros_like(values))
            self._deviations.append(centred[inside].abs()[:: max(1, int(inside.sum()) // 20_000)])
            for i, lag in enumerate(_LAGS_PX):
                both = inside[..., lag:] & inside[..., :-lag]
                a, b = centred[..., lag:][both], centred[..., :-lag][both]
                self._products[i] += torch.stack([(a * b).sum(), (a * a).sum(), (b * b).sum()])

    def result(self) -> dict[str, list[float]]:
        """The statistics."""
        holes = 100 * self._holes[0] / self._holes[1].clamp_min(1)
        sigma = 1.4826 * float(torch.cat(self._deviations).median()) if self._deviations else float("nan")
        correlation = self._products[:, 0] / (self._products[:, 1] * self._products[:, 2]).sqrt().clamp_min(1e-9)
        return {
            "holes": [round(v, 2) for v in holes.tolist()],
            "sigma": [round(sigma, 4)],
            "correlation": [round(v, 3) for v in correlation.tolist()],
        }

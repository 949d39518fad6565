"""What a number of sampling steps gets wrong, and the correction that is saved with the model.

Few steps lose variance, some wavelengths more than others, and networks round hole rates towards what is frequent.
All are measured against real frames (`TrainConfig.calibrate_on`): the robust σ of the residual away from depth edges
gives a gain, its strength in every band a factor, the hole rates by proximity to an edge give levels of the hole field.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands import BANDS, band_strengths, with_band_gains
from ..codec import decode_residual
from ..conditioning import SceneFeatures, scene_features
from ..config import StepCalibration, TwoStageConfig
from ..decoding import decode_fields
from ..geometry import PROXIMITY_LEVELS
from ..sampling import no_coarse, noise_shapes, plan_for, sample_coarse, sample_fine
from ..solver import Denoiser
from .store import PairStore, step_seed

#: Beyond these, a correction would hide a network that has not learned enough. Levels of the hole field are ±1 at most.
_LEVEL_RANGE = (-0.8, 0.8)
_GAIN_RANGE = (0.6, 1.6)
_BAND_RANGE = (0.4, 2.0)
#: The bands overlap: factors that are measured with those of the others applied settle within a few rounds.
_BAND_ROUNDS = 8
_BAND_PIXELS = 20_000
_SAMPLED_PIXELS = 200_000


@torch.no_grad()
def sample_fields(
    coarse: Denoiser | None,
    fine: Denoiser,
    features: SceneFeatures,
    labels: Tensor,
    config: TwoStageConfig,
    steps: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Structural code, whole code and hole field [N,1,H,W] sampled for scenes, not corrected."""
    height, width = features.full.shape[-2:]
    device = features.full.device
    noise = [
        torch.randn((len(labels), *shape), generator=generator, device=device)
        for shape in noise_shapes(height, width, config)
    ]
    plan, offset = plan_for(config, steps)
    if coarse is None:
        first = no_coarse(features, config)
    else:
        first = sample_coarse(coarse, plan, features, labels + offset, noise[0], config)
    second = sample_fine(fine, plan, features, labels + offset, noise[-1], first, config)
    return decode_fields(first.code, second, config)


@torch.no_grad()
def calibrate(
    store: PairStore,
    config: TwoStageConfig,
    coarse: Denoiser | None,
    fine: Denoiser,
    steps: int,
    frames: int,
    seed: int,
) -> StepCalibration:
    """Measures the correction for a number of steps.

    Args:
        store: pairs to measure on.
        config: the model's settings.
        coarse: coarse denoiser; None in a single-stage model.
        fine: fine denoiser.
        steps: sampling steps a stage.
        frames: frames of the generated source that are used, spread evenly.
        seed: of the samples.
    """
    device = store.clean.device
    own = torch.nonzero(store.label == config.sources.index(config.source)).flatten()
    if not len(own):
        return StepCalibration(steps=steps)
    own = own[torch.linspace(0, len(own) - 1, min(frames, len(own))).long().to(device)]
    generator = torch.Generator(device=device).manual_seed(step_seed(seed, "calibration", steps))
    real_rest: list[Tensor] = []
    ours_rest: list[Tensor] = []
    levels, holes, fields = [], [], []
    flat: list[tuple[Tensor, Tensor, Tensor]] = []
    for some in own.split(4):
        scene, targets = store.frames(some)
        features = scene_features(scene, config)
        _, code, field = sample_fields(coarse, fine, features, scene.label, config, steps, generator)
        proximity = F.interpolate(features.proximity.round(), scale_factor=2, mode="nearest")
        known = targets.known > 0
        noise = ((targets.both > 0) & (proximity <= 2) & (field <= 0)).to(code.dtype)
        flat.append((decode_residual(targets.code, config.codec), decode_residual(code, config.codec), noise))
        for i in range(len(some)):
            far = (targets.both[i] > 0) & (proximity[i] <= 1) & (field[i] <= 0)
            for values, kept in ((targets.code[i][far], real_rest), (code[i][far], ours_rest)):
                if len(values) > 100:
                    residual = decode_residual(values, config.codec)
                    kept.append((residual - residual.median()).abs())
        levels.append(proximity[known])
        holes.append(targets.hole[known] > 0)
        fields.append(field[known])
    gain = 1.0
    if real_rest:
        gain = _median(torch.cat(real_rest)) / max(_median(torch.cat(ours_rest)), 1e-6)
    gain = min(max(gain, _GAIN_RANGE[0]), _GAIN_RANGE[1])
    level, hole, field = torch.cat(levels), torch.cat(holes), torch.cat(fields)
    offsets = []
    for value in range(PROXIMITY_LEVELS):
        here = level == value
        offsets.append(_offset(hole[here], field[here]))
    band_gain = _band_gains(flat, gain, config.codec.scale_px)
    return StepCalibration(steps=steps, gain=gain, band_gain=band_gain, hole_offset=tuple(offsets))


def _band_gains(frames: list[tuple[Tensor, Tensor, Tensor]], gain: float, scale_px: float) -> tuple[float, ...]:
    """Factors that give a sampled residual's bands the real strength; none where too little is known to tell.

    Args:
        frames: real residual and sampled one [px], and where both are noise, [N,1,H,W] each.
        gain: that the sampled one gets before.
        scale_px: of the codec.
    """

    def strengths(which: int, gains: tuple[float, ...] | None = None) -> Tensor:
        total = torch.zeros(BANDS + 1)
        for values in frames:
            residual, mask = values[which], values[2]
            if gains is not None:
                residual = with_band_gains(gain * residual, gains, scale_px)
            found = band_strengths(residual, mask, scale_px).float().cpu()
            total += found * torch.cat([found[-1:].expand(BANDS), torch.ones(1)])
        return total

    real = strengths(0)
    if real[-1] < _BAND_PIXELS:
        return ()
    gains = (1.0,) * BANDS
    for _ in range(_BAND_ROUNDS):
        ratio = (real[:-1] / strengths(1, gains)[:-1].clamp_min(1e-12)).sqrt().tolist()
        gains = tuple(min(max(g * r, _BAND_RANGE[0]), _BAND_RANGE[1]) for g, r in zip(gains, ratio, strict=True))
    return gains


def _offset(hole: Tensor, field: Tensor) -> float:
    """Level over which the field has the share of holes that is real; 0 where there is too little to tell."""
    if len(hole) < 1000:
        return 0.0
    rate = float(hole.float().mean())
    some = field[:: max(1, len(field) // _SAMPLED_PIXELS)]
    level = float(torch.quantile(some.float(), min(max(1.0 - rate, 0.0), 1.0)))
    return min(max(level, _LEVEL_RANGE[0]), _LEVEL_RANGE[1])


def _median(values: Tensor) -> float:
    return float(values[:: max(1, len(values) // _SAMPLED_PIXELS)].median())

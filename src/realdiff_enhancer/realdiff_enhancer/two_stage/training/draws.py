"""Sampling of the trained coarse stage on the training frames: what the fine stage is trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..conditioning import scene_features
from ..config import TwoStageConfig
from ..networks import as_denoiser
from ..sampling import CoarseSample, sample_coarse
from ..solver import multistep_plan
from .config import TrainConfig
from .store import PairStore, step_seed

#: Training frames that are sampled together.
_BATCH = 8


@torch.no_grad()
def draw_coarse(store: PairStore, config: TrainConfig, coarse: nn.Module) -> tuple[CoarseSample, TwoStageConfig]:
    """Samples the coarse stage on every training frame; measures the discrepancy's scale and threshold.

    A sample starts from the frame's own n_L, noised to a random level, so that it has the model's artefacts but still
    belongs to the frame: a sample that is independent of the measured frame would only teach the fine stage to undo the
    coarse one.

    Returns:
        Samples stacked as [F·draws, …] (draw d of frame f at f·draws + d), and the settings with the measured values.
    """
    model = config.model
    device = store.clean.device
    plan = multistep_plan(model.schedule, config.draw_steps)
    guidance = model.guidance.model_copy(update={"discrepancy_scale": 1e6})
    unscaled = model.model_copy(update={"guidance": guidance})
    generator = torch.Generator(device=device).manual_seed(step_seed(config.seed, "draws", 0))
    codes, regions = [], []
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for number, some in enumerate(torch.arange(len(store), device=device).split(_BATCH)):
            scene, targets = store.frames(some)
            scene = scene.repeated(config.draws)
            assert targets.low is not None
            target = targets.low.repeat_interleave(config.draws, dim=0)
            # from nearly pure noise to two thirds of the way: the model decides more or less of the sample
            first = 1 + number % max(1, config.draw_steps * 2 // 3)
            noise = torch.randn(target.shape, device=device, generator=generator)
            start = plan[first].alpha * target + plan[first].sigma * noise
            features = scene_features(scene, model)
            sample = sample_coarse(as_denoiser(coarse), plan, features, scene.label, start, unscaled, first)
            codes.append(sample.code)
            regions.append(sample.discrepancy * 1e6)
    code, region = torch.cat(codes), torch.cat(regions)
    scale = max(_quantile(region, 0.95), 1e-6)
    region = (region / scale).clamp(0, 1)
    update = {"discrepancy_scale": scale, "threshold": _quantile(region, 0.7)}
    measured = model.model_copy(update={"guidance": model.guidance.model_copy(update=update)})
    return CoarseSample(code, region), measured


def _quantile(values: Tensor, share: float) -> float:
    flat = values.flatten()
    return float(torch.quantile(flat[:: max(1, len(flat) // 100_000)], share))

"""What follows the optimisation: style and calibration of the model, a look at the validation pairs, pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..conditioning import scene_features, style_unit_px
from ..config import CodecConfig, StyleConfig, TwoStageConfig
from ..networks import as_denoiser
from ..sampling import sample_coarse
from ..solver import Denoiser, multistep_plan
from .calibration import calibrate, sample_fields
from .loop import OutOfTimeError, Session
from .monitor import Curves
from .store import PairStore
from .validation import validate

_PICTURE_FRAMES = 3
_PICTURE_STEPS = 8
#: Codes from black to white.
_RANGE, _LOW_RANGE = 8.0, 4.0


@dataclass(frozen=True)
class Trained:
    """The trained networks: base ones, and those for few steps where there are some."""

    coarse: nn.Module | None
    fine: nn.Module
    few: tuple[nn.Module | None, nn.Module] | None

    def serving(self, model: TwoStageConfig, steps: int, session: Session) -> tuple[Denoiser | None, Denoiser]:
        """The denoisers of both stages for a number of steps."""
        coarse, fine = self.few if self.few is not None and steps in model.few_steps else (self.coarse, self.fine)
        return None if coarse is None else frozen(coarse, session), frozen(fine, session)


def frozen(network: nn.Module, session: Session) -> Denoiser:
    """A network without gradient, in the training's precision."""
    call, accelerator = as_denoiser(network), session.accelerator

    def denoise(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad(), accelerator.autocast():
            return call(sample.contiguous(memory_format=torch.channels_last), timestep, labels)

    return denoise


def with_style(model: TwoStageConfig, store: PairStore) -> TwoStageConfig:
    """The settings with the median style of the generated source's pairs as the default."""
    own = store.label == model.sources.index(model.source)
    if not model.condition.style or not bool(own.any()):
        return model
    return model.model_copy(update={"style": style_config(store.style[own].median(dim=0).values, model.codec)})


def style_config(values: Tensor, codec: CodecConfig) -> StyleConfig:
    """Inverse of `conditioning.style_values` for one style [3]."""
    edge, far, sigma = values.double().cpu()
    return StyleConfig(
        edge_holes=min(max(float((edge + 1) / 2), 0.0), 1.0),
        far_holes=min(max(float(10 ** (far * 1.5 - 2.0) - 1e-3), 0.0), 1.0),
        sigma_px=float(style_unit_px(codec) * torch.exp(sigma)),
    )


def calibrated(model: TwoStageConfig, networks: Trained, store: PairStore, session: Session) -> TwoStageConfig:
    """The settings with the corrections for each number of steps."""
    config, found = session.config, []
    if not config.calibration_frames:
        return model
    for steps in _steps(model, session):
        served = networks.serving(model, steps, session)
        found.append(calibrate(store, model, *served, steps, config.calibration_frames, config.seed))
        levels = " ".join(f"{level:+.2f}" for level in found[-1].hole_offset)
        bands = "".join(f" {factor:.2f}" for factor in found[-1].band_gain)
        gains = f"gain {found[-1].gain:.3f}, of the bands{bands or ' none'}"
        session.report(f"{steps} steps: {gains}, hole levels {levels}")
    return model.model_copy(update={"calibration": tuple(found)})


def validated(
    model: TwoStageConfig, networks: Trained, store: PairStore | None, session: Session
) -> Iterator[dict[str, Any]]:
    """Statistics of the validation pairs and of samples, one row for each number of steps."""
    config = session.config
    if store is None or not config.validation_frames:
        return
    for steps in _steps(model, session):
        served = networks.serving(model, steps, session)
        found = validate(store, model, *served, steps, config.validation_frames, config.seed)
        session.report(f"validation, {steps} steps: " + json.dumps(found))
        yield {"stage": "validation", "step": steps, **found}


def _steps(model: TwoStageConfig, session: Session) -> Iterator[int]:
    """The numbers of steps that are looked at, as long as there is time; all of this is cheap to do again."""
    for steps in (1,) if model.direct else session.config.calibrate_steps:
        # one process of several works here, and the others wait for it: it can't leave alone
        if session.accelerator.num_processes == 1 and session.must_stop_finishing():
            raise OutOfTimeError(f"trained; stopped before {steps} steps were calibrated and validated")
        yield steps


Picture = Callable[[Denoiser, int], None]


def coarse_pictures(model: TwoStageConfig, store: PairStore, session: Session, curves: Curves) -> Picture:
    """Draws clean depth, and n_L of the camera, of a sample and the sample's region map D, of some pairs."""
    index = _pictured(store)

    def draw(coarse: Denoiser, step: int) -> None:
        scene, targets = store.frames(index)
        assert targets.low is not None
        assert targets.low_weight is not None
        features = scene_features(scene, model)
        generator = torch.Generator(device=scene.depth.device).manual_seed(1)
        noise = torch.randn(targets.low.shape, generator=generator, device=scene.depth.device)
        plan = multistep_plan(model.schedule, _PICTURE_STEPS)
        sample = sample_coarse(coarse, plan, features, scene.label, noise, model)
        real = torch.where(targets.low_weight > 0, targets.low / _LOW_RANGE + 0.5, float("nan"))
        ours = sample.code / _LOW_RANGE + 0.5
        rows = [features.full[:, :1] / 2 + 0.5, real, ours, sample.discrepancy]
        curves.images("samples: clean, real n_L, ours, D", step, rows)

    return draw


def pictures(
    coarse: nn.Module | None, model: TwoStageConfig, store: PairStore, session: Session, curves: Curves
) -> Picture:
    """Draws clean depth, and residual and holes of the camera and of a sample, of some pairs."""
    index = _pictured(store)
    first = None if coarse is None else frozen(coarse, session)
    steps = 1 if model.direct else _PICTURE_STEPS

    def draw(fine: Denoiser, step: int) -> None:
        scene, targets = store.frames(index)
        features = scene_features(scene, model)
        generator = torch.Generator(device=scene.depth.device).manual_seed(1)
        _, code, hole = sample_fields(first, fine, features, scene.label, model, steps, generator)
        nan = torch.full_like(code, float("nan"))
        real = torch.where(targets.both > 0, targets.code / _RANGE + 0.5, nan)
        ours = torch.where((targets.known > 0) & (hole <= 0), code / _RANGE + 0.5, nan)
        curves.images("samples: clean, real, ours", step, [features.full[:, :1] / 2 + 0.5, real, ours])

    return draw


def _pictured(store: PairStore) -> Tensor:
    """Some frames, evenly spread."""
    return torch.linspace(0, len(store) - 1, min(_PICTURE_FRAMES, len(store))).long().to(store.clean.device)

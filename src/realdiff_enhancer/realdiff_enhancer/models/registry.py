"""Names of the enhancer models and how to make one.

A model's module is imported only when the model is made: listing the names costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.errors import ConfigError

if TYPE_CHECKING:
    from realdiff_core.config import CameraProfile

    from realdiff_enhancer.models.base import DepthModel

__all__ = [
    "DEFAULT_MODEL",
    "ModelOptions",
    "create_model",
    "has_network",
    "model_descriptions",
    "model_names",
    "samples_in_steps",
]

DEFAULT_MODEL = "two_stage"


@dataclass(frozen=True)
class ModelOptions:
    """What a model is made from (see `create_model`)."""

    profile: CameraProfile
    steps: int | None
    device: str
    weights: Path | None
    batch: int | None


def _two_stage(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.two_stage.pipeline import TwoStageModel

    return TwoStageModel.from_pretrained(
        options.weights,
        profile=options.profile,
        steps=options.steps,
        device=options.device,
        batch=options.batch,
    )


def _disparity(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.models.disparity import DisparityModel

    return DisparityModel.from_config(options.profile, options.weights)


def _perlin(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.models.perlin import PerlinModel

    return PerlinModel.from_config(options.profile, options.weights)


def _gaussian(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.models.gaussian import GaussianModel

    return GaussianModel.from_config(options.profile, options.weights)


def _active_dr(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.models.active_dr import ActiveDrModel

    return ActiveDrModel.from_config(options.profile, options.weights)


def _depth_anything(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.models.depth_anything import DepthAnythingModel

    return DepthAnythingModel.from_folder(options.weights, options.profile, options.device)


def _unidepth(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.models.unidepth import UniDepthModel

    return UniDepthModel.from_folder(options.weights, options.profile, options.device)


def _none(options: ModelOptions) -> DepthModel:
    from realdiff_enhancer.models.none import NoneModel

    return NoneModel()


def _learned(name: str) -> Callable[[ModelOptions], DepthModel]:
    """A model that `train` makes from its configuration and that has no shipped weights."""

    def make(options: ModelOptions) -> DepthModel:
        if options.weights is None:
            raise ConfigError(
                f"the model {name!r} has no shipped weights",
                expected="a folder that `ros2 run realdiff_enhancer train` wrote",
                got="none",
                next_step=f"train it with config/enhancer/{_TRAINED[name][0]} and give its folder as the weights",
            )
        model = _two_stage(options)
        model.name = name
        return model

    return make


# Baselines and ablations that are trained like `two_stage`: configuration and description.
_TRAINED = {
    "e2e": ("ablations/e2e.yaml", "baseline: one diffusion stage"),
    "without_fgs": ("ablations/without_fgs.yaml", "ablation: no frequency-guided supervision"),
    "without_dgo": ("ablations/without_dgo.yaml", "ablation: no discrepancy-guided optimisation"),
    "high_pass": ("ablations/high_pass.yaml", "ablation: the literal high-pass filter in the frequency guidance"),
    "controlnet": ("baselines/controlnet.yaml", "baseline: one diffusion stage with ControlNet conditioning"),
    "pix2pix": ("baselines/pix2pix.yaml", "baseline: conditional GAN with L1"),
    "gan": ("baselines/gan.yaml", "baseline: GAN with adaptive kernels, attention and R1"),
}

_MODELS: dict[str, tuple[Callable[[ModelOptions], DepthModel], str]] = {
    "two_stage": (_two_stage, "coarse-to-fine diffusion learned from real pairs"),
    "disparity": (_disparity, "correlated sub-pixel noise, quantisation, edges and holes; no learning, real time"),
    "perlin": (_perlin, "multi-octave gradient noise in disparity"),
    "gaussian": (_gaussian, "independent Gaussian noise in disparity, so that it grows as z²"),
    "active_dr": (_active_dr, "domain randomisation: noise and holes of random size in every frame"),
    "none": (_none, "leaves the depth bit-identical"),
    "depth_anything": (_depth_anything, "baseline: depth predicted from colour (local weights)"),
    "unidepth": (_unidepth, "baseline: depth predicted from colour and intrinsics (local weights)"),
    **{name: (_learned(name), description) for name, (_, description) in _TRAINED.items()},
}


# Models without a network: they run in NumPy on the CPU.
_ANALYTIC = frozenset({"none", "gaussian", "perlin", "disparity", "active_dr"})


def has_network(name: str) -> bool:
    """Whether a model evaluates a network, so that a GPU helps."""
    return name not in _ANALYTIC


def samples_in_steps(name: str) -> bool:
    """Whether the number of sampling steps of a model can be chosen; GANs among the trained models allow 1 only."""
    return name == DEFAULT_MODEL or name in _TRAINED


def model_names() -> list[str]:
    """Names that `create_model` knows, the default first."""
    return list(_MODELS)


def model_descriptions() -> dict[str, str]:
    """One line for the user about each model."""
    return {name: description for name, (_, description) in _MODELS.items()}


def create_model(
    name: str,
    *,
    profile: CameraProfile,
    steps: int | None = None,
    device: str = "auto",
    weights: Path | None = None,
    batch: int | None = None,
) -> DepthModel:
    """Makes the model called `name`.

    Args:
        name: One of `model_names()`.
        profile: Camera whose noise is imitated: baseline, range, disparity step.
        steps: Sampling steps a stage; None for the model's own default. Ignored by models that don't sample.
        device: A name that `models.device.pick_device` knows. Ignored by models that run in NumPy.
        weights: Folder of learned weights, or an analytic model's parameter file; None for what the package ships.
        batch: Frames that a GPU sees together: 1 where each is waited for; None for as many as suit recordings.
            Ignored on a CPU and by models that don't sample.

    Raises:
        ConfigError: The name is unknown, or the model's parameters or weights don't fit.
    """
    entry = _MODELS.get(name)
    if entry is None:
        raise ConfigError(
            "unknown enhancer model",
            expected=f"one of {', '.join(_MODELS)}",
            got=repr(name),
            next_step="choose one of these as the model",
        )
    return entry[0](ModelOptions(profile, steps, device, weights, batch))

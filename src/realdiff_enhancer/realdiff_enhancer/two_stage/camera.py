"""What a camera profile has to do with a trained model: whether they go together, and what it asks for."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import ValidationError
from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError

from .config import CameraSetting, StyleConfig, TwoStageConfig

#: Relative difference between a profile's baseline and the weights' that calibrations of one camera may have.
_BASELINE_TOLERANCE = 0.02


def check_camera(folder: Path, config: TwoStageConfig, profile: CameraProfile) -> None:
    """Refuses a profile of another camera than the weights'.

    The baseline tells cameras apart: the noise is disparity, so with another baseline its size in depth would be wrong.
    The range isn't compared: a camera's resolution and preset change it.

    Raises:
        ConfigError: see above.
    """
    trained, wanted = config.codec.baseline_m, profile.baseline_m
    if not math.isclose(trained, wanted, rel_tol=_BASELINE_TOLERANCE):
        raise ConfigError(
            "the weights were made for another camera than the profile's",
            where=str(folder),
            expected=f"weights for a baseline of {wanted * 1e3:g} mm (camera profile {profile.name!r})",
            got=f"weights for a baseline of {trained * 1e3:g} mm (codec.baseline_m in config.json)",
            next_step="give the profile of the camera that the weights were made for (--profile d435 for the shipped "
            "ones), or make weights for this camera with fit_camera",
        )


def profile_setting(profile: CameraProfile, style: StyleConfig | None = None) -> CameraSetting:
    """What a camera profile says under `noise.two_stage`, over a model's own style.

    Raises:
        ConfigError: the profile has an unknown key or a wrong value.
    """
    own = {} if style is None else style.model_dump()
    try:
        return CameraSetting.model_validate({**own, **profile.noise.get("two_stage", {})})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["noise", "two_stage", *map(str, first["loc"])])
        raise ConfigError(
            "wrong setting of the camera",
            where=f"camera profile {profile.name!r}, key {key}",
            expected=f"{first['msg']}; keys: {', '.join(CameraSetting.model_fields)}",
            got=repr(first.get("input")),
            next_step=f"correct {key!r} in the camera profile",
        ) from error


def for_profile(config: TwoStageConfig, profile: CameraProfile) -> TwoStageConfig:
    """The settings of a model for a camera profile: its style, and its depth stream.

    Raises:
        ConfigError: see `profile_setting`.
    """
    config = on_stream(config, profile_setting(profile).stream_fx_px)
    setting = profile_setting(profile, config.style)
    style = StyleConfig.model_validate(setting.model_dump(include=set(StyleConfig.model_fields)))
    return config.model_copy(update={"style": style})


def on_stream(config: TwoStageConfig, fx_px: float | None = None, baseline_m: float | None = None) -> TwoStageConfig:
    """The settings of a model for another depth stream than the one it was trained on.

    The noise takes the stream's pixel grid and steps of disparity, and keeps its size in inverse depth: a finer stream
    has finer noise, but hardly weaker (how that is known: docs/results/enhancer, "The grid of the depth stream").

    Args:
        config: settings as trained.
        fx_px: focal length of the stream [px]; None keeps the model's own.
        baseline_m: its baseline [m]; None keeps the model's own.
    """
    trained = config.codec
    codec = trained.model_copy(
        update={"native_fx_px": fx_px or trained.native_fx_px, "baseline_m": baseline_m or trained.baseline_m}
    )
    ratio = codec.disparity_factor / trained.disparity_factor
    scaled = {"scale_px": trained.scale_px * ratio, "limit_px": trained.limit_px * ratio}
    style = config.style.model_copy(update={"sigma_px": config.style.sigma_px * ratio})
    return config.model_copy(update={"codec": codec.model_copy(update=scaled), "style": style})

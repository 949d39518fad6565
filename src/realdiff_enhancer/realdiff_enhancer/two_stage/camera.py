"""What a camera profile has to do with a trained model: whether they go together, and the style that it asks for."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import ValidationError
from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError

from .config import StyleConfig, TwoStageConfig

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


def profile_style(profile: CameraProfile, config: TwoStageConfig) -> StyleConfig:
    """The style that a camera profile asks for: `noise.two_stage` over the model's own.

    Raises:
        ConfigError: the profile has an unknown key or a wrong value.
    """
    changes = profile.noise.get("two_stage", {})
    try:
        return StyleConfig.model_validate({**config.style.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["noise", "two_stage", *map(str, first["loc"])])
        raise ConfigError(
            "wrong style of the camera",
            where=f"camera profile {profile.name!r}, key {key}",
            expected=f"{first['msg']}; keys: {', '.join(StyleConfig.model_fields)}",
            got=repr(first.get("input")),
            next_step=f"correct {key!r} in the camera profile",
        ) from error

"""Typed configuration: YAML files checked when they are read; the camera profiles that all packages share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from realdiff_core.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of configuration models: unknown keys are errors, values don't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class StreamProfile(Strict):
    """One image stream of a camera."""

    width: int = Field(gt=0, description="px")
    height: int = Field(gt=0, description="px")
    hfov_deg: float = Field(gt=0, lt=180, description="horizontal field of view [°]")
    rate_hz: float = Field(default=30.0, gt=0, description="frames per second [Hz]")


class CameraProfile(Strict):
    """A depth camera: geometry and the parameters of its noise (config/cameras/*.yaml)."""

    name: str = Field(min_length=1)
    description: str = ""
    baseline_m: float = Field(gt=0, description="distance between the stereo imagers [m]")
    near_m: float = Field(gt=0, description="nearest measurable distance [m]")
    far_m: float = Field(gt=0, description="farthest distance that the noise model covers [m]")
    disparity_step_px: float = Field(gt=0, description="quantisation of the disparity [px]")
    depth: StreamProfile
    colour: StreamProfile
    colour_from_depth_m: tuple[float, float, float] = Field(
        description="takes points of the depth optical frame to the colour optical frame, axes parallel [m]"
    )
    noise: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="parameters of the noise models, by model name; each model checks its own"
    )

    @model_validator(mode="after")
    def _range(self) -> CameraProfile:
        if self.far_m <= self.near_m:
            raise ValueError(f"far_m ({self.far_m}) must be greater than near_m ({self.near_m})")
        return self


def load_yaml(path: str | Path, model: type[Model]) -> Model:
    """Read a YAML file into a configuration model.

    Raises:
        ConfigError: The file is missing, isn't YAML, or doesn't fit the model; names file, key, expected and got.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("configuration file is missing", where=path, next_step="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("configuration file can't be read", where=path, got=str(error)) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError("configuration file isn't valid YAML", where=path, got=str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(
            "configuration file has the wrong form", where=path, expected="keys and values", got=repr(content)[:80]
        )
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        first = problems[0]
        key = ".".join(map(str, first["loc"])) or "(file)"
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        fields = ", ".join(model.model_fields)
        unknown_key = first["type"] == "extra_forbidden" and len(first["loc"]) == 1
        raise ConfigError(
            f"configuration is invalid{more}",
            where=f"{path}, key {key}",
            expected=f"one of: {fields}" if unknown_key else first["msg"],
            got="nothing" if first["type"] == "missing" else repr(first["input"]),
            next_step=f"correct `{key}` in {path.name}",
        ) from error


def user_config_folder() -> Path:
    """Return the user's own folder: fitted camera profiles (cameras/), their weights (weights/), their cards."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "realdiff"


def config_folders() -> list[Path]:
    """Return the folders in which configuration is looked for, in order."""
    folders = []
    if override := os.environ.get("REALDIFF_CONFIG_DIR"):
        folders.append(Path(override))
    folders.append(user_config_folder())
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders += [Path(prefix) / "share" / "realdiff" / "config" for prefix in prefixes if prefix]
    folders.append(Path(__file__).resolve().parents[3] / "config")  # the source tree
    return folders


def find_config(name: str) -> Path:
    """Return the path of a configuration file, e.g. ``cameras/d435.yaml``.

    An existing path is returned as it is; otherwise REALDIFF_CONFIG_DIR, the user's folder (~/.config/realdiff), the
    installed share/realdiff/config and the source tree are searched in that order.

    Raises:
        ConfigError: No such file; lists what there is.
    """
    if Path(name).is_file():
        return Path(name)
    folders = config_folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    kind = Path(name).parent
    available = sorted({path.name for folder in folders for path in (folder / kind).glob("*.yaml")})
    raise ConfigError(
        "configuration file is not found",
        where=name,
        expected=f"one of {kind}/: {', '.join(available)}" if available else f"a file in {folders}",
        next_step="set REALDIFF_CONFIG_DIR to the folder that holds it, or give its path",
    )


def camera_profile(name: str) -> CameraProfile:
    """Load a camera profile by its name (``d435``) or by the path of its file."""
    return load_yaml(_named(name, "cameras"), CameraProfile)


def _named(name: str, folder: str) -> Path:
    return find_config(name if name.endswith((".yaml", ".yml")) else f"{folder}/{name}.yaml")

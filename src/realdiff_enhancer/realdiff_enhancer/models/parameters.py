"""Parameter files of the models that are not trained here.

`config/models/NAME.yaml` has the values for an ordinary D435; the camera profile's `noise.NAME` replaces some of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile, find_config, load_yaml
from realdiff_core.errors import ConfigError

__all__ = ["Parameters", "load_parameters"]


class Parameters(BaseModel):
    """Base of an analytic model's parameters: fixed once read, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference_fx_px: float = Field(gt=0, description="focal length of the images to which values in pixels refer [px]")

    def scale(self, camera: CameraModel) -> float:
        """Pixels of this camera's image per pixel of the reference.

        A camera measures on its own pixel grid; images of another resolution show the same errors in larger or smaller
        pixels.
        """
        return camera.fx / self.reference_fx_px


ParametersT = TypeVar("ParametersT", bound=BaseModel)


def load_parameters(
    model: type[ParametersT], name: str, profile: CameraProfile, path: Path | None = None
) -> ParametersT:
    """Reads the parameters of the model `name` for a camera profile.

    Args:
        model: Class of the parameters.
        name: Name of the model; the file is `config/models/NAME.yaml`.
        profile: Camera profile; its `noise` says what differs from the file.
        path: Another file to read instead.

    Raises:
        ConfigError: The file is absent, is not valid YAML or has a wrong value; or the profile has one.
    """
    source = path if path is not None else find_config(f"models/{name}.yaml")
    parameters = load_yaml(source, model)
    changes = profile.noise.get(name)
    if not changes:
        return parameters
    try:
        return model.model_validate({**parameters.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["noise", name, *map(str, first["loc"])])
        raise ConfigError(
            f"wrong parameter of the model {name!r}",
            where=f"camera profile {profile.name!r}, key {key}",
            expected=first["msg"],
            got=repr(first.get("input")),
            next_step=f"correct {key!r} in the camera profile",
        ) from error

"""What every depth enhancer model has in common: its input, its output and its interface.

A model corrupts clean depth so that it looks measured. It sees consecutive frames of one stream, and the result for a
frame depends only on that frame, its seed and the seeds of the frames before it: never on how frames were grouped into
batches.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel
from realdiff_core.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from realdiff_core.camera import CameraModel

__all__ = ["DepthFrames", "DepthModel", "EnhancedFrames", "model_settings", "require_colour", "settings_sha256"]


@dataclass(frozen=True)
class DepthFrames:
    """Consecutive frames of one depth stream.

    Attributes:
        depth: float32 [N,H,W], metres along the optical axis, NaN where invalid.
        colour: uint8 [N,H,W,3] RGB, registered to the depth pixels, or None.
        camera: Intrinsics of the depth image; `baseline_m` is set (from the camera profile).
        seeds: One 64-bit seed for each of the N frames.
        previous_seeds: Seeds of up to `model.history` frames before the first one, oldest first. They make the noise
            continue from frame to frame; empty at the start of a stream.
        stream_seed: 64-bit seed of what all frames of the stream have in common (`realdiff_core.seeds.stream_seed`);
            needed by models whose noise has a fixed part.

    Raises:
        ValueError: An array has the wrong shape or type, or the seeds don't match the frames.
    """

    depth: NDArray[np.float32]
    colour: NDArray[np.uint8] | None
    camera: CameraModel
    seeds: tuple[int, ...]
    previous_seeds: tuple[int, ...] = ()
    stream_seed: int | None = None

    def __post_init__(self) -> None:
        """Checks shapes and types once, so that no model has to."""
        if self.depth.ndim != 3 or self.depth.dtype != np.float32:
            raise ValueError(f"depth must be float32 [N,H,W], got {self.depth.dtype} {list(self.depth.shape)}")
        if len(self.seeds) != len(self.depth):
            raise ValueError(f"expected {len(self.depth)} seeds, one a frame, got {len(self.seeds)}")
        if self.colour is not None and (self.colour.shape != (*self.depth.shape, 3) or self.colour.dtype != np.uint8):
            raise ValueError(
                f"colour must be uint8 {[*self.depth.shape, 3]}, got {self.colour.dtype} {list(self.colour.shape)}"
            )


@dataclass(frozen=True)
class EnhancedFrames:
    """What a model made of a `DepthFrames`.

    Attributes:
        depth: float32 [N,H,W], metres, NaN = hole. A pixel that the model leaves alone keeps its exact value.
        coarse: float32 [N,H,W], metres: clean depth + the coarse (structural) part of the error; None if the model has
            no such part.
        discrepancy: float32 [N,H,W] in [0,1]: where the model expects to be unlike the clean depth; None if unknown.
    """

    depth: NDArray[np.float32]
    coarse: NDArray[np.float32] | None = None
    discrepancy: NDArray[np.float32] | None = None


@runtime_checkable
class DepthModel(Protocol):
    """A model that enhances clean depth.

    Attributes:
        name: Name in the registry, written into the provenance.
        history: How many seeds of earlier frames the model uses (0: frames are independent).
        weights_sha256: Hash of the learned weights, hexadecimal, or None for a model without weights.
        uses_colour: The model makes use of `DepthFrames.colour`.

    A model on a GPU may have three things more: `preferred_batch`, the frames that it computes together, since fewer
    take as long; `begin(frames)`, which starts to compute and returns a function that waits for the depth alone: the
    caller can begin with the next frames meanwhile; and `empty(shape)`, an array for the depth of these frames.
    """

    name: str
    history: int
    weights_sha256: str | None
    uses_colour: bool

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Returns the enhanced frames; `frames` and its arrays are not changed."""
        ...


def model_settings(model: DepthModel) -> dict[str, Any]:
    """What decides on a model's results besides weights, steps, device and camera profile; values as JSON has them.

    A model with learned weights says it in its property `settings`; an analytic one has it in its `parameters`.
    """
    settings: dict[str, Any] | None = getattr(model, "settings", None)
    if settings is not None:
        return settings
    parameters = getattr(model, "parameters", None)
    return {"parameters": parameters.model_dump(mode="json")} if isinstance(parameters, BaseModel) else {}


def settings_sha256(model: DepthModel) -> str | None:
    """Hash of `model_settings`, hexadecimal; None for a model that has none."""
    settings = model_settings(model)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest() if settings else None


def require_colour(frames: DepthFrames, model: str) -> NDArray[np.uint8]:
    """The frames' colour, for a model that can't do without; who called the model adds topic or folder to the error.

    Args:
        frames: The frames.
        model: Name of the model, for the message.

    Returns:
        uint8 [N,H,W,3] RGB, registered to the depth pixels.

    Raises:
        ImageError: The frames have no colour.
    """
    if frames.colour is None:
        raise ImageError(
            f"the model {model!r} needs a colour image for every depth image",
            expected="colour of the same optical frame and size as the depth",
            got="depth alone",
            next_step="bags: enhance only depth that is aligned to colour (--topics); "
            "pairs: put colour/NNNNNN.png beside clean/; live topics come without colour",
        )
    return frames.colour

"""Where depth comes from, and the guard against adding noise twice.

A bag's provenance is JSON under the key ``realdiff.provenance`` of rosbag2's ``custom_data``. It holds no wall-clock
time: the same seed gives the same bytes.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from realdiff_core import __version__
from realdiff_core.errors import ProvenanceError

KEY = "realdiff.provenance"


class DepthKind(str, Enum):
    """Origin of a depth stream."""

    CLEAN_SIM = "clean_sim"  # rendered by a simulator, without sensor noise
    ENHANCED = "enhanced"  # clean depth corrupted by an enhancer model
    SENSOR = "sensor"  # measured by a real depth camera
    STEREO_SIM = "stereo_sim"  # simulated stereo sensor, the stand-in for a real camera

    def __str__(self) -> str:
        """Return the kind's name."""
        return self.value

    @property
    def msg_value(self) -> int:
        """The constant of realdiff_msgs/Provenance for this kind."""
        return {"clean_sim": 1, "enhanced": 2, "sensor": 3, "stereo_sim": 4}[self.value]


class EnhancementRecord(BaseModel):
    """How depth was enhanced: enough to do it again.

    Attributes:
        model: Name of the enhancer model.
        weights_sha256: Hash of its learned weights, hexadecimal; None for a model without weights.
        settings_sha256: Hash of everything else that the model's results follow from, such as its parameters or what
            evaluates its networks; None for a model without settings, and in records of earlier versions.
        profile: Name of the camera profile.
        seed: Seed of the noise.
        steps: Sampling steps a stage; None for a model that doesn't sample.
        draw: Number of the output.
        history: How many earlier frames a frame's noise depends on.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str
    weights_sha256: str | None = None
    settings_sha256: str | None = None
    profile: str
    seed: int = Field(ge=0, lt=1 << 64)
    steps: int | None = None
    draw: int = Field(default=0, ge=0)
    history: int = Field(default=0, ge=0)


class BagProvenance(BaseModel):
    """What an episode bag says about its own origin."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format_version: Literal[1] = 1
    depth: dict[str, DepthKind]
    source: Literal["simulation", "hardware", "imported"]
    task: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=1 << 64)
    simulator: str | None = None
    camera_profile: str | None = None
    success: bool | None = None
    enhancement: EnhancementRecord | None = None
    software: str = f"realdiff {__version__}"
    notes: dict[str, str] = Field(default_factory=dict)

    def to_json(self) -> str:
        """Return the record as JSON with sorted keys, the same bytes for the same content."""
        import json

        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, where: object = None) -> BagProvenance:
        """Read a record.

        Raises:
            ProvenanceError: The text isn't a provenance record of a known format.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise ProvenanceError(
                "provenance record isn't valid",
                where=where,
                expected="a record of format version 1",
                got=f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}",
                next_step="the bag may come from a newer version of this software: update it",
            ) from error


_NOISY = {
    DepthKind.ENHANCED: "it has been enhanced already",
    DepthKind.SENSOR: "it was measured by a real camera and carries its noise",
    DepthKind.STEREO_SIM: "it comes from the simulated stereo sensor and carries its noise",
}


def check_can_enhance(provenance: BagProvenance | None, topic: str, override: bool = False) -> None:
    """Refuse depth that carries noise already, or of which nothing is known.

    Args:
        provenance: The bag's record; None where it has none.
        topic: Depth image topic.
        override: The expert says that this depth may be enhanced nevertheless.

    Raises:
        ProvenanceError: The topic's depth is noisy or of unknown origin and there is no override.
    """
    if override:
        return
    kind = provenance.depth.get(topic) if provenance else None
    if kind is DepthKind.CLEAN_SIM:
        return
    reason = "nothing is known about its origin" if kind is None else _NOISY[kind]
    raise ProvenanceError(
        f"depth must not be enhanced: {reason}",
        where=topic,
        expected=f"provenance {DepthKind.CLEAN_SIM}",
        got=f"provenance {kind or 'unknown'}",
        next_step="enhance the clean simulated bag; an expert who knows better can override the guard",
    )

"""What an enhancement is to do, and what of it decides on the bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdiff_core.bag import BagReader, Compression, Storage
from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError
from realdiff_core.provenance import BagProvenance, DepthKind, EnhancementRecord

from realdiff_core import __version__
from realdiff_enhancer.models.base import model_settings, settings_sha256
from realdiff_enhancer.models.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from realdiff_enhancer.models.base import DepthModel

__all__ = ["JOB_NOTE", "EnhanceOptions", "describe_job", "enhanced_provenance", "is_output_of", "job_hash"]

JOB_NOTE = "enhancement_job"
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class EnhanceOptions:
    """Options of the bag enhancer.

    Args:
        model: Name of the model.
        seed: Seed of the noise.
        steps: Sampling steps a stage; None for the model's default.
        draws: Number of differently seeded outputs.
        topics: Depth topics; empty for all.
        batch: Frames that the model gets at once, or more where a GPU computes more together. Never changes the result.
        storage: Storage of the output; None for the input's.
        compression: Compression of the output.
        override_provenance: Enhance depth that carries noise already, or whose origin is unknown.
        resume: Continue an interrupted run; outputs that are complete are left as they are.
        overwrite: Replace outputs that exist, and forget an interrupted run.

    Raises:
        ConfigError: A value is out of range.
    """

    model: str = DEFAULT_MODEL
    seed: int = 0
    steps: int | None = None
    draws: int = 1
    topics: tuple[str, ...] = ()
    batch: int = 8
    storage: Storage | None = None
    compression: Compression = "none"
    override_provenance: bool = False
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value, low, high in (
            ("seed", self.seed, 0, 2**64 - 1),
            ("steps", self.steps, 1, 1000),
            ("draws", self.draws, 1, 255),
            ("batch", self.batch, 1, 1024),
        ):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is out of range", expected=f"{low} … {high}", got=value)
        if self.resume and self.overwrite:
            raise ConfigError("an interrupted run can't be continued and forgotten", next_step="choose one of them")


def describe_job(
    reader: BagReader, topics: list[str], model: DepthModel, profile: CameraProfile, options: EnhanceOptions
) -> dict[str, object]:
    """Everything that decides on the bytes of the enhanced frames, as JSON has it.

    Batch size, storage and the paths of input and output are not in it: they don't change a frame. The device is:
    networks round differently on a GPU.
    """
    return {
        "input": _identity(reader),
        "topics": topics,
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "settings": model_settings(model),
        "steps": getattr(model, "steps", options.steps),
        "device": str(getattr(model, "device", "cpu")),
        "profile": profile.model_dump(mode="json"),
        "seed": options.seed,
        "draws": options.draws,
        "software": __version__,
    }


def job_hash(job: dict[str, object]) -> str:
    """Hash of a job's description, hexadecimal."""
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:32]


def _identity(reader: BagReader) -> str:
    """Hash of a bag: metadata, and size, beginning and end of its files.

    Not of every byte: reading 50 GB would take longer than many an enhancement.
    """
    digest = hashlib.sha256()
    path = reader.path
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def enhanced_provenance(
    before: BagProvenance | None, job: dict[str, Any], model: DepthModel, options: EnhanceOptions, draw: int
) -> BagProvenance:
    """Provenance of an output.

    Args:
        before: The input's; None where it has none.
        job: Description of the job.
        model: The model.
        options: The options.
        draw: Number of the output.
    """
    record = EnhancementRecord(
        model=model.name,
        weights_sha256=model.weights_sha256,
        settings_sha256=settings_sha256(model),
        profile=job["profile"]["name"],
        seed=options.seed,
        steps=job["steps"],
        draw=draw,
        history=model.history,
    )
    base = before or BagProvenance(depth={}, source="imported")
    return base.model_copy(
        update={
            "depth": {**base.depth, **dict.fromkeys(job["topics"], DepthKind.ENHANCED)},
            "camera_profile": record.profile,
            "enhancement": record,
            "notes": {**base.notes, JOB_NOTE: job_hash(job)},
        }
    )


def is_output_of(path: Path, job: dict[str, object], draw: int) -> bool:
    """Whether a bag is the complete output of this job."""
    with BagReader(path, allow_empty=True) as reader:
        found = reader.provenance()
    return (
        found is not None
        and found.enhancement is not None
        and found.enhancement.draw == draw
        and found.notes.get(JOB_NOTE) == job_hash(job)
    )

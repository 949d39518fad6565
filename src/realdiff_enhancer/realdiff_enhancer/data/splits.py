"""Which scenes may be trained on: fixed in ``config/enhancer/splits.yaml`` and enforced frame by frame.

A held-out scene is known by its frames: a digest of each recorded depth image. A pack or pair folder that was renamed,
cut or mixed with others is still recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from realdiff_core.config import Strict, find_config, load_yaml
from realdiff_core.errors import ConfigError

from realdiff_enhancer.data.pairs import PairPack

SPLITS_FILE = "enhancer/splits.yaml"
#: Licence of packs that were made of held-out scenes on purpose, for a private experiment.
PRIVATE = "private experiment: not for shipping, not for reported results"


class TrainingScene(Strict):
    """A scene that shipped weights may be trained on."""

    name: str
    licence: str
    description: str = ""


class HeldOutScene(Strict):
    """A scene that only `evaluate` and `statistics` look at.

    Attributes:
        name: name in tables.
        profile: camera that recorded it.
        description: what it shows.
        frames: digests of its recorded depth images (see :func:`frame_digest`), separated by spaces in the file.
    """

    name: str
    profile: str = ""
    description: str = ""
    frames: frozenset[str] = Field(min_length=1)

    @field_validator("frames", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value


class Splits(Strict):
    """The split of all real scenes."""

    train: tuple[TrainingScene, ...] = ()
    held_out: tuple[HeldOutScene, ...] = ()

    def scenes_of(self, digests: Iterable[str]) -> dict[str, int]:
        """Count frames of held-out scenes: numbers by scene name, only scenes that occur."""
        found: dict[str, int] = {}
        for digest in digests:
            for scene in self.held_out:
                if digest in scene.frames:
                    found[scene.name] = found.get(scene.name, 0) + 1
        return found


def load_splits() -> Splits:
    """Read the project's split.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    return load_yaml(find_config(SPLITS_FILE), Splits)


def frame_digest(depth_mm: NDArray[np.uint16]) -> str:
    """Digest of a recorded depth image, uint16 [H, W] in mm, 0 (or 65535) = hole: eight hexadecimal digits."""
    image = np.where(depth_mm == 65535, 0, depth_mm)
    return hashlib.sha256(np.ascontiguousarray(image, dtype="<u2").tobytes()).hexdigest()[:8]


def refuse_held_out(pack: PairPack, splits: Splits | None = None, *, where: object = None) -> None:
    """Refuse a pack with frames of held-out scenes, unless it is marked as a private experiment.

    Args:
        pack: pairs that are to be trained on.
        splits: the split; the project's by default.
        where: file, for the message.

    Raises:
        ConfigError: it holds such frames.
    """
    if pack.licence.startswith(PRIVATE):
        return
    found = (splits or load_splits()).scenes_of(frame_digest(image) for image in pack.noisy_mm)
    if found:
        raise ConfigError(
            "held-out scenes must not be trained on",
            where=where or pack.source,
            expected=f"no frame of a scene that {SPLITS_FILE} holds out",
            got=", ".join(f"{count} frames of {name}" for name, count in sorted(found.items())),
            next_step="train on other scenes; for a private experiment pack them with pack_pairs --private-experiment",
        )

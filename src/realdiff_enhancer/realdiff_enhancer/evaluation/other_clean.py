"""A lower bound for every model: the camera's own error of the same frame, put on clean depth that is not its own.

Clean depth is made, not known: two ways of making it for the same frames differ by errors of registration and fusion.
No model knows those of the pairs that it is measured on. Here nothing else differs: draw and holes are the recorded
ones, so a model that imitated the camera perfectly, but drew anew, would be farther away in all that compares single
frames (Chamfer distance, holes) and in the Fréchet distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError

from realdiff_enhancer.evaluation.pairs import Scene
from realdiff_enhancer.evaluation.runner import seeds_of
from realdiff_enhancer.models.base import DepthFrames, EnhancedFrames

#: Its row in the tables.
OTHER_CLEAN = "other_clean"
#: Pixels that both folders must have of the same recorded image: one may leave out what is too far away.
_SHARED = 0.9


@dataclass
class OtherCleanModel:
    """Gives every frame of a scene the error that the camera has against the clean depth of another scene.

    Attributes:
        scene: the pairs that models are measured on.
        other: pairs of the same recording with clean depth made otherwise.
        frames: index in `scene` and in `other` by the seed of a frame.
    """

    scene: Scene
    other: Scene
    frames: dict[int, tuple[int, int]]
    name: str = OTHER_CLEAN
    history: int = 0
    uses_colour: bool = False
    weights_sha256: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The data that it takes the errors from."""
        return {"pairs": self.other.digest()}

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Clean depth of a frame with the camera's error in disparity; see the module.

        Where the other clean depth is unknown there is no error to take: the recorded depth stays as it is, which comes
        nearer to the camera than any model could.
        """
        return EnhancedFrames(
            np.stack([self._one(depth, seed, frames) for depth, seed in zip(frames.depth, frames.seeds, strict=True)])
        )

    def _one(self, clean: NDArray[np.float32], seed: int, frames: DepthFrames) -> NDArray[np.float32]:
        index, theirs = self.frames[seed]
        recorded, other = self.scene.noisy(index), self.other.clean(theirs)
        factor = np.float32(frames.camera.disparity_factor)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = factor / (factor / clean + factor / recorded - factor / other)
        return np.where(moved > 0, moved, recorded)  # NaN: one of the three is unknown


def common_frames(scene: Scene, other: Scene, seed: int) -> tuple[Scene, OtherCleanModel]:
    """The frames of a scene that another folder of pairs has as well, and the model of their errors.

    Args:
        scene: the pairs that models are measured on.
        other: the other folder; its camera must be the same.
        seed: of the evaluation.

    Raises:
        ConfigError: another camera or recording, or too few frames in common.
    """
    theirs = {frame.number: index for index, frame in enumerate(other.frames)}
    frames = tuple(frame for frame in scene.frames if frame.number in theirs)
    if len(frames) < 4:
        raise ConfigError(
            "the two folders of pairs have too few frames in common",
            where=other.folder,
            expected="the frame numbers of the same recording, 4 of them or more",
            got=f"{len(frames)} of {len(scene.frames)}",
            next_step="make pairs of the same recording (make_pairs keeps its frame numbers)",
        )
    kept = replace(scene, frames=frames)
    for index, frame in enumerate(frames):
        if not _same_recording(kept.noisy(index), other.noisy(theirs[frame.number])):
            raise ConfigError(
                "the two folders of pairs are not of the same recording",
                where=other.folder,
                expected=f"the recorded depth of {scene.folder}",
                got=f"another image for frame {frame.number}",
                next_step="make pairs of the same recording",
            )
    seeds = [seeds_of(frame, seed, 0)[0] for frame in frames]
    pairs = [(index, theirs[frame.number]) for index, frame in enumerate(frames)]
    return kept, OtherCleanModel(kept, other, dict(zip(seeds, pairs, strict=True)))


def _same_recording(recorded: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two recorded images are equal, some pixels apart that one of the folders leaves out."""
    if recorded.shape != other.shape:
        return False
    both = np.isfinite(recorded) & np.isfinite(other)
    either = np.isfinite(recorded) | np.isfinite(other)
    return bool(both.sum() >= _SHARED * either.sum() and np.array_equal(recorded[both], other[both]))


def parse_other_clean(texts: Sequence[str], scenes: Sequence[str]) -> dict[str, Path]:
    """Read ``--other-clean``: the folder for each scene named.

    Raises:
        ConfigError: an argument is not of the form ``NAME=DIR``, or there is no such scene.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if name not in scenes or not folder or name in folders:
            raise ConfigError(
                "other clean depth belongs to no scene",
                where=f"--other-clean {text}",
                expected=f"NAME=DIR, once for each scene, with NAME one of {', '.join(scenes)}",
            )
        folders[name] = Path(folder)
    return folders

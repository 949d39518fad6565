"""What a perfect imitation of the camera would score: the camera's own error, put on clean depth that is not its own.

Clean depth is made, not known: two ways of making it for the same frames differ by errors of registration and fusion.
No model knows those of the pairs that it is measured on, so none can be expected to come nearer to the camera than the
camera's own error does that was measured against other clean depth.
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


@dataclass
class OtherCleanModel:
    """Gives every frame of a scene the error that the camera has against the clean depth of another scene.

    Attributes:
        scene: pairs of the same recording with clean depth made otherwise.
        seed: of the evaluation, which tells the frames.
        frames: index in `scene` by the seed of the frame.
    """

    scene: Scene
    seed: int
    frames: dict[int, int]
    name: str = OTHER_CLEAN
    history: int = 0
    uses_colour: bool = False
    weights_sha256: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The data that it takes the errors from."""
        return {"pairs": self.scene.digest()}

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Clean depth of a frame with the camera's error in disparity; see the module.

        Where the other clean depth is unknown there is no error to take: the recorded depth stays as it is, which comes
        nearer to the camera than any model could.
        """
        return EnhancedFrames(
            np.stack([self._one(depth, seed, frames) for depth, seed in zip(frames.depth, frames.seeds, strict=True)])
        )

    def _one(self, clean: NDArray[np.float32], seed: int, frames: DepthFrames) -> NDArray[np.float32]:
        index = self.frames[seed]
        recorded, other = self.scene.noisy(index), self.scene.clean(index)
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
        if not np.array_equal(kept.noisy(index), other.noisy(theirs[frame.number]), equal_nan=True):
            raise ConfigError(
                "the two folders of pairs are not of the same recording",
                where=other.folder,
                expected=f"the recorded depth of {scene.folder}",
                got=f"another image for frame {frame.number}",
                next_step="make pairs of the same recording",
            )
    indices = {seeds_of(frame, seed, 0)[0]: theirs[frame.number] for frame in frames}
    return kept, OtherCleanModel(other, seed, indices)


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

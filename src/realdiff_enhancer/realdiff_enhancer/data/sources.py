"""One way to make pairs of anything: a moving camera, a camera at rest, or twin captures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from realdiff_core.config import CameraProfile
from realdiff_core.errors import CameraError, RealdiffError

from realdiff_enhancer.data.fusion import FusionConfig
from realdiff_enhancer.data.layouts import Twin, is_clear_grasp, read_twins
from realdiff_enhancer.data.pair_maker import DepthSequence, PairCandidate, PairConfig, make_pairs
from realdiff_enhancer.data.sequence import SequenceOptions, read_sequence
from realdiff_enhancer.defaults import CLEAN_FAR_M, PAIR_WINDOW, VOXEL_M

#: Share of the measured pixels that may be nearer than a camera can measure; more is another camera.
_TOO_NEAR_SHARE = 0.02
_TOO_NEAR = 0.8


@dataclass(frozen=True)
class PairSource:
    """Where pairs come from, read and checked.

    Attributes:
        path: the source.
        K: float64 [3, 3], px.
        frames: number of frames.
        method: "motion", "static" or "twins".
        sequence: frames of the first two methods.
        twins: captures of the third.
        config: fusion of a moving camera.
        clean_far_m: clean depth beyond this is unknown.
        baseline_m: stereo baseline.
    """

    path: Path
    K: npt.NDArray[np.float64]
    frames: int
    method: str
    config: PairConfig
    clean_far_m: float
    baseline_m: float
    sequence: DepthSequence | None = None
    twins: Sequence[Twin] = field(default_factory=tuple)

    @classmethod
    def open(
        cls,
        path: Path,
        options: SequenceOptions,
        profile: CameraProfile,
        *,
        static: bool,
        window: int = PAIR_WINDOW,
        step: int | None = None,
        voxel_m: float = VOXEL_M,
        far_m: float = CLEAN_FAR_M,
    ) -> PairSource:
        """Read a source and check that it can be what it is said to be.

        Args:
            path: bag or folder.
            options: what is read of it.
            profile: camera that recorded it.
            static: the camera is at rest.
            window: frames fused together.
            step: frames from one window to the next; half a window by default.
            voxel_m: side of a voxel.
            far_m: clean depth ends here.

        Raises:
            RealdiffError: nothing usable there, or Open3D is missing.
            CameraError: another camera's profile.
        """
        # Fused a little farther than the clean depth reaches: a cut through the noise would pull the surface nearer.
        fusion = FusionConfig(voxel_m=voxel_m, far_m=far_m * 1.15)
        config = PairConfig(window=window, step=step or max(window // 2, 1), clean_far_m=far_m, fusion=fusion)
        if is_clear_grasp(path):
            if options.colour:
                raise RealdiffError("colour isn't read from twin captures", where=path, next_step="leave --colour out")
            twins = read_twins(path)
            check_profile([twin.noisy_m for twin in twins], profile, path)
            return cls(path, twins[0].matrix, len(twins), "twins", config, far_m, options.baseline_m, twins=twins)
        if not static:
            from realdiff_enhancer.data.open3d_import import import_open3d

            import_open3d()  # before the work, not after it
        sequence = read_sequence(path, options)
        check_profile(sequence.depths_m, profile, path)
        method = "static" if static else "motion"
        return cls(path, sequence.K, len(sequence.depths_m), method, config, far_m, options.baseline_m, sequence)

    def pairs(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[PairCandidate]:
        """Make a pair of every frame, accepted or not; see the makers of the three methods."""
        from realdiff_enhancer.data.static_camera import StaticConfig, make_static_pairs
        from realdiff_enhancer.data.twins import make_twin_pairs

        static = StaticConfig(clean_far_m=self.clean_far_m)
        if self.method == "twins":
            for pair in make_twin_pairs(self.twins, self.baseline_m, static):
                yield pair
                advance(1)
            return
        assert self.sequence is not None
        if self.method == "static":
            yield from make_static_pairs(self.sequence, static, advance)
        else:
            yield from make_pairs(self.sequence, self.config, advance)

    def colour(self, number: int) -> npt.NDArray[np.uint8] | None:
        """Read the colour of a frame, uint8 [H, W, 3] RGB; None where it wasn't asked for."""
        read = self.sequence.colours.get(number) if self.sequence else None
        return read() if read else None

    def nothing_accepted(self, reasons: Mapping[str, int]) -> RealdiffError:
        """The error for a source of which no frame passed the gate; says what is most likely the matter.

        Args:
            reasons: frames by the limit that they exceeded.
        """
        summary = ", ".join(f"{count} × {name}" for name, count in sorted(reasons.items()))
        if reasons.get("coverage", 0) >= 0.8 * self.frames:
            return RealdiffError(
                "the frames don't overlap: hardly a surface is seen by several of them",
                where=self.path,
                expected="a camera that moves slowly over one scene, most of it in view of ten frames or more",
                got=summary,
                next_step="use every frame of a slower recording (--every 1), or check --far and the intrinsics",
            )
        return RealdiffError(
            "no frame passed the gate",
            where=self.path,
            expected="a camera that moves slowly in a static scene, its depth within range",
            got=summary,
            next_step="check the intrinsics; try a smaller --window, or --far and --voxel that suit the scene",
        )


def check_profile(depths_m: Sequence[npt.NDArray[np.floating]], profile: CameraProfile, where: object) -> None:
    """Refuse depth that the profile's camera can't have measured: much of it nearer than its near limit.

    Raises:
        CameraError: another camera, or depth in another unit.
    """
    sample = np.concatenate([depth[::4, ::4].ravel() for depth in depths_m[:: max(1, len(depths_m) // 8)]])
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        raise CameraError("the depth images hold no measurement", where=where, expected="valid depth")
    share = float((sample < _TOO_NEAR * profile.near_m).mean())
    if share > _TOO_NEAR_SHARE:
        raise CameraError(
            "the profile is of another camera",
            where=where,
            expected=f"depth from {profile.near_m:g} m on, as the profile {profile.name} measures",
            got=f"{share:.0%} of it nearer than {_TOO_NEAR * profile.near_m:.2f} m",
            next_step="name the profile of the camera that recorded it (--camera), or the unit of its images (--scale)",
        )

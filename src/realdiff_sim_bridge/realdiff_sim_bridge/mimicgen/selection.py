"""Which source segment to imitate: random, with the nearest object, or with the nearest start of the hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.mimicgen.demonstrations import Segment
from realdiff_sim_bridge.mimicgen.transform import angle, move, relative

Selection = Literal["random", "nearest_object", "nearest_robot_distance"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)


def select(
    selection: Selection,
    segments: Sequence[Segment],
    *,
    reference: Pose,
    symmetry_deg: float,
    hand: Pose,
    upright: Pose,
    neighbours: int,
    random: np.random.Generator,
) -> tuple[Segment, tuple[Pose, ...]]:
    """Chooses a source segment and moves it to where the reference object is now.

    "random" takes any of them; "nearest_object" one of the `neighbours` whose object stood most alike (metres and
    radians added up); "nearest_robot_distance" one of the `neighbours` that, moved, begin nearest to the hand.

    Args:
        selection: The strategy.
        segments: The same subtask of all sources.
        reference: Pose of the reference object now.
        symmetry_deg: Its symmetry.
        hand: Pose of the hand now.
        upright: Orientation that the hand should turn away from as little as possible.
        neighbours: How many of the nearest are drawn from.
        random: Random numbers.

    Returns:
        The segment and its moved poses.
    """
    moved = [_moved(segment, reference, symmetry_deg, upright) for segment in segments]
    if selection == "random":
        chosen = int(random.integers(len(segments)))
    else:
        if selection == "nearest_object":
            distances = [_object_distance(segment.reference, reference, symmetry_deg) for segment in segments]
        else:
            distances = [float(np.linalg.norm(poses[0].position - hand.position)) for poses in moved]
        nearest = np.argsort(distances, kind="stable")[:neighbours]
        chosen = int(nearest[random.integers(len(nearest))])
    return segments[chosen], moved[chosen]


def _object_distance(source: Pose, new: Pose, symmetry_deg: float) -> float:
    turns = [angle(transform, Pose.identity()) for transform in relative(source, new, symmetry_deg)]
    return float(np.linalg.norm(new.position - source.position)) + min(turns)


def _moved(segment: Segment, reference: Pose, symmetry_deg: float, upright: Pose) -> tuple[Pose, ...]:
    """Moves a segment; among the equivalent ways the one during which the hand turns least away from `upright`.

    An object's symmetry and the gripper's own (half a turn) give several ways to do the same; the arm can't do all.
    """
    ways = [
        move(segment.poses, transform, flipped)
        for transform in relative(segment.reference, reference, symmetry_deg)
        for flipped in (False, True)
    ]
    return min(ways, key=lambda poses: max(angle(pose, upright) for pose in (poses[0], poses[len(poses) // 2])))

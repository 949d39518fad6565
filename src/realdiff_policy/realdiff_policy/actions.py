"""Action spaces: how a commanded joint position, hand pose and gripper width become the numbers of an action row."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from realdiff_policy.contract import ActionSpace, FloatArray


def rotation_to_6d(rotation: Rotation) -> FloatArray:
    """The first two columns of the rotation matrix: a representation without jumps (Zhou et al. 2019).

    Args:
        rotation: N rotations.

    Returns:
        float64[N, 6].
    """
    matrix = rotation.as_matrix().reshape(-1, 3, 3)
    return np.asarray(matrix[:, :, :2].transpose(0, 2, 1).reshape(-1, 6))


def rotation_from_6d(numbers: FloatArray) -> Rotation:
    """The rotation whose first two columns are nearest to six numbers, by Gram-Schmidt.

    Args:
        numbers: float64[N, 6]; the two columns need not be orthogonal or of unit length.

    Raises:
        ValueError: A column vanishes, or both are parallel.
    """
    first, second = numbers[:, :3], numbers[:, 3:]
    x = _unit(first)
    y = _unit(second - np.sum(x * second, axis=1, keepdims=True) * x)
    return Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=-1))


def _unit(vectors: FloatArray) -> FloatArray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(length > 1e-6):
        raise ValueError("six numbers describe no rotation: their columns vanish or are parallel")
    return np.asarray(vectors / length)


def action_rows(space: ActionSpace, joints_and_width: FloatArray, hand: FloatArray) -> FloatArray:
    """Action rows of a space.

    Args:
        space: The action space.
        joints_and_width: float64[N, 8]: joints [rad], gripper width [m].
        hand: float64[N, 7]: pose of fr3_hand_tcp in "base", xyz [m] and quaternion xyzw.

    Returns:
        float64[N, 8] for joint_position, float64[N, 10] for end_effector.
    """
    if space == "joint_position":
        return joints_and_width
    rotation = rotation_to_6d(Rotation.from_quat(hand[:, 3:]))
    return np.hstack([hand[:, :3], rotation, joints_and_width[:, 7:]])

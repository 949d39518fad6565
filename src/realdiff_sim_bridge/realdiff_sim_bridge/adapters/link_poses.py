"""Poses of the robot's links at joint positions, for simulators that don't know the URDF's frames."""

from __future__ import annotations

import numpy as np

from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS, TCP_SITE, robot_spec


class LinkPoses:
    """Forward kinematics of the FR3 with its hand.

    Attributes:
        arm_range: Lowest and highest positions of the arm's joints, float64[7] each [rad].
    """

    def __init__(self) -> None:
        """Compiles the robot without its meshes."""
        import mujoco

        self._mujoco = mujoco
        self._model = robot_spec(visuals=False).compile()
        self._data = mujoco.MjData(self._model)
        self._qpos = np.array([self._model.joint(name).qposadr[0] for name in (*ARM_JOINTS, *FINGER_JOINTS)])
        names = [self._model.body(index).name for index in range(self._model.nbody)]
        self._bodies = {name: index for index, name in enumerate(names) if name.startswith("fr3_")}
        limits = np.array([self._model.joint(name).range for name in ARM_JOINTS], dtype=np.float64)
        self.arm_range: tuple[FloatArray, FloatArray] = (limits[:, 0], limits[:, 1])

    def at(self, positions: FloatArray) -> tuple[dict[str, Pose], Pose]:
        """Poses of the links by the URDF's names, and of fr3_hand_tcp, in the frame "base".

        Args:
            positions: float64[9], arm [rad] and fingers [m].
        """
        data = self._data
        data.qpos[self._qpos] = positions
        self._mujoco.mj_kinematics(self._model, data)
        links = {name: Pose.from_wxyz(data.xpos[body], data.xquat[body]) for name, body in self._bodies.items()}
        site = data.site(TCP_SITE)
        return links, Pose.from_rotation(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

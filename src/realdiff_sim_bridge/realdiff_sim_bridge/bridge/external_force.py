"""Forces that act on the simulated arm from outside: what the real robot estimates from its joint torque sensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from realdiff_sim_bridge.adapters.base import Simulator
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, TCP_SITE

_ROBOT = "fr3_"


@dataclass(frozen=True)
class ExternalForce:
    """Contacts of the arm and hand with everything else.

    Attributes:
        force: float64[3], in the frame "base" [N].
        moment: float64[3], about the TCP, in the frame "base" [N·m].
        torques: float64[7], what they amount to at the joints [N·m].
    """

    force: FloatArray
    moment: FloatArray
    torques: FloatArray


NONE = ExternalForce(np.zeros(3), np.zeros(3), np.zeros(7))


def force_sensor(simulator: Simulator) -> Callable[[], ExternalForce]:
    """Returns a function that tells the present external force of a simulator; zero where it can't tell.

    What both fingers do to a held object cancels out but for its weight and inertia, as on the real robot.

    Args:
        simulator: A simulator; contacts are read from those with MuJoCo's `model` and `data`.
    """
    if getattr(simulator, "model", None) is None or getattr(simulator, "data", None) is None:
        return lambda: NONE
    known: list[_MujocoForces] = []

    def measure() -> ExternalForce:
        scene: Any = simulator
        if not known or known[0].model is not scene.model:  # a reset may build the scene anew
            known[:] = [_MujocoForces(scene.model)]
        return known[0].measure(scene.data)

    return measure


class _MujocoForces:
    def __init__(self, model: Any) -> None:
        import mujoco

        self._mujoco = mujoco
        self.model = model
        self._dofs = np.array([model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self._tcp = model.site(TCP_SITE).id
        self._is_robot = np.array(
            [model.body(int(body)).name.startswith(_ROBOT) for body in model.geom_bodyid], dtype=bool
        )

    def measure(self, data: Any) -> ExternalForce:
        force, moment, torques = np.zeros(3), np.zeros(3), np.zeros(7)
        if data.ncon == 0:
            return NONE
        geoms = data.contact.geom
        touching = np.flatnonzero(self._is_robot[geoms[:, 0]] != self._is_robot[geoms[:, 1]])
        local, jacobian = np.zeros(6), np.zeros((3, self.model.nv))
        for index in touching:
            contact = data.contact[int(index)]
            self._mujoco.mj_contactForce(self.model, data, int(index), local)
            # The frame's rows are the contact's axes; the force is what geom 1 does to geom 2.
            world = contact.frame.reshape(3, 3).T @ local[:3]
            robot_is_second = bool(self._is_robot[contact.geom2])
            geom = contact.geom2 if robot_is_second else contact.geom1
            on_robot = world if robot_is_second else -world
            force += on_robot
            moment += np.cross(contact.pos - data.site_xpos[self._tcp], on_robot)
            self._mujoco.mj_jac(self.model, data, jacobian, None, contact.pos, int(self.model.geom_bodyid[geom]))
            torques += jacobian[:, self._dofs].T @ on_robot
        return ExternalForce(force, moment, torques)

"""Controllers that turn a moving tool centre point into joint motion, behind one interface.

`dik` is plain differential inverse kinematics (`realdiff_sim_bridge.kinematics`), `qp` the whole-body quadratic
programme that also stays manipulable (`control.whole_body`).
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from realdiff_core.errors import ConfigError

from realdiff_sim_bridge.geometry import FloatArray, Pose

ControllerName = Literal["dik", "qp"]
CONTROLLERS: tuple[ControllerName, ...] = get_args(ControllerName)


class ArmController(Protocol):
    """Follows a moving tool centre point with the arm's joints.

    It keeps the joints that it commanded last, so that its output is a function of the calls alone.
    """

    def reset(self, joint_positions: FloatArray) -> None:
        """Starts from joint positions, float64[7] [rad]."""
        ...

    @property
    def joint_positions(self) -> FloatArray:
        """float64[7], the joint positions reached by the last step [rad]."""
        ...

    @property
    def tcp(self) -> Pose:
        """Pose of fr3_hand_tcp in "base" at these joint positions."""
        ...

    def step(self, target: Pose, duration_s: float) -> FloatArray:
        """Moves the joints towards a pose of the tool centre point, within joint and velocity limits.

        Args:
            target: Wanted pose of fr3_hand_tcp in "base".
            duration_s: Time until these joints are reached [s].

        Returns:
            float64[7], joint positions [rad].

        Raises:
            RealdiffError: No motion satisfies the limits.
        """
        ...


def create_controller(name: str) -> ArmController:
    """Makes a controller by name.

    Raises:
        ConfigError: There is no such controller.
    """
    if name == "dik":
        from realdiff_sim_bridge.kinematics import ArmKinematics

        return ArmKinematics()
    if name == "qp":
        from realdiff_sim_bridge.control.whole_body import WholeBodyController

        return WholeBodyController()
    raise ConfigError(f"unknown controller '{name}'", expected=" or ".join(CONTROLLERS), got=name)

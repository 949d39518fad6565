"""What the robot may do: configuration (config/robots/*.yaml), the robot's own URDF, and the margins kept to both."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator
from realdiff_core.config import Strict, find_config, load_yaml
from realdiff_core.errors import ConfigError

from realdiff_policy.contract import ARM_JOINTS

FloatArray = NDArray[np.float64]
Seven = Annotated[tuple[float, ...], Field(min_length=7, max_length=7)]
Three = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


class VelocityEnvelope(Strict):
    """Velocity limits that shrink towards the ends of a joint: offset + sqrt(gain · (end − position)) [rad/s]."""

    offset: Seven
    gain: Seven
    upper: Seven
    lower: Seven


class JointConfig(Strict):
    """Limits of the arm's joints."""

    lower: Seven
    upper: Seven
    velocity: Seven
    acceleration: Seven
    envelope: VelocityEnvelope | None = None

    @model_validator(mode="after")
    def _sensible(self) -> JointConfig:
        if any(low >= high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError("each joint's lower limit must be below its upper limit")
        if min(*self.velocity, *self.acceleration) <= 0.0:
            raise ValueError("velocity and acceleration limits must be positive")
        return self


class Margins(Strict):
    """What is kept free of the limits."""

    position: float = Field(ge=0, le=0.5, description="[rad]")
    velocity: float = Field(gt=0, le=1, description="share of the limit")
    acceleration: float = Field(gt=0, le=1, description="share of the limit")


class Box(Strict):
    """Where fingers and palm may be, in "base" [m]."""

    lowest: Three
    highest: Three

    @model_validator(mode="after")
    def _ordered(self) -> Box:
        if any(low >= high for low, high in zip(self.lowest, self.highest, strict=True)):
            raise ValueError("the box's lowest corner must be below its highest")
        return self


class TableConfig(Strict):
    """The table top, and how close things may come to it [m]."""

    height: float
    finger_clearance: float
    arm_clearance: float = Field(ge=0)


class GripperConfig(Strict):
    """How a policy's continuous width becomes opening and closing."""

    open_width: PositiveFloat = Field(description="[m]")
    open_above: PositiveFloat = Field(description="width that opens a closed hand [m]")
    close_below: PositiveFloat = Field(description="width that closes an open hand [m]")
    dwell: float = Field(ge=0, description="least time between two changes [s]")
    speed: PositiveFloat = Field(description="[m/s]")
    force: PositiveFloat = Field(description="[N]")

    @model_validator(mode="after")
    def _hysteresis(self) -> GripperConfig:
        if not self.close_below < self.open_above <= self.open_width:
            raise ValueError("expected close_below < open_above <= open_width")
        return self


class RobotConfig(Strict):
    """A robot cell (config/robots/*.yaml)."""

    name: str = Field(min_length=1)
    description: str = ""
    joints: JointConfig
    margins: Margins
    workspace: Box
    table: TableConfig
    home: Seven
    gripper: GripperConfig


def robot_config(name: str) -> RobotConfig:
    """Loads a robot by its name ("fr3") or by the path of its file."""
    return load_yaml(find_config(name if name.endswith((".yaml", ".yml")) else f"robots/{name}.yaml"), RobotConfig)


@dataclass(frozen=True)
class MotionLimits:
    """The limits that the gate enforces, margins included.

    Attributes:
        lower: float64[7] [rad].
        upper: float64[7] [rad].
        velocity: float64[7] [rad/s].
        acceleration: float64[7] [rad/s²].
        box_lowest: float64[3], where fingers and palm may be [m].
        box_highest: float64[3] [m].
        finger_floor: Lowest height of a fingertip [m].
        arm_floor: Lowest height of palm and links' surfaces [m].
        envelope: float64[4, 7]: offset, gain, upper, lower of the velocity envelope; None where there is none.
        envelope_share: Share of the envelope that may be used.
    """

    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    box_lowest: FloatArray
    box_highest: FloatArray
    finger_floor: float
    arm_floor: float
    envelope: FloatArray | None
    envelope_share: float = 1.0

    def velocity_range(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lowest (negative) and highest velocities float64[..., 7] [rad/s] that are allowed at joint positions."""
        if self.envelope is None:
            highest = np.broadcast_to(self.velocity, positions.shape)
            return -highest, highest
        offset, gain, upper, lower = self.envelope
        up = (offset + np.sqrt(gain * np.maximum(upper - positions, 0.0))) * self.envelope_share
        down = (offset + np.sqrt(gain * np.maximum(positions - lower, 0.0))) * self.envelope_share
        return -np.clip(down, 0.0, self.velocity), np.clip(up, 0.0, self.velocity)


def motion_limits(config: RobotConfig, robot_description: str = "") -> MotionLimits:
    """Puts limits and margins together.

    Args:
        config: The robot's configuration.
        robot_description: The URDF, as on the topic /robot_description; its position and velocity limits take the
            configuration's place, whichever is tighter where it has the same joint twice. Empty: the configuration's.

    Raises:
        ConfigError: The URDF isn't one, or isn't the FR3's.
    """
    joints, margins = config.joints, config.margins
    lower, upper, velocity = (np.array(values) for values in (joints.lower, joints.upper, joints.velocity))
    if robot_description:
        lower, upper, velocity = urdf_limits(robot_description)
    envelope = None
    if joints.envelope is not None:
        parts = joints.envelope
        envelope = np.array([parts.offset, parts.gain, parts.upper, parts.lower])
    return MotionLimits(
        lower=lower + margins.position,
        upper=upper - margins.position,
        velocity=velocity * margins.velocity,
        acceleration=np.array(joints.acceleration) * margins.acceleration,
        box_lowest=np.array(config.workspace.lowest),
        box_highest=np.array(config.workspace.highest),
        finger_floor=config.table.height + config.table.finger_clearance,
        arm_floor=config.table.height + config.table.arm_clearance,
        envelope=envelope,
        envelope_share=margins.velocity,
    )


def urdf_limits(robot_description: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Reads lower, upper [rad] and velocity limits [rad/s], float64[7] each, of the arm's joints from a URDF.

    Raises:
        ConfigError: It isn't a URDF, or lacks a joint or its limits.
    """
    try:
        root = ET.fromstring(robot_description)
    except ET.ParseError as error:
        raise ConfigError("the robot description isn't XML", where="robot_description", got=str(error)) from error
    found: dict[str, tuple[float, float, float]] = {}
    for joint in root.iter("joint"):
        limit = joint.find("limit")
        name = joint.get("name", "")
        if limit is None or name not in ARM_JOINTS:
            continue
        try:
            values = tuple(float(limit.get(key, "nan")) for key in ("lower", "upper", "velocity"))
        except ValueError as error:
            raise ConfigError("a joint limit isn't a number", where=f"robot_description, {name}", got=error) from error
        found[name] = (values[0], values[1], values[2])
    missing = [name for name in ARM_JOINTS if name not in found or not np.all(np.isfinite(found[name]))]
    if missing:
        raise ConfigError(
            "the robot description lacks joint limits",
            where="robot_description",
            expected=f"limits of {', '.join(ARM_JOINTS)}",
            got=f"none of {', '.join(missing)}",
            next_step="is it the FR3's? Another robot, or another prefix of the joint names, doesn't fit this policy",
        )
    table = np.array([found[name] for name in ARM_JOINTS])
    return table[:, 0], table[:, 1], table[:, 2]

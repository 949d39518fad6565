"""Simulators behind one protocol (`base`): `mujoco` is the default; `create` makes one by name."""

from __future__ import annotations

from realdiff_core.errors import ConfigError

from realdiff_sim_bridge.adapters.base import Command, Quality, RobotState, SimState, Simulator, Stream
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.randomisation import Level
from realdiff_sim_bridge.tasks import Task

SIMULATORS = ("mujoco",)

__all__ = ["SIMULATORS", "Command", "Quality", "RobotState", "SimState", "Simulator", "Stream", "create"]


def create(
    name: str, task: Task, rig: CameraRig, *, quality: Quality = "good", randomisation: Level = "none"
) -> Simulator:
    """Makes a simulator of a task.

    Args:
        name: One of `SIMULATORS`.
        task: The task's configuration.
        rig: The cameras to render, where they ought to be.
        quality: Looks of the colour image.
        randomisation: What every reset varies.

    Raises:
        ConfigError: There is no such simulator.
    """
    if name == "mujoco":
        from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

        return MujocoSimulator(task, rig, quality=quality, randomisation=randomisation)
    raise ConfigError(f"unknown simulator '{name}'", expected=f"one of {', '.join(SIMULATORS)}", got=name)

"""Simulators behind one protocol (`base`): `mujoco` is the default, `isaac` is Isaac Sim 5, `replay` plays a bag."""

from __future__ import annotations

from pathlib import Path

from realdiff_core.errors import ConfigError

from realdiff_sim_bridge.adapters.base import Command, Quality, RobotState, SimState, Simulator, Stream
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.randomisation import Level
from realdiff_sim_bridge.tasks import Task

SIMULATORS = ("mujoco", "isaac", "replay")

__all__ = ["SIMULATORS", "Command", "Quality", "RobotState", "SimState", "Simulator", "Stream", "create"]


def create(
    name: str,
    task: Task,
    rig: CameraRig,
    *,
    quality: Quality = "good",
    randomisation: Level = "none",
    bag: Path | None = None,
) -> Simulator:
    """Makes a simulator of a task.

    Args:
        name: One of `SIMULATORS`.
        task: The task's configuration.
        rig: The cameras to render, where they ought to be.
        quality: Looks of the colour image.
        randomisation: What every reset varies.
        bag: The episode that "replay" plays.

    Raises:
        ConfigError: There is no such simulator, or it can't do what is asked.
        SimulationError: Isaac Sim isn't installed.
        BagError: The bag can't be replayed.
    """
    if name == "mujoco":
        from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

        return MujocoSimulator(task, rig, quality=quality, randomisation=randomisation)
    if name == "isaac":
        from realdiff_sim_bridge.adapters.isaac_adapter import IsaacSimulator

        return IsaacSimulator(task, rig, quality=quality, randomisation=randomisation)
    if name == "replay":
        if bag is None:
            raise ConfigError(
                "no episode to replay", expected="the path of a bag", got="nothing", next_step="name it: bag:=PATH"
            )
        if randomisation != "none":
            raise ConfigError("a recording can't be varied", expected="randomisation 'none'", got=randomisation)
        from realdiff_sim_bridge.adapters.replay_adapter import ReplaySimulator

        return ReplaySimulator(task, rig, bag)
    raise ConfigError(f"unknown simulator '{name}'", expected=f"one of {', '.join(SIMULATORS)}", got=name)

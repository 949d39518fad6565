"""Starting Isaac Sim 5: the application, the parts of its API in use, and where the robot's asset is."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from realdiff_sim_bridge.errors import SimulationError

ROBOT_ASSET = "/Isaac/Robots/FrankaRobotics/FrankaFR3/fr3.usd"
"""The FR3 with its hand below Isaac Sim's asset root, from 5.1 on; ROBOT_VARIABLE names another file."""

ROBOT_VARIABLE = "REALDIFF_ISAAC_FR3"

_app: Any = None


class Isaac(NamedTuple):
    """The parts of Isaac Sim in use."""

    world: Any
    add_reference: Any
    assets_root: Any
    articulation: Any
    rigid_prim: Any
    action: Any
    camera: Any
    version: str


def load_isaac() -> Isaac:
    """Starts Isaac Sim without a window (once a process) and imports what is needed.

    Raises:
        SimulationError: Isaac Sim isn't installed for this Python.
    """
    global _app
    try:
        from isaacsim import SimulationApp
    except ImportError as error:
        raise SimulationError(
            "Isaac Sim isn't installed for this Python",
            expected="the package isaacsim, version 5",
            got=str(error),
            next_step="see docs/guides/isaac.md; the simulator 'mujoco' needs nothing",
        ) from error
    if _app is None:
        # No other module of Isaac Sim can be imported before.
        _app = SimulationApp({"headless": True})
    import importlib.metadata

    from isaacsim.core.api import World
    from isaacsim.core.prims import SingleArticulation, SingleRigidPrim
    from isaacsim.core.utils.stage import add_reference_to_stage
    from isaacsim.core.utils.types import ArticulationAction
    from isaacsim.sensors.camera import Camera
    from isaacsim.storage.native import get_assets_root_path

    try:
        version = importlib.metadata.version("isaacsim")
    except importlib.metadata.PackageNotFoundError:
        version = "5"  # installed from the archive, not as a Python package
    return Isaac(
        World,
        add_reference_to_stage,
        get_assets_root_path,
        SingleArticulation,
        SingleRigidPrim,
        ArticulationAction,
        Camera,
        version,
    )


def robot_asset(isaac: Isaac) -> str:
    """Returns the USD file of the robot.

    Raises:
        SimulationError: Isaac Sim's assets can't be reached.
    """
    chosen = os.environ.get(ROBOT_VARIABLE)
    if chosen:
        return chosen
    root = isaac.assets_root()
    if not root:
        raise SimulationError(
            "Isaac Sim's assets can't be reached",
            expected="its asset root on the network, or a local copy",
            next_step=f"set {ROBOT_VARIABLE} to the USD file of an FR3 with the Franka hand",
        )
    return f"{root}{ROBOT_ASSET}"

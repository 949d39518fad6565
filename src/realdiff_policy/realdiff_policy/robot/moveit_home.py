"""Going home with MoveIt, in a process of its own: `python -m realdiff_policy.robot.moveit_home GROUP STATE`.

moveit_py can crash when it is torn down (moveit2 issue 3721), and its `execute` has other arguments in Humble than in
Jazzy; both stay in here. The exit code is the answer: 0 for home, 3 where MoveIt isn't there.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NOT_INSTALLED = 3
"""Exit code: moveit_py or the robot's MoveIt configuration is not there."""

_CONFIGURATION = "franka_fr3_moveit_config"
_TIMEOUT_S = 120.0


def execute(moveit: Any, group: str, trajectory: Any) -> Any:
    """Executes a plan: Humble has `execute(group, trajectory, blocking)`, Jazzy `execute(trajectory, controllers)`.

    Built functions carry no signature that could be inspected; then the newer one is tried first.
    """
    try:
        parameters = list(inspect.signature(moveit.execute).parameters)
    except (TypeError, ValueError):
        parameters = []
    if parameters and parameters[0] in ("group_name", "group"):
        return moveit.execute(group, trajectory, blocking=True)
    if parameters:
        return moveit.execute(trajectory, controllers=[])
    try:
        return moveit.execute(trajectory, controllers=[])
    except TypeError:
        return moveit.execute(group, trajectory, blocking=True)


def configuration(share: Path) -> dict[str, Any]:
    """MoveIt's parameters, put together as the FR3 package's own moveit.launch.py does.

    Its file names don't follow MoveItConfigsBuilder's conventions.

    Args:
        share: Share folder of franka_fr3_moveit_config.
    """
    import yaml
    from ament_index_python.packages import get_package_share_directory

    def read(name: str) -> Any:
        path = share / "config" / name
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def xacro(package: str, *path: str, arguments: tuple[str, ...]) -> str:
        file = Path(get_package_share_directory(package)).joinpath(*path)
        return subprocess.run(["xacro", str(file), *arguments], check=True, capture_output=True, text=True).stdout

    hand = ("hand:=true", "ee_id:=franka_hand")
    return {
        "robot_description": xacro(
            "franka_bringup", "urdf", "franka_arm.urdf.xacro", arguments=("robot_type:=fr3", "robot_ip:=0.0.0.0", *hand)
        ),
        "robot_description_semantic": xacro(
            "franka_description", "robots", "fr3", "fr3.srdf.xacro", arguments=hand
        ),
        "robot_description_kinematics": read("kinematics.yaml"),
        "robot_description_planning": read("fr3_joint_limits.yaml"),
        "planning_pipelines": {"pipeline_names": ["ompl"]},
        "ompl": {"planning_plugins": ["ompl_interface/OMPLPlanner"], **read("ompl_planning.yaml")},
        "plan_request_params": {
            "planning_pipeline": "ompl", "planning_attempts": 3, "planning_time": 5.0,
            "max_velocity_scaling_factor": 0.2, "max_acceleration_scaling_factor": 0.2,
        },
        "moveit_controller_manager": "moveit_simple_controller_manager/MoveItSimpleControllerManager",
        "moveit_simple_controller_manager": read("fr3_controllers.yaml"),
    }  # fmt: skip


def go(group: str, state: str) -> int:
    """Plans from the present state to a named one and executes it; returns the exit code."""
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
        from moveit.planning import MoveItPy

        share = Path(get_package_share_directory(_CONFIGURATION))
    except (ImportError, PackageNotFoundError) as error:
        print(f"MoveIt isn't here: {error}", file=sys.stderr)
        return NOT_INSTALLED
    moveit = MoveItPy(node_name="realdiff_go_home", config_dict=configuration(share))
    component = moveit.get_planning_component(group)
    component.set_start_state_to_current_state()
    component.set_goal_state(configuration_name=state)
    plan = component.plan()
    if not plan:
        print(f"MoveIt found no way to '{state}'", file=sys.stderr)
        return 1
    return 0 if execute(moveit, group, plan.trajectory) else 1


def go_in_child(group: str = "fr3_arm", state: str = "ready") -> int:
    """Goes home in a child process; returns its exit code, negative for the signal that ended it."""
    command = [sys.executable, "-m", "realdiff_policy.robot.moveit_home", group, state]
    try:
        return subprocess.run(command, timeout=_TIMEOUT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return 1


if __name__ == "__main__":
    code = go(sys.argv[1], sys.argv[2])
    sys.stderr.flush()
    os._exit(code)  # the tear-down is what crashes

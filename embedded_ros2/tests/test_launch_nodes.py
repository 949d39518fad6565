"""`ros2 launch` with ROS nodes: names, parameters, remappings, lifecycle."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from embedded_testing import Process

HEADER = """
from launch import LaunchDescription
from launch.actions import *
from launch.events import matches_action
from launch.substitutions import *
from launch_ros.actions import *
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition
"""
Ros2 = Callable[..., tuple[int, str]]
pytestmark = pytest.mark.graph


@pytest.fixture
def launch(start: Callable[..., Process], tmp_path: Path) -> Callable[..., Process]:
    """Launch a file of the given actions."""

    def run(actions: str, *arguments: str, before: str = "") -> Process:
        path = tmp_path / "test.launch.py"
        path.write_text(
            f"{HEADER}\n{before}\ndef generate_launch_description():\n    return LaunchDescription([{actions}])\n"
        )
        return start("launch", path, *arguments)

    return run


def parameters_of(ros2: Ros2, name: str) -> str:
    code, output = ros2("param", "dump", name)
    assert code == 0, output
    return output


def test_names_parameters_and_remappings(launch: Callable[..., Process], ros2: Ros2, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("/**:\n  ros__parameters: {text: of the file, gains: [3.0, 4.0]}\n")
    (tmp_path / "second.yaml").write_text("/**:\n  ros__parameters:\n    arm:\n      speed: $(var speed 0.75)\n")
    process = launch(
        f"""
        DeclareLaunchArgument('speed', default_value='0.25', description='speed'),
        GroupAction([
            PushROSNamespace('robot'),
            SetParameter('on', True),
            Node(
                package='demo_nodes', executable='talker', name='speaker', namespace='left', output='screen',
                parameters=[
                    {str(tmp_path / "first.yaml")!r},
                    ParameterFile({str(tmp_path / "second.yaml")!r}, allow_substs=True),
                    {{'text': ParameterValue(LaunchConfiguration('speed'), value_type=str)}},
                ],
                remappings=[('chatter', '/loud')],
            ),
        ]),
        """,
        "speed:=1.5",
    )
    process.wait_for("[talker-1] ready /robot/left/speaker text='1.5'")
    output = parameters_of(ros2, "/robot/left/speaker")
    assert "arm:\n      speed: 1.5\n" in output
    assert "gains:\n    - 3.0\n    - 4.0\n" in output
    assert "'on': true" in output
    _, output = ros2("topic", "list", "-t")
    assert "/loud [std_msgs/msg/String]" in output and "/robot/left/latched [std_msgs/msg/String]" in output
    process.send(signal.SIGINT)
    assert process.wait() == 0
    assert "[talker-1] talker leaves" in process.output


def test_texts_stay_texts(launch: Callable[..., Process]) -> None:
    # YAML 1.1 takes a bare y for a boolean and 1e3 for a number; the node declares a text.
    for text in ("y", "1e3", "true", "a: b"):
        process = launch(
            f"Node(package='demo_nodes', executable='talker', output='screen', parameters=[{{'text': {text!r}}}])"
        )
        process.wait_for(f"text={text!r}")
        process.stop()
        assert f"text={text!r}" in process.output


def test_a_package_or_executable_that_is_not_there(launch: Callable[..., Process]) -> None:
    process = launch("Node(package='demo_nodes', executable='singer')")
    assert process.wait() == 1
    assert "executable 'singer' not found on the libexec directory" in process.output
    process = launch("Node(package='no_such_package', executable='x')")
    assert process.wait() == 1
    assert "package 'no_such_package' not found" in process.output


WORKER = "LifecycleNode(package='demo_nodes', executable='worker', name='worker', namespace='', output='screen'{})"


def test_lifecycle_by_events(launch: Callable[..., Process], ros2: Ros2) -> None:
    process = launch(
        """
        RegisterEventHandler(OnStateTransition(
            target_lifecycle_node=node, start_state='configuring', goal_state='inactive',
            entities=[LogInfo(msg='it is inactive'), EmitEvent(event=ChangeState(
                lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_ACTIVATE))],
        )),
        RegisterEventHandler(OnStateTransition(
            target_lifecycle_node=node, goal_state='active', entities=[LogInfo(msg='it is active')])),
        node,
        EmitEvent(event=ChangeState(
            lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_CONFIGURE)),
        """,
        before=f"node = {WORKER.format('')}",
    )
    process.wait_for("it is active")
    for text in ("[worker-1] configured", "it is inactive", "[worker-1] activated"):
        process.wait_for(text)
    assert ros2("lifecycle", "get", "/worker") == (0, "active [3]\n")
    process.send(signal.SIGINT)
    assert process.wait() == 0
    assert "worker leaves" in process.output


def test_lifecycle_autostart(launch: Callable[..., Process]) -> None:
    process = launch(WORKER.format(", autostart=True"))
    process.wait_for("[worker-1] activated")
    process.send(signal.SIGINT)
    assert process.wait() == 0


def test_shutdown_does_not_wait_for_a_node_that_never_answers(launch: Callable[..., Process]) -> None:
    process = launch(
        "node, EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node),"
        " transition_id=Transition.TRANSITION_CONFIGURE)),"
        " TimerAction(period=1.0, actions=[Shutdown(reason='enough')])",
        before="node = LifecycleNode(executable='sleep', arguments=['1000'], name='mute', namespace='')",
    )
    assert process.wait() == 0, process.output
    assert "due to shutdown." in process.output


def test_a_launch_file_that_has_just_been_edited_runs_as_it_is_now(launch: Callable[..., Process]) -> None:
    # All three have one length and are written within one second.
    for word in ("north", "south", "winds"):
        process = launch(f"LogInfo(msg='{word}')")
        assert process.wait() == 0
        assert word in process.output

"""The commands, on a node over real DDS."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from embedded_testing import Process

pytestmark = [pytest.mark.usefixtures("talker"), pytest.mark.graph]
Ros2 = Callable[..., tuple[int, str]]


def good(result: tuple[int, str]) -> str:
    code, output = result
    assert code == 0, output
    return output


def bad(result: tuple[int, str]) -> str:
    code, output = result
    assert code != 0, output
    return output


def test_node(ros2: Ros2) -> None:
    assert good(ros2("node", "list")) == "/talker\n"
    assert good(ros2("node", "list", "-c")) == "1\n"
    lines = good(ros2("node", "info", "/talker")).splitlines()
    assert lines[0] == "/talker"
    assert [line for line in lines if re.match(r"  \w", line)] == [
        "  Subscribers:",
        "  Publishers:",
        "  Service Servers:",
        "  Service Clients:",
        "  Action Servers:",
        "  Action Clients:",
    ]
    assert "    /chatter: std_msgs/msg/String" in lines
    assert "    /switch: std_srvs/srv/SetBool" in lines
    assert "    /count: test_msgs/action/Fibonacci" in lines
    assert "Unable to find node '/nobody'" in bad(ros2("node", "info", "/nobody"))


def test_topic_list_and_info(ros2: Ros2) -> None:
    output = good(ros2("topic", "list", "-t"))
    assert "/chatter [std_msgs/msg/String]\n" in output and "_action" not in output
    assert "/count/_action/status [action_msgs/msg/GoalStatusArray]" in good(
        ros2("topic", "list", "-t", "--include-hidden-topics")
    )
    assert " * /chatter [std_msgs/msg/String] 1 publisher\n" in good(ros2("topic", "list", "-v"))
    assert good(ros2("topic", "type", "/chatter")) == "std_msgs/msg/String\n"
    assert good(ros2("topic", "info", "/chatter")) == (
        "Type: std_msgs/msg/String\nPublisher count: 1\nSubscription count: 0\n"
    )
    output = good(ros2("topic", "info", "-v", "/latched"))
    for text in ("Node name: talker", "Endpoint type: PUBLISHER", "Durability: TRANSIENT_LOCAL", "RIHS01_"):
        assert text in output
    assert "Unknown topic '/nothing'" in bad(ros2("topic", "info", "/nothing"))


def test_topic_echo(ros2: Ros2) -> None:
    assert good(ros2("topic", "echo", "/chatter", "--once")) == "data: hello\n---\n"
    assert good(ros2("topic", "echo", "/latched", "--once")) == "data: kept\n---\n"
    assert good(ros2("topic", "echo", "/headers", "--once", "--field", "frame_id")) == "map\n---\n"
    assert good(ros2("topic", "echo", "/headers", "--once")) == "stamp:\n  sec: 0\n  nanosec: 0\nframe_id: map\n---\n"
    assert good(ros2("topic", "echo", "/headers", "--once", "--csv")) == "0,0,map\n"
    assert good(ros2("topic", "echo", "/chatter", "--timeout", "1", "--filter", "m.data == 'other'")) == ""
    options = ("--qos-reliability", "best_effort", "--qos-depth", "3")
    assert good(ros2("topic", "echo", "/chatter", "std_msgs/msg/String", "--once", *options)) == "data: hello\n---\n"
    assert "Invalid field 'nothing'" in bad(ros2("topic", "echo", "/chatter", "--once", "--field", "nothing"))
    assert "Could not determine the type" in bad(ros2("topic", "echo", "/nothing", "--once"))


def test_topic_pub(start: Callable[..., Process], ros2: Ros2) -> None:
    listener = start("topic", "echo", "/pose", "geometry_msgs/msg/PoseStamped", "--once")
    values = "{header: auto, pose: {position: {x: 1, y: 2.5}}}"
    output = good(ros2("topic", "pub", "--once", "/pose", "geometry_msgs/msg/PoseStamped", values))
    assert "Waiting for at least 1 matching subscription(s)..." in output or "publishing #1: " in output
    assert listener.wait() == 0
    assert "x: 1.0\n    y: 2.5\n" in listener.output and "  stamp:\n    sec: 0\n" not in listener.output
    assert "has no attribute 'colour'" in bad(
        ros2("topic", "pub", "-1", "/pose", "std_msgs/msg/String", "{colour: red}")
    )
    assert "message type is invalid" in bad(ros2("topic", "pub", "-1", "/pose", "std_msgs/msg/Nothing", "{}"))


def test_topic_rates(start: Callable[..., Process]) -> None:
    rate, width = start("topic", "hz", "/chatter"), start("topic", "bw", "/chatter")
    rate.wait_for("average rate: ", 2)
    width.wait_for("Message size mean: ")
    measured = float(re.findall(r"average rate: ([\d.]+)", rate.output)[-1])
    assert 10 < measured < 25, rate.output
    for process in (rate, width):
        process.send(signal.SIGINT)
        assert process.wait() == signal.SIGINT


def test_param(ros2: Ros2, tmp_path: Path) -> None:
    assert "  arm.speed\n" in good(ros2("param", "list", "/talker"))
    assert "/talker:\n" in good(ros2("param", "list"))
    assert "  gains (type: double array)\n" in good(ros2("param", "list", "/talker", "--param-type"))
    assert good(ros2("param", "get", "/talker", "arm.speed")) == "Double value is: 0.5\n"
    assert good(ros2("param", "get", "talker", "gains", "--hide-type")) == "[1.0, 2.0]\n"
    assert good(ros2("param", "set", "/talker", "arm.speed", "0.75")) == "Set parameter successful\n"
    assert "Setting parameter failed" in good(ros2("param", "set", "/talker", "arm.speed", "fast"))
    dumped = good(ros2("param", "dump", "/talker"))
    assert dumped.startswith("/talker:\n  ros__parameters:\n    arm:\n      speed: 0.75\n")
    path = tmp_path / "parameters.yaml"
    path.write_text(dumped.replace("0.75", "0.25"))
    assert "Set parameter arm.speed successful" in good(ros2("param", "load", "/talker", path))
    assert good(ros2("param", "get", "/talker", "arm.speed")) == "Double value is: 0.25\n"
    assert "Node not found" in bad(ros2("param", "list", "/nobody"))
    assert "Parameter not set" in bad(ros2("param", "get", "/talker", "nothing"))


def test_service(ros2: Ros2) -> None:
    assert "/switch [std_srvs/srv/SetBool]\n" in good(ros2("service", "list", "-t"))
    assert good(ros2("service", "type", "/switch")) == "std_srvs/srv/SetBool\n"
    assert "/switch\n" in good(ros2("service", "find", "std_srvs/srv/SetBool"))
    output = good(ros2("service", "call", "/switch", "std_srvs/srv/SetBool", "{data: true}"))
    assert "requester: making request: std_srvs.srv.SetBool_Request(data=True)\n" in output
    assert "response:\nstd_srvs.srv.SetBool_Response(success=True, message='switched on')\n" in output
    assert "Failed to populate field" in bad(ros2("service", "call", "/switch", "std_srvs/srv/SetBool", "{on: true}"))


def test_action(start: Callable[..., Process], ros2: Ros2, talker: Process) -> None:
    assert good(ros2("action", "list", "-t")) == "/count [test_msgs/action/Fibonacci]\n"
    assert good(ros2("action", "info", "/count")) == (
        "Action: /count\nAction clients: 0\nAction servers: 1\n    /talker\n"
    )
    goal = ("action", "send_goal", "/count", "test_msgs/action/Fibonacci")
    output = good(ros2(*goal, "{order: 4}", "--feedback"))
    assert "Goal accepted with ID: " in output and "Feedback:\n    sequence:\n- 0\n- 1\n- 1\n" in output
    assert "Result:\n    sequence:\n- 0\n- 1\n- 1\n- 2\n- 3\n" in output
    assert output.endswith("Goal finished with status: SUCCEEDED\n")
    process = start(*goal, "{order: 40}", "-f")
    process.wait_for("Feedback:")
    process.send(signal.SIGINT)
    process.wait()
    assert "Canceling goal...\n" in process.output and process.output.endswith("Goal canceled.\n")
    talker.wait_for("goal canceled")


def test_lifecycle(start: Callable[..., Process], ros2: Ros2) -> None:
    node = start("run", "demo_nodes", "worker")
    assert good(ros2("lifecycle", "get", "/worker")) == "unconfigured [1]\n"
    assert good(ros2("lifecycle", "nodes")) == "/worker\n"
    assert "- configure [1]\n\tStart: unconfigured\n\tGoal: configuring\n" in good(ros2("lifecycle", "list", "/worker"))
    assert good(ros2("lifecycle", "set", "/worker", "configure")) == "Transitioning successful\n"
    assert good(ros2("lifecycle", "get")) == "/worker: inactive [2]\n"
    output = bad(ros2("lifecycle", "set", "/worker", "fly"))
    assert "Unknown transition requested, available ones are:\n- " in output and "- activate [3]" in output
    assert "Node not found" in bad(ros2("lifecycle", "get", "/talker"))
    node.send(signal.SIGTERM)
    node.wait()
    assert "worker leaves" in node.output


def test_packages_and_run(ros2: Ros2, environment: dict[str, str]) -> None:
    assert "demo_nodes\n" in good(ros2("pkg", "list"))
    prefix = environment["AMENT_PREFIX_PATH"].split(":")[0]
    assert good(ros2("pkg", "prefix", "demo_nodes")) == f"{prefix}\n"
    assert good(ros2("pkg", "executables", "demo_nodes")) == (
        "demo_nodes camera\ndemo_nodes talker\ndemo_nodes worker\n"
    )
    assert good(ros2("pkg", "xml", "demo_nodes", "-t", "version")) == "1.2.3\n"
    assert "Package not found" in bad(ros2("pkg", "prefix", "no_such_package"))
    assert "No executable found" in bad(ros2("run", "demo_nodes", "singer"))
    code, output = ros2("run", "demo_nodes", "camera", "wrong", "1")
    assert code == 1 and "[ros2run]: Process exited with failure 1" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_run_passes_signals_on(start: Callable[..., Process], number: signal.Signals) -> None:
    process = start("run", "demo_nodes", "talker", "--ros-args", "-r", "__node:=other")
    process.wait_for("ready /other")
    process.send(number)
    # The node says so through the pipe that it has inherited.
    process.wait_for("talker leaves")
    assert process.wait() != 0 if number == signal.SIGKILL else process.wait() in (0, -number, 128 + number)


def test_interface(ros2: Ros2) -> None:
    output = good(ros2("interface", "show", "geometry_msgs/msg/PoseStamped", "--no-comments"))
    assert output.startswith(
        "std_msgs/Header header\n\tbuiltin_interfaces/Time stamp\n"
        "\t\tint32 sec\n\t\tuint32 nanosec\n\tstring frame_id\n"
    )
    assert good(ros2("interface", "show", "std_srvs/srv/SetBool", "--no-comments")) == (
        "bool data\n---\nbool success\nstring message\n"
    )
    assert "std_srvs/srv/SetBool\n" in good(ros2("interface", "package", "std_srvs"))
    assert "    std_msgs/msg/String\n" in good(ros2("interface", "list", "-m"))
    assert "Could not find the interface" in bad(ros2("interface", "show", "std_msgs/msg/Nothing"))


@pytest.mark.parametrize(
    "command", ["action", "bag", "interface", "lifecycle", "node", "param", "pkg", "service", "topic"]
)
def test_help(ros2: Ros2, command: str) -> None:
    assert f"usage: ros2 {command}" in good(ros2(command))
    assert f"usage: ros2 {command}" in good(ros2(command, "--help"))


def test_commands_that_are_there_and_not(ros2: Ros2) -> None:
    assert "usage: ros2 " in good(ros2("--help"))
    assert "does not have 'ros2 daemon'" in bad(ros2("daemon", "stop"))
    assert "invalid choice: 'fly'" in bad(ros2("fly"))

"""`ros2 launch` with real processes: arguments, scopes, events, signals, exit codes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from embedded_testing import PATIENCE_S, Process

HEADER = """
import sys
from launch import LaunchDescription
from launch.actions import *
from launch.conditions import *
from launch.event_handlers import *
from launch.events import Shutdown as ShutdownEvent
from launch.launch_description_sources import *
from launch.substitutions import *
"""
SLEEP = "ExecuteProcess(cmd=['sleep', '1000'], name='sleep')"


@pytest.fixture
def launch_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a launch file of the given actions."""

    def write(actions: str, *, before: str = "", name: str = "test.launch.py") -> Path:
        path = tmp_path / name
        path.write_text(
            f"{HEADER}\n{before}\ndef generate_launch_description():\n    return LaunchDescription([{actions}])\n"
        )
        return path

    return write


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while is_alive(pid):
        assert time.monotonic() < end, f"process {pid} was left behind"
        time.sleep(0.05)


ARGUMENTS = """
DeclareLaunchArgument('bag'),
DeclareLaunchArgument('mode', default_value='a', description='which mode', choices=['a', 'b']),
DeclareLaunchArgument('path', default_value=['/tmp/', LaunchConfiguration('mode')], description='a path'),
LogInfo(msg=[
    'bag=', LaunchConfiguration('bag'), ' mode=', LaunchConfiguration('mode'), ' path=', LaunchConfiguration('path'),
]),
"""


def test_show_args(launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]]) -> None:
    code, output = ros2("launch", launch_file(ARGUMENTS), "-s")
    assert code == 0
    assert output == (
        "Arguments (pass arguments as '<name>:=<value>'):\n"
        "\n    'bag':\n        no description given\n"
        "\n    'mode':\n        which mode. Valid choices are: ['a', 'b']\n        (default: 'a')\n"
        "\n    'path':\n        a path\n        (default: '/tmp/' + LaunchConfig('mode'))\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["bag:=x"], 0, "[INFO] [launch.user]: bag=x mode=a path=/tmp/a"),
        (["bag:=x", "mode:=b", "path:=a:=b"], 0, "bag=x mode=b path=a:=b"),
        (["bag:=x", "bag:=y"], 0, "bag=y mode=a"),
        (["bag:=x", "unknown:=1"], 0, "bag=x mode=a"),
        ([], 1, "Included launch description missing required argument 'bag' (description: 'no description given')"),
        (
            ["bag:=x", "mode:=c"],
            1,
            "Argument \"mode\" provided value \"c\" is not valid. Valid options are: ['a', 'b']",
        ),
        (["bag"], 1, "malformed launch argument 'bag', expected format '<name>:=<value>'"),
        (["bag:="], 1, "malformed launch argument 'bag:='"),
    ],
)
def test_arguments(
    launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]], arguments: list[str], code: int, text: str
) -> None:
    found, output = ros2("launch", launch_file(ARGUMENTS), *arguments)
    assert (found, text in output) == (code, True), output


def test_scopes_includes_and_conditions(
    launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    show = "['{}: v=', LaunchConfiguration('v', default='-'), ' e=', EnvironmentVariable('E', default_value='-')]"
    launch_file(
        "DeclareLaunchArgument('v', default_value='default'), LogInfo(msg=['in ', ThisLaunchFileDir(), ' v=', "
        "LaunchConfiguration('v')])",
        name="inner.launch.py",
    )
    file = launch_file(f"""
        SetLaunchConfiguration('v', '1'),
        GroupAction([
            SetLaunchConfiguration('v', '2'), SetEnvironmentVariable('E', 'set'), LogInfo(msg={show.format("group")}),
        ]),
        LogInfo(msg={show.format("after")}),
        GroupAction([LogInfo(msg={show.format("bare")})], forwarding=False),
        GroupAction([LogInfo(msg='hidden')], condition=IfCondition('false')),
        GroupAction([LogInfo(msg='shown')], condition=UnlessCondition('false')),
        GroupAction([IncludeLaunchDescription(
            PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), 'inner.launch.py'])),
            launch_arguments={{'v': '3'}}.items(),
        )]),
        OpaqueFunction(function=lambda context, extra: [LogInfo(msg=extra)], args=['from a function']),
    """)
    code, output = ros2("launch", file)
    assert code == 0, output
    said = [line.split(": ", 1)[1] for line in output.splitlines() if "[launch.user]" in line]
    assert said == [
        "group: v=2 e=set",
        "after: v=1 e=-",
        "bare: v=- e=-",
        "shown",
        f"in {tmp_path} v=3",
        "from a function",
    ]


def test_events_output_and_exit_codes(launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]]) -> None:
    file = launch_file(
        """
        child,
        RegisterEventHandler(OnProcessStart(target_action=child, on_start=[LogInfo(msg='it started')])),
        RegisterEventHandler(OnProcessExit(target_action=child, on_exit=lambda event, context: [
            LogInfo(msg=f'it ended with {event.returncode}'),
            TimerAction(period=0.2, actions=[LogInfo(msg='a little later')]),
        ])),
        RegisterEventHandler(OnShutdown(on_shutdown=lambda event, context: [LogInfo(msg='over: ' + event.reason)])),
        ExecuteProcess(cmd=['sh', '-c', 'echo not on the screen'], name='quiet'),
        """,
        before="child = ExecuteProcess(cmd=['sh', '-c', 'echo $GREETING; echo error >&2; exit 3'], name='child',"
        " output='screen', additional_env={'GREETING': 'hello'}, on_exit=[LogInfo(msg='on_exit')])",
    )
    code, output = ros2("launch", file)
    # A process that fails does not make the launch fail.
    assert code == 0, output
    for text in (
        "[INFO] [child-1]: process started with pid [",
        "[child-1] hello\n",
        "[child-1] error\n",
        "[ERROR] [child-1]: process has died [pid ",
        ", exit code 3, cmd 'sh -c echo $GREETING; echo error >&2; exit 3'].",
        "it started",
        "it ended with 3",
        "on_exit",
        "a little later",
        "over: idle",
        "[INFO] [quiet-2]: process has finished cleanly [pid ",
    ):
        assert text in output, output
    assert "not on the screen" not in output
    log = next(line for line in output.splitlines() if "All log files can be found below" in line).split()[-1]
    assert "[quiet-2] not on the screen" in (Path(log) / "launch.log").read_text()


def test_an_error_in_a_launch_file_ends_everything(
    launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]]
) -> None:
    file = launch_file(f"{SLEEP}, TimerAction(period=0.5, actions=[LogInfo(msg=LaunchConfiguration('absent'))])")
    code, output = ros2("launch", file)
    assert code == 1
    assert (
        "[ERROR] [launch]: Caught exception in launch (see debug for traceback): launch configuration 'absent'"
        in output
    )
    assert "[INFO] [sleep-1]: sending signal 'SIGINT' to process[sleep-1]" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("x = 1", "does not contain the required function 'generate_launch_description()'"),
        ("from launch.actions import OpaqueCoroutine", "does not have 'launch.actions.OpaqueCoroutine'"),
    ],
)
def test_files_that_do_not_load(ros2: Callable[..., tuple[int, str]], tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.launch.py"
    path.write_text(text)
    for option in ([], ["--show-args"]):
        code, output = ros2("launch", path, *option)
        assert code == 1 and message in output, output


def test_files_that_are_not_there(ros2: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    assert ros2("launch", "no_such_package", "x.launch.py")[0] == 1
    code, output = ros2("launch", "demo_nodes", "x.launch.py")
    assert code == 1 and "file 'x.launch.py' was not found in the share directory of package 'demo_nodes'" in output
    (tmp_path / "x.launch.xml").write_text("<launch/>")
    code, output = ros2("launch", tmp_path / "x.launch.xml")
    assert code == 1 and "does not have 'launch files in XML'" in output


def _child_pid(process: Process, label: str) -> int:
    process.wait_for(f"[INFO] [{label}]: process started with pid [")
    return int(process.output.split(f"[INFO] [{label}]: process started with pid [")[1].split("]")[0])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)])
def test_signals_reach_the_processes(
    launch_file: Callable[..., Path], start: Callable[..., Process], number: signal.Signals, code: int
) -> None:
    process = start("launch", launch_file(SLEEP))
    pid = _child_pid(process, "sleep-1")
    process.send(number)
    assert process.wait() == code
    assert "sending signal 'SIGINT' to process[sleep-1]" in process.output
    wait_until_gone(pid)


def test_stubborn_processes_are_killed_with_what_they_started(
    launch_file: Callable[..., Path], start: Callable[..., Process]
) -> None:
    stubborn = (
        "import signal, subprocess, time; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)];"
        " print('child', subprocess.Popen(['sleep', '1000']).pid, flush=True); time.sleep(1000)"
    )
    file = launch_file(
        f"ExecuteProcess(cmd=[sys.executable, '-c', {stubborn!r}], name='mule', output='screen',"
        " sigterm_timeout='0.5', sigkill_timeout='0.5')"
    )
    process = start("launch", file)
    pid = _child_pid(process, "mule-1")
    process.wait_for("[mule-1] child ")
    grandchild = int(process.output.split("[mule-1] child ")[1].split()[0])
    process.send(signal.SIGINT)
    assert process.wait() == 0
    said = process.output
    assert "process[mule-1] failed to terminate '0.5' seconds after receiving 'SIGINT', escalating to 'SIGTERM'" in said
    assert (
        "process[mule-1] failed to terminate '1.0' seconds after receiving 'SIGTERM', escalating to 'SIGKILL'" in said
    )
    assert "exit code -9" in said
    wait_until_gone(pid)
    wait_until_gone(grandchild)


def test_a_launch_that_is_killed_leaves_no_orphans(
    launch_file: Callable[..., Path], start: Callable[..., Process]
) -> None:
    process = start("launch", launch_file(SLEEP))
    pid = _child_pid(process, "sleep-1")
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    wait_until_gone(pid)


def test_respawn_and_required_processes(launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]]) -> None:
    file = launch_file(
        f"ExecuteProcess(cmd=['sh', '-c', 'exit 1'], name='again', respawn=True, respawn_max_retries=2,"
        f" respawn_delay=0.1), {SLEEP},"
        " ExecuteProcess(cmd=['sleep', '3'], name='required', on_exit=[Shutdown(reason='it was required')])"
    )
    code, output = ros2("launch", file)
    assert code == 0, output
    assert output.count("[again-1]: process started") == 3
    assert "process[required-3] was required: shutting down launched system" in output
    assert "sending signal 'SIGINT' to process[sleep-2]" in output


def test_a_program_that_is_not_there(launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]]) -> None:
    code, output = ros2("launch", launch_file("ExecuteProcess(cmd=['/no/such/program'], name='absent')"))
    assert code == 0 and "[ERROR] [absent-1]: exception occurred while executing process" in output


def test_print_description(launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]]) -> None:
    file = launch_file(
        "LogInfo(msg=['a ', LaunchConfiguration('b')]), child,"
        "RegisterEventHandler(OnProcessExit(target_action=child, on_exit=[EmitEvent(event=ShutdownEvent())]))",
        before="child = ExecuteProcess(cmd=['echo', LaunchConfiguration('b')], cwd='/')",
    )
    code, output = ros2("launch", file, "--print-description")
    assert code == 0
    assert "├── LogInfo('a ' + LaunchConfig('b'))\n" in output
    assert "├── ExecuteProcess(cmd=['echo', LaunchConfig('b')], cwd=''/'', env=None, shell=False)\n" in output
    assert "event == ProcessExited and ExecuteLocal(event.action)" in output
    assert output.endswith("        └── EmitEvent(event='launch.events.Shutdown')\n")


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo terminals of Linux")
def test_emulated_terminal(launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]]) -> None:
    code_text = "import sys; print('terminal', sys.stdout.isatty())"
    file = launch_file(
        f"ExecuteProcess(cmd=[sys.executable, '-c', {code_text!r}], output='screen', emulate_tty=True, name='tty')"
    )
    assert "[tty-1] terminal True\n" in ros2("launch", file)[1]


def test_log_directory_is_of_the_environment(
    launch_file: Callable[..., Path], ros2: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    _, output = ros2("launch", launch_file("LogInfo(msg='x')"), ROS_LOG_DIR=str(tmp_path / "logs"))
    assert f"All log files can be found below {tmp_path / 'logs'}{os.sep}" in output
    assert (tmp_path / "logs" / "latest" / "launch.log").is_file()

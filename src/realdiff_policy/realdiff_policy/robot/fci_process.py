"""What speaks to the robot through libfranka: `python -m realdiff_policy.robot.fci_process arm|hand FD ADDRESS`.

The arm's control loop has to answer every millisecond; in a process of its own nothing else holds the interpreter.
pylibfranka is an optional dependency, imported only here.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PERIOD_S = 0.001
_REPORT_S = 0.02
_IDLE_S = 0.02
_PICK_UP_RAD = 0.02
_PR_SET_PDEATHSIG = 1


def start_index(path: FloatArray, index: int, commanded: FloatArray) -> int | None:
    """Where on a new path to go on: at its own time if the arm is there, else at the nearest place ahead.

    A robot that is slower than the clock (a simulated one) is behind on its present path; continuing at the new path's
    time would be a jump.

    Args:
        path: float64[K, 7], set-points, one each millisecond [rad].
        index: The path's place at this time.
        commanded: float64[7], the last set-point [rad].

    Returns:
        An index; None where the path comes nowhere near the arm.
    """
    index = min(max(index, 0), len(path) - 1)
    if np.max(np.abs(path[index] - commanded)) <= 1e-3:
        return index
    apart = np.max(np.abs(path - commanded), axis=1)
    nearest = int(np.argmin(apart))
    return nearest if apart[nearest] <= _PICK_UP_RAD else None


class Arm:
    """The arm's loop.

    Args:
        connection: Orders in ("follow", time of the first set-point, path), ("recover",); reports out.
        address: The robot's.
    """

    def __init__(self, connection: Connection, address: str) -> None:
        """Connects to the robot."""
        import pylibfranka

        self._franka = pylibfranka
        self._connection = connection
        self._robot = pylibfranka.Robot(address, pylibfranka.RealtimeConfig.kIgnore)
        self._reported_s = 0.0

    def run(self) -> None:
        """Serves orders until the other end closes."""
        state = self._robot.read_once()
        self._connection.send(("ready", list(state.q)))
        while True:
            if not self._connection.poll(_IDLE_S):
                self._report(self._robot.read_once())
                continue
            order = self._connection.recv()
            try:
                if order[0] == "recover":
                    self._robot.automatic_error_recovery()
                    self._connection.send(("recovered", ""))
                elif order[0] == "follow":
                    self._follow(order)
            except self._franka.FrankaException as error:
                kind = "recovered" if order[0] == "recover" else "fault"
                self._connection.send((kind, str(error)))

    def _follow(self, order: tuple[Any, ...]) -> None:
        """Follows paths, one taking over from the other, until the last has ended."""
        path, index = self._take(order, np.array(self._robot.read_once().q_d))
        if path is None:
            return
        control = self._robot.start_joint_position_control(self._franka.ControllerMode.JointImpedance)
        last = path[index]
        while True:
            state, elapsed = control.readOnce()
            index += max(1, round(elapsed.to_sec() / PERIOD_S))
            if self._connection.poll():
                order = self._connection.recv()
                if order[0] == "follow":
                    taken, at = self._take(order, last)
                    path, index = (path, index) if taken is None else (taken, at)
            last = path[min(index, len(path) - 1)]
            command = self._franka.JointPositions(last.tolist())
            ended = index >= len(path)
            command.motion_finished = ended
            control.writeOnce(command)
            self._report(state)
            if ended:
                self._connection.send(("ended", ""))
                return

    def _take(self, order: tuple[Any, ...], commanded: FloatArray) -> tuple[FloatArray | None, int]:
        _, began_ns, path = order
        index = start_index(path, round((time.time_ns() - began_ns) * 1e-9 / PERIOD_S), commanded)
        if index is None:
            self._connection.send(("fault", "the trajectory doesn't begin where the arm is"))
            return None, 0
        return path, index

    def _report(self, state: Any) -> None:
        now = time.monotonic()
        if now - self._reported_s < _REPORT_S:
            return
        self._reported_s = now
        mode = str(state.robot_mode).rpartition(".")[2]
        self._connection.send(("state", time.time_ns(), list(state.q), list(state.dq), list(state.tau_J), mode))


def hand(connection: Connection, address: str) -> None:
    """Serves the hand: ("move", width, speed), ("grasp", width, speed, force, inner, outer), ("homing",), ("read",)."""
    import pylibfranka

    gripper = pylibfranka.Gripper(address)
    connection.send(("ready", float(gripper.read_once().width)))
    while True:
        order = connection.recv()
        try:
            if order[0] == "read":
                connection.send(("width", time.time_ns(), float(gripper.read_once().width)))
                continue
            succeeded = bool(getattr(gripper, order[0])(*order[1:]))
            connection.send(("done", "" if succeeded else f"'{order[0]}' did not succeed"))
        except pylibfranka.FrankaException as error:
            connection.send(("done", str(error)))


def main() -> int:
    """Entry point of the process."""
    part, descriptor, address = sys.argv[1:4]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    connection = Connection(int(descriptor))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            if part == "arm":
                Arm(connection, address).run()
            else:
                hand(connection, address)
        except ImportError:
            connection.send(("failed", "pylibfranka isn't installed: pip install pylibfranka"))
            return 2
        except RuntimeError as error:  # libfranka's own errors derive from it: no connection, wrong version, …
            connection.send(("failed", f"{type(error).__name__}: {error}"))
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

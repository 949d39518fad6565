"""The node `recorder`: recordings for other nodes, by the action RecordEpisodes; `recording.run` does the work."""

from __future__ import annotations

import math
import threading
import traceback
from pathlib import Path
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from realdiff_core.errors import RealdiffError
from realdiff_core.worker_pool import StoppedError

from realdiff_msgs.action import RecordEpisodes
from realdiff_sim_bridge.declared_parameters import declare
from realdiff_sim_bridge.recording.folder import Attempt
from realdiff_sim_bridge.recording.parameters import PARAMETERS, recording_plan
from realdiff_sim_bridge.recording.run import Request, Tally, run
from realdiff_sim_bridge.ros_context import ros_context
from realdiff_sim_bridge.tasks import load_task

NODE_NAME = "recorder"

_MOST_SEED = 2**63
_THREADS = 4
"""One records; the others take and refuse goals, and cancel."""

_STOP_S = 30.0
"""So long may a recording take to stop when the node is told to end."""


class RecorderNode(Node):
    """Serves the action; recordings run in processes of their own.

    Args:
        stopping: Set when the node is to end.
    """

    def __init__(self, stopping: threading.Event) -> None:
        """Declares parameters and opens the action.

        Raises:
            RealdiffError: A parameter is wrong.
        """
        super().__init__(NODE_NAME)
        self._values = {item.name: declare(self, item) for item in PARAMETERS}
        recording_plan(self._values, load_task("can_to_plate"))  # contradictions are told at once
        self._stopping = stopping
        self.busy = threading.Lock()
        self._server = ActionServer(
            self, RecordEpisodes, "~/record_episodes", self._record, callback_group=ReentrantCallbackGroup(),
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )  # fmt: skip
        self.get_logger().info(f"ready for goals on {self.get_fully_qualified_name()}/record_episodes")

    def _record(self, handle: Any) -> RecordEpisodes.Result:
        """Runs a goal; one that can't be done ends aborted, with the reason in its result."""
        tally = Tally(int(handle.request.episodes))
        if not self.busy.acquire(blocking=False):
            return self._aborted(handle, "another recording is under way: cancel it, or wait for its end", tally)
        try:
            return self._run(handle, tally)
        except (RealdiffError, OSError) as error:
            return self._aborted(handle, str(error), tally)
        except Exception:  # a defect: the client learns of it, and the node lives on
            return self._aborted(handle, traceback.format_exc(), tally)
        finally:
            self.busy.release()

    def _run(self, handle: Any, tally: Tally) -> RecordEpisodes.Result:
        request = _request(handle.request, self._values)
        plan = recording_plan(self._values, load_task(handle.request.task))
        self.get_logger().info(f"recording {request.episodes} episodes of {plan.task.name} into {request.output}")

        def on_attempt(attempt: Attempt, now: Tally) -> None:
            tally.count(attempt)
            handle.publish_feedback(_feedback(now))

        try:
            _, page = run(plan, request, on_attempt, lambda: handle.is_cancel_requested or self._stopping.is_set())
        except StoppedError:
            if not handle.is_cancel_requested:
                return self._aborted(handle, "the node has been stopped; finished episodes stay", tally)
            text = f"cancelled after {tally.done} of {tally.wanted} episodes, which stay; resume goes on after them"
            self.get_logger().info(text)
            handle.canceled()
            return _result(tally, text)
        text = f"{tally.done} episodes in {request.output}, {tally.failed} failed attempts; see {page}"
        self.get_logger().info(text)
        handle.succeed()
        return _result(tally, text, success=True)

    def _aborted(self, handle: Any, reason: str, tally: Tally) -> RecordEpisodes.Result:
        self.get_logger().error(f"recording aborted: {reason}")
        handle.abort()
        return _result(tally, reason)


def _request(goal: Any, values: dict[str, Any]) -> Request:
    """Reads a goal.

    Raises:
        RealdiffError: It makes no sense.
    """
    if not goal.output:
        raise RealdiffError("the goal names no output folder", expected="output: a folder's path", got="nothing")
    if not goal.episodes:
        raise RealdiffError("the goal wants no episodes", expected="episodes: 1 or more", got=0)
    if goal.seed >= _MOST_SEED:
        raise RealdiffError("the goal's seed is too large", expected="0 to 2^63 - 1", got=goal.seed)
    output = Path(goal.output).expanduser().absolute()
    return Request(output, goal.episodes, goal.seed, goal.resume, int(values["workers"]), values["ray"] or None)


def _feedback(tally: Tally) -> RecordEpisodes.Feedback:
    left_s = math.nan if tally.left_s is None else tally.left_s
    return RecordEpisodes.Feedback(
        recorded=tally.done, failed=tally.failed, success_rate=tally.share, eta_s=left_s
    )  # fmt: skip


def _result(tally: Tally, message: str, *, success: bool = False) -> RecordEpisodes.Result:
    return RecordEpisodes.Result(success=success, message=message, recorded=tally.done, failed=tally.failed)


def spin(arguments: list[str]) -> int:
    """Runs the node until it is stopped.

    Args:
        arguments: Command line with ROS arguments.

    Returns:
        The exit code.
    """
    with ros_context(arguments) as stopping:
        node = RecorderNode(stopping)
        executor = MultiThreadedExecutor(num_threads=_THREADS)
        executor.add_node(node)
        while not stopping.is_set():
            executor.spin_once(timeout_sec=0.2)
        node.busy.acquire(timeout=_STOP_S)
        executor.shutdown()
        node.destroy_node()
    return 0

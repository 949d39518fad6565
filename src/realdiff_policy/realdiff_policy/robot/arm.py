"""The arm's joint trajectory controller: by its topic, or by its action, which also tells how it went."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory
from rclpy.action import ActionClient
from trajectory_msgs.msg import JointTrajectory

from realdiff_policy.robot.messages import trajectory_message
from realdiff_policy.safety.reasons import Fault, Reason
from realdiff_policy.safety.trajectory import Trajectory

if TYPE_CHECKING:
    from rclpy.node import Node

Mode = Literal["topic", "action"]


class ArmCommander:
    """Sends trajectories to the controller.

    Args:
        node: The node that publishes.
        controller: Name of the joint trajectory controller.
        mode: "topic" or "action".
        on_fault: Called with what the controller objected to.
    """

    def __init__(self, node: Node, controller: str, mode: Mode, on_fault: Callable[[Fault], None]) -> None:
        """Opens the topic or the action."""
        self._name = controller
        self._on_fault = on_fault
        self._goal = 0
        self._client: ActionClient | None = None
        self._publisher: Any = None
        if mode == "action":
            self._client = ActionClient(node, FollowJointTrajectory, f"/{controller}/follow_joint_trajectory")
        else:
            self._publisher = node.create_publisher(JointTrajectory, f"/{controller}/joint_trajectory", 10)
        self._node = node

    def problem(self) -> Fault | None:
        """Whether anybody would hear a command."""
        if self._client is not None and not self._client.server_is_ready():
            return self._fault(f"there is no action /{self._name}/follow_joint_trajectory")
        if self._publisher is not None and not self._publisher.get_subscription_count():
            return self._fault(
                f"nobody listens on /{self._name}/joint_trajectory: is the joint trajectory controller active?"
            )
        return None

    def send(self, trajectory: Trajectory) -> None:
        """Sends a trajectory; it takes the place of the one before."""
        message = trajectory_message(trajectory)
        if self._publisher is not None:
            self._publisher.publish(message)
            return
        assert self._client is not None
        self._goal += 1
        number = self._goal
        future = self._client.send_goal_async(FollowJointTrajectory.Goal(trajectory=message))
        future.add_done_callback(lambda done: self._on_answer(done, number))

    def _on_answer(self, future: Any, number: int) -> None:
        handle = future.result()
        if handle is None or not handle.accepted:
            if number == self._goal:
                self._on_fault(self._fault("the controller rejected a trajectory: its log says why"))
            return
        handle.get_result_async().add_done_callback(lambda done: self._on_result(done, number))

    def _on_result(self, future: Any, number: int) -> None:
        if number != self._goal:
            return  # replaced by a newer one, as every chunk is
        answer = future.result()
        if answer is None or answer.status == GoalStatus.STATUS_SUCCEEDED:
            return
        result = answer.result
        how = "cancelled" if answer.status == GoalStatus.STATUS_CANCELED else "aborted"
        self._on_fault(
            self._fault(f"the controller {how} the trajectory: code {result.error_code} {result.error_string}")
        )

    def _fault(self, text: str) -> Fault:
        return Fault(Reason.CONTROLLER, text)

    def close(self) -> None:
        """Closes topic or action."""
        if self._client is not None:
            self._client.destroy()
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)

"""The lifecycle node `diffusion_policy`: any policy bundle behind the safety gate, on the robot's topics.

It is generic over bundles. Messages are converted in `node_inputs`, what happens is decided in `runtime`, what may
happen in `safety`; this file keeps time, sends what was decided, and reports.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from realdiff_core.errors import ConfigError, RealdiffError
from realdiff_core.node_parameters import check_choice
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from realdiff_core import topics
from realdiff_msgs.msg import CommandedAction, PolicyStatus
from realdiff_policy.bundle_path import find_bundle
from realdiff_policy.contract import ARM_JOINTS
from realdiff_policy.node_inputs import LATCHED, Inputs
from realdiff_policy.node_parameters import PARAMETERS, settings_from
from realdiff_policy.robot.arm import ArmCommander
from realdiff_policy.robot.gripper import GripperCommander
from realdiff_policy.robot.messages import path_message, tcp_pose, time_message, workspace_markers
from realdiff_policy.robot.recovery import ErrorRecoverer, RecoveryNames
from realdiff_policy.runtime.process import DEFAULT_LOADER, ProcessInference
from realdiff_policy.runtime.runner import PolicyRunner, RunState
from realdiff_policy.safety import Fault, Reason, motion_limits, robot_config

NODE_NAME = "diffusion_policy"

_STATUS_S = 0.2
_REPORT_S = 1.0
_STARVED_S = 0.1
_EARLY_NS = 5_000_000
_LONGEST_STOP_NS = 5_000_000_000
"""A start waits for the end of the stop before it; an end farther away than this is one of another clock."""

_EVENT_S = 0.5
"""How long something that happened once, such as an aborted trajectory, counts as a fault."""


class DiffusionPolicyNode(LifecycleNode):
    """The node; parameters are described in `node_parameters`."""

    def __init__(self) -> None:
        """Declares the parameters; everything else waits for `configure`."""
        super().__init__(NODE_NAME)
        for item in PARAMETERS:
            descriptor = ParameterDescriptor(description=item.description, read_only=True)
            self.declare_parameter(item.name, item.default, descriptor)
        self._inference: ProcessInference | None = None
        self._runner: PolicyRunner | None = None
        self._handles: list[Any] = []
        self._closers: list[Any] = []
        self._active = False
        self._running = False
        self._sent = 0
        self._shown: tuple[Any, ...] = ()
        self._events: dict[Reason, float] = {}
        self._last_status_s = self._last_report_s = self._last_step_s = 0.0
        self._pending_limits: Any = None
        self._last_action_ns = 0
        self._rest_ns = 0

    # -- lifecycle -----------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the policy and opens the topics."""
        values = {item.name: self.get_parameter(item.name).value for item in PARAMETERS}
        try:
            for item in PARAMETERS:
                check_choice(item, values[item.name])
            if not values["bundle"]:
                raise ConfigError("no policy is given", expected="the parameter `bundle`", next_step="bundle:=FOLDER")
            runtime, watch = settings_from(values)
            self._robot = robot_config(values["robot"])
            bundle = values["bundle"]
            if values["loader"] == DEFAULT_LOADER:
                bundle = str(find_bundle(bundle))
            self._inference = ProcessInference(bundle, values["device"], values["loader"])
            self._runner = PolicyRunner(
                self._inference.contract, self._inference, self._robot, runtime, watch,
                noisy_camera=bool(values["hardware"]),
            )  # fmt: skip
        except RealdiffError as error:
            self.get_logger().error(str(error))
            self._close()
            return TransitionCallbackReturn.FAILURE
        self._values = values
        self._open()
        contract = self._runner.contract
        self.get_logger().info(
            f"{contract.policy} for {contract.task} from {values['bundle']}, {contract.action.rate_hz:g} Hz, "
            f"depth {contract.depth.topic if contract.depth else 'not used'}"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begins, or waits for `~/start`."""
        self._active = True
        self._last_report_s = time.monotonic()
        if self._values["autostart"]:
            self._begin()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops the arm."""
        self._end()
        self._active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Closes the topics and ends the policy's process."""
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops the arm and closes everything."""
        self._end()
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stops the arm before the node goes; were it killed, the last trajectory would end at rest all the same."""
        self._end()
        self._close()
        super().destroy_node()

    def _open(self) -> None:
        assert self._runner is not None
        values = self._values
        self._arm = ArmCommander(self, values["arm_controller"], values["command_mode"], self._on_arm_fault)
        self._gripper = GripperCommander(self, values["gripper"], self._robot.gripper, self._on_gripper_fault)
        names = RecoveryNames(
            error_recovery=values["error_recovery"],
            controller_manager=values["controller_manager"],
            controllers=(values["arm_controller"],),
        )
        self._recoverer = ErrorRecoverer(self, names)
        self._inputs = Inputs(self, self._runner, values, self._on_description)
        self._closers = [self._inputs, self._arm, self._gripper, self._recoverer]
        self._status_out = self.create_publisher(PolicyStatus, "~/status", 10)
        self._path_out = self.create_publisher(PathMessage, "~/path", 10)
        self._markers_out = self.create_publisher(MarkerArray, "~/workspace", LATCHED)
        self._action_out = self.create_publisher(CommandedAction, topics.COMMANDED_ACTION, 50)
        self._diagnostics_out = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        publishers = (
            self._status_out, self._path_out, self._markers_out, self._action_out, self._diagnostics_out,
        )  # fmt: skip
        self._handles = [(self.destroy_publisher, handle) for handle in publishers]
        for name, callback in (("start", self._on_start), ("stop", self._on_stop), ("recover", self._on_recover)):
            service = self.create_service(Trigger, f"~/{name}", callback)
            self._handles.append((self.destroy_service, service))
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # control and reports also while simulation time stands still
        period = 1.0 / self._runner.settings.control_rate_hz
        self._handles.append((self.destroy_timer, self.create_timer(period, self._step, clock=steady)))

    def _close(self) -> None:
        for destroy, handle in self._handles:
            destroy(handle)
        for part in self._closers:
            part.close()
        if self._inference is not None:
            self._inference.close()
        self._handles, self._closers = [], []
        self._inference = self._runner = None
        self._running = self._active = False

    # -- running -----------------------------------------------------------------------------------------------------

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _begin(self) -> None:
        assert self._runner is not None
        if self._pending_limits is not None:
            self._runner.use_limits(self._pending_limits)
        stopping = self._runner.trajectory
        self._rest_ns = stopping.end_ns if stopping is not None else 0
        outside = self._runner.outside_faults
        self._runner.reset()
        for fault in outside:
            self._runner.report(fault)
        self._gripper.forget()
        self._events.clear()
        self._sent, self._shown = 0, ()
        self._running = True
        self._markers_out.publish(workspace_markers(self._runner.limits, self._now_ns()))

    def _end(self) -> None:
        if self._runner is None or not self._running:
            return
        self._runner.stop(self._now_ns())
        self._send()
        self._publish_status()
        self._running = False

    def _step(self) -> None:
        """One control step."""
        if self._runner is None:
            return
        runner, steady_s = self._runner, time.monotonic()
        now_ns = self._now_ns()
        starved = steady_s - self._last_step_s > _STARVED_S
        self._last_step_s = steady_s
        # After a moment without processor time what has come meanwhile is heard before it is called missing.
        if self._running and now_ns > 0 and not starved and not 0 < self._rest_ns - now_ns < _LONGEST_STOP_NS:
            for reason, until in list(self._events.items()):
                if steady_s > until:
                    del self._events[reason]
                    runner.clear(reason)
            if not self._values["dry_run"]:
                self._look_after_robot()
            runner.step(now_ns, steady_s)
            self._send()
            while runner.gripper_actions:
                action = runner.gripper_actions.popleft()
                if not self._values["dry_run"]:
                    self._gripper.want(action)
            self._publish_action(now_ns)
        state = (runner.state, str(runner.faults[0].reason) if runner.faults else "", self._running)
        if state != self._shown:
            self._shown = state
            self._log_state()
            self._publish_status()
        elif steady_s - self._last_status_s > _STATUS_S:
            self._publish_status()
        if steady_s - self._last_report_s > _REPORT_S:
            self._last_report_s = steady_s
            self._report()

    def _look_after_robot(self) -> None:
        """Faults that are found by asking rather than by being told."""
        assert self._runner is not None
        problem = self._arm.problem()
        if problem is not None:
            self._runner.report(problem)
        elif Reason.CONTROLLER not in self._events:
            self._runner.clear(Reason.CONTROLLER)
        if self._runner.state is RunState.INACTIVE:
            missing = self._gripper.problem()
            if missing is not None:
                self._runner.report(missing)
            else:
                self._runner.clear(Reason.GRIPPER)
        elif self._runner.state is not RunState.STOPPED:
            self._gripper.update()

    def _send(self) -> None:
        """Sends the trajectory if it is a new one."""
        assert self._runner is not None
        trajectory = self._runner.trajectory
        if trajectory is None or self._runner.revision == self._sent:
            return
        self._sent = self._runner.revision
        if not self._values["dry_run"]:
            self._arm.send(trajectory)
        if self._path_out.get_subscription_count():
            self._path_out.publish(path_message(trajectory))

    def _publish_action(self, now_ns: int) -> None:
        """What is commanded for the coming control period, so that a recorded run is training data."""
        assert self._runner is not None
        if self._runner.trajectory is None or not self._action_out.get_subscription_count():
            return
        ahead = round(1e9 / self._runner.settings.control_rate_hz)
        # Steps are taken by the machine's clock; a simulation may be slower, and its steps are what counts here.
        if abs(now_ns - self._last_action_ns) < ahead - _EARLY_NS:
            return
        self._last_action_ns = now_ns
        positions, _ = self._runner.trajectory.sample(now_ns + ahead)
        message = CommandedAction(joint_names=list(ARM_JOINTS), joint_positions=positions.tolist())
        message.header.stamp, message.header.frame_id = time_message(now_ns), topics.BASE_FRAME
        message.gripper_width = float(self._runner.gripper.width)
        message.end_effector_pose = tcp_pose(positions)
        self._action_out.publish(message)

    # -- what others say -----------------------------------------------------------------------------------------------

    def _on_arm_fault(self, fault: Fault) -> None:
        if self._runner is not None:
            self._events[fault.reason] = time.monotonic() + _EVENT_S
            self._runner.report(fault)

    def _on_gripper_fault(self, fault: Fault | None) -> None:
        if self._runner is None:
            return
        if fault is None:
            self._runner.clear(Reason.GRIPPER)
        else:
            self._runner.report(fault)

    def _on_description(self, text: str) -> None:
        """Joint limits come from the robot's own URDF where there is one; they take effect with the next start."""
        try:
            limits = motion_limits(self._robot, text)
        except RealdiffError as error:
            self.get_logger().error(str(error))
            if self._runner is not None:
                self._runner.report(Fault(Reason.ROBOT_DESCRIPTION, error.what))
            return
        self._pending_limits = limits
        if self._runner is not None:
            self._runner.clear(Reason.ROBOT_DESCRIPTION)
        if self._runner is not None and self._runner.state is RunState.INACTIVE:
            self._runner.use_limits(limits)
            self.get_logger().info("joint limits are the robot description's")

    # -- services -----------------------------------------------------------------------------------------------------

    def _on_start(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._active:
            response.message = "the node isn't active: activate it first"
            return response
        assert self._runner is not None
        if self._running and self._runner.state in (RunState.RUNNING, RunState.HOLD):
            response.message = "the policy runs already: stop it first"
            return response
        self._begin()
        response.success, response.message = True, "the policy runs as soon as all inputs are there"
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._end()
        response.success, response.message = True, "the arm has been told to stop"
        return response

    def _on_recover(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begins the three steps; how they end is logged and seen in the status."""
        if self._recoverer.busy:
            response.message = "a recovery is under way already"
            return response

        def done(problem: str) -> None:
            if problem:
                self.get_logger().error(f"error recovery failed: {problem}")
            else:
                self.get_logger().info("error recovery: the arm can move again")

        self._recoverer.start(done)
        response.success, response.message = True, "error recovery has begun"
        return response

    # -- reports -------------------------------------------------------------------------------------------------------

    def _log_state(self) -> None:
        assert self._runner is not None
        faults = "; ".join(str(fault) for fault in self._runner.faults)
        state = self._runner.state
        if state is RunState.RUNNING:
            self.get_logger().info("running")
        elif state is RunState.INACTIVE:
            if faults and self._running:
                self.get_logger().info(f"waiting: {faults}", throttle_duration_sec=2.0)
        elif faults:
            self.get_logger().warning(f"{state.name.lower()}: {faults}")
        else:
            self.get_logger().info(state.name.lower())

    def _publish_status(self) -> None:
        assert self._runner is not None
        self._last_status_s = time.monotonic()
        runner = self._runner
        figures = runner.statistics.summary()
        state = runner.state.value if self._running else PolicyStatus.INACTIVE
        message = PolicyStatus(
            state=state,
            reason="; ".join(str(fault) for fault in runner.faults) if state != PolicyStatus.RUNNING else "",
            policy=str(self._values["bundle"]),
            observation_age_p50_ms=figures["observation_age_p50_ms"],
            observation_age_p99_ms=figures["observation_age_p99_ms"],
            inference_p50_ms=figures["inference_p50_ms"],
            inference_p99_ms=figures["inference_p99_ms"],
            missed_deadlines=int(figures["missed_deadlines"]),
            rejected_actions=int(figures["rejected"]),
        )
        message.header.stamp = time_message(max(self._now_ns(), 0))
        self._status_out.publish(message)

    def _report(self) -> None:
        assert self._runner is not None
        runner = self._runner
        level, text = DiagnosticStatus.OK, runner.state.name.lower()
        if runner.faults and self._running:
            level = DiagnosticStatus.ERROR if runner.state is not RunState.INACTIVE else DiagnosticStatus.WARN
            text = str(runner.faults[0])
        figures = runner.statistics.summary()
        values = [KeyValue(key=key, value=f"{value:.6g}") for key, value in figures.items()]
        values.append(KeyValue(key="dry_run", value=str(bool(self._values["dry_run"])).lower()))
        status = DiagnosticStatus(
            level=level, name=f"{NODE_NAME}: policy", message=text, hardware_id=self._robot.name, values=values
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = time_message(max(self._now_ns(), 0))
        self._diagnostics_out.publish(array)


def main(args: list[str] | None = None) -> None:
    """Runs the node until it is stopped."""
    # rclpy's own handlers shut the context down before the arm could be told to stop.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node: DiffusionPolicyNode | None = None
    try:
        node = DiffusionPolicyNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stop.is_set() and rclpy.ok():
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()

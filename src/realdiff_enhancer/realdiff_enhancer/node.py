"""The lifecycle node `depth_enhancer`: a clean depth topic in, an enhanced one out.

It converts, calls `StreamEnhancer` and reports. Messages are received and published in serialised form, so that a 30 Hz
640×480 stream costs two memory copies a frame beside the model. The executor's thread only queues; a worker enhances.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy._rclpy_pybind11 import RCLError
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from realdiff_core.camera import CameraModel
from realdiff_core.config import camera_profile
from realdiff_core.errors import RealdiffError
from realdiff_core.node_parameters import Parameter
from realdiff_core.provenance import BagProvenance, DepthKind, EnhancementRecord, check_can_enhance
from realdiff_core.topics import ENHANCED_PREFIX, PROVENANCE, camera_info_topic
from sensor_msgs.msg import CameraInfo, Image

from realdiff_enhancer.memory import keep_freed_memory
from realdiff_enhancer.models.base import settings_sha256
from realdiff_enhancer.models.registry import create_model
from realdiff_enhancer.node_parameters import PARAMETERS
from realdiff_enhancer.stream import StreamEnhancer, StreamResult
from realdiff_msgs.msg import EnhancerStatus, Provenance

NODE_NAME = "depth_enhancer"

_PATIENCE_S = 2.0
"""How long the first frames wait for camera_info and provenance, which may arrive after them."""

_REPORT_S = 1.0
_LATCHED = QoSProfile(
    depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)
_LATCHED_BY_SEVERAL = QoSProfile(
    depth=20, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)
"""A reader's depth counts the samples of all publishers together: with 1, our own record can push out the source's."""


class DepthEnhancer(LifecycleNode):
    """The node; parameters are described in `node_parameters`."""

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        for item in PARAMETERS:
            self.declare_parameter(item.name, item.default, _descriptor(item))
        self._stream: StreamEnhancer | None = None
        self._worker: threading.Thread | None = None
        self._arrived = threading.Condition()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._stopping = False
        self._camera_info: CameraInfo | None = None
        self._source: BagProvenance | None = None
        self._handles: list[tuple[Any, Any]] = []
        self._counts = {"received": 0, "enhanced": 0, "dropped": 0, "refused": 0}
        self._latencies: list[float] = []
        self._reported = (time.monotonic(), 0)
        self._hole_rate = 0.0
        self._problem = ""

    # -- lifecycle -----------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model and opens the topics."""
        values = {item.name: self.get_parameter(item.name).value for item in PARAMETERS}
        try:
            self._profile = camera_profile(values["profile"])
            model = create_model(
                values["model"],
                profile=self._profile,
                steps=values["steps"] or None,
                device=values["device"],
                weights=values["weights"] or None,
                batch=1,
            )
        except RealdiffError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._override = bool(values["override_provenance"])
        self._queue_size = int(values["queue_size"])
        self._input = self.resolve_topic_name(values["input_topic"])
        self._output = ENHANCED_PREFIX + self._input if not values["output_topic"] else values["output_topic"]
        self._output = self.resolve_topic_name(self._output)
        self._stream = StreamEnhancer(model, self._input, int(values["seed"]))
        self._steps = values["steps"] or None
        self._open_topics()
        self.get_logger().info(f"{model.name}: {self._input} -> {self._output}")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts the worker; the input's provenance is checked with the first frame."""
        assert self._stream is not None
        self._stream.restart()
        self._counts = dict.fromkeys(self._counts, 0)
        self._problem = ""
        self._reported = (time.monotonic(), 0)
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name="enhance", daemon=True)
        self._worker.start()
        self._provenance_out.publish(self._provenance_message())
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops the worker after the frame in hand."""
        self._stop_worker()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Closes the topics and frees the model."""
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops whatever still runs."""
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stops the worker before the node goes."""
        self._stop_worker()
        super().destroy_node()

    def _open_topics(self) -> None:
        # Best effort matches publishers of either kind; the shared-memory transport loses nothing at this depth.
        images = QoSProfile(depth=self._queue_size, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        infos = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=self._queue_size, reliability=QoSReliabilityPolicy.RELIABLE)
        sibling = camera_info_topic(self._output)
        self._image_out = self.create_publisher(Image, self._output, reliable)
        self._info_out = self.create_publisher(CameraInfo, sibling, reliable)
        self._discrepancy_out = self.create_publisher(Image, f"{self._output.rpartition('/')[0]}/discrepancy", reliable)
        self._provenance_out = self.create_publisher(Provenance, PROVENANCE, _LATCHED)
        self._status_out = self.create_publisher(EnhancerStatus, "~/status", 10)
        self._diagnostics_out = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        warn = SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos)
        subscriptions = (
            self.create_subscription(Image, self._input, self._on_image, images, raw=True, event_callbacks=warn),
            self.create_subscription(CameraInfo, camera_info_topic(self._input), self._on_camera_info, infos),
            self.create_subscription(Provenance, PROVENANCE, self._on_provenance, _LATCHED_BY_SEVERAL),
        )
        self._handles = [(self.destroy_subscription, subscription) for subscription in subscriptions]
        self._handles += [
            (self.destroy_publisher, handle)
            for handle in (
                self._image_out,
                self._info_out,
                self._discrepancy_out,
                self._provenance_out,
                self._status_out,
                self._diagnostics_out,
            )
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # reports also while simulation time stands still
        self._handles.append((self.destroy_timer, self.create_timer(_REPORT_S, self._report, clock=steady)))

    def _close(self) -> None:
        self._stop_worker()
        for destroy, handle in self._handles:
            destroy(handle)
        self._handles = []
        self._stream = self._camera_info = self._source = None

    def _stop_worker(self) -> None:
        if self._worker is None:
            return
        with self._arrived:
            self._stopping = True
            self._queue.clear()
            self._arrived.notify_all()
        self._worker.join()
        self._worker = None

    # -- input (executor's thread) -------------------------------------------------------------------------------

    def _on_image(self, raw: bytes) -> None:
        if self._worker is None:
            return
        with self._arrived:
            self._counts["received"] += 1
            if len(self._queue) >= self._queue_size:
                self._queue.popleft()
                self._counts["dropped"] += 1
            self._queue.append((time.monotonic(), raw))
            self._arrived.notify_all()

    def _on_camera_info(self, message: CameraInfo) -> None:
        with self._arrived:
            self._camera_info = message
            self._arrived.notify_all()

    def _on_provenance(self, message: Provenance) -> None:
        if self._input not in message.topics:
            return  # of another stream, perhaps our own output
        kinds = {kind.msg_value: kind for kind in DepthKind}
        kind = kinds.get(message.kinds[list(message.topics).index(self._input)])
        with self._arrived:
            self._source = BagProvenance(depth={self._input: kind} if kind else {}, source="simulation")
            self._arrived.notify_all()

    def _on_incompatible_qos(self, event: Any) -> None:
        self.get_logger().warning(
            f"{self._input}: a publisher's QoS doesn't fit (policy {event.last_policy_kind}); nothing arrives from it",
            throttle_duration_sec=10.0,
        )

    # -- worker --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._arrived:
                while not self._queue and not self._must_stop():
                    self._arrived.wait()
                if self._must_stop():
                    return
                waiting_until = self._queue[0][0] + _PATIENCE_S
                while not self._must_stop() and not self._complete() and (left := waiting_until - time.monotonic()) > 0:
                    self._arrived.wait(left)
                if self._must_stop():
                    return
                received, raw = self._queue.popleft()
                info, source = self._camera_info, self._source
            try:
                check_can_enhance(source, self._input, self._override)
                result = self._enhance(raw, info)
                self._publish(result, info)
            except RCLError:
                if self.context.ok():
                    raise
                return  # a signal has shut the context down between enhancing and publishing
            except RealdiffError as error:
                self._counts["refused"] += 1
                self._problem = str(error)
                self.get_logger().error(self._problem, throttle_duration_sec=5.0)
                continue
            self._counts["enhanced"] += 1
            self._latencies.append(time.monotonic() - received)
            self._hole_rate = result.hole_rate
            self._problem = ""

    def _must_stop(self) -> bool:
        return self._stopping

    def _complete(self) -> bool:
        return self._camera_info is not None and (self._source is not None or self._override)

    def _enhance(self, raw: bytes, info: CameraInfo | None) -> StreamResult:
        assert self._stream is not None
        if info is None:
            topic = camera_info_topic(self._input)
            raise RealdiffError(
                "camera_info is missing",
                where=self._input,
                expected=f"a message on {topic}",
                got=f"none within {_PATIENCE_S:g} s",
                next_step=f"publish {topic} with the camera's intrinsics",
            )
        camera = CameraModel.from_camera_info(info, baseline_m=self._profile.baseline_m)
        return self._stream.process(raw, camera)

    def _publish(self, result: StreamResult, info: CameraInfo | None) -> None:
        self._image_out.publish(result.data)
        if info is not None:
            stamp = Time(sec=result.image.stamp_ns // 10**9, nanosec=result.image.stamp_ns % 10**9)
            header = type(info.header)(stamp=stamp, frame_id=result.image.frame_id)
            fields = {name: getattr(info, name) for name in info.get_fields_and_field_types() if name != "header"}
            self._info_out.publish(CameraInfo(header=header, **fields))
            if result.discrepancy is not None and self._discrepancy_out.get_subscription_count():
                self._discrepancy_out.publish(_discrepancy_image(result.discrepancy, header))

    # -- reports -------------------------------------------------------------------------------------------------

    def _provenance_message(self) -> Provenance:
        assert self._stream is not None
        model = self._stream.model
        record = EnhancementRecord(
            model=model.name,
            weights_sha256=model.weights_sha256,
            settings_sha256=settings_sha256(model),
            profile=self._profile.name,
            seed=self._stream.seed,
            steps=self._steps,
            history=model.history,
        )
        whole = BagProvenance(
            depth={self._output: DepthKind.ENHANCED},
            source="simulation",
            camera_profile=self._profile.name,
            enhancement=record,
        )
        message = Provenance(
            topics=[self._output],
            kinds=[DepthKind.ENHANCED.msg_value],
            camera_profile=self._profile.name,
            model=model.name,
            weights_sha256=model.weights_sha256 or "",
            seed=self._stream.seed,
            details_json=whole.to_json(),
        )
        message.header.stamp = self.get_clock().now().to_msg()
        return message

    def _report(self) -> None:
        if self._stream is None:
            return
        now, counts = time.monotonic(), dict(self._counts)
        since, before = self._reported
        latencies, self._latencies = np.array(self._latencies) * 1e3, []
        rate = max(0, counts["enhanced"] - before) / max(now - since, 1e-6)
        self._reported = (now, counts["enhanced"])
        p50, p99 = (float(v) for v in np.percentile(latencies, (50, 99))) if len(latencies) else (0.0, 0.0)
        stamp = self.get_clock().now().to_msg()
        status = EnhancerStatus(
            model=self._stream.model.name,
            input_topic=self._input,
            output_topic=self._output,
            rate_hz=rate,
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            hole_rate=self._hole_rate,
            **{f"frames_{name}": count for name, count in counts.items()},
        )
        status.header.stamp = stamp
        self._status_out.publish(status)
        level, text = DiagnosticStatus.OK, "enhancing" if counts["enhanced"] else "waiting for depth"
        if counts["dropped"]:
            level, text = DiagnosticStatus.WARN, "too slow for this rate: frames were dropped"
        if self._problem:
            level, text = DiagnosticStatus.ERROR, self._problem.splitlines()[0]
        values = {**counts, "rate_hz": f"{rate:.2f}", "latency_p50_ms": f"{p50:.1f}", "latency_p99_ms": f"{p99:.1f}"}
        diagnostic = DiagnosticStatus(
            level=level,
            name=f"{NODE_NAME}: {self._input}",
            message=text,
            hardware_id=self._stream.model.name,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[diagnostic])
        array.header.stamp = stamp
        self._diagnostics_out.publish(array)


def _discrepancy_image(discrepancy: np.ndarray, header: Any) -> Image:
    import array

    height, width = discrepancy.shape
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(discrepancy, np.float32).tobytes())
    return Image(header=header, height=height, width=width, encoding="32FC1", step=4 * width, data=data)


def _descriptor(item: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=item.description, read_only=True)
    if item.bounds is not None:
        low, high = (int(bound) for bound in item.bounds)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return descriptor


def main(args: list[str] | None = None) -> None:
    """Entry point of `ros2 run realdiff_enhancer depth_enhancer`."""
    keep_freed_memory()
    rclpy.init(args=args)
    node: DepthEnhancer | None = None
    try:
        node = DepthEnhancer()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # Not spin(): its wait has no limit, and a signal that arrives just before it is not seen.
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.2)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()

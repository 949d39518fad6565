#!/usr/bin/env python3
"""Node for the tests: a topic, a latched topic, a service, an action, parameters."""

import signal
import sys

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool
from test_msgs.action import Fibonacci


def main() -> None:
    if "--stubborn" in sys.argv:
        # For the launch tests: only SIGKILL ends it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    rclpy.init()
    try:
        node = rclpy.create_node("talker")
        node.declare_parameter("text", "hello")
        node.declare_parameter("gains", [1.0, 2.0])
        node.declare_parameter("arm.speed", 0.5)
        node.declare_parameter("on", False)
        chatter = node.create_publisher(String, "chatter", 10)
        headers = node.create_publisher(Header, "headers", 10)
        latched = node.create_publisher(
            String, "latched", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        )
        latched.publish(String(data="kept"))
        group = ReentrantCallbackGroup()

        def tick() -> None:
            chatter.publish(String(data=node.get_parameter("text").value))
            headers.publish(Header(frame_id="map"))

        def switch(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
            response.success, response.message = request.data, f"switched {'on' if request.data else 'off'}"
            return response

        def count(goal: object) -> Fibonacci.Result:
            feedback, result = Fibonacci.Feedback(), Fibonacci.Result()
            values = [0, 1]
            while len(values) <= goal.request.order:
                if goal.is_cancel_requested:
                    print("goal canceled", flush=True)
                    goal.canceled()
                    return result
                values.append(values[-1] + values[-2])
                feedback.sequence = values
                goal.publish_feedback(feedback)
                node.get_clock().sleep_for(rclpy.duration.Duration(seconds=0.05))
            goal.succeed()
            result.sequence = values
            return result

        ActionServer(
            node, Fibonacci, "count", count, callback_group=group, cancel_callback=lambda _: CancelResponse.ACCEPT
        )
        node.create_service(SetBool, "switch", switch)
        node.create_timer(0.05, tick)
        print(f"ready {node.get_fully_qualified_name()} text={node.get_parameter('text').value!r}", flush=True)
        executor = MultiThreadedExecutor(num_threads=3)
        executor.add_node(node)
        # Not spin(): its wait without a limit now and then sleeps through SIGTERM.
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.2)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        # The timer may publish just when a signal has shut the context down.
        if rclpy.ok():
            raise
    print("talker leaves", flush=True)


if __name__ == "__main__":
    main()

"""The node lives on: an exploding scene and a failing request, in this process so that they can be made to happen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from realdiff_core.ros_domain import free_domain
from sim_fixtures import needs_gl

rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")
pytest.importorskip("controller_manager_msgs.srv", reason="controller_manager_msgs isn't built")
pytestmark = [needs_gl, pytest.mark.graph]


@pytest.fixture
def bridge() -> Iterator:
    from rclpy.executors import SingleThreadedExecutor
    from realdiff_sim_bridge.bridge.node import SimBridge

    parameters = ("width:=64", "height:=48", "rate:=2.0", "real_time_factor:=0.0")
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    rclpy.init(domain_id=free_domain(), args=["--ros-args", *arguments])
    node = SimBridge()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.executor_for_test = executor
    yield node
    node.close()
    node.destroy_node()
    rclpy.shutdown()


def _run(bridge, steps: int, before_step) -> None:
    count = iter(range(steps))

    def stopped() -> bool:
        step = next(count, None)
        if step is not None:
            before_step(step)
        return step is None

    bridge.run(bridge.executor_for_test, stopped)


def test_an_exploding_scene_is_reset(bridge) -> None:
    seed, stamps = bridge.session.seed, []

    def explode(step: int) -> None:
        stamps.append(bridge.session.time_ns)
        if step == 5:
            bridge.session._simulator.data.qvel[:] = 1e7

    _run(bridge, 30, explode)
    assert bridge.session.seed == seed + 1
    assert bridge.session.episode == 1
    assert stamps == sorted(stamps)  # time doesn't go back
    assert stamps[-1] > stamps[10]


def test_a_request_that_fails_is_reported_and_the_next_is_served(bridge) -> None:
    from std_srvs.srv import Trigger

    served = []

    def handler(_, response):
        served.append(1)
        if len(served) == 1:
            raise RuntimeError("a defect")
        return response

    bridge.create_service(Trigger, "~/fragile", handler)
    client = bridge.create_client(Trigger, "/sim_bridge/fragile")
    futures = []

    def ask(step: int) -> None:
        if step in (10, 60):
            futures.append(client.call_async(Trigger.Request()))

    _run(bridge, 200, ask)
    assert len(served) == 2
    assert futures[1].done()

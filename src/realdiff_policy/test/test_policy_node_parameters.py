"""The node as a real process over DDS: parameters that it refuses when it is configured."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from policy_graph import Client, start_node
from realdiff_core.ros_domain import free_domain

pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("franka_msgs.action", reason="franka_msgs isn't built")
pytestmark = pytest.mark.graph


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bundle": ""}, "no policy is given"),
        ({"loader": "scripted_policy:nothing"}, "loader can't be imported"),
        ({"command_mode": "telepathy"}, "topic or action"),
        ({"blend_s": -1.0}, "parameter blend_s is wrong"),
        ({"robot": "fr4"}, "fr3.yaml"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path: Path, parameters: dict, message: str) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    domain = free_domain()
    client = Client(domain)
    process = start_node(tmp_path, domain, **parameters)
    try:
        service = client.node.create_client(ChangeState, "/diffusion_policy/change_state")
        assert service.wait_for_service(timeout_sec=20.0)
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        future = service.call_async(request)
        client.executor.spin_until_future_complete(future, timeout_sec=30.0)
        assert not future.result().success
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=20)[0]
        assert message in output
        assert "Traceback" not in output
    finally:
        client.close()
        process.kill()

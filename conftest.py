"""What all tests share: a ROS domain of their own, the data folder, skips with a reason."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest
from realdiff_core.ros_domain import free_domain

ROOT = Path(__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    """Keeps the graphs of a test run apart from a user's robot and from other runs; makes Ctrl-C testable."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs so, and children would inherit it: no test could interrupt anything.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests read what the processes they start print, line by line: it must not wait in a buffer.
    os.environ["PYTHONUNBUFFERED"] = "1"
    # Workers of pytest-xdist inherit the first process's variables; each needs a domain of its own.
    if "REALDIFF_TEST_DOMAIN" not in os.environ or hasattr(config, "workerinput"):
        os.environ["REALDIFF_TEST_DOMAIN"] = str(free_domain(for_good=True))
    os.environ["ROS_DOMAIN_ID"] = os.environ["REALDIFF_TEST_DOMAIN"]
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips graphs where no ROS 2 is to be had or the workspace isn't built; gives the others a second chance.

    Several processes with deadlines in wall time share two cores with whoever else is on the machine. What fails twice
    fails; what is run again is named in the summary.
    """
    if not any(item.get_closest_marker("graph") for item in items):
        return
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item in items:
            if item.get_closest_marker("graph"):
                item.add_marker(pytest.mark.flaky(reruns=1))
    reason = _why_no_graph()
    if reason:
        for item in items:
            if item.get_closest_marker("graph"):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_graph() -> str | None:
    for module in ("rclpy", "realdiff_msgs"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not importable: use ./run test, or source ROS 2 and the built workspace"
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real depth frames: REALDIFF_SHARED_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("REALDIFF_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real depth frames here ({folder}); set REALDIFF_SHARED_DATA")
    return folder

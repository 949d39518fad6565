"""Free ROS domains: not those of participants, not those that another process has just been given."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator

import pytest
from core_bags import subprocess_environment

from realdiff_core import ros_domain

_ASK = """
import sys
from realdiff_core.ros_domain import free_domain
print(*(free_domain() for _ in range(8)), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_reservations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What tests reserve is given back; what the test run holds stays."""
    monkeypatch.setattr(ros_domain, "_for_good", [])
    monkeypatch.setattr(ros_domain, "_latest", deque(maxlen=8))
    yield
    for reservation in (*ros_domain._for_good, *ros_domain._latest):
        reservation.close()


def _some(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """Leaves only the first domains to choose from."""
    monkeypatch.setattr(ros_domain, "_LARGEST", largest)


@pytest.mark.parametrize("offset", [10, 11])
def test_a_domain_with_a_participant_is_left_alone(monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
    domain = ros_domain.free_domain()
    ros_domain._latest.pop().close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", 7400 + 250 * domain + offset))
        assert ros_domain._has_participant(domain)
        monkeypatch.setattr(ros_domain.random.SystemRandom, "sample", lambda *_: [domain])
        with pytest.raises(RuntimeError, match="in use"):
            ros_domain.free_domain()
    assert ros_domain.free_domain() == domain


def test_processes_that_ask_at_once_get_different_domains() -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", _ASK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=subprocess_environment(),
        )
        for _ in range(4)
    ]
    given = [int(domain) for process in asking for domain in process.stdout.readline().split()]
    for process in asking:
        process.communicate("")
    assert len(given) == 32
    assert len(set(given)) == 32


def test_reservations_pass_but_those_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    _some(monkeypatch, 30)
    kept = ros_domain.free_domain(for_good=True)
    later = [ros_domain.free_domain() for _ in range(100)]
    assert kept not in later
    assert all(len(set(later[k : k + 8])) == 8 for k in range(92))
    assert set(later) > set(later[:8])

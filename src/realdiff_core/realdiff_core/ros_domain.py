"""ROS domains that nobody uses on this machine: graphs of tests, of the bench and of the demonstration run apart."""

from __future__ import annotations

import random
import socket
from collections import deque

__all__ = ["free_domain"]

_LARGEST = 100
"""Linux hands out the ports of higher domains (from 32768 on, domain 102) to any program that asks for one."""

_RESERVED = 249
"""Offset of a domain's last port, that of a 120th participant: bound here, it tells other processes "taken"."""

_for_good: list[socket.socket] = []
_latest: deque[socket.socket] = deque(maxlen=8)
"""Until participants are there to be found; eight domains later, those of the first run or have ended."""


def free_domain(*, for_good: bool = False) -> int:
    """Returns a ROS domain (1 to 100) in which no participant runs on this machine.

    A domain's first participant takes UDP ports 7400 + 250·domain + 10 and + 11 (DDSI-RTPS 2.2, 9.6.1.1). Processes
    that ask at the same time get different domains.

    Args:
        for_good: Nobody else gets this domain while this process lives, also when nothing runs in it.

    Raises:
        RuntimeError: All domains are in use.
    """
    for domain in random.SystemRandom().sample(range(1, _LARGEST + 1), _LARGEST):
        reservation = _bound(domain, _RESERVED)
        if reservation is None:
            continue
        if not _has_participant(domain):
            (_for_good if for_good else _latest).append(reservation)
            return domain
        reservation.close()
    raise RuntimeError(f"all ROS domains from 1 to {_LARGEST} are in use on this machine; end what runs there")


def _has_participant(domain: int) -> bool:
    for offset in (10, 11):
        probe = _bound(domain, offset)
        if probe is None:
            return True
        probe.close()
    return False


def _bound(domain: int, offset: int) -> socket.socket | None:
    """Returns a socket on a port of a domain, or None if another has it."""
    result = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        result.bind(("", 7400 + 250 * domain + offset))
    except OSError:
        result.close()
        return None
    return result

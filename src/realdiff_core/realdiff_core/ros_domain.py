"""ROS domains that nobody uses on this machine: graphs of tests, of the bench and of the demonstration run apart."""

from __future__ import annotations

import random
import socket

__all__ = ["free_domain"]

_LARGEST = 100
"""Linux hands out the ports of higher domains (from 32768 on, domain 102) to any program that asks for one."""


def free_domain() -> int:
    """Returns a ROS domain (1 to 100) in which no participant runs on this machine.

    A domain's first participant takes UDP ports 7400 + 250·domain + 10 and + 11 (DDSI-RTPS 2.2, 9.6.1.1).

    Raises:
        RuntimeError: All domains are in use.
    """
    for domain in random.SystemRandom().sample(range(1, _LARGEST + 1), _LARGEST):
        if _is_free(domain):
            return domain
    raise RuntimeError(f"all ROS domains from 1 to {_LARGEST} are in use on this machine; end what runs there")


def _is_free(domain: int) -> bool:
    for offset in (10, 11):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain + offset))
            except OSError:
                return False
    return True

"""The process in which a policy lives: `python -m realdiff_policy.runtime.worker FD LOADER BUNDLE DEVICE`.

It answers requests on a socket until the other end closes. A policy that crashes, hangs or eats the memory takes this
process with it and not the one that commands the robot.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from realdiff_core.errors import ConfigError, RealdiffError

from realdiff_policy.contract import Policy
from realdiff_policy.runtime.inference import ask

_PR_SET_PDEATHSIG = 1


def find_loader(name: str) -> Callable[[str, str], Policy]:
    """Imports a loader.

    Args:
        name: "module:function"; the function takes the bundle's path and the device.

    Raises:
        ConfigError: There is no such function.
    """
    module, _, function = name.partition(":")
    try:
        loader = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            "the policy's loader can't be imported",
            where=name,
            expected="module:function",
            got=f"{type(error).__name__}: {error}",
            next_step="check the parameter `loader` and PYTHONPATH",
        ) from error
    if not callable(loader):
        raise ConfigError("the policy's loader isn't a function", where=name, got=type(loader).__name__)
    return loader


def serve(connection: Connection, loader: str, bundle: str, device: str) -> int:
    """Loads the policy, says that it is ready, and answers until the other end closes."""
    try:
        policy = find_loader(loader)(bundle, device)
    except RealdiffError as error:
        connection.send(("failed", str(error)))
        return error.exit_code
    except Exception as error:  # a bundle is a stranger's data: whatever it does wrong is to be told, not thrown
        connection.send(("failed", f"{bundle} can't be loaded: {type(error).__name__}: {error}"))
        return 1
    connection.send(("ready", policy.contract.model_dump_json()))
    while True:
        number, observation, seed = connection.recv()
        began = time.perf_counter()
        actions, problem = ask(policy, observation, seed)
        connection.send((number, actions, problem, time.perf_counter() - began))


def main() -> int:
    """Entry point of the process."""
    descriptor, loader, bundle, device = sys.argv[1:5]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which then closes the socket
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        return serve(Connection(int(descriptor)), loader, bundle, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())

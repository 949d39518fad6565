"""QoS profiles from options and from the graph."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.qos import QoSProfile

# The keys of rclpy, kept here so that --help does not import it.
_PROFILES = [
    "unknown",
    "default",
    "system_default",
    "sensor_data",
    "services_default",
    "parameters",
    "parameter_events",
    "action_status_default",
    "best_available",
]
_RELIABILITY = ["system_default", "reliable", "best_effort", "unknown", "best_available"]
_DURABILITY = ["system_default", "transient_local", "volatile", "unknown", "best_available"]
_HISTORY = ["system_default", "keep_last", "keep_all", "unknown"]
_LIVELINESS = ["system_default", "automatic", "manual_by_topic", "unknown", "best_available"]


def add_qos_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the --qos-… options.

    Args:
        parser: Parser.
        default: Profile that they change.
    """
    parser.add_argument(
        "--qos-profile", choices=_PROFILES, default=default, help=f"preset QoS profile (default: {default})"
    )
    parser.add_argument("--qos-depth", metavar="N", type=int, help="queue size")
    parser.add_argument("--qos-history", choices=_HISTORY, help="history of samples")
    parser.add_argument("--qos-reliability", choices=_RELIABILITY, help="reliability")
    parser.add_argument("--qos-durability", choices=_DURABILITY, help="durability")
    parser.add_argument("--qos-liveliness", choices=_LIVELINESS, help="liveliness")
    parser.add_argument("--qos-liveliness-lease-duration-seconds", metavar="S", type=float, help="liveliness lease")


def is_given(args: argparse.Namespace) -> bool:
    """Return whether any part of the profile was given on the command line."""
    return any(
        value is not None for name, value in vars(args).items() if name.startswith("qos_") and name != "qos_profile"
    )


def from_arguments(args: argparse.Namespace) -> QoSProfile:
    """Return the profile that the options describe."""
    from rclpy import qos
    from rclpy.duration import Duration

    # A copy: rclpy hands out the preset itself.
    profile: QoSProfile = copy(qos.QoSPresetProfiles.get_from_short_key(args.qos_profile))
    if args.qos_history:
        profile.history = qos.QoSHistoryPolicy.get_from_short_key(args.qos_history)
    if args.qos_durability:
        profile.durability = qos.QoSDurabilityPolicy.get_from_short_key(args.qos_durability)
    if args.qos_reliability:
        profile.reliability = qos.QoSReliabilityPolicy.get_from_short_key(args.qos_reliability)
    if args.qos_liveliness:
        profile.liveliness = qos.QoSLivelinessPolicy.get_from_short_key(args.qos_liveliness)
    if args.qos_liveliness_lease_duration_seconds is not None:
        profile.liveliness_lease_duration = Duration(seconds=args.qos_liveliness_lease_duration_seconds)
    if args.qos_depth is not None:
        profile.depth = args.qos_depth
    elif profile.durability == qos.QoSDurabilityPolicy.TRANSIENT_LOCAL and profile.depth == 0:
        profile.depth = 1
    return profile


def matching(publishers: Sequence[Any], profile: QoSProfile) -> tuple[QoSProfile, list[str]]:
    """Make a subscription's profile match the publishers that are there.

    Args:
        publishers: From get_publishers_info_by_topic().
        profile: Profile to change.

    Returns:
        The profile, and notes for the user where the publishers differ.
    """
    from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy

    notes: list[str] = []
    if not publishers:
        return profile, notes

    def choose(name: str, strong: Any, weak: Any) -> Any:
        count = sum(getattr(info.qos_profile, name) == strong for info in publishers)
        if 0 < count < len(publishers):
            kind = type(strong).__name__
            notes.append(
                f"Some, but not all, publishers are offering {kind}.{strong.name}. "
                f"Falling back to {kind}.{weak.name} as it will connect to all publishers"
            )
        return strong if count == len(publishers) else weak

    profile.reliability = choose("reliability", QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT)
    profile.durability = choose("durability", QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSDurabilityPolicy.VOLATILE)
    return profile, notes

"""ros2 bag info."""

from __future__ import annotations

import argparse
from datetime import datetime

import yaml

from .common import add_bag_arguments, open_bag

_NS = 1_000_000_000
_LABEL_WIDTH = 19


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_bag_arguments(parser)
    parser.add_argument("-t", "--topic-name", action="store_true", help="Only display topic names.")
    parser.add_argument("-v", "--verbose", action="store_true", help="QoS of each topic and custom data as well")


def format_size(size: int) -> str:
    """Return a size [B] for people."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def format_duration(duration_ns: int) -> str:
    """Return a time [ns] in seconds, with all nine digits."""
    return f"{duration_ns // _NS}.{duration_ns % _NS:09d}"


def format_time(stamp_ns: int) -> str:
    """Return a time since the epoch [ns] as local date and seconds."""
    local = datetime.fromtimestamp(stamp_ns // _NS)
    day = f"{local:%b} {local.day:>2} {local:%Y}"
    return f"{day} {local:%H:%M:%S}.{stamp_ns % _NS:09d} ({format_duration(stamp_ns)})"


def _lines(label: str, items: list[str]) -> str:
    first, *rest = items or [""]
    return "\n".join([f"{label:<{_LABEL_WIDTH}}{first}", *(" " * _LABEL_WIDTH + item for item in rest)])


def run(args: argparse.Namespace) -> None:
    """Print what a bag holds."""
    with open_bag(args.bag_path) as reader:
        connections = sorted(reader.connections, key=lambda item: item.topic)
        if args.topic_name and not args.verbose:
            for connection in connections:
                print(connection.topic)
            return
        folder = args.bag_path if args.bag_path.is_dir() else args.bag_path.parent
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        files = [folder / name for name in metadata["relative_file_paths"]]
        empty = reader.message_count == 0
        start, end = (0, 0) if empty else (reader.start_time, reader.end_time)
        # rosbags counts the end as one past the last message.
        end -= 0 if empty else 1
        topics = [
            f"Topic: {item.topic} | Type: {item.msgtype} | Count: {item.msgcount} | "
            f"Serialization Format: {getattr(item.ext, 'serialization_format', 'cdr')}"
            for item in connections
        ]
        print()
        print(_lines("Files:", [path.name for path in files]))
        print(_lines("Bag size:", [format_size(sum(path.stat().st_size for path in files if path.exists()))]))
        print(_lines("Storage id:", [metadata["storage_identifier"]]))
        print(_lines("ROS Distro:", [metadata.get("ros_distro") or "unknown"]))
        print(_lines("Duration:", [f"{format_duration(end - start)}s"]))
        print(_lines("Start:", [format_time(start)]))
        print(_lines("End:", [format_time(end)]))
        print(_lines("Messages:", [str(reader.message_count)]))
        print(_lines("Topic information:", topics))
        print(_lines("Service:", ["0"]))
        print("Service information: ")
        if args.verbose:
            qos = [
                f"{item.topic}: {offer.reliability.name}, {offer.durability.name}, {offer.history.name} ({offer.depth})"
                for item in connections
                for offer in getattr(item.ext, "offered_qos_profiles", [])
            ]
            print(_lines("Offered QoS:", qos))
            custom = [f"{name}: {value}" for name, value in (metadata.get("custom_data") or {}).items()]
            print(_lines("Custom data:", custom))

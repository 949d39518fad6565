"""rosbag2 bags without ROS 2: `BagReader` and `BagWriter`, on `rosbags`.

Both stream: their memory doesn't grow with the bag. Messages are passed on as bytes; a topic can be copied without its
type being known. What is written opens in stock ``ros2 bag info/play``, Foxglove and RViz.
"""

from realdiff_core.bag_reader import BagReader
from realdiff_core.bag_types import STORAGES, Compression, QosPreset, RawMessage, Storage, TopicInfo, qos
from realdiff_core.bag_writer import BagWriter

__all__ = [
    "STORAGES",
    "BagReader",
    "BagWriter",
    "Compression",
    "QosPreset",
    "RawMessage",
    "Storage",
    "TopicInfo",
    "qos",
]

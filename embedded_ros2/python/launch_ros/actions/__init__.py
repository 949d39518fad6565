"""Actions that start ROS nodes and set things for them."""

from launch._gaps import module_gaps

from .lifecycle_node import LifecycleNode
from .node import Node
from .settings import (
    PushROSNamespace,
    SetParameter,
    SetParametersFromFile,
    SetRemap,
)

#: Older spelling, which the real package keeps too.
PushRosNamespace = PushROSNamespace

# After LifecycleNode, which its events name.
from .lifecycle_transition import LifecycleTransition  # noqa: E402

__all__ = [
    "LifecycleNode",
    "LifecycleTransition",
    "Node",
    "PushROSNamespace",
    "PushRosNamespace",
    "SetParameter",
    "SetParametersFromFile",
    "SetRemap",
]

__getattr__ = module_gaps(
    "launch_ros.actions",
    ("ComposableNodeContainer", "LoadComposableNodes", "ROSTimer", "RosTimer", "SetROSLogDir", "SetUseSimTime"),
)

"""A small stand-in for ROS 2's launch, for machines where that can't be installed.

It has the import names and the behaviour of launch 3.4 (ROS 2 Jazzy) for the subset that this
project's launch files use. Where the real launch imports, this package is not on the path.
"""

from . import actions, conditions, events, logging, substitutions
from ._gaps import UnsupportedLaunchFeature, module_gaps
from .action import Action
from .condition import Condition
from .event import Event
from .event_handler import EventHandler
from .invalid_launch_file_error import InvalidLaunchFileError
from .launch_context import LaunchContext
from .launch_description import LaunchDescription
from .launch_description_entity import LaunchDescriptionEntity
from .launch_description_source import LaunchDescriptionSource
from .launch_introspector import LaunchIntrospector
from .launch_service import LaunchService
from .some_entities_type import SomeEntitiesType, SomeEntitiesType_types_tuple
from .some_substitutions_type import SomeSubstitutionsType, SomeSubstitutionsType_types_tuple
from .substitution import Substitution

__all__ = [
    "Action",
    "Condition",
    "Event",
    "EventHandler",
    "InvalidLaunchFileError",
    "LaunchContext",
    "LaunchDescription",
    "LaunchDescriptionEntity",
    "LaunchDescriptionSource",
    "LaunchIntrospector",
    "LaunchService",
    "SomeEntitiesType",
    "SomeEntitiesType_types_tuple",
    "SomeSubstitutionsType",
    "SomeSubstitutionsType_types_tuple",
    "Substitution",
    "UnsupportedLaunchFeature",
    "actions",
    "conditions",
    "events",
    "logging",
    "substitutions",
]

__getattr__ = module_gaps("launch", ("descriptions", "frontend"))

"""Base class of events."""


class Event:
    """Something that happened while launching."""

    name = "launch.Event"

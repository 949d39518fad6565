"""Header stamps of image streams: they seed the noise and must make sense."""

from __future__ import annotations

from realdiff_core.errors import BagError


class StampGuard:
    """Check that the header stamps of each topic are not negative and never go backwards.

    Args:
        where: Bag or node whose streams are checked, for the error message.
    """

    def __init__(self, where: object) -> None:
        """Begin without any stamp seen."""
        self.where = where
        self._last: dict[str, int] = {}

    def check(self, topic: str, stamp_ns: int) -> None:
        """Check the next stamp of a topic.

        Args:
            topic: Topic name.
            stamp_ns: Header stamp [ns].

        Raises:
            BagError: The stamp is negative or lies before the previous one.
        """
        last = self._last.get(topic, 0)
        if stamp_ns < 0:
            raise BagError(
                "header stamp is negative",
                where=f"{self.where}, topic {topic}",
                expected="0 ns or later",
                got=f"{stamp_ns} ns",
                next_step="the publisher's clock is wrong: record the topic again",
            )
        if stamp_ns < last:
            raise BagError(
                "header stamps of a topic go backwards",
                where=f"{self.where}, topic {topic}",
                expected=f"{last} ns or later",
                got=f"{stamp_ns} ns",
                next_step="the publisher's clock jumped, or two publishers share the topic: record it again",
            )
        self._last[topic] = stamp_ns

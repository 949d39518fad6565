"""The kinds of objects a task configuration may name: sizes, and what experts and success tests need to know of them.

An object's frame has its z axis upwards when it stands as meant. Lengths in metres.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, model_validator
from realdiff_core.config import Strict

if TYPE_CHECKING:
    from typing_extensions import Self

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lowest value {bounds[0]} of a range exceeds the highest {bounds[1]}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""[lowest, highest]; a reset draws from it uniformly."""


class StartRange(Strict):
    """Where an object may stand after a reset: x and y in metres, yaw in degrees, in the frame "base"."""

    x: Range
    y: Range
    yaw: Range = (0.0, 0.0)


class _Object(Strict):
    """What all kinds have; the properties are overridden where a kind has more to say."""

    lengths: ClassVar[tuple[str, ...]]
    """Fields that grow with the object."""

    symmetry_deg: ClassVar[float] = 360.0
    """It looks the same after this rotation about its z axis; 0 for round objects [°]."""

    mass: PositiveFloat
    colour: tuple[Unit, Unit, Unit]
    start: StartRange

    @property
    def footprint(self) -> float:
        """Radius of a circle about the origin that covers all of it, seen from above [m]."""
        raise NotImplementedError

    @property
    def rest_height(self) -> float:
        """Height of the origin above the surface it stands on [m]."""
        raise NotImplementedError

    @property
    def top(self) -> float:
        """Height of its highest point above the origin [m]."""
        raise NotImplementedError

    @property
    def grip_width(self) -> float | None:
        """Width between the fingers that hold it at the origin, closing along its y axis [m]; None: can't be held."""
        return None

    @property
    def seat(self) -> float | None:
        """Height above the origin of the surface that objects are placed on [m]; None: nothing can be placed on it."""
        return None

    @property
    def inside(self) -> tuple[float, float] | None:
        """Half extents along x and y of the room inside [m]; None: it isn't a container."""
        return None

    def scaled(self, factor: float) -> Self:
        """Returns the same object with all lengths multiplied by a factor; mass and colour stay."""
        update: dict[str, Any] = {name: factor * getattr(self, name) for name in self.lengths}
        return self.model_copy(update=update)


class Cube(_Object):
    """A cube; its origin is its centre."""

    lengths = ("size",)
    symmetry_deg = 90.0

    kind: Literal["cube"]
    size: PositiveFloat

    @property
    def footprint(self) -> float:
        """Half the diagonal of a face [m]."""
        return self.size / math.sqrt(2.0)

    @property
    def rest_height(self) -> float:
        """Half the edge [m]."""
        return self.size / 2

    @property
    def top(self) -> float:
        """Half the edge [m]."""
        return self.size / 2

    @property
    def grip_width(self) -> float:
        """The edge [m]."""
        return self.size

    @property
    def seat(self) -> float:
        """Other objects are stacked on its top [m]."""
        return self.size / 2


class Can(_Object):
    """A beverage can; its origin is its centre."""

    lengths = ("radius", "height")
    symmetry_deg = 0.0

    kind: Literal["can"]
    radius: PositiveFloat
    height: PositiveFloat

    @property
    def footprint(self) -> float:
        """Its radius [m]."""
        return self.radius

    @property
    def rest_height(self) -> float:
        """Half the height [m]."""
        return self.height / 2

    @property
    def top(self) -> float:
        """Half the height [m]."""
        return self.height / 2

    @property
    def grip_width(self) -> float:
        """The diameter [m]."""
        return 2 * self.radius

    @property
    def seat(self) -> float:
        """Other objects are stacked on its rim [m]."""
        return self.height / 2


class Banana(_Object):
    """A banana that lies on its side: an arc in the x-y plane.

    Its origin is the middle of the arc, on the centre line; x is the arc's tangent there and y points away from the
    arc's centre, so that the fingers close across the fruit along y.
    """

    lengths = ("length", "width")

    kind: Literal["banana"]
    length: PositiveFloat = Field(description="along the centre line [m]")
    width: PositiveFloat = Field(description="diameter in the middle [m]")
    bend_deg: float = Field(gt=0.0, le=180.0, description="angle between the ends' directions")

    @model_validator(mode="after")
    def _slender(self) -> Self:
        if self.width >= self.length / 2:
            raise ValueError(f"a banana is longer than wide: length {self.length}, width {self.width}")
        return self

    @property
    def bend_radius(self) -> float:
        """Radius of the centre line [m]."""
        return self.length / math.radians(self.bend_deg)

    @property
    def footprint(self) -> float:
        """Distance from the middle to an end of the arc [m]."""
        return 2 * self.bend_radius * math.sin(math.radians(self.bend_deg) / 4)

    @property
    def rest_height(self) -> float:
        """Half the width: it lies on its side [m]."""
        return self.width / 2

    @property
    def top(self) -> float:
        """Half the width [m]."""
        return self.width / 2

    @property
    def grip_width(self) -> float:
        """The diameter in the middle [m]."""
        return self.width


class Plate(_Object):
    """A dinner plate; its origin is the centre of its underside."""

    lengths = ("radius", "height", "thickness")
    symmetry_deg = 0.0

    kind: Literal["plate"]
    radius: PositiveFloat
    height: PositiveFloat = Field(description="of the rim [m]")
    thickness: PositiveFloat = Field(description="of the flat base [m]")

    @model_validator(mode="after")
    def _has_a_rim(self) -> Self:
        if self.thickness >= self.height:
            raise ValueError(f"a plate's rim is higher than its base: height {self.height}, base {self.thickness}")
        return self

    @property
    def footprint(self) -> float:
        """Its radius [m]."""
        return self.radius

    @property
    def rest_height(self) -> float:
        """The origin lies on the surface it stands on [m]."""
        return 0.0

    @property
    def top(self) -> float:
        """The rim's height [m]."""
        return self.height

    @property
    def seat(self) -> float:
        """The base's upper side [m]."""
        return self.thickness


class Basket(_Object):
    """An open rectangular box; its origin is the centre of its underside, its longer side lies along x."""

    lengths = ("length", "width", "height", "wall")
    symmetry_deg = 180.0

    kind: Literal["basket"]
    length: PositiveFloat
    width: PositiveFloat
    height: PositiveFloat
    wall: PositiveFloat = Field(description="thickness of walls and base [m]")

    @model_validator(mode="after")
    def _hollow(self) -> Self:
        if 2 * self.wall >= min(self.length, self.width) or self.wall >= self.height:
            raise ValueError(f"a basket needs room inside: its walls are {self.wall} thick")
        return self

    @property
    def footprint(self) -> float:
        """Half its diagonal [m]."""
        return math.hypot(self.length, self.width) / 2

    @property
    def rest_height(self) -> float:
        """The origin lies on the surface it stands on [m]."""
        return 0.0

    @property
    def top(self) -> float:
        """The walls' height [m]."""
        return self.height

    @property
    def seat(self) -> float:
        """The base's upper side [m]."""
        return self.wall

    @property
    def inside(self) -> tuple[float, float]:
        """Half the length and width between the walls [m]."""
        return self.length / 2 - self.wall, self.width / 2 - self.wall


TaskObject = Annotated[Cube | Can | Banana | Plate | Basket, Field(discriminator="kind")]

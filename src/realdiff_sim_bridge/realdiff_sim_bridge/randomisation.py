"""What varies from episode to episode: its ranges (a section of the configuration) and the draw from them.

Every aspect draws from its own stream of random numbers, so that widening one range leaves the others' draws alone. A
draw depends on task, seed and level only.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from realdiff_core.config import Strict
from realdiff_core.seeds import rng

from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.objects import Range

if TYPE_CHECKING:
    from realdiff_sim_bridge.tasks import Task

Level = Literal["none", "physics", "looks", "all"]
"""What is varied: nothing; sizes, masses and friction; colours, lights, camera, background and distractors; all."""

LEVELS: tuple[Level, ...] = get_args(Level)

Colour = tuple[float, float, float]
TableTexture = Literal["plain", "wood", "marble", "cloth", "speckle"]
WallTexture = Literal["plain", "plaster", "brick", "panels"]
FloorTexture = Literal["plain", "checker", "speckle", "planks"]

MAX_LIGHTS = 4
MAX_DISTRACTORS = 6
CAMERA_LIMIT_M, CAMERA_LIMIT_DEG = 0.2, 20.0

_STREAMS = {"physics": 0xA1, "camera": 0xA2, "colours": 0xA3, "surfaces": 0xA4, "lights": 0xA5, "distractors": 0xA6}
_ATTEMPTS = 60


def _positive(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] <= 0.0:
        raise ValueError(f"a factor is greater than 0, got {bounds[0]}")
    return bounds


def _share(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] < 0.0 or bounds[1] > 1.0:
        raise ValueError(f"both ends lie between 0 and 1, got {list(bounds)}")
    return bounds


def _angle_up(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] < 10.0 or bounds[1] > 90.0:
        raise ValueError(f"a light stands 10° to 90° above the table, got {list(bounds)}")
    return bounds


Factor = Annotated[Range, AfterValidator(_positive)]
Share = Annotated[Range, AfterValidator(_share)]
Elevation = Annotated[Range, AfterValidator(_angle_up)]


class PhysicsRanges(Strict):
    """Factors on the values of the task's configuration."""

    size: Factor = Field(description="all lengths of an object, one draw an object")
    mass: Factor = Field(description="one draw an object")
    friction: Factor = Field(description="of an object and of the table, one draw each")
    fingertip_friction: Factor


class CameraRanges(Strict):
    """How far the camera may be from where it should be: "slight randomization of camera poses" of the paper, 4.1."""

    position: float = Field(ge=0.0, le=CAMERA_LIMIT_M, description="each coordinate by up to ± [m]")
    rotation: float = Field(ge=0.0, le=CAMERA_LIMIT_DEG, description="about each of its axes by up to ± [°]")


class ColourRanges(Strict):
    """How an object's colour may differ from the configured one."""

    hue: Range = Field(description="added [°]")
    saturation: Factor
    brightness: Factor


class TableRanges(Strict):
    """Look of the table top."""

    textures: tuple[TableTexture, ...] = Field(min_length=1)
    hue: Range = Field(description="[°]")
    saturation: Share
    brightness: Share
    gloss: Share


class WallRanges(Strict):
    """Look of the walls."""

    textures: tuple[WallTexture, ...] = Field(min_length=1)
    hue: Range = Field(description="[°]")
    saturation: Share
    brightness: Share


class FloorRanges(Strict):
    """Look of the floor."""

    textures: tuple[FloorTexture, ...] = Field(min_length=1)
    hue: Range = Field(description="[°]")
    saturation: Share
    brightness: Share


class LightRanges(Strict):
    """Lights above the table; the first one casts the shadows."""

    number: tuple[int, int]
    intensity: Factor = Field(description="of all lights together; 1 suits the camera")
    ambient: Share
    azimuth: Range = Field(description="where a light stands, about the vertical axis [°]")
    elevation: Elevation = Field(description="above the table [°]")
    warmth: float = Field(ge=0.0, le=0.3, description="red and blue differ by up to ± this share")

    @model_validator(mode="after")
    def _countable(self) -> LightRanges:
        _check_number(self.number, 1, MAX_LIGHTS, "lights")
        return self


class DistractorRanges(Strict):
    """Objects that have nothing to do with the task: free bodies that stand beside the others."""

    number: tuple[int, int]
    size: Factor = Field(description="edge or diameter [m]")
    saturation: Share
    brightness: Share
    x: Range
    y: Range
    clearance: float = Field(ge=0.0, description="free space to the task's objects and among themselves [m]")

    @model_validator(mode="after")
    def _countable(self) -> DistractorRanges:
        _check_number(self.number, 0, MAX_DISTRACTORS, "distractors")
        return self


def _check_number(number: tuple[int, int], lowest: int, highest: int, what: str) -> None:
    if not lowest <= number[0] <= number[1] <= highest:
        raise ValueError(f"number of {what}: expected {lowest} ≤ lowest ≤ highest ≤ {highest}, got {list(number)}")


class LookRanges(Strict):
    """Everything that changes pictures and not the task."""

    camera: CameraRanges
    objects: ColourRanges
    table: TableRanges
    walls: WallRanges
    floor: FloorRanges
    lights: LightRanges
    distractors: DistractorRanges


class Randomisation(Strict):
    """The section `randomisation` of a configuration."""

    physics: PhysicsRanges
    looks: LookRanges


@dataclass(frozen=True)
class ObjectPhysics:
    """Factors on an object's size, mass and friction."""

    size: float = 1.0
    mass: float = 1.0
    friction: float = 1.0


@dataclass(frozen=True)
class Surface:
    """A texture's name and the colour that multiplies it."""

    texture: str
    colour: Colour
    gloss: float | None = None


@dataclass(frozen=True)
class Light:
    """A distant light: the unit vector towards it and its colour (intensity included)."""

    towards: Colour
    colour: Colour


@dataclass(frozen=True)
class Distractor:
    """An object beside the task: where its centre stands [m], its yaw [rad], half extents [m] and colour."""

    position: Colour
    yaw: float
    half: Colour
    colour: Colour


@dataclass(frozen=True)
class Looks:
    """Drawn looks.

    Attributes:
        camera: Pose of the displaced colour optical frame in the undisplaced one.
        colours: Colours of the task's objects.
        table: Table top.
        walls: Walls.
        floor: Floor.
        lights: The lights that are on.
        ambient: Light from everywhere.
        distractors: One entry per distractor that is there.
    """

    camera: Pose
    colours: dict[str, Colour]
    table: Surface
    walls: Surface
    floor: Surface
    lights: tuple[Light, ...]
    ambient: float


@dataclass(frozen=True)
class Variation:
    """What a seed has drawn.

    Attributes:
        level: What is varied.
        objects: Physical factors of the task's objects.
        table_friction: Factor.
        fingertip_friction: Factor.
        looks: Looks; None: as configured.
    """

    level: Level
    objects: dict[str, ObjectPhysics]
    table_friction: float = 1.0
    fingertip_friction: float = 1.0
    looks: Looks | None = None

    def applied(self, task: Task) -> Task:
        """Returns the task with the objects as they are now: sizes, masses and colours."""
        items = {}
        for name, item in task.objects.items():
            factors = self.objects[name]
            update: dict[str, object] = {"mass": item.mass * factors.mass}
            if self.looks is not None:
                update["colour"] = self.looks.colours[name]
            items[name] = item.scaled(factors.size).model_copy(update=update)
        return task.model_copy(update={"objects": items})


def draw_variation(task: Task, seed: int, level: Level) -> Variation:
    """Draws what varies in an episode.

    Args:
        task: The task's configuration.
        seed: Seed of the reset.
        level: What is varied; the rest is as configured.
    """
    names = tuple(task.objects)
    ranges = task.randomisation
    if level in ("none", "looks"):
        physics = Variation(level, dict.fromkeys(names, ObjectPhysics()))
    else:
        random, spread = _stream(seed, "physics"), ranges.physics
        # Factors are drawn on a logarithmic scale: half and double are equally far.
        objects = {
            name: ObjectPhysics(
                _factor(random, spread.size), _factor(random, spread.mass), _factor(random, spread.friction)
            )
            for name in names
        }
        physics = Variation(
            level, objects, _factor(random, spread.friction), _factor(random, spread.fingertip_friction)
        )
    if level in ("none", "physics"):
        return physics
    return Variation(
        level, physics.objects, physics.table_friction, physics.fingertip_friction, _draw_looks(task, seed)
    )


def _stream(seed: int, name: str) -> np.random.Generator:
    return rng(seed ^ (_STREAMS[name] << 56))


def _factor(random: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(random.uniform(math.log(bounds[0]), math.log(bounds[1]))))


def _draw_looks(task: Task, seed: int) -> Looks:
    ranges = task.randomisation.looks
    random = _stream(seed, "camera")
    shift = random.uniform(-1.0, 1.0, 3) * ranges.camera.position
    angles = random.uniform(-1.0, 1.0, 3) * math.radians(ranges.camera.rotation)
    random = _stream(seed, "colours")
    colours = {name: _varied(random, item.colour, ranges.objects) for name, item in task.objects.items()}
    random = _stream(seed, "surfaces")
    table, walls, floor = (_surface(random, part) for part in (ranges.table, ranges.walls, ranges.floor))
    random = _stream(seed, "lights")
    lights = _lights(random, ranges.lights)
    ambient = float(random.uniform(*ranges.lights.ambient))
    return Looks(Pose.from_rotation_vector(shift, angles), colours, table, walls, floor, lights, ambient)


def _varied(random: np.random.Generator, colour: Colour, ranges: ColourRanges) -> Colour:
    hue, saturation, brightness = colorsys.rgb_to_hsv(*colour)
    return _rgb(
        360.0 * hue + random.uniform(*ranges.hue),
        min(saturation * _factor(random, ranges.saturation), 1.0),
        min(brightness * _factor(random, ranges.brightness), 1.0),
    )


def _rgb(hue_deg: float, saturation: float, brightness: float) -> Colour:
    return colorsys.hsv_to_rgb((hue_deg / 360.0) % 1.0, saturation, brightness)


def _surface(random: np.random.Generator, ranges: TableRanges | WallRanges | FloorRanges) -> Surface:
    texture = ranges.textures[int(random.integers(len(ranges.textures)))]
    colour = _rgb(random.uniform(*ranges.hue), random.uniform(*ranges.saturation), random.uniform(*ranges.brightness))
    gloss = float(random.uniform(*ranges.gloss)) if isinstance(ranges, TableRanges) else None
    return Surface(texture, colour, gloss)


def _lights(random: np.random.Generator, ranges: LightRanges) -> tuple[Light, ...]:
    """The first light is the brightest; the others share what it leaves."""
    count = int(random.integers(ranges.number[0], ranges.number[1] + 1))
    shares = np.sort(random.uniform(0.25, 1.0, count))[::-1]
    intensity = _factor(random, ranges.intensity) * shares / shares.sum()
    lights = []
    for k in range(count):
        azimuth, elevation = np.radians(random.uniform(*ranges.azimuth)), np.radians(random.uniform(*ranges.elevation))
        warmth = float(random.uniform(-ranges.warmth, ranges.warmth))
        towards = (
            float(np.cos(azimuth) * np.cos(elevation)),
            float(np.sin(azimuth) * np.cos(elevation)),
            float(np.sin(elevation)),
        )
        value = float(intensity[k])
        lights.append(Light(towards, (value * (1.0 + warmth), value, value * (1.0 - warmth))))
    return tuple(lights)


def draw_distractors(task: Task, seed: int, poses: dict[str, Pose]) -> tuple[Distractor, ...]:
    """Places distractors beside the objects; those that find no room are left out.

    Args:
        task: The task with its objects as they are in this episode.
        seed: Seed of the reset.
        poses: Where the task's objects stand.
    """
    random, ranges = _stream(seed, "distractors"), task.randomisation.looks.distractors
    taken = [(poses[name].position[:2], item.footprint) for name, item in task.objects.items()]
    taken.append((np.zeros(2), 0.20))  # the robot's foot
    placed = []
    for _ in range(int(random.integers(ranges.number[0], ranges.number[1] + 1))):
        half = (_factor(random, ranges.size) / 2, _factor(random, ranges.size) / 2, _factor(random, ranges.size) / 2)
        colour = _rgb(
            random.uniform(0.0, 360.0), random.uniform(*ranges.saturation), random.uniform(*ranges.brightness)
        )
        yaw, radius = float(random.uniform(-math.pi, math.pi)), math.hypot(half[0], half[1])
        for _ in range(_ATTEMPTS):
            spot = np.array([random.uniform(*ranges.x), random.uniform(*ranges.y)])
            if all(np.linalg.norm(spot - other) >= radius + size + ranges.clearance for other, size in taken):
                taken.append((spot, radius))
                placed.append(Distractor((float(spot[0]), float(spot[1]), half[2]), yaw, half, colour))
                break
    return tuple(placed)

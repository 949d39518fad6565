"""Task configurations (config/tasks/*.yaml): what stands on the table, where, and when the task counts as done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, model_validator
from realdiff_core.config import Strict, config_folders, find_config, load_yaml
from realdiff_core.errors import ConfigError

Vector = tuple[float, float, float]
Unit = Annotated[float, Field(ge=0.0, le=1.0)]


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lowest value {bounds[0]} of a range exceeds the highest {bounds[1]}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Workspace(Strict):
    """Box in the frame "base" that the hand may enter [m]."""

    lowest: Vector
    highest: Vector

    @model_validator(mode="after")
    def _not_empty(self) -> Workspace:
        if any(low >= high for low, high in zip(self.lowest, self.highest, strict=True)):
            raise ValueError(f"the workspace is empty: lowest {self.lowest}, highest {self.highest}")
        return self


class CameraPlacement(Strict):
    """Where the camera stands: its profile's name, position and a point on the colour imager's axis [m, "base"]."""

    profile: str
    position: Vector
    target: Vector


class StartRange(Strict):
    """Where an object may stand after a reset: x and y in metres, yaw in degrees, in the frame "base"."""

    x: Range
    y: Range
    yaw: Range = (0.0, 0.0)


class _Object(Strict):
    mass: PositiveFloat
    colour: tuple[Unit, Unit, Unit]
    start: StartRange


class Can(_Object):
    """A beverage can; its origin is its centre."""

    kind: Literal["can"]
    radius: PositiveFloat
    height: PositiveFloat

    @property
    def footprint(self) -> float:
        """Radius of the area it covers on the table [m]."""
        return self.radius

    @property
    def rest_height(self) -> float:
        """Height of the origin above the surface it stands on [m]."""
        return self.height / 2

    @property
    def grip_width(self) -> float:
        """Width between the fingers that hold it [m]."""
        return 2 * self.radius

    @property
    def seat(self) -> float:
        """Height above the origin of the surface that other objects are placed on [m]."""
        return self.height / 2


class Plate(_Object):
    """A dinner plate; its origin is the centre of its underside."""

    kind: Literal["plate"]
    radius: PositiveFloat
    height: PositiveFloat

    @property
    def footprint(self) -> float:
        """Radius of the area it covers on the table [m]."""
        return self.radius

    @property
    def rest_height(self) -> float:
        """Height of the origin above the surface it stands on [m]."""
        return 0.0

    @property
    def seat(self) -> float:
        """Height above the origin of the surface that other objects are placed on [m]."""
        return PLATE_THICKNESS


PLATE_THICKNESS = 0.007
"""Thickness of a plate's flat base [m]."""

TaskObject = Annotated[Can | Plate, Field(discriminator="kind")]


class Subtask(Strict):
    """One step of a task, as the expert plays it."""

    name: str
    action: Literal["pick", "place"]
    object: str
    target: str | None = None

    @model_validator(mode="after")
    def _placed_somewhere(self) -> Subtask:
        if (self.action == "place") != (self.target is not None):
            raise ValueError(f"subtask '{self.name}': 'place' needs a target and 'pick' has none")
        return self


class RestingOn(Strict):
    """`object` stands on `target`: horizontal distance of the origins and gap between the surfaces [m]."""

    test: Literal["resting_on"]
    object: str
    target: str
    max_offset: PositiveFloat
    max_gap: PositiveFloat


class Upright(Strict):
    """The z axis of `object` points up within `max_tilt` degrees."""

    test: Literal["upright"]
    object: str
    max_tilt: PositiveFloat


class Still(Strict):
    """`object` moves slower than `max_speed` [m/s]."""

    test: Literal["still"]
    object: str
    max_speed: PositiveFloat


class Released(Strict):
    """The tool centre point is at least `min_distance` [m] away from the surface point where `object` is gripped."""

    test: Literal["released"]
    object: str
    min_distance: PositiveFloat


SuccessTest = Annotated[RestingOn | Upright | Still | Released, Field(discriminator="test")]


class Success(Strict):
    """The task is done when all tests have held for `hold_s` seconds."""

    hold_s: float = Field(ge=0.0)
    tests: tuple[SuccessTest, ...] = Field(min_length=1)


class Task(Strict):
    """A complete task configuration."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str
    horizon_s: PositiveFloat
    workspace: Workspace
    camera: CameraPlacement
    objects: dict[str, TaskObject] = Field(min_length=1)
    clearance: float = Field(ge=0.0)
    subtasks: tuple[Subtask, ...] = Field(min_length=1)
    success: Success

    @model_validator(mode="after")
    def _objects_exist(self) -> Task:
        for entry in (*self.subtasks, *self.success.tests):
            for name in (entry.object, getattr(entry, "target", None)):
                if name is not None and name not in self.objects:
                    raise ValueError(f"unknown object '{name}'; this task has {', '.join(self.objects)}")
        for subtask in self.subtasks:
            if getattr(self.objects[subtask.object], "grip_width", None) is None:
                raise ValueError(f"subtask '{subtask.name}': a {self.objects[subtask.object].kind} can't be gripped")
        return self

    @model_validator(mode="after")
    def _starts_reachable(self) -> Task:
        for name, item in self.objects.items():
            for axis, bounds in enumerate((item.start.x, item.start.y)):
                if bounds[0] < self.workspace.lowest[axis] or bounds[1] > self.workspace.highest[axis]:
                    raise ValueError(f"object '{name}': start range {'xy'[axis]} {bounds} leaves the workspace")
        return self


def available_tasks() -> list[str]:
    """Returns the names of the shipped task configurations, sorted."""
    return sorted({path.stem for folder in config_folders() for path in (folder / "tasks").glob("*.yaml")})


def load_task(task: str | Path) -> Task:
    """Loads a task by name, or a configuration file of your own by path.

    Args:
        task: A name such as "can_to_plate", or a path that ends in ".yaml".

    Raises:
        ConfigError: There is no such task, or its file is wrong (the message names file, key and value).
    """
    if str(task).endswith((".yaml", ".yml")):
        return load_yaml(Path(task), Task)
    names = available_tasks()
    if str(task) not in names:
        raise ConfigError(
            f"unknown task '{task}'",
            expected=f"one of {', '.join(names)}, or the path of a task's .yaml file",
            got=str(task),
            next_step="choose a shipped task, or write config/tasks/<name>.yaml after the model of can_to_plate.yaml",
        )
    return load_yaml(find_config(f"tasks/{task}.yaml"), Task)

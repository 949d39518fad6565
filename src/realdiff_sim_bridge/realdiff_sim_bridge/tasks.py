"""Task configurations (config/tasks/*.yaml): what stands on the table, where, and when the task counts as done."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator
from realdiff_core.config import Strict, config_folders, find_config, load_yaml
from realdiff_core.errors import ConfigError

from realdiff_sim_bridge.objects import TaskObject
from realdiff_sim_bridge.randomisation import Randomisation
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH

Vector = tuple[float, float, float]
_GRIP_MARGIN_M = 0.006
"""Room that the open fingers need beside an object."""


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


class Inside(Strict):
    """The origin of `object` is in the container `target`: below its rim and between its walls."""

    test: Literal["inside"]
    object: str
    target: str


class Lifted(Strict):
    """The underside of `object` has been lifted by at least `min_height` [m]."""

    test: Literal["lifted"]
    object: str
    min_height: PositiveFloat


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
    """The tool centre point is at least `min_distance` [m] away from the middle of the top of `object`."""

    test: Literal["released"]
    object: str
    min_distance: PositiveFloat


SuccessTest = Annotated[RestingOn | Inside | Lifted | Upright | Still | Released, Field(discriminator="test")]


class Success(Strict):
    """The task is done when all tests have held for `hold_s` seconds."""

    hold_s: float = Field(ge=0.0)
    tests: tuple[SuccessTest, ...] = Field(min_length=1)


class SharedValues(Strict):
    """What all tasks have in common (config/simulation.yaml); a task's own file may say otherwise."""

    workspace: Workspace
    camera: CameraPlacement
    clearance: float = Field(ge=0.0, description="free space between any two objects after a reset [m]")
    randomisation: Randomisation


class Task(SharedValues):
    """A complete task configuration."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str
    horizon_s: PositiveFloat
    objects: dict[str, TaskObject] = Field(min_length=1)
    subtasks: tuple[Subtask, ...] = Field(min_length=1)
    success: Success

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, content: Any) -> Any:
        """Takes what the file doesn't say from the values that all tasks share."""
        return _merged(_shared_values(), content) if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _objects_exist(self) -> Task:
        for entry in (*self.subtasks, *self.success.tests):
            for name in (entry.object, getattr(entry, "target", None)):
                if name is not None and name not in self.objects:
                    raise ValueError(f"unknown object '{name}'; this task has {', '.join(self.objects)}")
            if getattr(entry, "target", None) == entry.object:
                raise ValueError(f"object '{entry.object}' can't be put onto itself")
        return self

    @model_validator(mode="after")
    def _objects_serve(self) -> Task:
        """An object that can't be held, stood on or filled makes the task impossible."""
        for subtask in self.subtasks:
            item = self.objects[subtask.object]
            if item.grip_width is None:
                raise ValueError(f"subtask '{subtask.name}': a {item.kind} can't be gripped")
            widest = item.grip_width * self.randomisation.physics.size[1]
            if widest + _GRIP_MARGIN_M > MAX_GRIPPER_WIDTH:
                raise ValueError(
                    f"subtask '{subtask.name}': '{subtask.object}' is up to {1000 * widest:.0f} mm wide, too wide for "
                    f"the hand, which opens to {1000 * MAX_GRIPPER_WIDTH:.0f} mm"
                )
            if subtask.target is not None and self.objects[subtask.target].seat is None:
                raise ValueError(
                    f"subtask '{subtask.name}': nothing can be placed on a {self.objects[subtask.target].kind}"
                )
        for test in self.success.tests:
            target = self.objects[getattr(test, "target", test.object)]
            if isinstance(test, RestingOn) and target.seat is None:
                raise ValueError(f"success test 'resting_on': nothing can rest on a {target.kind}")
            if isinstance(test, Inside) and target.inside is None:
                raise ValueError(f"success test 'inside': a {target.kind} isn't a container")
        return self

    @model_validator(mode="after")
    def _starts_reachable(self) -> Task:
        for name, item in self.objects.items():
            for axis, bounds in enumerate((item.start.x, item.start.y)):
                if bounds[0] < self.workspace.lowest[axis] or bounds[1] > self.workspace.highest[axis]:
                    raise ValueError(f"object '{name}': start range {'xy'[axis]} {bounds} leaves the workspace")
        return self


@lru_cache(maxsize=8)
def _read_shared(path: Path, changed_ns: int) -> dict[str, Any]:
    return load_yaml(path, SharedValues).model_dump()


def _shared_values() -> dict[str, Any]:
    """Returns the content of config/simulation.yaml: what all tasks have in common."""
    path = find_config("simulation.yaml")
    return _read_shared(path, path.stat().st_mtime_ns)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with the values of `over` in their place; sections are merged key by key."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = _merged(base[key], value) if both else value
    return result


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

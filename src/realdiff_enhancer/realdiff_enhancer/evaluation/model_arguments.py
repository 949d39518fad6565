"""Which models a table compares: ``[LABEL=]MODEL[@STEPS]`` on the command line, and the weights that belong to each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.errors import ConfigError

from realdiff_enhancer.evaluation.other_clean import OTHER_CLEAN
from realdiff_enhancer.evaluation.runner import REAL
from realdiff_enhancer.models.registry import create_model, model_names, samples_in_steps

if TYPE_CHECKING:
    from realdiff_core.config import CameraProfile

    from realdiff_enhancer.models.base import DepthModel

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]*")
_FORM = "[LABEL=]MODEL[@STEPS], e.g. two_stage, two_stage@50 or seed1=two_stage@4"


@dataclass(frozen=True)
class ModelArgument:
    """A row of the tables.

    Attributes:
        label: its name there, unique.
        model: name in the registry.
        steps: sampling steps a stage; None takes the command's or the model's own.
        weights: folder of weights or parameter file; None takes what ships.
    """

    label: str
    model: str
    steps: int | None = None
    weights: Path | None = None

    def create(self, profile: CameraProfile, steps: int | None, device: str) -> DepthModel:
        """Make the model for a camera; it carries the label as its name.

        Args:
            profile: the camera.
            steps: sampling steps a stage where the argument names none; None for the model's own.
            device: a name that `pick_device` knows.

        Raises:
            ConfigError: the model is unknown, or steps, parameters or weights don't fit.
        """
        try:
            model = create_model(
                self.model, profile=profile, steps=self.steps or steps, device=device, weights=self.weights
            )
        except ConfigError as error:
            raise error.at(f"--models {self.label}") from None
        model.name = self.label
        return model


def parse_models(texts: Sequence[str], weights: Sequence[str] = ()) -> list[ModelArgument]:
    """Read ``--models`` and the ``--weights`` that belong to them.

    Args:
        texts: ``[LABEL=]MODEL[@STEPS]``; without a label, what follows it is the label.
        weights: ``NAME=PATH``; NAME is a label, or a model: it then means all rows of it that have none of their own.

    Returns:
        The rows in the order given.

    Raises:
        ConfigError: an argument is not of that form, a label occurs twice, steps are given for a model that doesn't
            sample, or weights belong to no row.
    """
    models: list[ModelArgument] = []
    for text in texts:
        model = _parse_model(text)
        if model.label in [other.label for other in models]:
            raise ConfigError(
                "a model is named twice",
                where=f"--models {text}",
                got=" ".join(texts),
                next_step="give one of them another label: LABEL=MODEL",
            )
        models.append(model)
    paths = _parse_weights(weights, models)
    return [replace(model, weights=paths.get(model.label, paths.get(model.model))) for model in models]


def _parse_model(text: str) -> ModelArgument:
    where = f"--models {text}"
    label, equals, rest = text.partition("=")
    if not equals:
        label, rest = text, text
    name, at, number = rest.partition("@")
    if not name or not _LABEL.fullmatch(label) or (at and not re.fullmatch(r"[1-9][0-9]{0,8}", number)):
        raise ConfigError("a model can't be read", where=where, expected=f"{_FORM}; steps ≥ 1", got=text)
    if label in (REAL, OTHER_CLEAN) or (label != name and label in model_names()):
        owner = {REAL: "the camera", OTHER_CLEAN: "the lower bound"}.get(label, "another model")
        raise ConfigError(f"the label is the name of {owner}", where=where, got=label, next_step="choose another label")
    if at and name in model_names() and not samples_in_steps(name):
        raise ConfigError(
            f"the model {name!r} doesn't sample in steps",
            where=where,
            expected=f"steps after one of {', '.join(n for n in model_names() if samples_in_steps(n))}",
            got=text,
            next_step=f"leave @{number} out",
        )
    return ModelArgument(label, name, int(number) if at else None)


def _parse_weights(texts: Sequence[str], models: Sequence[ModelArgument]) -> dict[str, Path]:
    names = list(dict.fromkeys([*(model.label for model in models), *(model.model for model in models)]))
    paths: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path or name not in names:
            raise ConfigError(
                "weights belong to none of the models",
                where=f"--weights {text}",
                expected=f"NAME=PATH with NAME one of {', '.join(names)}",
            )
        if name in paths:
            raise ConfigError("weights are named twice", where=f"--weights {text}", got=f"{paths[name]} and {path}")
        paths[name] = Path(path)
    return paths

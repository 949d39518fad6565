"""``ros2 run realdiff_policy train``: from folders of episode bags to a trained policy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdiff_core.cli import parser, progress, run_command
from realdiff_core.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from realdiff_policy.training.config import TrainConfig

_POLICIES = ("diffusion_policy", "diffusion_policy_compact")

_EXAMPLES = """\
  ros2 run realdiff_policy train --policy diffusion_policy --data enhanced -o runs/can
  ros2 run realdiff_policy train --policy diffusion_policy_compact --data clean:1 --data enhanced:3 -o runs/mixed
  ros2 run realdiff_policy train --config my_policy.yaml --data enhanced -o runs/mine --resume
  torchrun --nproc-per-node 2 -m realdiff_policy.commands.train --data enhanced -o runs/two_gpus

The bags are read once into an array store (.store in their folder); a run that was killed goes on with --resume and
ends with the same weights. Curves: tensorboard --logdir RUN/curves. Next: ros2 run realdiff_policy export RUN -o BUNDLE
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the argument parser."""
    arguments = parser("Train an RGB-D policy on episode bags.", _EXAMPLES, "train")
    add = arguments.add_argument
    add(
        "--policy",
        choices=_POLICIES,
        default=_POLICIES[0],
        help="settings from config/policies: the field's size, or one for two CPU cores (default: %(default)s)",
    )
    add("--config", type=Path, help="settings from a YAML file of your own instead")
    add(
        "--data",
        metavar="DIR[:SHARE]",
        action="append",
        default=[],
        help="folder of episode bags and its share of the samples; may be given several times",
    )
    add("-o", "--output", metavar="RUN", type=Path, required=True, help="folder of the run")
    add("--resume", action="store_true", help="go on from the newest checkpoint")
    add("--seed", type=int, help="seed (default: the settings')")
    add("--steps", type=int, help="optimiser steps (default: the settings')")
    add("--store", type=Path, help="folder for the array stores (default: .store in each folder of bags)")
    add("--evaluate", metavar="MODULE:FUNCTION", help="called as f(policy folder, step) at every validation")
    return arguments


def data_source(text: str) -> dict[str, Any]:
    """DIR or DIR:SHARE as settings of a data source."""
    folder, colon, share = text.rpartition(":")
    if colon:
        try:
            return {"path": folder, "share": float(share)}
        except ValueError:
            pass  # the colon belongs to the folder's name
    return {"path": text}


def settings(arguments: argparse.Namespace) -> TrainConfig:
    """The run's settings: the file's, with what the command line says in their place.

    Raises:
        ConfigError: A value is refused.
    """
    from pydantic import ValidationError
    from realdiff_core.config import find_config, load_yaml

    from realdiff_policy.training.config import TrainConfig

    file = arguments.config or find_config(f"policies/{arguments.policy}.yaml")
    values = load_yaml(file, TrainConfig).model_dump(exclude_unset=True)
    if arguments.data:
        values["data"] = [data_source(text) for text in arguments.data]
    for name in ("seed", "steps"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            "the command line doesn't fit the settings",
            where=".".join(map(str, first["loc"])) or str(file),
            expected=first["msg"],
            got=str(first.get("input"))[:200],
            next_step="see --help",
        ) from None


def _text(config: TrainConfig) -> str:
    return config.model_dump_json(indent=1) + "\n"


def _check(run: Path, config: TrainConfig, resume: bool) -> None:
    """Refuses a run's folder that is taken, or that belongs to a run with other settings."""
    from realdiff_policy.training.run_data import SETTINGS

    if not run.exists():
        return
    if not resume:
        raise OutputError("output exists", where=run, next_step="go on with --resume, or choose another folder")
    file = run / SETTINGS
    if not file.is_file() or file.read_text() != _text(config):
        raise OutputError(
            "the run was started with other settings",
            where=file,
            expected="the same policy, data, seed and steps",
            next_step="give the same arguments as before, or choose another folder",
        )


def run(arguments: argparse.Namespace) -> int:
    """Trains."""
    from pydoc import locate

    config = settings(arguments)
    hook: Any = None
    if arguments.evaluate:
        hook = locate(arguments.evaluate.replace(":", "."))
        if not callable(hook):
            raise ConfigError(
                "no such function", where="--evaluate", got=arguments.evaluate, expected="MODULE:FUNCTION"
            )

    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    from realdiff_policy.training.run_data import SETTINGS, remember_stores
    from realdiff_policy.training.samples import open_samples, store_folders

    with state.main_process_first(), progress("reading bags", None, "episodes") as bar:
        if state.is_main_process:
            _check(arguments.output, config, arguments.resume)
        samples = open_samples(config, arguments.store, lambda done, total: bar.advance())
    if state.is_main_process:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / SETTINGS).write_text(_text(config))
        remember_stores(arguments.output, store_folders(config, arguments.store))
    state.wait_for_everyone()

    from realdiff_policy.training.trainer import Trainer

    trainer = Trainer(config, samples, arguments.output, hook)
    if state.is_main_process:
        print(
            f"{samples.task}: {len(samples.training.episodes)} episodes, {len(samples.training)} samples, "
            f"{sum(p.numel() for p in trainer.network.parameters()) / 1e6:.1f} M parameters, {state.device}",
            flush=True,
        )
    with progress("training", config.steps, "steps") as bar:
        finished = 0

        def on_step(done: int, loss: float) -> None:
            nonlocal finished
            bar.describe(f"training, loss {loss:.4f}")
            bar.advance(done - finished)
            finished = done

        policy = trainer.train(arguments.resume, on_step)
    if state.is_main_process:
        print(f"trained policy: {policy}\nnext: ros2 run realdiff_policy export {arguments.output} -o BUNDLE")
    return 0


def entry() -> None:
    """Entry point of `ros2 run realdiff_policy train`."""
    arguments = build_parser().parse_args()
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    entry()

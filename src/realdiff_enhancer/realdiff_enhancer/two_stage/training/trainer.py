"""A training run from pairs to a model folder; reads top to bottom as the method runs.

1. Stage I on the structural noise n_L, with its discrepancy head.
2. The trained stage I is *sampled* on the training frames.
3. Stage II on what the samples leave, weighted by the predicted discrepancy.
4. Both stages are distilled to few sampling steps.
5. What is left is measured against real frames (`calibrate_on`), and the model folder is written.

Each stage leaves its result in the run's folder; a run that is started again goes on where it was.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from realdiff_core.errors import ConfigError
from torch import nn

from ..camera import on_stream
from ..config import TwoStageConfig
from ..control import ControlledDenoiser
from ..model_folder import load_model, save_model
from ..networks import label_count, make_coarse, make_fine
from ..sampling import CoarseSample
from ..solver import Denoiser
from .adversarial import AdversarialObjective
from .config import StageName, TrainConfig
from .draws import draw_coarse
from .finishing import Trained, calibrated, coarse_pictures, frozen, pictures, validated, with_style
from .loop import CHECKPOINT_NAME, OutOfTimeError, Session, StageTrainer
from .monitor import Curves
from .objectives import CoarseObjective, DistilCoarse, DistilFine, Distillation, FineObjective, Objective
from .state_file import read_tensors, using, write_tensors
from .store import PairStore, check_codec, read_packs, step_seed

CONFIG_NAME = "train_config.json"
RECORD_NAME = "train.json"


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        finished: False if the time limit or a signal ended it; starting it again continues.
        model: folder of the trained model, if it is finished.
        config: the model's settings with the scales measured in training, if it is finished.
    """

    finished: bool
    model: Path | None = None
    config: TwoStageConfig | None = None


def train_run(
    config: TrainConfig,
    run: Path,
    *,
    report: Callable[[str], None] = print,
    time_limit_s: float | None = None,
) -> TrainResult:
    """Trains in a run folder, continuing what is there.

    Args:
        config: settings of the run; those of an earlier start must have been the same.
        run: folder for checkpoints, curves and, in `model/`, the trained model.
        report: receives progress lines.
        time_limit_s: stop after so many seconds with a checkpoint.

    Raises:
        ConfigError: packs that don't fit together or that the codec can't carry; other settings than before.
    """
    started = time.monotonic()
    cuda = torch.cuda.is_available()
    # told that it is on a CPU, accelerate forms a group of the processes that torchrun started there
    accelerator = Accelerator(mixed_precision=config.precision if cuda else "no", cpu=not cuda)
    if config.batch % accelerator.num_processes:
        raise ConfigError(
            "the batch can't be shared out",
            where="key batch",
            expected=f"a multiple of {accelerator.num_processes} (processes)",
            got=str(config.batch),
            next_step="choose another batch or number of processes",
        )
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = accelerator.device.type == "cuda"
    main = accelerator.is_main_process
    tell = report if main else _silent
    if main:
        _claim(run, config)
    accelerator.wait_for_everyone()
    curves = Curves(run / "curves" if main else None, tell)
    deadline = float("inf") if time_limit_s is None else started + time_limit_s
    session = Session(config, accelerator, run, tell, deadline, curves.log)
    try:
        with session.signals():
            model_config = _Run(session, curves).execute()
    except OutOfTimeError as stop:
        tell(f"{stop}; the same command continues ({time.monotonic() - started:.0f} s)")
        return TrainResult(finished=False)
    finally:
        curves.close()
        accelerator.wait_for_everyone()
    if main:
        record = {"config": config.model_dump(mode="json"), "history": curves.history}
        (run / "model" / RECORD_NAME).write_text(json.dumps(record, indent=1) + "\n")
        tell(f"finished ({time.monotonic() - started:.0f} s)")
    accelerator.wait_for_everyone()
    return TrainResult(finished=True, model=run / "model", config=model_config)


def train(config: TrainConfig, output: Path, report: Callable[[str], None] = print) -> TwoStageConfig:
    """Trains from start to end and leaves nothing but the model folder.

    Args:
        config: settings of the run.
        output: folder for config.json, weights and train.json; beside it a run folder exists while it trains.
        report: receives progress lines.

    Returns:
        The model's settings with the scales measured in training.

    Raises:
        ConfigError: packs that don't fit together or that the codec can't carry.
        KeyboardInterrupt: a signal has ended the run; the run folder is kept.
    """
    run = output.with_name(f".{output.name}.run")
    result = train_run(config, run, report=report)
    if result.model is None or result.config is None:
        raise KeyboardInterrupt
    output.parent.mkdir(parents=True, exist_ok=True)
    result.model.rename(output)
    shutil.rmtree(run)
    return result.config


class _Run:
    """The stages of one run."""

    def __init__(self, session: Session, curves: Curves) -> None:
        self.session, self.curves = session, curves
        self.config, self.folder = session.config, session.run
        accelerator = session.accelerator
        self.parts = (accelerator.process_index, accelerator.num_processes)
        device = accelerator.device
        packs = read_packs(self.config)
        store = PairStore.load(self.config, device, packs=packs)
        assert store is not None
        self.store = store
        self.validation = PairStore.load(self.config, device, validation=True, packs=packs)
        self.pictured = self.validation or store
        session.report(f"{len(store)} training pairs of {store.clean.shape[-2]}x{store.clean.shape[-1]} px on {device}")
        check_codec(store, self.config, session.report)

    def execute(self) -> TwoStageConfig:
        """All stages that are not done yet; returns the model's final settings."""
        config, session = self.config, self.session
        coarse: nn.Module | None = None
        draws: CoarseSample | None = None
        model = config.model
        initial_coarse, initial_fine = self._initial()
        if model.stages == "two":
            network = initial_coarse or self._seeded(make_coarse, model, "coarse")
            objective = CoarseObjective("coarse", self.store, config, *self.parts)
            draw = coarse_pictures(model, self.pictured, session, self.curves)
            coarse = self._stage("coarse", network, objective, draw)
            draws, model = self._draws(coarse)
        trained = config.model_copy(update={"model": model})
        fine_objective: Objective = FineObjective("fine", self.store, trained, *self.parts, draws)
        if model.direct:
            set_seed(step_seed(config.seed, "discriminator", 0) % 2**32)
            fine_objective = AdversarialObjective("fine", self.store, config, session.accelerator)
        first = initial_fine or self._seeded(make_fine, model, "fine")
        if isinstance(first, ControlledDenoiser) and initial_fine is None:
            base = FineObjective("base", self.store, trained, *self.parts, draws)
            self._stage("base", first.base, base)
            first.start_control()
        fine = self._stage(
            "fine",
            first,
            fine_objective,
            pictures(coarse, model, self.pictured, session, self.curves),
        )
        few = self._distil(coarse, fine, draws, trained) if config.distil_steps else None
        if few is not None:
            model = model.model_copy(update={"few_steps": config.distil_to})
        networks = Trained(coarse, fine, few)
        model = with_style(model, self.store)
        if session.accelerator.is_main_process:
            model = calibrated(model, networks, self._calibration_store(), session)
            for row in validated(model, networks, self.validation, session):
                self.curves.history.append(row)
        if session.accelerator.is_main_process:
            partial = self.folder / ".model.partial"
            shutil.rmtree(partial, ignore_errors=True)
            save_model(partial, model, coarse, fine, few)
            shutil.rmtree(self.folder / "model", ignore_errors=True)
            partial.rename(self.folder / "model")
        session.accelerator.wait_for_everyone()
        return model

    def _calibration_store(self) -> PairStore:
        """The pairs that gain and hole levels are measured on; training pairs where there are no others."""
        if self.config.calibrate_on == "validation" and self.validation is not None:
            return self.validation
        return self.store

    def _initial(self) -> tuple[nn.Module | None, nn.Module | None]:
        """Networks of the model that is fine-tuned, if any."""
        if self.config.initial is None:
            return None, None
        loaded = load_model(self.config.initial, steps=10**6)  # the base networks
        fx, own = loaded.config.codec.native_fx_px, self.config.model.codec.native_fx_px
        if fx != own:
            self.session.report(f"from the grid of a stream of f = {fx:g} px to one of {own:g} px")
        scaled = on_stream(loaded.config, own, self.config.model.codec.baseline_m)
        theirs, theirs_scaled, mine = (_trained_settings(m) for m in (loaded.config, scaled, self.config.model))
        for name, value in mine.items():
            if value not in (theirs[name], theirs_scaled[name]):
                raise ConfigError(
                    "the model to start from has other settings",
                    where=f"{self.config.initial}, key model.{name}",
                    expected=str(value),
                    got=str(theirs[name]),
                    next_step="use the model's own settings (its config.json) for fine-tuning",
                )
        return loaded.coarse, loaded.fine

    def _seeded(self, make: Callable[[TwoStageConfig], nn.Module], model: TwoStageConfig, stage: str) -> nn.Module:
        set_seed(step_seed(self.config.seed, stage, 2**31 - 1) % 2**32)
        return make(model)

    def _stage(
        self,
        name: StageName,
        network: nn.Module,
        objective: Objective,
        picture: Callable[[Denoiser, int], None] | None = None,
        rate: float | None = None,
    ) -> nn.Module:
        """The trained network of a stage, from the run's folder if it is finished there."""
        folder, device = self.folder / name, self.session.accelerator.device
        weights = folder / "weights.safetensors"
        steps = self.config.stage_steps(name)
        if weights.is_file() or steps == 0:
            if weights.is_file():
                state = read_tensors(weights)
                using(weights, lambda: network.load_state_dict(state))
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            return network.eval().requires_grad_(False)
        trainer = StageTrainer(
            name, network, objective, steps, self.session, rate or self.config.learning_rate, picture
        )
        network = trainer.run()
        if self.session.accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            write_tensors(weights, network.state_dict())
            (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        self.session.accelerator.wait_for_everyone()
        return network

    def _draws(self, coarse: nn.Module) -> tuple[CoarseSample, TwoStageConfig]:
        """Samples of stage I, from the run's folder if they are there."""
        file = self.folder / "draws.safetensors"
        device = self.session.accelerator.device
        if self.session.accelerator.is_main_process and not file.is_file():
            draws, model = draw_coarse(self.store, self.config, coarse)
            measured = torch.tensor([model.guidance.discrepancy_scale, model.guidance.threshold], dtype=torch.float64)
            write_tensors(file, {"code": draws.code, "discrepancy": draws.discrepancy, "measured": measured})
        self.session.accelerator.wait_for_everyone()
        state = read_tensors(file)
        code, discrepancy, measured = using(file, lambda: (state["code"], state["discrepancy"], state["measured"]))
        scale, threshold = measured.tolist()
        update = {"discrepancy_scale": scale, "threshold": threshold}
        model = self.config.model
        model = model.model_copy(update={"guidance": model.guidance.model_copy(update=update)})
        self.session.report(f"discrepancy scale {scale:.3f}, tau {threshold:.3f}")
        return CoarseSample(code.to(device), discrepancy.to(device)), model

    def _distil(
        self, coarse: nn.Module | None, fine: nn.Module, draws: CoarseSample | None, config: TrainConfig
    ) -> tuple[nn.Module | None, nn.Module]:
        """Few-step networks of both stages."""
        model = config.model.model_copy(update={"few_steps": config.distil_to})
        sources = label_count(config.model)
        rate = config.distil_learning_rate
        few_coarse: nn.Module | None = None
        if coarse is not None:
            student = _student(make_coarse(model), coarse)
            distillation = Distillation(frozen(coarse, self.session), config, sources)
            objective: Objective = DistilCoarse("few_coarse", self.store, config, *self.parts, distillation)
            few_coarse = self._stage("few_coarse", student, objective, rate=rate)
        student = _student(make_fine(model), fine)
        distillation = Distillation(frozen(fine, self.session), config, sources)
        objective = DistilFine("few_fine", self.store, config, *self.parts, draws, distillation)
        return few_coarse, self._stage("few_fine", student, objective, rate=rate)


def _trained_settings(model: TwoStageConfig) -> dict[str, object]:
    """Settings that the weights can't do without.

    Baseline, focal length and step of the disparity are the camera's: networks see px of its own stream. The scale of
    the residuals that they give may be the training camera's in px or in inverse depth (`on_stream`).
    """
    names = ("coarse", "fine", "condition", "holes", "residual_px", "stages", "sources", "schedule")
    codec = model.codec.model_dump(exclude={"baseline_m", "native_fx_px", "disparity_step_px"})
    return {name: getattr(model, name) for name in names} | {"codec": codec}


def _student(student: nn.Module, teacher: nn.Module) -> nn.Module:
    """The student with the teacher's weights; the embedding of every new label starts as its source's."""
    state = dict(teacher.state_dict())
    key = "class_embedding.weight"
    rows = student.state_dict()[key].shape[0]
    state[key] = state[key].repeat(rows // state[key].shape[0], 1)
    student.load_state_dict(state)
    return student


def _claim(run: Path, config: TrainConfig) -> None:
    """Makes the run's folder, or checks that it belongs to the same settings."""
    file = run / CONFIG_NAME
    mine = config.model_dump(mode="json")
    # these say how fast or how talkative the run is, not what it computes
    free = ("acceleration", "accelerated_stages", "log_every", "sample_every", "checkpoint_every_s")
    if file.is_file():
        theirs: dict[str, object] = using(
            file,
            lambda: dict(json.loads(file.read_text())),
            "delete the run's folder and train anew: its settings are lost",
        )
        theirs.setdefault("dequantise", False)  # a run from before there was the setting
        different = [k for k in mine if k not in free and theirs.get(k) != mine[k]]
        if different:
            raise ConfigError(
                "the run was started with other settings",
                where=f"{run}, key {different[0]}",
                expected=json.dumps(theirs.get(different[0]))[:200],
                got=json.dumps(mine[different[0]])[:200],
                next_step="continue with the same settings, or choose another output folder",
            )
        return
    run.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(mine, indent=1) + "\n")


def _silent(line: str) -> None:
    """Reports nothing: another process does."""

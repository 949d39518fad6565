"""The optimisation of one stage: accelerate, averaged weights, exact resume, a time limit.

Everything random in a step follows from (seed, stage, step), and a checkpoint holds weights, average, optimiser and
schedule. So a run that was killed, or stopped by its time limit, ends with the same bytes as one that was not.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from realdiff_core.cli import progress
from realdiff_core.errors import ConfigError
from torch import Tensor, nn

from ..control import ControlledDenoiser
from ..networks import as_denoiser
from ..solver import Denoiser
from .acceleration import accelerated
from .config import TrainConfig
from .objectives import Objective, Stateful, Term
from .state_file import read_state, using, write_state

CHECKPOINT_NAME = "checkpoint.safetensors"
_AGREE_EVERY = 10  # steps between the questions that several processes answer together


class OutOfTimeError(Exception):
    """The time limit or a signal has ended the run; its checkpoint is written."""


@dataclass
class Session:
    """What the stages of a run share.

    Attributes:
        config: settings of the run.
        accelerator: processes, device, precision.
        run: folder of the run.
        report: receives lines for the user; called in the main process only.
        deadline: time.monotonic() at which to stop; infinity without a limit.
        log: receives (stage, step, numbers) for the curves.
        stopping: set by a signal.
        trained: whether this call has done a step.
    """

    config: TrainConfig
    accelerator: Accelerator
    run: Path
    report: Callable[[str], None]
    deadline: float = float("inf")
    log: Callable[[str, int, dict[str, float]], None] = lambda stage, step, values: None
    stopping: threading.Event = field(default_factory=threading.Event)
    trained: bool = False

    def agreed(self, *mine: bool) -> list[bool]:
        """Whether any process says so, for several questions; all processes get the same answers."""
        if self.accelerator.num_processes == 1:
            return list(mine)
        flags = torch.tensor([float(m) for m in mine], device=self.accelerator.device)
        return [value > 0 for value in self.accelerator.reduce(flags, reduction="sum").tolist()]

    def must_stop(self) -> bool:
        """Whether this process has been told to stop, or its time is up."""
        return self.stopping.is_set() or time.monotonic() > self.deadline

    def must_stop_finishing(self) -> bool:
        """The same for what follows the last step and begins anew each time: a call with only that to do does it."""
        return self.stopping.is_set() or (self.trained and self.must_stop())

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While inside, SIGTERM and SIGINT end the run at the next step, with a checkpoint."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, lambda *_: self.stopping.set()) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class StageTrainer:
    """Optimises one network towards an objective.

    Args:
        name: of the stage; its checkpoints are in a folder of this name.
        network: with its initial weights.
        objective: what is minimised.
        steps: optimiser steps.
        session: what the stages share.
        learning_rate: peak of the cosine schedule.
        picture: called with (the averaged network as a function, step) to draw samples for the curves.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        objective: Objective,
        steps: int,
        session: Session,
        learning_rate: float,
        picture: Callable[[Denoiser, int], None] | None = None,
    ) -> None:
        self.name, self.objective, self.steps, self.session = name, objective, steps, session
        self.picture = picture
        accelerator, config = session.accelerator, session.config
        device = accelerator.device
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.train().requires_grad_(True)
        if isinstance(network, ControlledDenoiser):
            network.freeze()
        self.plain = network
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=learning_rate, weight_decay=1e-2, fused=device.type == "cuda"
        )
        warmup = min(config.warmup_steps, max(1, steps // 10))
        self.schedule = get_cosine_schedule_with_warmup(self.optimiser, warmup, steps)
        self.ema = EMAModel(network.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.ema.to(device)
        self.done = 0
        self.folder = session.run / name

    def run(self) -> nn.Module:
        """Trains to the last step, from the newest checkpoint where there is one.

        Returns:
            The network with its averaged weights, frozen.

        Raises:
            OutOfTimeError: the run has to stop; a checkpoint is written.
            ConfigError: the loss has become NaN.
        """
        session, config = self.session, self.session.config
        self._load()
        several = session.accelerator.num_processes > 1
        how = config.acceleration if self.name in config.accelerated_stages else "none"
        module = accelerated(self.plain, how, session.report)
        network = self._in_precision(session.accelerator.prepare(module) if several else module)
        saved = time.monotonic()
        begun, first = time.monotonic(), self.done
        with progress(self.name, self.steps, "steps") as bar:
            bar.advance(self.done)
            while self.done < self.steps:
                terms = self._step(network)
                self.done += 1
                session.trained = True
                bar.advance(1)
                if self.done % config.log_every == 0 or self.done == self.steps:
                    values = self._values(terms)
                    rate = (self.done - first) / max(time.monotonic() - begun, 1e-9)
                    session.log(self.name, self.done, values | {"steps_per_s": rate, "learning_rate": self._rate()})
                if config.sample_every and self.picture and self.done % config.sample_every == 0:
                    self._draw()
                if several and self.done % _AGREE_EVERY:
                    continue
                stop, due = session.agreed(session.must_stop(), time.monotonic() - saved > config.checkpoint_every_s)
                if stop or due:
                    self.save()
                    saved = time.monotonic()
                if stop and self.done < self.steps:
                    raise OutOfTimeError(f"{self.name}: stopped after step {self.done} of {self.steps}")
        self.ema.copy_to(self.plain.parameters())
        return self.plain.eval().requires_grad_(False)

    def _rate(self) -> float:
        return float(self.schedule.get_last_lr()[0])

    def _in_precision(self, network: nn.Module) -> Denoiser:
        call, accelerator = as_denoiser(network), self.session.accelerator

        def denoise(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
            with accelerator.autocast():
                return call(sample.contiguous(memory_format=torch.channels_last), timestep, labels)

        return denoise

    def _step(self, network: Denoiser) -> list[Term]:
        """One optimiser step; the terms hold sums and weights of the whole batch in value, of this part in gradient."""
        accelerator = self.session.accelerator
        terms = self.objective(network, self.done)
        weights = torch.stack([term.weight.detach() for term in terms])
        processes = accelerator.num_processes
        if processes > 1:
            weights = accelerator.reduce(weights, reduction="sum")
        # DistributedDataParallel averages gradients over processes; the loss is a mean over the whole batch.
        scale = processes / weights.clamp_min(1.0)
        loss = sum(term.factor * term.total * s for term, s in zip(terms, scale.unbind(), strict=True))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.plain.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.step(self.plain.parameters())
        return terms

    def _values(self, terms: list[Term]) -> dict[str, float]:
        """The terms' means over the whole batch; the one place where the host waits for the device."""
        pairs = torch.stack([torch.stack([term.total.detach(), term.weight.detach()]) for term in terms])
        if self.session.accelerator.num_processes > 1:
            pairs = self.session.accelerator.reduce(pairs, reduction="sum")
        means = (pairs[:, 0] / pairs[:, 1].clamp_min(1.0)).tolist()
        values = {term.name: mean for term, mean in zip(terms, means, strict=True)}
        values["loss"] = sum(term.factor * mean for term, mean in zip(terms, means, strict=True))
        if values["loss"] != values["loss"]:
            raise ConfigError(
                "the training has diverged",
                where=f"stage {self.name}, step {self.done}",
                expected="a finite loss",
                got="NaN",
                next_step="lower learning_rate, or look for wrong depth in the packs",
            )
        return values

    def _draw(self) -> None:
        """Pictures of samples of the averaged network; in the main process."""
        if not self.session.accelerator.is_main_process or self.picture is None:
            return
        parameters = list(self.plain.parameters())
        self.ema.store(parameters)
        self.ema.copy_to(parameters)
        self.plain.eval()
        try:
            with torch.no_grad():
                self.picture(self._in_precision(self.plain), self.done)
        finally:
            self.plain.train()
            self.ema.restore(parameters)

    def save(self) -> None:
        """Writes a checkpoint beside its final name and moves it."""
        if self.session.accelerator.is_main_process:
            state: dict[str, Any] = {
                "done": self.done,
                "network": self.plain.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "ema": self.ema.state_dict(),
            }
            if isinstance(self.objective, Stateful):
                state["objective"] = self.objective.state_dict()
            self.folder.mkdir(parents=True, exist_ok=True)
            write_state(self.folder / CHECKPOINT_NAME, state)
        self.session.accelerator.wait_for_everyone()

    def _load(self) -> None:
        path = self.folder / CHECKPOINT_NAME
        if not path.is_file():
            return
        state = read_state(path)
        using(path, lambda: self._continue_from(state))
        if self.session.accelerator.is_main_process:
            self.session.report(f"{self.name}: continuing after step {self.done} of {self.steps}")

    def _continue_from(self, state: dict[str, Any]) -> None:
        self.plain.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.session.accelerator.device)
        if isinstance(self.objective, Stateful):
            self.objective.load_state_dict(state["objective"])
        self.done = int(state["done"])

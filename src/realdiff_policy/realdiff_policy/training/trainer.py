"""The training loop: accelerate, mixed precision, averaged weights, exact resume.

Every step draws its samples, variations, noise and diffusion steps from (seed, step) alone, and a checkpoint holds
weights, optimiser, schedule and average. So a run that was killed ends with the same weights as one that was not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from realdiff_core.errors import ConfigError
from torch import Tensor

from realdiff_policy.contract import STATE_SIZE
from realdiff_policy.data.augment import Augmentation
from realdiff_policy.data.windows import Batch, MappedSamples, SampleSource, WindowDataset, Windows
from realdiff_policy.policies.diffusion_policy.checkpoint import save_policy
from realdiff_policy.policies.diffusion_policy.modeling_diffusion_policy import (
    DiffusionPolicyModel,
    noise_scheduler,
    sampling_scheduler,
)
from realdiff_policy.policies.diffusion_policy.processor_diffusion_policy import DiffusionPolicyProcessor, NetworkInput
from realdiff_policy.policies.diffusion_policy.sampling import sample_rows
from realdiff_policy.training.config import TrainConfig
from realdiff_policy.training.samples import Samples, sample_source

_VALIDATION_SAMPLES = 256
_NOISE, _IMAGES = 0, 1
"""Streams of random numbers; each process has a stream of its own for its images from the second on."""

_AS_SEEN = Augmentation(
    crop=False, brightness=0, contrast=0, saturation=0, camera_shift=0, camera_rotation_deg=0, camera_scale=0
)

EvaluationHook = Callable[[Path, int], dict[str, float]]
"""Called with the folder of the averaged policy and the step; returns numbers for the curves."""


@dataclass
class _State:
    """What a checkpoint adds to accelerate's: the number of finished steps."""

    step: int = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


class Trainer:
    """Trains one Diffusion Policy.

    Args:
        config: Settings of the run.
        samples: Training and validation samples.
        run: The run's folder: checkpoints, curves, the trained policy.
        hook: Evaluates the policy at every validation, e.g. by rollouts.
    """

    def __init__(self, config: TrainConfig, samples: Samples, run: Path, hook: EvaluationHook | None = None) -> None:
        self.config, self.samples, self.run, self.hook = config, samples, run, hook
        cuda = torch.cuda.is_available()
        self.accelerator = Accelerator(
            mixed_precision=config.precision if cuda else "no",
            cpu=not cuda,
            log_with="tensorboard",
            project_dir=run / "curves",
        )
        device = self.accelerator.device
        processes = self.accelerator.num_processes
        if config.batch % processes:
            raise ConfigError("the batch can't be shared out", expected=f"a multiple of {processes}", got=config.batch)
        set_seed(config.seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        self.processor = DiffusionPolicyProcessor.fit(config.policy, samples.training)
        network = DiffusionPolicyModel(config.policy).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.execution == "graphs" and device.type == "cuda":
            self._with_graphs(network)
        settings = config.optimiser
        optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=device.type == "cuda",
        )
        # accelerate steps a prepared schedule once per process and step.
        schedule = get_cosine_schedule_with_warmup(
            optimiser, settings.warmup_steps * processes, config.steps * processes
        )
        self.ema = EMAModel(
            network.parameters(), decay=settings.ema_limit, use_ema_warmup=True, power=settings.ema_power, foreach=True
        )
        self.ema.to(device)
        self.network, self.optimiser, self.schedule = self.accelerator.prepare(network, optimiser, schedule)
        compiled = config.execution == "compile"
        self.forward: Callable[..., Tensor] = torch.compile(self.network) if compiled else self.network
        self.noise = noise_scheduler(config.policy.diffusion)
        self.state = _State()
        self.accelerator.register_for_checkpointing(self.state)

    def _with_graphs(self, network: DiffusionPolicyModel) -> None:
        """Gives the network forward and backward pass in training as CUDA graphs (evaluation runs as before)."""
        policy, device = self.config.policy, self.accelerator.device
        batch, steps = self.config.batch // self.accelerator.num_processes, policy.action.observation_steps
        shapes = [(batch, steps, 3, *policy.crop), (batch, steps, STATE_SIZE)]
        if policy.depth is not None:
            shapes.append((batch, steps, 2, *policy.crop))
        rows = batch * self.config.noise_draws
        examples = (
            torch.zeros(rows, policy.action.horizon, policy.action.size, device=device),
            torch.zeros(rows, dtype=torch.int64, device=device),
            *(torch.zeros(shape, device=device) for shape in shapes),
        )
        # Weights that autocast has cast stay valid for one capture only, not for later steps.
        with torch.autocast("cuda", torch.bfloat16, enabled=self.config.precision == "bf16", cache_enabled=False):
            torch.cuda.make_graphed_callables(network, examples)  # changes the network's own forward

    def train(self, resume: bool, on_step: Callable[[int, float], None] | None = None) -> Path:
        """Trains to the last step.

        Args:
            resume: Go on from the newest checkpoint, where there is one.
            on_step: Called with (finished steps, loss) at every logged step.

        Returns:
            Folder of the trained policy.

        Raises:
            ConfigError: The loss has become NaN.
        """
        config = self.config
        self.accelerator.init_trackers("train")
        if resume:
            self._load_newest()
        for step, batch in self.batches(self.state.step):
            loss = self.step(step, batch)
            self.state.step = step + 1
            done = self.state.step
            if done % config.log_every == 0 or done == config.steps:
                value = float(self.accelerator.gather(loss.detach()[None]).mean())
                if not np.isfinite(value):
                    raise ConfigError(
                        "the training has diverged",
                        where=f"step {done}",
                        expected="a finite loss",
                        got=value,
                        next_step="lower optimiser.learning_rate, or look for wrong actions in the data",
                    )
                self.accelerator.log({"loss": value, "learning_rate": self.schedule.get_last_lr()[0]}, step=done)
                if on_step is not None:
                    on_step(done, value)
            if done % config.checkpoint_every == 0 or done == config.steps:
                self._save()
            if done % config.validate_every == 0 or done == config.steps:
                self._validate(done)
        self.accelerator.end_training()
        return self.run / "policy"

    def batches(self, first: int) -> Iterator[tuple[int, Batch]]:
        """Yields (step, batch) from a step on; of each batch this process's part."""
        config, accelerator = self.config, self.accelerator
        source: SampleSource = sample_source(self.samples.training, config, accelerator.device)
        dataset = WindowDataset(source, self.samples.training.probability, config.batch, config.seed, config.steps)
        mine = self._mine(config.batch)
        if not isinstance(source, MappedSamples):
            for step in range(first, config.steps):
                yield step, source.gather(dataset.draw(step)[mine])
            return
        loader = torch.utils.data.DataLoader(
            _Part(dataset, mine),
            sampler=range(first, config.steps),
            batch_size=None,
            num_workers=config.workers,
            pin_memory=accelerator.device.type == "cuda",
            persistent_workers=False,
        )
        for step, batch in zip(range(first, config.steps), loader, strict=True):
            yield step, {name: values.to(accelerator.device, non_blocking=True) for name, values in batch.items()}

    def _mine(self, count: int) -> slice:
        """This process's part of so many samples."""
        part = count // self.accelerator.num_processes
        return slice(part * self.accelerator.process_index, part * (self.accelerator.process_index + 1))

    def _generator(self, step: int, stream: int) -> torch.Generator:
        """Random numbers of a step; streams don't share any."""
        numbers = np.random.SeedSequence((self.config.seed, step, stream)).generate_state(2)
        generator = torch.Generator(device=self.accelerator.device)
        return generator.manual_seed(int(numbers[0]) << 31 | int(numbers[1]) >> 1)

    def step(self, step: int, batch: Batch) -> Tensor:
        """Does one optimiser step and returns the loss, still on the device."""
        images = self._generator(step, _IMAGES + self.accelerator.process_index)
        inputs, rows = self.processor.training_input(batch, self.config.augmentation, images)
        rows = rows.repeat_interleave(self.config.noise_draws, dim=0)
        # Drawn for the whole batch, so that a sample gets the same noise whatever the number of processes.
        count = self.config.batch * self.config.noise_draws
        noise, steps = self._noise((count, *rows.shape[1:]), self._generator(step, _NOISE))
        mine = self._mine(count)
        loss = self._loss(self.forward, inputs, rows, noise[mine], steps[mine])
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), self.config.optimiser.gradient_norm)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.step(self.accelerator.unwrap_model(self.network).parameters())
        return loss

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise of a shape, and a diffusion step for each of its rows."""
        device, count = generator.device, self.config.policy.diffusion.train_steps
        noise = torch.randn(shape, generator=generator, device=device)
        return noise, torch.randint(0, count, shape[:1], generator=generator, device=device)

    def _loss(
        self, network: Callable[..., Tensor], inputs: NetworkInput, rows: Tensor, noise: Tensor, steps: Tensor
    ) -> Tensor:
        """Mean square error of the predicted noise."""
        noisy = self.noise.add_noise(rows, noise, steps)
        with self.accelerator.autocast():
            predicted = network(noisy, steps, *inputs.tensors)
        return F.mse_loss(predicted.float(), noise)

    @torch.no_grad()
    def _validate(self, done: int) -> None:
        """Writes the averaged policy, and its errors on the validation samples, to the run's folder."""
        network = self.accelerator.unwrap_model(self.network)
        self.ema.store(network.parameters())
        self.ema.copy_to(network.parameters())
        network.eval()
        try:
            if self.accelerator.is_main_process:
                folder = self.run / "policy"
                save_policy(folder, self.config, self.samples, network, self.processor)
                values = self._errors(network, self.samples.validation) if self.samples.validation else {}
                if self.hook is not None:
                    values |= self.hook(folder, done)
                self.accelerator.log({f"validation/{name}": value for name, value in values.items()}, step=done)
        finally:
            network.train()
            self.ema.restore(network.parameters())
        self.accelerator.wait_for_everyone()

    def _errors(self, network: DiffusionPolicyModel, windows: Windows) -> dict[str, float]:
        """Noise loss and mean error of sampled actions, per unit of the action range."""
        count = min(_VALIDATION_SAMPLES, len(windows))
        picks = np.linspace(0, len(windows) - 1, count).astype(np.int64)
        source = MappedSamples(windows)
        scheduler = sampling_scheduler(self.config.policy.diffusion)
        losses, errors = [], []
        for part in np.array_split(picks, -(-count // self.config.batch)):
            batch = {name: values.to(self.accelerator.device) for name, values in source.gather(part).items()}
            generator = self._generator(0, _NOISE)
            inputs, rows = self.processor.training_input(batch, _AS_SEEN, generator)
            losses.append(float(self._loss(network, inputs, rows, *self._noise(rows.shape, generator))) * len(part))
            with self.accelerator.autocast():
                condition = network.encoder(*inputs.tensors).float()
                sampled = sample_rows(network.denoiser, condition, rows.shape, scheduler, generator)
            errors.append(float((sampled.float() - rows).abs().mean()) * len(part))
        return {"loss": sum(losses) / count, "action_error": sum(errors) / count}

    def _checkpoints(self) -> list[Path]:
        folders = (self.run / "checkpoints").glob("step_*")
        return sorted((path for path in folders if path.is_dir()), key=lambda path: int(path.name[5:]))

    def _save(self) -> None:
        """Writes a checkpoint beside its final name and moves it; keeps the newest one."""
        folder = self.run / "checkpoints"
        partial = folder / ".partial"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial), safe_serialization=True)
        if self.accelerator.is_main_process:
            torch.save(self.ema.state_dict(), partial / "ema.pt")
            final = folder / f"step_{self.state.step:08d}"
            older = self._checkpoints()
            partial.rename(final)
            for path in older:
                if path != final:
                    shutil.rmtree(path)
        self.accelerator.wait_for_everyone()

    def _load_newest(self) -> None:
        found = self._checkpoints()
        if not found:
            return
        self.accelerator.load_state(str(found[-1]))
        self.ema.load_state_dict(torch.load(found[-1] / "ema.pt", map_location="cpu", weights_only=True))
        self.ema.to(self.accelerator.device)


class _Part(torch.utils.data.Dataset[Batch]):
    """This process's part of every batch."""

    def __init__(self, dataset: WindowDataset, part: slice) -> None:
        self._dataset, self._part = dataset, part

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, step: int) -> Any:
        return self._dataset.source.gather(self._dataset.draw(step)[self._part])

"""Folders of bags, enhanced by several workers: processes of this machine, its GPUs, or a Ray cluster.

A bag is a job. What a frame becomes depends on the job alone, so the bytes are the same whatever the workers; a worker
that dies costs its bag only, which another one continues where the journal ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from realdiff_core.config import CameraProfile
from realdiff_core.errors import OutputError, RealdiffError
from realdiff_core.worker_pool import ONE_THREAD, LocalWorkers, Workers, run_jobs

from realdiff_enhancer.bag_enhancer import EnhanceResult, enhance_bag, output_paths
from realdiff_enhancer.job import EnhanceOptions
from realdiff_enhancer.models.registry import has_network

__all__ = ["BagJob", "EnhancePlan", "enhance_folder", "local_workers"]


@dataclass(frozen=True)
class BagJob:
    """One bag: where it lies, what is made of it, and how."""

    source: Path
    outputs: tuple[Path, ...]
    options: EnhanceOptions


@dataclass(frozen=True)
class EnhancePlan:
    """How a worker gets ready: the model that it loads.

    Attributes:
        model: Name of the model.
        profile: Camera profile.
        steps: Sampling steps a stage.
        device: A name that `models.device.pick_device` knows.
        weights: Folder of learned weights, or parameter file.
    """

    model: str
    profile: CameraProfile
    steps: int | None = None
    device: str = "auto"
    weights: Path | None = None

    def build(self) -> Callable[[BagJob], EnhanceResult]:
        """Loads the model; returns what enhances a bag."""
        from realdiff_enhancer.memory import keep_freed_memory
        from realdiff_enhancer.models.registry import create_model

        keep_freed_memory()
        model = create_model(
            self.model, profile=self.profile, steps=self.steps, device=self.device, weights=self.weights
        )

        def enhance(job: BagJob) -> EnhanceResult:
            return enhance_bag(job.source, list(job.outputs), model, self.profile, job.options)

        return enhance


def enhance_folder(
    source: Path,
    output: Path,
    workers: Workers,
    options: EnhanceOptions,
    on_bag: Callable[[EnhanceResult], None] = lambda result: None,
) -> EnhanceResult:
    """Enhances a bag or a folder of bags with workers made for an `EnhancePlan`; closes them.

    Args:
        source: Bag, or folder of bags.
        output: Where to; see `bag_enhancer.output_paths`.
        workers: The workers.
        options: Options.
        on_bag: Called with what has been done for each bag.

    Returns:
        The whole result; its seconds are those that passed.

    Raises:
        RealdiffError: A bag can't be enhanced (see `enhance_bag`): the others under way are stopped, and continued with
            --resume. Or the workers of some bags keep dying: all others are finished before.
    """
    begin = time.perf_counter()
    jobs = [BagJob(bag, tuple(outputs), options) for bag, outputs in output_paths(source, output, options.draws)]
    total = EnhanceResult([])
    lost: list[tuple[BagJob, str]] = []
    for report in run_jobs(workers, jobs, _again):
        if report.error is not None:
            raise report.error
        if report.lost:
            lost.append((report.job, report.lost))
            continue
        result: EnhanceResult = report.result
        if not all(path.exists() for path in result.outputs):
            raise OutputError(
                "a worker has written into a folder that isn't visible here",
                where=result.outputs[0],
                next_step="let -o name a folder on a file system that all machines of the cluster share",
            )
        total.outputs += result.outputs
        total.frames += result.frames
        total.resumed += result.resumed
        total.skipped += result.skipped
        on_bag(result)
    total.outputs.sort()
    total.seconds = time.perf_counter() - begin
    if lost:
        raise RealdiffError(
            f"the workers of {len(lost)} of {len(jobs)} bags keep dying; all other bags are complete",
            where=", ".join(str(job.source) for job, _ in lost[:5]),
            got="; ".join(sorted({cause for _, cause in lost})),
            next_step="check the memory (fewer --workers), then repeat the command with --resume",
        )
    return total


def _again(job: BagJob) -> BagJob:
    """What is submitted when the worker of a job has died: the same, going on where the journal ends."""
    if job.options.overwrite:  # begins anew: outputs of an earlier run are in the way of resuming
        return job
    return replace(job, options=replace(job.options, resume=True))


def local_workers(plan: EnhancePlan, bags: int, size: int | None = None) -> Workers | None:
    """Workers of this machine: a process for each GPU, or for each core.

    Args:
        plan: What they do.
        bags: Number of bags; more workers would have nothing to do.
        size: Number of workers; None for as many as there are GPUs (or cores).

    Returns:
        The workers; None where one is enough: this process may do it itself, with all its threads.
    """
    gpus = _gpus(plan)
    named = ":" in plan.device  # cuda:1: this GPU and no other
    wanted = min(bags, size or (1 if named else len(gpus) or len(os.sched_getaffinity(0))))
    if wanted <= 1:
        return None
    environments = [
        {**ONE_THREAD, "CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else ONE_THREAD
        for place in range(wanted)
    ]
    return LocalWorkers(plan, wanted, environments)


def _gpus(plan: EnhancePlan) -> list[str]:
    """GPUs to be shared out, as CUDA_VISIBLE_DEVICES names them; none where the model or the user wants none."""
    if plan.device in ("cpu", "openvino") or ":" in plan.device or not has_network(plan.model):
        return []
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(index) for index in range(count)]

"""Workers: order of the reports, errors, lost workers, environments; without anything heavy in them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from realdiff_core.errors import BagError, RealdiffError
from realdiff_core.worker_pool import ONE_THREAD, DefectError, LocalWorkers, run_jobs


@dataclass(frozen=True)
class Work:
    """Does what the job says."""

    ready: bool = True

    def build(self) -> Callable[[tuple[str, Any]], Any]:
        if not self.ready:
            raise RealdiffError("nothing to work with")

        def work(job: tuple[str, Any]) -> Any:
            what, value = job
            if what == "double":
                return 2 * value
            if what == "environment":
                return os.environ.get(value)
            if what == "die":
                mark = Path(value)
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return "alive"
            if what == "always die":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "refuse":
                raise BagError("bag is bad", where=value)
            raise KeyError(what)

        return work


def test_results_errors_and_defects_are_reported() -> None:
    jobs = [("double", 1), ("refuse", "x"), ("double", 3), ("what?", 0), ("environment", "OMP_NUM_THREADS")]
    reports = {report.job[0] + str(report.job[1]): report for report in run_jobs(LocalWorkers(Work(), 2), jobs)}
    assert len(reports) == 5
    assert (reports["double1"].result, reports["double3"].result) == (2, 6)
    assert isinstance(reports["refusex"].error, BagError) and "bag is bad" in str(reports["refusex"].error)
    assert isinstance(reports["what?0"].error, DefectError) and "KeyError: 'what?'" in str(reports["what?0"].error)
    expected = os.environ.get("OMP_NUM_THREADS", ONE_THREAD["OMP_NUM_THREADS"])
    assert reports["environmentOMP_NUM_THREADS"].result == expected


def test_each_worker_has_its_environment() -> None:
    workers = LocalWorkers(Work(), 2, [{"REALDIFF_TEST_PLACE": "first"}, {"REALDIFF_TEST_PLACE": "second"}])
    found = {report.result for report in run_jobs(workers, [("environment", "REALDIFF_TEST_PLACE")] * 1)}
    assert found == {"first"}
    assert "REALDIFF_TEST_PLACE" not in os.environ


def test_a_worker_has_its_own_gpu_though_the_user_has_chosen_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for variable, expected in (("CUDA_VISIBLE_DEVICES", "5"), ("OMP_NUM_THREADS", "7")):
        workers = LocalWorkers(Work(), 1, [{**ONE_THREAD, "CUDA_VISIBLE_DEVICES": "5"}])
        assert [report.result for report in run_jobs(workers, [("environment", variable)])] == [expected]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,5"


def test_lost_worker_costs_its_job_only(tmp_path: Path) -> None:
    retried: list[Any] = []

    def retry(job: Any) -> Any:
        retried.append(job)
        return job

    jobs = [("die", str(tmp_path / "mark")), ("double", 4), ("always die", 0), ("double", 5)]
    reports = list(run_jobs(LocalWorkers(Work(), 2), jobs, retry, attempts=3))
    by_job = {report.job: report for report in reports}
    assert by_job[jobs[0]].result == "alive" and by_job[jobs[1]].result == 8 and by_job[jobs[3]].result == 10
    assert by_job[jobs[2]].lost == "killed by SIGKILL" and by_job[jobs[2]].error is None
    assert retried.count(jobs[0]) == 1 and retried.count(jobs[2]) == 2


def test_worker_that_never_gets_ready_says_why() -> None:
    (report,) = run_jobs(LocalWorkers(Work(ready=False), 1), [("double", 1)])
    assert isinstance(report.error, RealdiffError) and "nothing to work with" in str(report.error)


def test_workers_are_gone_when_the_reader_stops() -> None:
    workers = LocalWorkers(Work(), 2)
    reports = run_jobs(workers, [("double", index) for index in range(10)])
    next(reports)
    processes = [worker.process for worker in workers._workers]
    reports.close()  # type: ignore[attr-defined]
    assert processes and not any(process.is_alive() for process in processes)


@pytest.mark.parametrize("attempts", [1])
def test_single_attempt_is_not_retried(attempts: int) -> None:
    (report,) = run_jobs(LocalWorkers(Work(), 1), [("always die", 0)], attempts=attempts)
    assert report.lost

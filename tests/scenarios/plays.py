"""What is done to the workers and to Kafka, each play once: a load, disturbances, a verdict.

A play is a function of a `Stage`; what must come out of it stands in `PLAYS`. The tests play a short slice, `make chaos`
all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from millstream.ops.local_broker import LocalBroker
from tests.scenarios.fat_offsets import LoadingProbe, fat_broker
from tests.scenarios.orders import Job
from tests.scenarios.outcome import Outcome
from tests.scenarios.proxy import KINDS, ResetProxy, Trap, proxied_broker
from tests.scenarios.run import Run

WRONG = "tests.scenarios.wrong"
IMPATIENT: dict[str, Any] = {"delivery_timeout_ms": 3_000, "retry_backoff_ms_max": 200}
"""Workers that give a transaction up while the broker is away, and so ask for offsets as soon as it is there: loading."""
ATTEMPTS_MAX = 6
"""Of a negative control to make its fault show."""


@dataclass(frozen=True)
class Stage:
    """Where and how large a play is. `rate`: orders a second."""

    bootstrap: str
    name: str
    folder: Path
    seed: int
    rate: int = 1_500
    kills: int = 50
    records_min: int = 100_000
    rounds: int = 2
    """How often a fault other than a kill is repeated."""

    def run(self, *, wrong: str | None = None, bootstrap: str = "", **told: Any) -> Run:
        """`told`: of the `Job`. `wrong`: the fault of a negative control."""
        program = (WRONG, wrong) if wrong else ("tests.scenarios.orders",)
        job = Job(bootstrap or self.bootstrap, self.name, **told)
        return Run(job, self.folder, rate=self.rate, seed=self.seed, program=program)

    def pass_at_most(self, seconds: float) -> int:
        """As many outputs as come in that time at the load's pace."""
        return max(int(self.rate * seconds), 2)


# -- workers


def kills(stage: Stage, partitions: int = 4) -> Outcome:
    """`kill -9` of one of three workers at random moments. A supervisor starts it again at once; one in ten stays away until
    others have taken over."""
    with stage.run(partitions=partitions) as run:
        run.begin(0, 1, 2)
        for number in range(stage.kills):
            run.let_some_pass(stage.pass_at_most(2))
            if number % 10 == 9:
                _kill_until_taken_over(run)
            else:  # one in five may hit a worker that is still recovering from the last
                run.kill(run.a_working_worker() if run.random.random() < 0.8 else run.a_worker())
        while run.observer.outputs < stage.records_min:
            run.let_pass(stage.pass_at_most(1))
        return run.finish(stage.name)


def kills_16(stage: Stage) -> Outcome:
    return kills(stage, 16)


def standby(stage: Stage) -> Outcome:
    """Workers that keep warm copies of each other's state; one is killed and stays away until the other two have taken over."""
    with stage.run(standby_replicas=1) as run:
        run.begin(0, 1, 2)
        for _ in range(max(stage.kills // 5, 1)):
            run.let_some_pass(stage.pass_at_most(4))
            _kill_until_taken_over(run)
            run.a_working_worker()
        return run.finish(stage.name)


def _kill_until_taken_over(run: Run) -> None:
    victim = run.a_working_worker()
    owned = run.owned(victim)
    run.kill(victim, restart=False)
    run.wait_handed_over(owned, victim)
    run.let_pass(run.load.rate)
    run.start(victim)


def zombies(stage: Stage) -> Outcome:
    """SIGSTOP for twice the session timeout, others take over, SIGCONT: what it had open must change nothing."""
    with stage.run() as run:
        run.begin(0, 1, 2)
        for _ in range(stage.rounds):
            run.let_some_pass(stage.pass_at_most(2))
            victim = run.a_working_worker()
            owned = run.owned(victim)
            with run.lasting("stopped", f"worker {victim}"):
                run.workers.pause(victim)
                run.load.wait_sent(2 * run.job.session_timeout_ms * stage.rate // 1000, 300)
                run.wait_handed_over(owned, victim)
                run.let_pass(stage.rate)
            run.workers.resume(victim)
            run.let_pass(stage.pass_at_most(3))
        return run.finish(stage.name)


def scaling(stage: Stage) -> Outcome:
    """One worker, three, one again, under load."""
    with stage.run() as run:
        run.begin(0)
        for _ in range(stage.rounds):
            run.mark("grow", "to 3")
            run.start(1, 2)
            run.workers.wait_joined(1)
            run.workers.wait_joined(2)
            run.let_pass(stage.pass_at_most(3))
            run.mark("shrink", "to 1")
            for number in (1, 2):
                owned = run.owned(number)
                assert run.workers.stop(number) == [0], run.workers.logs()
                run.wait_handed_over(owned, number)
            run.let_pass(stage.pass_at_most(3))
        return run.finish(stage.name)


# -- the broker


def broker_killed(stage: Stage) -> Outcome:
    """`kill -9` of the only broker, and its restart with the same data."""
    with LocalBroker() as broker, stage.run(bootstrap=broker.bootstrap) as run:
        run.begin(0, 1, 2)
        for _ in range(stage.rounds):
            run.let_some_pass(stage.pass_at_most(3))
            _restart(run, broker)
            run.let_pass(stage.pass_at_most(3))
        return run.finish(stage.name)


def _restart(run: Run, broker: LocalBroker) -> None:
    with run.lasting("broker away"):
        broker.kill()
        broker.restart()


def fat_offsets(stage: Stage) -> Outcome:
    """The same where the coordinator takes seconds to load its offsets, and says so at the top level of its answers only."""
    with fat_broker() as broker, stage.run(bootstrap=broker.bootstrap, **IMPATIENT) as run:
        run.begin(0, 1, 2)
        for _ in range(stage.rounds):
            run.let_some_pass(stage.pass_at_most(3))
            _restart_loading(run, broker)
            run.let_pass(stage.pass_at_most(3))
        return run.finish(stage.name)


def _restart_loading(run: Run, broker: LocalBroker) -> None:
    probe = LoadingProbe(broker.bootstrap, run.job.app)
    with run.lasting("broker away"):
        broker.kill()
        probe.start()
        run.load.wait_sent(2 * run.job.delivery_timeout_ms * run.load.rate // 1000, 300)
        broker.restart()
    probe.wait_loaded()
    run.notes.append(f"the coordinator was loading for {probe.loading_s:.1f} s ({probe.refused} refusals)")
    assert probe.refused, "the coordinator was never seen loading: this play shows nothing"


def resets(stage: Stage, traps_max: int = 1_000) -> Outcome:
    """A connection reset at the n-th request of each kind a commit is made of, before or after the broker has seen it."""
    with proxied_broker() as (broker, proxy), stage.run(bootstrap=broker.bootstrap) as run:
        run.begin(0, 1)
        traps = [Trap(kind, nth, when) for kind in KINDS for when in ("before", "after") for nth in (1, 4)]
        run.random.shuffle(traps)
        for trap in traps[:traps_max]:
            _spring(run, proxy, trap)
        return run.finish(stage.name)


def _spring(run: Run, proxy: ResetProxy, trap: Trap) -> None:
    """Producers start and positions are read when a shard is taken: a worker is killed for it."""
    proxy.arm(trap)
    if trap.kind in ("InitProducerId", "OffsetFetch"):
        run.kill(run.a_working_worker())
    for _ in range(ATTEMPTS_MAX):
        run.let_some_pass(run.load.rate)
        if proxy.sprung.is_set():
            break
        if trap.kind in ("InitProducerId", "OffsetFetch"):
            run.kill(run.a_working_worker())
    assert proxy.sprung.is_set(), f"{trap} was not reached"
    run.mark("reset", f"{trap.when} {trap.kind}")
    run.let_pass(run.load.rate // 2)


# -- one of three brokers


def three_nodes_kill(stage: Stage) -> Outcome:
    """Replication 3, min.insync 2: `kill -9` of one node after the other under load."""
    with LocalBroker(nodes=3) as broker, stage.run(bootstrap=broker.bootstrap) as run:
        run.begin(0, 1, 2)
        for node in run.random.sample(range(3), stage.rounds):
            run.let_some_pass(stage.pass_at_most(3))
            with run.lasting("broker away", f"node {node + 1}"):
                broker.kill(node)
                run.let_pass(stage.pass_at_most(6))
            broker.restart()
            run.let_pass(stage.pass_at_most(6))
        return run.finish(stage.name)


def three_nodes_stop(stage: Stage) -> Outcome:
    """SIGSTOP of one node: it holds its connections and answers nothing; then SIGCONT."""
    with LocalBroker(nodes=3) as broker, stage.run(bootstrap=broker.bootstrap) as run:
        run.begin(0, 1, 2)
        for node in run.random.sample(range(3), stage.rounds):
            run.let_some_pass(stage.pass_at_most(3))
            with run.lasting("broker stopped", f"node {node + 1}"):
                broker.pause(node)
                run.load.wait_sent(stage.pass_at_most(15), 300)
            broker.resume(node)
            run.let_pass(stage.pass_at_most(6))
        return run.finish(stage.name)


# -- negative controls


def at_least_once(stage: Stage) -> Outcome:
    """Kills at a commit interval of one second: duplicates are allowed, and must be seen. Losses are not."""
    with stage.run(guarantee="at_least_once", commit_interval_ms=1_000) as run:
        run.begin(0, 1)
        for _ in range(3 * stage.rounds):
            run.let_some_pass(stage.pass_at_most(3))
            run.kill(run.a_working_worker())
        return run.finish(stage.name, stores=False)


def unfenced_zombie(stage: Stage) -> Outcome:
    """Random transactional ids: a zombie's open transaction commits after others have done its work."""
    with stage.run(wrong="unfenced", commit_interval_ms=500) as run:
        run.begin(0, 1)
        for _ in range(2):
            run.let_some_pass(stage.pass_at_most(2))
            victim = run.a_working_worker()
            owned = run.owned(victim)
            with run.lasting("stopped", f"worker {victim}"):
                run.workers.pause(victim)
                run.wait_handed_over(owned, victim)
                run.load.wait_sent(stage.pass_at_most(5), 300)
            run.workers.resume(victim)
            run.let_pass(stage.pass_at_most(2))
        return run.finish(stage.name, stores=False)


def state_before_commit(stage: Stage) -> Outcome:
    """The store is written before the transaction commits: after a kill, records count twice."""
    with stage.run(wrong="state_before_commit", commit_interval_ms=200) as run:
        run.begin(0, 1)
        for _ in range(ATTEMPTS_MAX):
            run.let_some_pass(stage.pass_at_most(2))
            run.kill(run.a_working_worker())
        return run.finish(stage.name, stores=False)


def stock_committed(stage: Stage) -> Outcome:
    """The client's own `committed()` while the coordinator loads: workers begin again at an old place."""
    often = {"checkpoint_interval_ms": 10_000, **IMPATIENT}
    with fat_broker() as broker, stage.run(wrong="stock_committed", bootstrap=broker.bootstrap, **often) as run:
        run.begin(0, 1)
        run.let_pass(stage.pass_at_most(3))
        for _ in range(2):
            _restart_loading(run, broker)
            run.let_pass(stage.pass_at_most(3))
        return run.finish(stage.name, stores=False)


Expected = Literal["clean", "duplicates", "wrong"]


@dataclass(frozen=True)
class Play:
    """`title`: as the report says it."""

    name: str
    title: str
    play: Callable[[Stage], Outcome]
    expected: Expected = "clean"

    def as_expected(self, outcome: Outcome) -> bool:
        verdict = outcome.verdict
        match self.expected:
            case "clean":
                return verdict.clean
            case "duplicates":
                return verdict.duplicated > 0 and verdict.lost == 0
            case "wrong":
                return verdict.wrong > 0


PLAYS = (
    Play("kills", "kill -9 of workers, 4 partitions", kills),
    Play("kills-16", "kill -9 of workers, 16 partitions", kills_16),
    Play("standby", "kill -9 of workers with a standby, others take over", standby),
    Play("zombies", "a worker stopped for two session timeouts, then continued", zombies),
    Play("scaling", "one worker, three, one", scaling),
    Play("broker-killed", "kill -9 of the broker", broker_killed),
    Play("fat-offsets", "kill -9 of the broker, its coordinator slow to load", fat_offsets),
    Play("resets", "connections reset at requests of a commit", resets),
    Play("three-nodes-kill", "kill -9 of one of three brokers", three_nodes_kill),
    Play("three-nodes-stop", "one of three brokers stopped, then continued", three_nodes_stop),
    Play("at-least-once", "control: kills under at-least-once", at_least_once, "duplicates"),
    Play("unfenced", "control: a zombie without fencing", unfenced_zombie, "duplicates"),
    Play("state-before-commit", "control: state written before the commit", state_before_commit, "wrong"),
    Play("stock-committed", "control: offsets read the client's way", stock_committed, "wrong"),
)

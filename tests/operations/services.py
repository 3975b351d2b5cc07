"""The services of compose.yaml as processes on loopback: their own commands, environment, users and health checks.

There is no engine for containers here. What an image would bring is replaced: names of services by 127.0.0.1, ports by
free ones, paths by folders, PostgreSQL's image by Debian's package, the object store by moto.
"""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import yaml

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORTS = ("5000", "4200", "7070", "5432", "8080")
START_S = 300


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def wait_for(found, what, seconds=START_S):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError(f"waited in vain for {what() if callable(what) else what}")


def as_user(number):
    """What starts a program as compose.yaml has it: without root's rights, and no way back to them."""
    if os.geteuid():
        return []
    # Its last option: a service ends with the tests, however they end.
    drop = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=TERM"]
    return ["setpriv", f"--reuid={number}", f"--regid={number}", *drop, "--"]


def user_of(definition):
    """compose.yaml's user; where that one can't reach Python, this one, though without root's rights."""
    number = int(definition["user"].partition(":")[0])
    # By a shell: setpriv itself still has the rights to reach it.
    done = subprocess.run([*as_user(number), "sh", "-c", f"{sys.executable} -c ''"], capture_output=True)
    return os.geteuid() if done.returncode else number


class Service:
    """One service of compose.yaml as a process.

    Attributes:
        name: in compose.yaml.
        command: as it runs here.
        environment: all of it; nothing comes from this process.
        log: what it printed.
        url: where it answers, if it listens.
        user, password: who may sign in; "" for none.
        env: what a client needs to reach it.
    """

    def __init__(self, name, servers, port=None, user="", password="", **changes):
        self.name, self.servers = name, servers
        self.user, self.password, self.env = user, password, {}
        self.definition = COMPOSE["services"][name]
        self.folder = servers.folder / name
        self.folder.mkdir(exist_ok=True)
        self.ports = servers.ports | ({port: free_port()} if port == "8080" else {})
        self.url = f"http://127.0.0.1:{self.ports[port]}" if port else ""
        self.own(user_of(self.definition))
        command = [*self.definition.get("entrypoint", []), *self.definition["command"]]
        self.command = [self.translated(str(part)) for part in command]
        given = {key: self.translated(str(value)) for key, value in self.definition["environment"].items()}
        # A container has a /tmp of its own.
        own = {"TMPDIR": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment = {"PATH": f"{PROGRAMS}:{SYSTEM_PATH}", **own, **given, **changes}
        if "PGHOST" in given:
            self.environment["PGHOST"] = "127.0.0.1"
        self.log = servers.folder / "logs" / f"{name}.txt"
        self.process = None

    def own(self, number):
        """Run as this user, in a folder of its own."""
        self.number = number
        if not os.geteuid():
            os.chown(self.folder, number, number)

    def translated(self, text):
        """A string of compose.yaml as it is meant on this machine."""
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
        places = {
            "/run/secrets": self.servers.secrets,
            "/opt/fusmae/deploy": ROOT / "deploy",
            **dict.fromkeys(("/work", "/tmp", "/passing", "/home/fusmae"), self.folder),
        }
        found = "|".join(map(re.escape, places))
        text = re.sub(rf"(?<![\w/])({found})(?=/|$)", lambda match: str(places[match[1]]), text)
        text = re.sub(r"\b(postgres|objects|mlflow|prefect)(?=:\d)", "127.0.0.1", text).replace("0.0.0.0", "127.0.0.1")
        return re.sub(rf"(?<![\w.])({'|'.join(PORTS)})(?![\w.])", lambda match: self.ports[match[1]], text)

    def start(self):
        """Run it until its own health check is content."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*as_user(self.number), *self.command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(self.is_healthy_or_ended, lambda: f"{self.name}:\n{self.printed()[-4000:]}")
        assert self.process.poll() is None, f"{self.name} ended:\n{self.printed()[-6000:]}"
        return self

    def run_once(self, *command, **changes):
        """`docker compose run`: exit code and print-out of a command in place of its own, in the same surroundings."""
        replaced = len(self.definition.get("entrypoint", []))
        done = subprocess.run(
            [*as_user(self.number), *self.command[:replaced], *(command or self.command[replaced:])],
            cwd=self.folder,
            env=self.environment | changes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return done.returncode, done.stdout

    def is_healthy_or_ended(self):
        return self.process.poll() is not None or self.is_healthy()

    def is_healthy(self):
        """What compose.yaml's health check says."""
        kind, *command = self.definition["healthcheck"]["test"]
        assert kind == "CMD"
        check = [self.translated(part) for part in command]
        return subprocess.run(check, env=self.environment, capture_output=True, timeout=60).returncode == 0

    def stop(self):
        """End it and what it started; a worker with a health check doesn't end when told to, and is killed then."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(60)

    def printed(self):
        return self.log.read_text(encoding="utf-8", errors="replace")


class Postgres(Service):
    """PostgreSQL's server, with a superuser; `query` asks it, `stop` and `start` take it away and bring it back."""

    def __init__(self, servers, programs):
        super().__init__("postgres", servers, user="postgres", password=servers.secret("postgres"))
        self.programs, self.data = programs, self.folder / "data"
        self.port = self.ports["5432"]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}"
        self.env = {"PGHOST": "127.0.0.1", "PGPORT": self.port, "PGUSER": "postgres", "PGPASSWORD": self.password}
        self.environment |= {"PATH": f"{programs}:{SYSTEM_PATH}"}
        here = ["-D", str(self.data), "-h", "127.0.0.1", "-p", self.port, "-k", str(self.folder)]
        self.command += here
        # Debian's number for the user is not the image's.
        self.own(os.geteuid() or pwd.getpwnam("postgres").pw_uid)

    def prepare(self):
        """What the image does with an empty volume: initdb, then the scripts of compose.yaml."""
        options = self.environment["POSTGRES_INITDB_ARGS"].split()
        secret = Path(self.environment["POSTGRES_PASSWORD_FILE"])
        command = ["initdb", "-D", self.data, "-U", self.user, f"--pwfile={secret}", *options]
        self.run(*map(str, as_user(self.number) + command), cwd=self.folder)
        self.start()
        (script,) = [volume for volume in self.definition["volumes"] if "initdb.d" in volume]
        socket_only = self.env | {"PGHOST": str(self.folder), "SECRETS": str(self.servers.secrets)}
        self.run(str(ROOT / script.split(":")[0]), cwd=self.folder, **socket_only)

    def run(self, *command, cwd, **environment):
        done = subprocess.run(command, cwd=cwd, env=self.environment | environment, capture_output=True, text=True)
        assert not done.returncode, done.stdout + done.stderr

    def stop(self):
        """Without waiting for its clients: they see their connections end."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def query(self, statement, database="postgres"):
        """The rows that the superuser sees."""
        connection = psycopg2.connect(f"{self.url}/{database}", password=self.password)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()


class Servers:
    """A folder, secrets and ports that the services share; starts them."""

    def __init__(self, folder):
        self.folder, self.secrets = folder, folder / "secrets"
        self.ports = {port: free_port() for port in PORTS}
        self.services = []
        (folder / "logs").mkdir()
        subprocess.run([ROOT / "deploy" / "make-secrets", self.secrets], check=True)
        # An engine hands single files in; here services enter the folder.
        self.secrets.chmod(0o711)
        self.repository, self.wait_for = ROOT, wait_for

    def secret(self, name):
        return (self.secrets / name).read_text(encoding="utf-8")

    def start(self, name, **options):
        """A service of compose.yaml, running."""
        self.services.append(service := Service(name, self, **options))
        return service.start()

    def clients(self, user="worker"):
        """The environment of a client on another machine: MLflow's and Prefect's addresses and passwords, no more."""
        return {
            "PATH": f"{PROGRAMS}:{SYSTEM_PATH}",
            "HOME": str(self.folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports['5000']}",
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.secret(f"mlflow_{user}"),
            "PREFECT_HOME": str(self.folder / "client"),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.ports['4200']}/api",
            "PREFECT_API_AUTH_STRING": self.secret("prefect"),
        }

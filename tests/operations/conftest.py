"""compose.yaml's services, running: a session's own, for every test of this folder."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import boto3
import pytest

from tests.operations.services import Postgres, Servers, Service, is_open


@pytest.fixture(scope="session")
def servers():
    # Not below pytest's folder, which no other user may enter.
    folder = Path(tempfile.mkdtemp(prefix="fusmae-servers-", dir="/tmp"))
    folder.chmod(0o755)
    started = Servers(folder)
    yield started
    for service in reversed(started.services):
        service.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(servers):
    """PostgreSQL with the databases of deploy/postgres-init.sh."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found and os.geteuid():
        pytest.skip("PostgreSQL's programs are missing, and only root can install them: apt-get install postgresql")
    assert found, "PostgreSQL's programs are missing: apt-get install postgresql"
    server = Postgres(servers, found[-1])
    servers.services.append(server)
    server.prepare()
    return server


@pytest.fixture(scope="session")
def s3(servers):
    """moto, in place of compose.yaml's object store: the same protocol, but it asks for no password."""
    service = Service("objects", servers, port="7070", user=servers.secret("s3_access"))
    service.password = servers.secret("s3_secret")
    service.command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", servers.ports["7070"]]
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    service.env = dict(zip(names, (service.user, service.password, "us-east-1"), strict=True))
    service.is_healthy = lambda: is_open(servers.ports["7070"])
    servers.services.append(service)
    service.start()
    keys = {"aws_access_key_id": service.user, "aws_secret_access_key": service.password}
    service.client = boto3.client("s3", endpoint_url=service.url, region_name="us-east-1", **keys)
    return service


@pytest.fixture(scope="session")
def mlflow_server(servers, postgres, s3):
    """MLflow's server; `env` signs in as `worker`, `user` and `password` are the admin's."""
    server = servers.start("mlflow", port="5000", user="admin", password=servers.secret("mlflow_admin"))
    server.env = servers.clients()
    return server


@pytest.fixture(scope="session")
def prefect_server(servers, postgres):
    """Prefect's server; `env` signs in."""
    user, _, password = servers.secret("prefect").partition(":")
    server = servers.start("prefect", port="4200", user=user, password=password)
    server.env = servers.clients()
    return server


@pytest.fixture(scope="session")
def make_service(servers):
    """Services that do not run: `make_service(name)`."""
    return lambda name: Service(name, servers)

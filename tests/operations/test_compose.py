"""compose.yaml says what it should: no root, no open port, no secret, nothing that moves by itself."""

import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.xdist_group("servers")

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
# Of the Compose specification; an engine refuses any other.
KEYS = {
    *("build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "environment", "healthcheck", "image"),
    *("init", "networks", "ports", "profiles", "read_only", "restart", "secrets", "security_opt", "shm_size"),
    *("stop_grace_period", "tmpfs", "user", "volumes", "working_dir"),
}
TOLD_IN_SECRET = re.compile(r"PASSWORD|SECRET|AUTH_STRING|ACCESS_KEY|PASSFILE|PGPASS")


def words(service):
    return [str(word) for word in (*service.get("entrypoint", []), *service["command"])]


def secret_paths(service):
    return set(re.findall(r"/run/secrets/(\w+)", " ".join(map(str, service["environment"].values()))))


def test_the_file_has_the_keys_that_compose_knows_and_the_services_that_the_page_tells():
    assert {key for key in COMPOSE if not key.startswith("x-")} == {
        "name",
        "services",
        "networks",
        "volumes",
        "secrets",
    }
    assert set(SERVICES) == {"postgres", "objects", "mlflow", "prefect", "worker", "worker-gpu", "serve"}
    page = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    assert not [name for name in SERVICES if f"`{name}`" not in page]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name):
    service = SERVICES[name]
    assert not set(service) - KEYS
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_watched_and_started_after_those_it_needs(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
    told = f"{service['environment']} {words(service)}"
    needed = {other for other in ("mlflow", "prefect", "objects") if re.search(rf"//{other}:\d", told)} - {name}
    needed |= {"postgres"} if service["environment"].get("PGHOST") else set()
    depends = service.get("depends_on", {})
    assert set(depends) == needed
    assert all(wanted == {"condition": "service_healthy"} for wanted in depends.values())


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_version(name):
    service = SERVICES[name]
    default = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service["image"])
    assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", default)
    if "build" in service:
        dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        assert re.search(rf"^FROM \S+ AS {service['build']['target']}$", dockerfile, re.MULTILINE)
        assert all(f"ARG {argument}=" in dockerfile for argument in service["build"]["args"])


def test_only_what_asks_for_a_password_has_a_port_and_only_on_loopback():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"mlflow": ["127.0.0.1:5000:5000"], "prefect": ["127.0.0.1:4200:4200"]}
    assert "basic-auth" in words(SERVICES["mlflow"])
    assert "PREFECT_SERVER_API_AUTH_STRING_FROM_FILE" in SERVICES["prefect"]["environment"]


def test_database_and_bucket_are_reached_by_the_two_servers_only():
    assert COMPOSE["networks"]["stores"] == {"internal": True}
    on_stores = {name for name, service in SERVICES.items() if "stores" in service["networks"]}
    assert on_stores == {"postgres", "objects", "mlflow", "prefect"}
    assert SERVICES["postgres"]["networks"] == SERVICES["objects"]["networks"] == ["stores"]


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_by_file_and_no_service_has_more_than_it_reads(name):
    service = SERVICES[name]
    for variable, value in service["environment"].items():
        if TOLD_IN_SECRET.search(variable):
            assert variable.endswith(("_FILE", "_FILES")) or value == "/tmp/pgpass", variable
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), variable
    expected = secret_paths(service)
    if name == "postgres":
        script = (ROOT / "deploy" / "postgres-init.sh").read_text(encoding="utf-8")
        expected |= {f"{user}_db" for user in re.search(r"for user in ([\w ]+);", script)[1].split()}
    assert set(service["secrets"]) == expected
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])


def test_every_secret_is_one_that_is_made(servers):
    made = {path.name for path in servers.secrets.iterdir()} - {".gitignore"}
    assert made == set(COMPOSE["secrets"])
    assert all(COMPOSE["secrets"][name] == {"file": f"./secrets/{name}"} for name in made)
    assert (servers.secrets / ".gitignore").read_text() == "*\n"


def test_what_must_last_is_in_named_volumes():
    named = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, target = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).exists()
                assert target.endswith(":ro")
            else:
                named.add(source)
    assert named == set(COMPOSE["volumes"])
    assert all(SERVICES[name]["volumes"][0].startswith(f"{name}:") for name in ("postgres", "objects"))


def test_workers_do_not_share_a_workspace():
    cpu, gpu = (SERVICES[name]["volumes"] for name in ("worker", "worker-gpu"))
    assert not set(cpu) & set(gpu)
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_object_store_gets_its_keys_from_files(servers, make_service):
    """Its command as it stands, with a stand-in for the one program that is not here."""
    service = make_service("objects")
    program = service.folder / "versitygw"
    program.write_text('#!/bin/sh\necho "$0 $* $ROOT_ACCESS_KEY:$ROOT_SECRET_KEY $VGW_PORT"\n', encoding="utf-8")
    program.chmod(0o755)
    code, printed = service.run_once(PATH=f"{service.folder}:{service.environment['PATH']}")
    access, secret = servers.secret("s3_access"), servers.secret("s3_secret")
    arguments = printed.removeprefix(str(program)).split()
    assert code == 0
    assert arguments == ["posix", "/data", f"{access}:{secret}", f":{servers.ports['7070']}"]

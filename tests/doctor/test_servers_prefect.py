import base64
import json
import subprocess
import sys
import time

from fusmae.doctor.servers import check_prefect
from tests.doctor.conftest import answering, only, statuses


def answers(status="READY", version="3.9.1", pools=("cpu",)):
    """What Prefect 3.9.1's server says."""
    found = {"/api/health": "true", "/api/admin/version": json.dumps(version)}
    return found | {f"/api/work_pools/{pool}": json.dumps({"name": pool, "status": status}) for pool in pools}


def asked(monkeypatch, address, pools=("cpu",)):
    monkeypatch.setenv("PREFECT_API_URL", address)
    return list(check_prefect(pools))


def test_without_a_server_flows_run_all_the_same(project):
    found = only(check_prefect(("cpu",)))
    assert found.status == "skipped"
    assert "without a server" in found.found


def test_a_server_that_only_a_profile_names_is_a_warning_for_flows_do_not_see_it(project, nobody):
    command = f"prefect config set PREFECT_API_URL=http://{nobody}/api"
    subprocess.run([sys.executable, "-m", *command.split()], check=True, capture_output=True)
    flow = "import prefect.main; from prefect.settings import PREFECT_API_URL; print(PREFECT_API_URL.value())"
    assert subprocess.run([sys.executable, "-c", flow], check=True, capture_output=True, text=True).stdout == "None\n"
    # In a process of its own: Prefect reads where its home is once.
    ask = "from fusmae.doctor.servers import check_prefect; print(*check_prefect(('cpu',)))"
    done = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True, cwd=project)
    assert "status='warning'" in done.stdout
    assert nobody in done.stdout


def test_a_server_with_a_worker_is_well(project, monkeypatch):
    with answering(answers()) as address:
        found = asked(monkeypatch, f"{address}/api")
    assert statuses(found) == {"prefect server": "ok", "prefect version": "ok", "work pool cpu": "ok"}


def test_an_address_where_nobody_listens_is_an_error_within_seconds(project, monkeypatch, nobody):
    began = time.monotonic()
    found = only(asked(monkeypatch, f"http://{nobody}/api"))
    assert time.monotonic() - began < 5
    assert found.status == "error"
    assert "Connection refused" in found.found
    assert "prefect server start" in found.mend


def test_an_address_without_api_at_its_end_is_an_error(project, monkeypatch):
    with answering(answers()) as address:
        found = only(asked(monkeypatch, address))
    assert (found.status, found.expected) == ("error", "an address that ends in /api")


def test_another_version_is_a_warning(project, monkeypatch):
    with answering(answers(version="3.4.0")) as address:
        found = {finding.name: finding for finding in asked(monkeypatch, f"{address}/api")}
    assert found["prefect version"].status == "warning"
    assert "3.4.0 there" in found["prefect version"].found


def test_a_pool_that_is_missing_is_an_error_and_one_without_a_worker_a_warning(project, monkeypatch):
    with answering(answers(status="NOT_READY")) as address:
        found = {finding.name: finding for finding in asked(monkeypatch, f"{address}/api", ("cpu", "gpu"))}
    assert found["work pool cpu"].status == "warning"
    assert "prefect worker start --pool cpu" in found["work pool cpu"].mend
    assert found["work pool gpu"].status == "error"
    assert found["work pool gpu"].mend == "python -m flows.deploy"


def test_a_pool_that_is_paused_is_a_warning(project, monkeypatch):
    with answering(answers(status="PAUSED")) as address:
        found = asked(monkeypatch, f"{address}/api")
    assert found[-1].mend == "prefect work-pool resume cpu"


def test_the_server_s_password_is_used_and_not_shown(project, monkeypatch):
    wanted = "Basic " + base64.b64encode(b"me:hunter2").decode()
    with answering(answers() | {"authorization": wanted}) as address:
        refused = only(asked(monkeypatch, f"{address}/api"))
        assert "PREFECT_API_AUTH_STRING" in refused.mend
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:hunter2")
        found = asked(monkeypatch, f"{address}/api")
    assert set(statuses(found).values()) == {"ok"}
    assert "hunter2" not in str(found)

import subprocess

import pytest
import yaml

from fusmae.doctor.repository import check_cache, check_remote
from tests.doctor.conftest import DVC, only, run


def found_of(name):
    return {finding.name: finding for finding in check_cache()}[name]


def set_cache_type(kinds):
    run(DVC, "config", "--local", "cache.type", kinds)


def test_copies_of_little_data_are_well(project):
    set_cache_type("copy")
    found = found_of("dvc links")
    assert (found.status, found.found) == ("ok", "copy from the cache into the workspace")


@pytest.fixture
def much_data(project):
    """The data are said to be 6 GB."""
    lock = project / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    content["stages"]["copy"]["outs"][0]["size"] = 6_000_000_000
    lock.write_text(yaml.safe_dump(content))


@pytest.mark.usefixtures("much_data")
def test_copies_of_much_data_where_links_work_are_a_warning_that_its_command_mends(project):
    set_cache_type("copy")
    found = found_of("dvc links")
    assert found.status == "warning"
    assert "copy: 6 GB stand twice" in found.found
    assert "hardlink" in found.found
    subprocess.run(found.mend.replace("dvc ", f"{DVC} "), shell=True, check=True, capture_output=True)
    assert found_of("dvc links").status == "ok"


def test_links_that_are_asked_for_and_work_are_well(project):
    set_cache_type("hardlink,copy")
    assert found_of("dvc links").found == "hardlink from the cache into the workspace"


@pytest.mark.usefixtures("much_data")
def test_a_cache_on_another_file_system_takes_copies_and_says_so(project, small_disk):
    run(DVC, "config", "--local", "cache.dir", small_disk)
    found = found_of("dvc links")
    assert found.status == "warning"
    assert "another file system" in found.found


def test_links_that_cannot_cross_to_another_file_system_are_an_error(project, small_disk):
    run(DVC, "config", "--local", "cache.dir", small_disk)
    set_cache_type("hardlink")
    found = found_of("dvc links")
    assert (found.status, found.found) == ("error", "hardlink is asked for and does not work here")


def test_a_cache_that_cannot_be_written_to_is_an_error(project, small_disk):
    run(DVC, "config", "--local", "cache.dir", small_disk)
    done = subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr)
    found = found_of("dvc cache")
    assert found.status == "error"
    assert "Read-only file system" in found.found


def test_the_check_of_links_leaves_nothing_behind(project):
    def listing():
        return {str(path) for path in project.rglob("*")}

    list(check_cache())
    before = listing()
    list(check_cache())
    assert listing() == before


def test_a_project_without_a_remote_is_told_that_its_data_are_on_one_disk(project):
    found = only(check_remote())
    assert found.status == "skipped"
    assert "dvc remote add --default" in found.found


def test_a_remote_is_empty_until_its_command_has_pushed(project):
    run(DVC, "remote", "add", "--local", "--default", "storage", project / "remote")
    found = only(check_remote())
    assert (found.status, found.mend) == ("warning", "dvc push")
    run(DVC, "push")
    assert only(check_remote()).status == "ok"


def test_a_remote_that_does_not_answer_is_an_error(project, nobody):
    run(DVC, "remote", "add", "--local", "--default", "storage", f"http://{nobody}/data")
    found = only(check_remote())
    assert found.status == "error"
    assert "storage at http" in found.found

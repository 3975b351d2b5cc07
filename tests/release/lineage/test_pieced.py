"""A lineage that is pieced together from what a model says of itself trusts none of it."""

from fusmae.release.lineage import pieced


def test_a_commit_that_is_an_option_of_git_writes_nothing(tmp_path):
    assert pieced._at(f"--output={tmp_path / 'x'}") == []
    assert list(tmp_path.iterdir()) == []

"""Checks of which pairs are present: in the shards as in the index, and as many as the dataset states."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.data.shards import LeftOut
from fusmae.examination.check import UPDATE, Check, counted, joined, keys_left_out, some
from fusmae.examination.observe import Observation
from fusmae.sources.shared.source import Facts


def check_complete(pairs: Sequence[Pair], observed: Observation, left_out: Sequence[LeftOut]) -> Check:
    """Check that every pair of the index is in its split's shards with all modalities, and that no other pair is."""
    splits = {pair.key: pair.split for pair in pairs}
    times = Counter(observed.keys)
    excused = {item.key for item in left_out}
    kinds = {
        "without a side, or unreadable": keys_left_out(left_out, "complete"),
        "in no shard, for no stated reason": [key for key in splits if key not in times and key not in excused],
        "in the shards but not in the index": [key for key in times if key not in splits],
        "in the shards more than once": [key for key, number in times.items() if number > 1],
        "in the shards of another split": [
            key
            for key, split in zip(observed.keys, observed.splits, strict=True)
            if key in splits and splits[key] != split
        ],
    }
    findings = {key for keys in kinds.values() for key in keys}
    return Check(
        name="complete",
        severity="blocks",
        what="Every pair of the index is in the shards of its split with both sides, and no other pair is.",
        found=len(findings),
        got=joined(
            [f"{counted(len(set(keys)), 'pair')} {kind}" for kind, keys in kinds.items() if keys],
            f"{counted(len(times), 'pair')} in the index and in the shards",
        ),
        expected=f"the {counted(len(splits), 'pair')} of the index, each once",
        examples=some(findings),
        hint=f"bring the missing files to data/raw, then {UPDATE}; or agree to go on without them in "
        "data.tolerated.complete",
    )


def check_table(pairs: Sequence[Pair], facts: Facts) -> Check:
    """Report which statements the dataset's tables make twice; the reader refuses tables where the two don't agree."""
    return Check(
        name="table",
        severity="blocks",
        what="What the dataset's own tables state twice agrees; tables that contradict themselves are not read.",
        found=0,
        got=f"in the rows of {counted(len(pairs), 'pair')}: {facts.cross_checked}. "
        f"The tables can't show mistakes in: {facts.not_checked}"
        if facts.cross_checked
        else f"the tables state nothing twice, so that they can't show mistakes in: {facts.not_checked}",
        expected="no contradiction",
        is_skipped=not facts.cross_checked,
    )


def check_counts(pairs: Sequence[Pair], counts: Mapping[Split, int] | None) -> Check:
    """Check that each split has as many pairs as the dataset states."""
    found = Counter(pair.split for pair in pairs)
    stated = dict.fromkeys(SPLITS, 0) | dict(counts or {})
    missed = 0 if counts is None else sum(abs(found[split] - stated[split]) for split in SPLITS)
    got = _by_split({split: found[split] for split in SPLITS})
    if missed and sum(stated.values()) == len(pairs):
        got += "; the total is right, so pairs have changed their split"
    return Check(
        name="counts",
        severity="blocks",
        what="Each split has as many pairs as the dataset states.",
        found=missed,
        got=got if counts is not None else f"{got}; the dataset states no counts",
        expected=_by_split(stated) if counts is not None else "nothing is stated",
        hint="the raw data or its table is cut or of another version: compare data.source in params.yaml; "
        f"`dvc repro -f -s fetch`, {UPDATE}",
        is_skipped=counts is None,
    )


def _by_split(counts: Mapping[Split, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())

"""What the report says about where runs were trained, and about runs that are missing."""

from collections.abc import Sequence

from .jobs import Job, Outcome, epochs_done

Kind = dict[str, str]


def describe_kinds(outcomes: Sequence[Outcome]) -> list[str]:
    """Return remarks on the kinds of machine: the seeds whose networks were not all trained on the same kind, with the
    same number of threads and the same versions, and what they differ in.

    Example:
        >>> def ran(arm, processor):
        ...     return Outcome(arm, 0, [80.0], [1.0], 9.0, [], machines=[{"processor": processor, "threads": "2"}])
        >>> describe_kinds([ran("plain", "A"), ran("se", "A")])
        []
        >>> print(describe_kinds([ran("plain", "A"), ran("se", "B")])[0])
        Not all networks of seed 0 were trained on the same kind of machine (processor: plain A, se B): their ...
    """
    remarks = []
    seeds: dict[tuple[str, ...], list[int]] = {}
    for seed in sorted({o.seed for o in outcomes}):
        differing = _differing([o for o in outcomes if o.seed == seed and o.machines])
        if differing:
            seeds.setdefault(tuple(differing), []).append(seed)
    for differing_in, those in seeds.items():
        words = f"seed{'s' if len(those) > 1 else ''} {', '.join(map(str, those))}"
        remarks.append(
            f"Not all networks of {words} were trained on the same kind of machine ({'; '.join(differing_in)}): their "
            "differences are not those of the networks alone."
        )
    unknown = [f"{o.arm}, seed {o.seed}" for o in outcomes if not o.machines]
    if unknown:
        remarks.append(f"It is not recorded on what kind of machine these were trained: {'; '.join(unknown)}.")
    return remarks


def say_missing(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> list[str]:
    """Return a remark on the runs that are not finished, and how far they are; nothing where all are."""
    there = {(o.arm, o.seed) for o in outcomes}
    missing = [
        f"{job.arm}, seed {job.seed} ({f'{done} of {job.recipe.epochs} epochs' if done else 'not begun'})"
        for job in jobs
        if (job.arm, job.seed) not in there
        for done in [epochs_done(job)]
    ]
    return [f"{len(missing)} of {len(jobs)} runs are missing: {'; '.join(missing)}."] if missing else []


def _differing(outcomes: Sequence[Outcome]) -> list[str]:
    """Return in what the machines of these runs differ, and who had what."""
    keys = list(dict.fromkeys(key for o in outcomes for kind in o.machines for key in kind))
    found = []
    for key in keys:
        arms: dict[str, list[str]] = {}
        for outcome in outcomes:
            for kind in outcome.machines:
                names = arms.setdefault(kind.get(key, "unknown"), [])
                if outcome.arm not in names:
                    names.append(outcome.arm)
        if len(arms) > 1:
            found.append(f"{key}: " + ", ".join(f"{' and '.join(names)} {value}" for value, names in arms.items()))
    return found

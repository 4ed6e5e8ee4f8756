"""Deciding without a person at the screen: a stated rule by expected precision, and decisions recorded in a file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from obdb_lib.candidates import MISSING
from obdb_lib.decision_log import SKIP
from obdb_lib.errors import ReviewError
from obdb_lib.recorded import Recorded, RecordedDecision, assign_recorded
from obdb_lib.records import Document, Problem
from obdb_lib.review import VERDICTS, Journal, is_open

DEFAULT_PRECISION = 0.9
"""Expected share of right ones among what the rule accepts, class by class; raise it to accept fewer."""
SAME_PIXELS = 0.01
"""Corners of two boxes this near are the same: a file may hold fewer decimals than the journal."""


@dataclass(frozen=True)
class Threshold:
    """Where the rule cuts one class.

    Attributes:
        target: wanted precision, 0..1.
        least: least probability that is accepted, 0..1; None when not even the surest one reaches the target.
        expected: mean probability of what is accepted, NaN for nothing.
        accepted: how many that are.
    """

    target: float
    least: float | None
    expected: float
    accepted: int


def precision_thresholds(
    suggestions: Sequence[Document], precision: float | Mapping[str, float] = DEFAULT_PRECISION
) -> dict[str, Threshold]:
    """For each class the lowest probability from which on the mean probability reaches the target.

    The mean of calibrated probabilities is the expected precision of accepting them all.

    Args:
        suggestions: those without a ``probability`` do not count.
        precision: one target, or one for each class (a class that is not named takes DEFAULT_PRECISION).

    Raises:
        ReviewError: a target or a probability that is not 0..1.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for one in suggestions:
        if one.get("probability") is not None:
            found[str(one["object_class"])].append(float(one["probability"]))
    return {name: _threshold(name, np.array(found[name]), _target(precision, name)) for name in sorted(found)}


def threshold_table(
    suggestions: Sequence[Document], precision: float | Mapping[str, float] = DEFAULT_PRECISION
) -> pd.DataFrame:
    """``precision_thresholds`` as a table: index object_class; suggestions, accepted (how many the target lets in),
    from probability (the least one, NaN where nothing reaches the target), expected precision, target."""
    counts = Counter(str(one["object_class"]) for one in suggestions)
    rows = {
        name: {
            "suggestions": counts[name],
            "accepted": one.accepted,
            "from probability": np.nan if one.least is None else one.least,
            "expected precision": one.expected,
            "target": one.target,
        }
        for name, one in precision_thresholds(suggestions, precision).items()
    }
    columns = ["suggestions", "accepted", "from probability", "expected precision", "target"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("object_class")


def _target(precision: float | Mapping[str, float], name: str) -> float:
    target = float(precision.get(name, DEFAULT_PRECISION) if isinstance(precision, Mapping) else precision)
    if not 0 <= target <= 1:
        raise ReviewError(f"the target precision of {name} must be 0..1; got {target}")
    return target


def _threshold(name: str, probabilities: np.ndarray, target: float) -> Threshold:
    wrong = ~((probabilities >= 0) & (probabilities <= 1))
    if wrong.any():
        raise ReviewError(f"probabilities must be 0..1; {name} has {probabilities[wrong][0]}")
    falling = np.sort(probabilities)[::-1]
    means = np.cumsum(falling) / np.arange(1, len(falling) + 1)
    # Equals stand or fall together: a cut may only lie where the next one is lower.
    cuts = np.append(falling[1:] < falling[:-1], True)
    reached = np.flatnonzero((means >= target - 1e-12) & cuts)
    if not len(reached):
        return Threshold(target, None, float("nan"), 0)
    last = int(reached[-1])
    return Threshold(target, float(falling[last]), float(means[last]), last + 1)


def decide_by_precision(
    journal: Journal,
    suggestions: Sequence[Document],
    *,
    precision: float | Mapping[str, float] = DEFAULT_PRECISION,
    kinds: Sequence[str] = (MISSING,),
) -> dict[str, int]:
    """Accept, class by class, what reaches the target precision in the mean, and skip the rest.

    Without an acceptance probability nothing is accepted: a detector's score is none, and the entries say so.

    What was decided before stays, but for what a rule skipped: another target may accept that. Silenced suggestions
    and those of other ``kinds`` are skipped: a rule that nobody watches adds boxes, and changes or removes none unless
    told.

    Args:
        precision: see ``precision_thresholds``; the thresholds are those of the suggestions that no person decided, so
            that a target reached in two steps accepts what it accepts at once.
        kinds: what the rule may accept.

    Returns:
        Numbers of suggestions by verdict, decisions made before included.

    Raises:
        ReviewError: a value is out of range.
    """
    standing = journal.standing()
    judged = [one for one in suggestions if str(one.get("kind") or MISSING) in kinds and not one.get("silenced_by")]
    open_ones = [one for one in judged if is_open(standing.get(one["_id"]))]
    by_rules = [one for one in judged if _accepted_by_rule(standing.get(one["_id"]))]
    thresholds = precision_thresholds([*open_ones, *by_rules], precision)
    rule = _words(thresholds, kinds)
    may = {one["_id"] for one in open_ones}
    counts = dict.fromkeys(VERDICTS, 0)
    for one in suggestions:
        decision = standing.get(one["_id"])
        accepted = one["_id"] in may and _passes(one, thresholds)
        if decision is None or accepted:
            decision = journal.decide(one, "accept" if accepted else SKIP, rule=rule)
        counts[decision["verdict"]] += 1
    return counts


def _accepted_by_rule(decision: Document | None) -> bool:
    return decision is not None and decision["verdict"] == "accept" and bool(decision.get("rule"))


def _passes(one: Document, thresholds: Mapping[str, Threshold]) -> bool:
    threshold = thresholds.get(str(one["object_class"]))
    if threshold is None or threshold.least is None or one.get("probability") is None:
        return False
    return float(one["probability"]) >= threshold.least


def _words(thresholds: Mapping[str, Threshold], kinds: Sequence[str]) -> str:
    """The rule as it is written into each entry."""
    cuts = []
    for name, one in thresholds.items():
        cut = "none" if one.least is None else f"probability >= {one.least:.4g}, expected {one.expected:.3f}"
        cuts.append(f"{name} (target {one.target:g}): {cut}")
    told = "; ".join(cuts) or "no suggestion has an acceptance probability, so none is accepted"
    return f"accept {', '.join(kinds)} above a precision target per class, else skip; {told}"


@dataclass(frozen=True)
class Applied:
    """What became of recorded decisions.

    Attributes:
        counts: numbers of suggestions by verdict, decisions made before included, and ``undecided``.
        written: decisions written now; ``by_place``: of these, found by image, box and class, as the ids differ.
        problems: recorded decisions that fit no suggestion, or one that was decided otherwise before, be it as another
            class or with another box.
    """

    counts: dict[str, int]
    written: int
    by_place: int
    problems: list[Problem] = field(default_factory=list)


def apply_recorded(journal: Journal, suggestions: Sequence[Document], recorded: Recorded) -> Applied:
    """Write recorded decisions into the journal, each on its suggestion; what was decided before stays, but for skips:
    they say nothing against a recorded verdict.

    A person's verdict is written in that person's name, so that it counts as one and is learned from; a rule's with its
    words and the file. A skip is the skip of whoever lays the file on, as it stands for nobody else.

    Raises:
        StoreError: an entry could not be saved.
    """
    standing = journal.standing()
    partners, problems = assign_recorded(recorded, suggestions)
    written = by_place = 0
    for row, (place, by_id) in sorted(partners.items()):
        decision, suggestion = recorded.decisions[row], suggestions[place]
        earlier = standing.get(suggestion["_id"])
        if earlier is not None and (earlier["verdict"] != SKIP or decision.verdict == SKIP):
            if what := _otherwise(decision, earlier):
                problems.append(Problem(f"{recorded.source}, {decision.where}", f"{what} before; left as it is"))
            continue
        with _in_the_name_of(journal, "" if decision.verdict == SKIP else decision.who):
            standing[suggestion["_id"]] = journal.decide(
                suggestion,
                decision.verdict,
                object_class=decision.object_class or None,
                points=decision.points,
                rule=f"{decision.rule} (recorded in {recorded.source})" if decision.rule else None,
                recorded=recorded.source,
            )
        written += 1
        by_place += not by_id
    counts = dict.fromkeys([*VERDICTS, "undecided"], 0)
    for suggestion in suggestions:
        found = standing.get(suggestion["_id"])
        counts["undecided" if found is None else found["verdict"]] += 1
    return Applied(counts, written, by_place, problems)


def _otherwise(decision: RecordedDecision, earlier: Document) -> str:
    """In what a recorded decision differs from the one that stands; "" when they agree."""
    who = earlier.get("who")
    if earlier["verdict"] != decision.verdict:
        return f"{decision.verdict} here, but {earlier['verdict']} by {who}"
    if decision.verdict == SKIP:
        return ""
    name, points = earlier.get("object_class"), earlier.get("points")
    if decision.object_class and name and decision.object_class != name:
        return f"{decision.verdict} as {decision.object_class} here, but as {name} by {who}"
    if decision.points and points and not np.allclose(decision.points, points, rtol=0, atol=SAME_PIXELS):
        return f"{decision.verdict} with box {list(decision.points)} here, but with {list(points)} by {who}"
    return ""


@contextmanager
def _in_the_name_of(journal: Journal, who: str) -> Iterator[None]:
    """Let the journal write for somebody else; "" for its own writer."""
    own = journal.who
    journal.who = who or own
    try:
        yield
    finally:
        journal.who = own

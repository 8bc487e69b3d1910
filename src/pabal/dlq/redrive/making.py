"""Makes a plan: looks at every letter that is meant, and says what a redrive would do."""

import contextlib
from collections import Counter

from pabal.clock import Clock
from pabal.dlq.letters.reading import Letters
from pabal.dlq.letters.selection import Selection
from pabal.dlq.letters.tails import Tails
from pabal.dlq.redrive.plan import FATES, Fate, Plan, Rules, judge
from pabal.dlq.redrive.surroundings import Surroundings


async def make_plan(
    letters: Letters, selection: Selection, *, tails: Tails, clock: Clock, rules: Rules, plan_id: str, by: str
) -> Plan:
    """The plan for these letters, up to the dead topics' present ends. Changes nothing. Raises ConfigError."""
    ends = await letters.ends(selection)
    surroundings = await Surroundings.read(letters, selection, tails=tails, clock=clock, ends=ends)
    world = surroundings.world()
    fates: Counter[Fate] = Counter()
    error_classes: Counter[str] = Counter()
    seen: set[str] = set()
    async with contextlib.aclosing(letters.scan(selection, ends=ends)) as scanned:
        async for letter in scanned:
            if letter.matter in seen:
                fates["copy"] += 1
                continue
            seen.add(letter.matter)
            state = surroundings.marks.standing(letter).state
            fate = judge(surroundings.marks.corrected(letter), state=state, rules=rules, world=world)
            fates[fate] += 1
            if fate == "redrive":
                error_classes[letter.error_class] += 1
    return Plan(
        id=plan_id,
        made_at=world.now,
        by=by,
        selection=selection,
        rules=rules,
        ends=ends,
        counts={fate: fates[fate] for fate in FATES if fates[fate]},
        error_classes=dict(error_classes.most_common()),
    )

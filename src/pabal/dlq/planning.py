"""Makes a plan: looks at every letter that is meant, and says what a redrive would do."""

import contextlib
from collections import Counter

from pabal.dlq.desk import DeadLetters
from pabal.dlq.plan import FATES, Fate, Plan, Rules, judge
from pabal.dlq.selection import Selection
from pabal.dlq.surroundings import Surroundings


async def make_plan(desk: DeadLetters, selection: Selection, *, rules: Rules, plan_id: str, by: str) -> Plan:
    """The plan for these letters, up to the dead topics' present ends. Changes nothing. Raises ConfigError."""
    ends = await desk.ends(selection)
    surroundings = await Surroundings.read(desk, selection, ends=ends)
    world = surroundings.world()
    fates: Counter[Fate] = Counter()
    error_classes: Counter[str] = Counter()
    seen: set[str] = set()
    async with contextlib.aclosing(desk.scan(selection, ends=ends)) as letters:
        async for letter in letters:
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

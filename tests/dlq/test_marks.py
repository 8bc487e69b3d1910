import msgspec

from pabal.audit import AuditFact, audit_id
from pabal.dlq.letters.letter import Letter
from pabal.dlq.letters.marks import DISCARDED, EDITED, REDRIVEN, Edit, Mark, Marks, marking_fact
from tests.dlq.letters import NOW, a_delivery, a_letter


def fact(letter: Letter, action: str, detail: Mark | Edit, *, by: str = "ana") -> AuditFact:
    return marking_fact(letter, action=action, by=by, at=NOW, reason="why", detail=detail, occasion=repr(detail))


def test_a_letter_of_which_nothing_is_said_is_open() -> None:
    assert Marks().standing(a_letter(a_delivery())).state == "open"


def test_the_first_word_on_a_letter_holds() -> None:
    letter, marks = a_letter(a_delivery()), Marks()

    marks.take(fact(letter, REDRIVEN, Mark(matter=letter.matter, plan="p-1"), by="ana"))
    marks.take(fact(letter, DISCARDED, Mark(matter=letter.matter), by="ben"))

    standing = marks.standing(letter)
    assert (standing.state, standing.plan) == ("redriven", "p-1")
    assert standing.fact is not None
    assert standing.fact.by == "ana"


def test_a_copy_of_a_letter_stands_where_the_letter_stands() -> None:
    letter, copy, marks = a_letter(a_delivery(), offset=1), a_letter(a_delivery(), offset=2), Marks()

    marks.take(fact(letter, DISCARDED, Mark(matter=letter.matter)))

    assert marks.standing(copy).state == "discarded"


def test_the_same_delivery_given_up_again_later_is_another_letter() -> None:
    letter, marks = a_letter(a_delivery(attempt=3)), Marks()

    marks.take(fact(letter, REDRIVEN, Mark(matter=letter.matter)))

    assert marks.standing(a_letter(a_delivery(attempt=4), offset=9)).state == "open"


def test_bytes_that_become_readable_stay_as_they_were_marked() -> None:
    unreadable, marks = a_letter(None, offset=4), Marks()
    marks.take(fact(unreadable, DISCARDED, Mark(matter=unreadable.matter)))

    assert marks.standing(a_letter(a_delivery(), offset=4)).state == "discarded"


def test_corrections_add_up_and_the_later_word_on_one_thing_holds() -> None:
    letter, marks = a_letter(a_delivery()), Marks()

    marks.take(fact(letter, EDITED, Edit(matter=letter.matter, edit=1, address="https://a.example/")))
    marks.take(fact(letter, EDITED, Edit(matter=letter.matter, edit=1, provider="backup")))
    marks.take(fact(letter, EDITED, Edit(matter=letter.matter, edit=1, address="https://b.example/")))

    corrected = marks.corrected(letter).delivery
    assert corrected is not None
    assert (corrected.address, corrected.provider, corrected.edit) == ("https://b.example/", "backup", 1)
    assert corrected.idempotency_key == f"{corrected.id}.1"
    assert marks.standing(letter).state == "open"


def test_a_correction_that_is_appended_again_does_not_undo_the_one_after_it() -> None:
    letter, marks = a_letter(a_delivery()), Marks()
    first = fact(letter, EDITED, Edit(matter=letter.matter, edit=1, address="https://a.example/"))
    later = fact(letter, EDITED, Edit(matter=letter.matter, edit=1, address="https://b.example/"))

    for each in (first, later, first):
        marks.take(each)

    corrected = marks.corrected(letter).delivery
    assert corrected is not None
    assert corrected.address == "https://b.example/"


def test_facts_about_other_things_and_facts_that_make_no_sense_change_nothing() -> None:
    letter, marks = a_letter(a_delivery()), Marks()
    mark = fact(letter, DISCARDED, Mark(matter=letter.matter))

    marks.take(msgspec.structs.replace(mark, action="provider.paused"))
    marks.take(msgspec.structs.replace(mark, detail={"matter": 3}))

    assert marks.standing(letter).state == "open"


def test_the_id_of_a_fact_is_derived_from_what_when_and_to_what() -> None:
    one = audit_id(action="a", subject="b", occasion="c")

    assert one == audit_id(action="a", subject="b", occasion="c")
    assert (
        len({one, audit_id(action="ab", subject="", occasion="c"), audit_id(action="a", subject="b", occasion="")}) == 3
    )

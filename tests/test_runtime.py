"""What a process that is ready leaves out of its garbage collections."""

import gc

from pabal.runtime import keep_what_is_loaded


def test_what_is_loaded_by_then_is_looked_through_no_more() -> None:
    before = len(gc.get_objects())
    try:
        keep_what_is_loaded()

        assert len(gc.get_objects()) < before / 10
    finally:
        gc.unfreeze()

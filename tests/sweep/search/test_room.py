"""Which question finds a worker: packs hold theirs until their last cell has ended, split ones too."""

from sweep.search.room import Room


def test_a_pack_that_was_split_takes_as_many_workers_as_its_pieces() -> None:
    room = Room([["a", "b", "c", "d"]], slots=lambda: 2, lanes=4)
    assert room.has_place()
    room.form([["a", "b"], ["c", "d"]])
    assert not room.has_place()
    for cell in "ab":
        assert room.trains(cell)
        room.leave(cell)
    assert room.has_place() and not room.is_idle
    room.form([["c"], ["d"]])
    assert not room.has_place()
    for cell in "cd":
        room.leave(cell)
    assert room.is_idle

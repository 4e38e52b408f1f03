from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reposyncd.model import RACY_NS, Chunk, ChunkRow, FileRow, FileStat
from reposyncd.sync.plan import chunk_id, is_unchanged, plan_file, text_digest

STAT = FileStat(size=10, mtime_ns=1_000_000_000, ctime_ns=1_500_000_000, inode=7)
LATE = STAT.ctime_ns + RACY_NS + 1


def file_row(path: str = "a.py", stat: FileStat = STAT, recorded_ns: int = LATE) -> FileRow:
    return FileRow(path, stat, recorded_ns, "0" * 32, None)


def chunks(*texts: str) -> list[Chunk]:
    made, line = [], 1
    for text in texts:
        lines = text.count("\n")
        made.append(Chunk(text, line, line + lines - 1, "", "text"))
        line += lines
    return made


def rows(*texts: str) -> list[ChunkRow]:
    return list(plan_file("r", file_row(), chunks(*texts), []).chunks)


def test_a_file_is_unchanged_when_its_stat_is_equal_and_old_enough() -> None:
    assert is_unchanged(file_row(), STAT)


def test_a_file_is_suspect_when_any_part_of_its_stat_differs() -> None:
    for field in FileStat._fields:
        assert not is_unchanged(file_row(), STAT._replace(**{field: getattr(STAT, field) + 1}))


def test_a_file_recorded_within_the_granularity_of_the_clock_is_suspect() -> None:
    assert not is_unchanged(file_row(recorded_ns=STAT.ctime_ns + RACY_NS), STAT)
    future = STAT._replace(mtime_ns=LATE * 1000)
    assert not is_unchanged(file_row(stat=future), future)


def test_the_chunks_of_a_new_file_are_all_added() -> None:
    plan = plan_file("r", file_row(), chunks("a\n", "b\n"), [])
    assert [chunk.text for chunk in plan.added] == ["a\n", "b\n"]
    assert [chunk.row for chunk in plan.added] == list(plan.chunks)
    assert not plan.relabelled
    assert not plan.doomed


def test_nothing_is_planned_for_equal_chunks() -> None:
    plan = plan_file("r", file_row(), chunks("a\n", "b\n"), rows("a\n", "b\n"))
    assert not (plan.added or plan.relabelled or plan.doomed)


def test_a_chunk_that_moved_is_relabelled_and_not_added() -> None:
    plan = plan_file("r", file_row(), chunks("new\n", "a\n"), rows("a\n"))
    assert [chunk.text for chunk in plan.added] == ["new\n"]
    assert [(row.start_line, row.digest) for row in plan.relabelled] == [(2, text_digest("a\n"))]
    assert plan.doomed == ()


def test_equal_chunks_of_one_file_have_ids_of_their_own() -> None:
    ids = [row.id for row in rows("same\n", "same\n", "same\n")]
    assert len(set(ids)) == 3
    plan = plan_file("r", file_row(), chunks("same\n"), rows("same\n", "same\n", "same\n"))
    assert plan.added == ()
    assert set(plan.doomed) == set(ids[1:])


def test_ids_differ_by_repo_path_text_and_occurrence() -> None:
    ids = {
        chunk_id("r", "p", text_digest("t"), 0),
        chunk_id("s", "p", text_digest("t"), 0),
        chunk_id("r", "q", text_digest("t"), 0),
        chunk_id("r", "p", text_digest("u"), 0),
        chunk_id("r", "p", text_digest("t"), 1),
    }
    assert len(ids) == 5


TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n\n", "d\ne\n"]), max_size=12)


@given(before=TEXTS, after=TEXTS)
def test_a_plan_turns_the_old_records_into_exactly_the_new_ones(before: list[str], after: list[str]) -> None:
    known = {row.id: row for row in rows(*before)}
    plan = plan_file("r", file_row(), chunks(*after), list(known.values()))
    for id in plan.doomed:
        del known[id]
    assert not known.keys() & {chunk.row.id for chunk in plan.added}
    known |= {chunk.row.id: chunk.row for chunk in plan.added}
    assert known.keys() >= {row.id for row in plan.relabelled}
    known |= {row.id: row for row in plan.relabelled}
    assert sorted(known.values(), key=lambda row: row.start_line) == rows(*after)

"""Records from files, one at a time: found, shuffled without a list, mixed, and the same for every process."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minittt.data import streaming_records
from minittt.data.released_format import RecordError
from minittt.data.streaming_records import Permutation, RecordFile, RecordStream
from minittt.errors import MinitttError

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=6) | st.sampled_from(['"', "\\", '[{"', "\\\\]", "}],"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_law_01_a_shuffle_is_a_bijection(n, seed, epoch):
    order = Permutation(n, seed, epoch)
    assert sorted(order[i] for i in range(n)) == list(range(n))


def test_law_01_other_epochs_and_seeds_have_other_orders_and_no_position_is_favoured():
    orders = [[Permutation(50, seed, epoch)[i] for i in range(50)] for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    first = [Permutation(5, 0, epoch)[0] for epoch in range(500)]
    assert all(70 < first.count(value) < 130 for value in range(5))
    assert 0 <= Permutation(10**15, 0)[10**14] < 10**15
    with pytest.raises(IndexError):
        orders and Permutation(5, 0)[5]


@given(values=st.lists(VALUES, max_size=6), indent=st.sampled_from([None, 2]), at_once=st.integers(1, 9))
@settings(max_examples=60)
def test_law_02_every_record_of_an_array_and_of_lines_is_found(tmp_path_factory, values, indent, at_once):
    folder = tmp_path_factory.mktemp("records")
    (folder / "a.json").write_text(json.dumps(values, indent=indent, ensure_ascii=False), encoding="utf-8")
    (folder / "b.jsonl").write_text("\n\n".join(json.dumps(value) for value in values), encoding="utf-8")
    before, streaming_records.READ_AT_ONCE = streaming_records.READ_AT_ONCE, at_once
    try:
        for name in ("a.json", "b.jsonl"):
            file = RecordFile(folder / name)
            assert [file[i] for i in range(len(file))] == values
            again = RecordFile(folder / name)  # by the index beside it
            assert [again[i] for i in range(len(again))] == values
    finally:
        streaming_records.READ_AT_ONCE = before


def released(i):
    return {"messages": [{"role": "user", "content": f"u{i}"}, {"role": "assistant", "content": f"a{i}"}]}


def write(path, numbers):
    lines = [json.dumps(released(i)) for i in numbers]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]", encoding="utf-8")
    return path


def test_an_index_of_another_file_is_made_anew(tmp_path):
    path = write(tmp_path / "a.jsonl", range(3))
    assert len(RecordFile(path)) == 3
    assert len(RecordFile(write(path, range(20)))) == 20
    (tmp_path / "a.jsonl.index").write_bytes(b"nonsense")
    assert RecordFile(path)[19] == released(19)


def test_parquet_gives_the_records_that_json_gives(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    rows = [released(i) for i in range(7)] + [{"text": "words"}]
    table = pyarrow.Table.from_pylist([{"messages": None, "text": None, **row} for row in rows])
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    file = RecordFile(tmp_path / "a.parquet")
    assert [file[i] for i in (7, 0, 6, 3)] == [rows[i] for i in (7, 0, 6, 3)]
    (tmp_path / "b.parquet").write_bytes(b"no")
    with pytest.raises(MinitttError, match="not a Parquet file"):
        RecordFile(tmp_path / "b.parquet")


@given(st.integers(0, 99), st.integers(1, 4), st.integers(0, 3))
def test_law_03_an_epoch_holds_every_record_once_and_ranks_share_it(tmp_path_factory, seed, ranks, epoch):
    folder = tmp_path_factory.mktemp("records")
    paths = [write(folder / "a.json", range(7)), write(folder / "b.jsonl", range(7, 20))]
    streams = [RecordStream(paths, seed) for _ in range(ranks)]
    shares = [[s.place_of(epoch, i) for i in range(rank, 20, ranks)] for rank, s in enumerate(streams)]
    drawn = [place for share in shares for place in share]
    assert sorted(drawn) == [(0, i) for i in range(7)] + [(1, i) for i in range(13)]
    # resumed: a stream that never saw the beginning goes on with the same records
    later = RecordStream(paths, seed)
    assert [later.drawn(epoch, i) for i in (11, 12)] == [streams[0].drawn(epoch, i) for i in (11, 12)]


@given(st.sampled_from([0.5, 1.0, 1.5, 3.0]), st.integers(0, 9))
def test_law_04_weights_are_shares_and_no_record_comes_again_before_all_have_come(
    tmp_path_factory, weight, seed
):
    folder = tmp_path_factory.mktemp("records")
    stream = RecordStream(
        [write(folder / "a.json", range(10)), write(folder / "b.json", range(10))], seed, [1, weight]
    )
    assert len(stream) == 10 + round(10 * weight)
    counts = [0] * 10
    for epoch in range(4):
        places = [stream.place_of(epoch, i) for i in range(len(stream))]
        assert sorted(index for number, index in places if number == 0) == list(range(10))
        for number, index in places:
            counts[index] += number == 1
    assert min(counts) == max(counts) == 4 * weight


def test_malformed_records_are_named_counted_and_skipped_or_fatal(tmp_path):
    lines = [json.dumps(released(0)), '{"text": "cut', json.dumps({"text": ""})]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    stream = RecordStream([path], on_error="skip")
    assert sum(stream.drawn(0, i) is not None for i in range(3)) == 1
    assert stream.malformed == {str(path): 2}
    with pytest.raises(RecordError, match=rf"a.jsonl, record 1 \(at byte {len(lines[0]) + 1}\): not JSON"):
        RecordStream([path]).read(0, 1)
    assert len(list(stream.complaints())) == 2
    for content in ("[1, 2", '{"a": 1}', "", "[] x []"):
        (tmp_path / "b.json").write_text(content, encoding="utf-8")
        with pytest.raises(MinitttError, match="array"):
            RecordFile(tmp_path / "b.json")
    for wrong in ({"weights": [1, 2]}, {"weights": [0]}, {"on_error": "ignore"}, {"held_out": 3}):
        with pytest.raises(MinitttError):
            RecordStream([path], **wrong)
    for name in ("none.json", "a.csv"):
        (tmp_path / "a.csv").write_text("x", encoding="utf-8")
        with pytest.raises(MinitttError, match="records"):
            RecordFile(tmp_path / name)


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(n):
        path = tmp_path / f"{n}.jsonl"
        path.write_text("\n".join(['{"text": "' + "x" * 100 + '"}'] * n), encoding="utf-8")
        tracemalloc.start()
        stream = RecordStream([path])
        for i in range(50):
            stream.drawn(0, i)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(200_000) < 2_500_000  # bytes, of a file of 22 MB

"""The benchmark for a GPU runs to its end on any machine, and its table says what was not measured."""

import json
from itertools import pairwise

import gpu
import pytest
import torch

from minittt.attention import two_stream_mask
from minittt.data.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    gpu.main(["--small", "--json", str(path)])
    return path


def test_it_runs_to_its_end_on_a_cpu(measured):
    found = json.loads(measured.read_text(encoding="utf-8"))
    assert set(found["parts"]) == {"works", "training", "decoding"}
    assert found["machine"]["torch"] == torch.__version__
    for part in found["parts"].values():
        for name, figure in part.items():
            is_flex = "flex" in name and not torch.cuda.is_available()
            assert isinstance(figure, float) or ("failed" in figure) == is_flex, (name, figure)


def test_a_part_that_is_run_again_replaces_its_own_figures_alone(tmp_path):
    path = tmp_path / "gpu.json"
    figures = gpu.Figures(path)
    figures.begin("works")
    figures.add("works", "a", {"x": 1})
    figures.begin("training")
    figures.add("training", "b", {"x": 2})
    again = gpu.Figures(path)
    again.begin("works")
    again.add("works", "c", {"x": 3})
    assert json.loads(path.read_text(encoding="utf-8"))["parts"] == {
        "works": {"c": {"x": 3}},
        "training": {"b": {"x": 2}},
    }


def test_another_machines_figures_are_not_mixed_in(tmp_path):
    path = tmp_path / "gpu.json"
    path.write_text(
        json.dumps({"machine": {"gpu": "another"}, "parts": {"works": {"a": 1}}}), encoding="utf-8"
    )
    assert gpu.Figures(path).found["parts"] == {}


def test_a_figure_that_fails_says_why_and_the_others_go_on():
    def fails():
        raise RuntimeError("no such\nkernel")

    assert gpu.or_why_not(fails) == {"failed": "RuntimeError: no such kernel"}


def test_the_table_says_what_was_not_measured(tmp_path, measured):
    empty = gpu.table(tmp_path / "none.json").splitlines()
    assert len(empty) > 8 and all(line.endswith(f"| {gpu.NOT_MEASURED} |") for line in empty[2:])
    some = gpu.table(measured)
    assert "tokens/s" in some and gpu.NOT_MEASURED in some


def test_the_chapter_has_the_table_of_today():
    chapter = (gpu.ROOT / "tutorials" / "devices.md").read_text(encoding="utf-8")
    assert gpu.table() in chapter


def test_visible_pairs_are_those_of_the_dense_mask():
    batch = gpu.batch_of(Vocabulary(400, 512), 256, 128, 2)
    assert batch.ids.shape == (2, 256)
    dense = two_stream_mask(batch.groups, batch.noisy, batch.documents)
    padding = batch.groups < 0
    wanted = int(dense.sum()) - int(padding.sum())  # padding sees itself, and does not count
    assert gpu.visible_pairs(batch, chunk=100) == wanted


def test_a_measurement_needs_a_gpu_or_says_that_it_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments in ([], ["--small"]):
        with pytest.raises(SystemExit):
            gpu.main(arguments)


def test_parts_are_numbered_from_one():
    assert all(b == a + 1 for a, b in pairwise([0, *gpu.PARTS]))

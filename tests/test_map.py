"""The map names nothing that does not exist, and leaves out nothing that a core module offers."""

import importlib
import re
from pathlib import Path

import pytest

from tests.mutants.run import LISTS_OF_MUTANTS, file_of_laws, module_path, target

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "tutorials" / "map.md").read_text(encoding="utf-8")
CORE = ("attention", "diffusion", "bounds", "decoding", "unmasking", "codec", "objective")
HELPERS = {  # public, yet no formula of its own: parts and records of what the map does name
    "attention": {"Tokens", "is_real", "same_document", "not_later", "earlier", "same_group", "one_stream", "two_streams"},
    "bounds": {"surprisals", "masked_sets", "mean_by_count", "discrete_time_bound", "path_nll", "order_nlls", "round_sizes"},
    "decoding": {"Context", "TokenClasses", "Draft", "Settings", "TextToken", "DenoisingStep", "BlockClosed", "SpanClosed",
                 "End", "Row", "sample_tokens", "collect"},
    "unmasking": {"lowest", "entropy", "random_order", "confidence_threshold", "policy_named", "Sampling"},
    "codec": {"CodecError", "CodecConfig", "import_encodec", "pretrained_encodec_24khz", "write_audio", "whole_file",
              "write_tensors", "read_tensors", "read_header", "header_value"},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_]+\.[A-Za-z_]+)`", MAP))))
def test_every_function_on_the_map_exists(name):
    module, function = name.split(".")
    parts = module_path(module).relative_to(ROOT).with_suffix("").parts
    assert hasattr(importlib.import_module(".".join(parts)), function)


def test_every_law_on_the_map_exists():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", MAP))
    assert len(named) > 40
    assert not {name for name in named if f"def {name}(" not in tests}
    assert all((ROOT / path).is_file() for path in re.findall(r"`(tests/[\w/]+\.py)`", MAP))


@pytest.mark.parametrize("module", CORE[:-1])
def test_nothing_that_a_core_module_offers_is_left_out(module):
    source = module_path(module).read_text(encoding="utf-8").split('"""', 2)[2]
    public = set(re.findall(r"^(?:def|class) ([A-Za-z]\w*)", source, re.M)) - HELPERS.get(module, set())
    assert not {name for name in public if f"`{module}.{name}`" not in MAP}


@pytest.mark.parametrize("listed", LISTS_OF_MUTANTS)
def test_every_listed_mutant_can_be_made_and_has_a_law(listed):
    """`make mutants` takes an hour; this keeps its lists from going stale in between."""
    for mutant in importlib.import_module(f"tests.mutants.{listed}").MUTANTS:
        source = (ROOT / target(mutant, listed)).read_text(encoding="utf-8")
        assert source.count(mutant.old) == 1, mutant
        assert mutant.new != mutant.old, mutant
        names = re.findall(
            r"def (test_\w+)\(", (ROOT / file_of_laws(mutant, listed)).read_text(encoding="utf-8")
        )
        assert any(mutant.tests in name for name in names), mutant


@pytest.mark.parametrize("number", ["00", "01", "02", "03", "04", "05"])
def test_every_notebook_section_on_the_map_exists(number):
    (source,) = (ROOT / "notebooks" / "src").glob(f"{number}_*.py")
    sections = set(re.findall(r"^# ## (\d+)\.", source.read_text(encoding="utf-8"), re.M))
    named = re.findall(rf"\b{number} ((?:§\d+(?:, )?)+)", MAP)
    assert {section for group in named for section in re.findall(r"\d+", group)} <= sections
    assert sections, f"{source.name} numbers its sections"


def test_every_row_of_the_map_has_a_notebook_a_chapter_or_is_parity():
    rows = [
        line for line in MAP.splitlines() if line.startswith("| ") and not line.startswith("| in the paper")
    ]
    assert len(rows) > 40
    last = [row.strip("| ").rsplit("|", 1)[1].strip() for row in rows]
    assert not [cell for cell in last if not re.fullmatch(r"-|chapter \d|\w+\.md|(0\d (§\d+(, )?)+)+", cell)]
    assert sum(cell == "-" for cell in last) <= 4
    assert all((ROOT / "tutorials" / cell).is_file() for cell in last if cell.endswith(".md"))

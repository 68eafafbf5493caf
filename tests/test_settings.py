"""Settings know their ranges, and the command line has nothing that they do not say."""

import ast
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minittt.settings as module
from minittt import unmasking
from minittt.errors import MinitttError
from minittt.objective import PRESETS
from minittt.settings import (
    CodecTrainingSettings,
    DecodingOptions,
    RefereeSettings,
    TrainingSettings,
    fits,
    kind_of,
    options_of,
    range_of,
)

CLASSES = [TrainingSettings, CodecTrainingSettings, RefereeSettings, DecodingOptions]
FIELDS = [(settings, entry.name) for settings in CLASSES for entry in options_of(settings)]
VALUES = (
    st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
    | st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, math.nan, math.inf])
)


@given(st.sampled_from(FIELDS), VALUES)
def test_a_value_is_taken_if_and_only_if_it_fits(name, value):
    settings, field_name = name
    [entry] = [entry for entry in options_of(settings) if entry.name == field_name]
    optional = entry.default is None
    if field_name in ("policy", "compile", "shard"):
        return  # these have rules of more than one field, or of more than a range
    if fits(entry, value) or (value is None and optional):
        assert getattr(settings(**{field_name: value}), field_name) == value
    else:
        with pytest.raises(MinitttError, match=field_name):
            settings(**{field_name: value})


@pytest.mark.parametrize(("settings", "name"), FIELDS)
def test_the_ends_of_a_range_are_taken_and_what_lies_beyond_is_not(settings, name):
    """The law above asks `fits` what fits; this one does not."""
    [entry] = [entry for entry in options_of(settings) if entry.name == name]
    rules = entry.metadata
    step = 1 if kind_of(entry) is int else 1e-6
    inside = []
    outside = [object(), b"1", [1]]
    if kind_of(entry) is float:
        outside += [math.nan, math.inf, -math.inf]
    if rules["at_most"] is not None:
        inside.append(rules["at_most"])
        outside.append(rules["at_most"] * (1 + step) + step)
    if rules["at_least"] is not None:
        inside.append(rules["at_least"])
        outside.append(rules["at_least"] - step)
    if rules["above"] is not None:
        outside += [rules["above"], rules["above"] - step]
        inside.append(rules["above"] + step)
    assert all(fits(entry, kind_of(entry)(value)) for value in inside)
    assert not any(fits(entry, value) for value in outside)


@pytest.mark.parametrize("settings", CLASSES)
def test_every_default_fits_and_every_range_can_be_said(settings):
    settings()
    for entry in options_of(settings):
        assert entry.metadata["help"]
        assert range_of(entry)
        assert kind_of(entry) in (int, float, str, bool)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", math.nan),
        ("source_noise", math.nan),
        ("source_noise", 1.5),
        ("warmup", -5),
        ("steps", 0),
        ("steps", True),
        ("seed", 99999999999999),
        ("seed", -1),
        ("preset", "good"),
        ("keep", 0),
    ],
)
def test_values_that_were_accepted_or_crashed_are_refused_by_name(name, value):
    with pytest.raises(MinitttError, match=f"^{name} must be"):
        replace(TrainingSettings(), **{name: value})


@pytest.mark.parametrize("minutes", [0, -1, math.inf])
def test_a_codec_is_trained_for_some_minutes(minutes):
    with pytest.raises(MinitttError, match="minutes must be a finite number above 0"):
        CodecTrainingSettings(minutes=minutes)


def test_names_known_here_are_those_of_the_method():
    """Settings may not import torch, so they repeat these names; this keeps them from parting."""
    assert set(module.PRESETS) == set(PRESETS)
    assert set(module.POLICIES) == set(unmasking.POLICIES)


def test_policies_with_and_without_numbers():
    for policy in (*module.POLICIES, "entropy_bound:0.3", "confidence_threshold:0.9"):
        assert DecodingOptions(policy=policy).policy == policy
        unmasking.policy_named(policy)
    for policy in ("luck", "random_order:1", "entropy_bound:-1", "entropy_bound:nan", "entropy_bound:x"):
        with pytest.raises(MinitttError, match="policy"):
            DecodingOptions(policy=policy)


def test_settings_import_nothing_heavy():
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert not imported & {"torch", "numpy", "minittt.codec"}
    assert {name for name in imported if name.startswith("minittt")} == {"minittt.errors"}


def test_fields_without_an_option_are_few():
    silent = {entry.name for entry in fields(TrainingSettings)} - {
        e.name for e in options_of(TrainingSettings)
    }
    assert silent == {"betas", "model"}

"""The plan's JSON Schema: current, valid, and of one mind with the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import parallelai
from parallelai.errors import PlanError
from parallelai.plan.load import loads
from parallelai.plan.model import Plan
from parallelai.plan.problems import all_models, keys
from parallelai.plan.schema import plan_schema
from parallelai.plan.source import parse

SHIPPED = Path(parallelai.__file__).parent / "schemas" / "plan.json"
EXAMPLE = Path(__file__).parent / "data" / "contracts.yaml"


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(plan_schema())


def test_the_shipped_schema_is_current_and_valid() -> None:
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == plan_schema()
    jsonschema.Draft202012Validator.check_schema(plan_schema())


def test_the_example_of_the_contracts_is_valid(validator: Any) -> None:
    assert not list(validator.iter_errors(parse(EXAMPLE.read_text(encoding="utf-8"), "x").data))


GOOD = [
    "tasks: [{AGENT: a, GOAL: x, DEPENDENCIES: None, ESTIMATED TIME: 2-3, tier: best, provider: mock}]",
    "workstreams: [{id: a, description: x, files: src}, {name: b, GOAL: x, allowed_files: [docs]}]",
    "workstreams: {a: {description: x, FILES: src, BRANCH: x}}",
    "tasks: [{id: a, template: t, engine: {route: {docs: a, else: b}}, each: {chunk: 4k}, output: {schema: {}}}]",
    "limits: {parallel: auto, budget: '10usd,5Mtok,4h'}\nlanding: {batch: auto}\ntasks: [{id: a, description: x}]",
]
BAD = [
    "taks: []",
    "tasks: [{description: x}]",
    "tasks: [{id: a, description: x, foo: 1}]",
    "tasks: [{id: landing, description: x}]",
    "workstreams: {a: {description: x}}",
    "workstreams: {a: {owns: x}}",
    "workstreams: [{description: x, owns: x}]",
    "tasks: [{id: a, description: x, engine: {foo: [a]}}]",
    "tasks: [{id: a, description: x, engine: {route: {docs: a}}}]",
    "tasks: [{id: a, description: x, retries: many}]",
    "tasks: [{id: a, description: x, each: dir}]",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_the_loader_takes_the_schema_takes(validator: Any, text: str) -> None:
    assert loads(text)
    assert not list(validator.iter_errors(parse(text, "x").data))


@pytest.mark.parametrize("text", BAD)
def test_what_the_schema_refuses_the_loader_refuses(validator: Any, text: str) -> None:
    assert list(validator.iter_errors(parse(text, "x").data))
    with pytest.raises(PlanError):
        loads(text)


CONTRACT = {
    "Plan": "version name description engines roles defaults limits strategy phases tasks workstreams shared protected"
    " workspace gates landing permissions team vars",
    "EngineEntry": "use model base_url api_key_env api_key_file api_key_keyring price account concurrency sandbox"
    " network env args command timeout idle_timeout max_turns max_tokens temperature",
    "Role": "expertise model engine instructions owns avoids reads temperature max_tokens limits",
    "Task": "id description kind tags role engine model files each template params checklist output depends_on after"
    " when on_failure edits checks todo priority estimate timeout idle_timeout retries retry_on empty verify approve"
    " budget workspace",
    "Limits": "parallel budget on_budget unpriced max_wait grace",
    "Phase": "name tasks parallel gate pass_rate barrier why",
    "Workspace": "copy link setup env pass_env network needs sparse",
    "Needs": "ports database heavy memory",
    "Gates": "landing canary allow_red_base timeout",
    "Landing": "target method via push batch sync resolver generated conflicts decisions",
    "Generator": "files command",
    "Conflicts": "file function logic",
}


def test_every_key_of_the_contracts_is_there_and_no_other() -> None:
    models = {model.__name__: model for model in all_models(Plan)}
    for name, expected in CONTRACT.items():
        assert keys(models[name]) == set(expected.split()), name
    assert keys(models["Workstream"]) == {
        *CONTRACT["Task"].split(),
        "owns",
        "reads",
        "avoids",
        "contracts",
        "branch",
    }

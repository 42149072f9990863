"""The package as it is installed: its public names, what importing it costs, what its wheel holds."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import parallelai

ROOT = Path(__file__).parents[1]
HEAVY = ("pydantic", "rich", "yaml", "jinja2", "jsonschema", "sqlite3", "asyncio")


def loaded_after(code: str) -> set[str]:
    """The modules that are loaded once a fresh interpreter has run `code`."""
    script = f"{code}\nimport json, sys\nsys.stdout.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout[done.stdout.index("[") :]))


@pytest.mark.parametrize("name", parallelai.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(parallelai, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute `Nothing`"):
        _ = parallelai.Nothing


def test_the_public_names_are_those_that_the_reference_documents() -> None:
    page = (ROOT / "docs" / "reference" / "library.md").read_text(encoding="utf-8")
    missing = [name for name in parallelai.__all__ if f"::: parallelai.{name}\n" not in f"{page}\n"]
    assert missing == []


@pytest.mark.parametrize("code", ["import parallelai", "import parallelai.cli"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert loaded_after(code).isdisjoint(HEAVY)


def test_a_list_of_engines_loads_no_room_of_runs() -> None:
    """It is what new users call first, and says what is here in under a second."""
    loaded = loaded_after(
        "import contextlib, io\nfrom parallelai.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['engines', 'list'])"
    )
    assert "parallelai.engines.registry" in loaded
    rooms = ("store", "run", "work", "results", "git", "events")
    assert not {
        name for name in loaded if name.split(".")[:2] in [["parallelai", room] for room in rooms]
    } - {
        "parallelai.results",
        "parallelai.results.printable",
    }
    assert loaded.isdisjoint({"yaml", "jinja2", "sqlite3", "aiohttp", "psutil", "rich"})


def test_the_version_is_the_packages() -> None:
    assert importlib.metadata.version("parallelai") == parallelai.__version__


def test_the_wheel_holds_what_the_package_needs_and_nothing_else(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {name.split("/")[0] for name in names} == {
        "parallelai",
        f"parallelai-{parallelai.__version__}.dist-info",
    }
    data = {name.removeprefix("parallelai/") for name in names if not name.endswith(".py")}
    shipped = {f"schemas/{name}.json" for name in ("error", "event", "plan", "run")}
    assert {"py.typed", "templates/code-review.yaml", "templates/security-audit.yaml", *shipped} <= data
    assert {"processes/nothing", "templates/test-generation.yaml"} <= data
    assert not any("tests" in Path(name).parts or Path(name).name.startswith("test_") for name in names)

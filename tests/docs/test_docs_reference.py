"""The reference is what the code says, and the site builds with all links whole."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tour import REPOSITORY


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", REPOSITORY / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    for name, text in _generator().pages().items():
        path = REPOSITORY / "docs" / "reference" / name
        assert path.read_text(encoding="utf-8") == text, f"`python docs/generate.py` makes {name} anew"


def test_every_exit_code_of_an_error_is_explained() -> None:
    generator = _generator()
    from parallelai import errors

    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert codes <= set(generator.EXIT_CODES)


def test_a_key_without_explanation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = _generator()
    said = {name: dict(keys) for name, keys in generator._said().items()}
    del said["Task"]["retries"]
    monkeypatch.setattr(generator, "_said", lambda: said)
    with pytest.raises(SystemExit, match="retries"):
        generator.plan_page()


def test_troubleshooting_knows_every_kind_of_error() -> None:
    from parallelai import errors

    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    kinds = {kind.kind for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert not {kind for kind in kinds if f"`{kind}`" not in page}


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "NO_MKDOCS_2_WARNING": "1",
        # A proxy that is not there: a build that wanted something from elsewhere would fail.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for outside in ('src="http', 'rel="stylesheet" href="http', "fonts.g"):
        assert outside not in page

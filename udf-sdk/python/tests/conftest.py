"""Finds the sources, and builds the codec for this CPython where its headers are."""

import os
import sys
import warnings
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "src"), str(HERE.parent / "runner"), str(ROOT / "wit" / "vectors")]

import build  # noqa: E402


@pytest.fixture(scope="session")
def codec():
    """The C codec, built natively and set up."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "wasmill" / f"native-codec-{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        build.build_native(folder)
    except build.BuildError as error:
        if "Python.h" not in str(error):
            raise
        warnings.warn(f"the native codec is NOT tested: {error}", stacklevel=1)
        pytest.skip(f"no native codec: {error}")
    sys.path.insert(0, str(folder))
    import native

    return native.set_up()


@pytest.fixture(scope="session")
def wasm():
    """The module `wasm_host`, if the runner is built and the package wasmtime is there."""
    pytest.importorskip("wasmtime", reason="the runner is NOT tested: pip install wasmtime")
    import wasm_host

    if not wasm_host.RUNNER.exists():
        pytest.skip(f"the runner is NOT tested: {wasm_host.RUNNER} is not built (make python-runner)")
    return wasm_host

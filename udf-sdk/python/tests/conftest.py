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


def _build_codec():
    """Before anything imports `wasmill`: with the codec there, its Row is the codec's, as in the runner."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "wasmill" / f"native-codec-{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        build.build_native(folder)
    except build.BuildError as error:
        if "Python.h" not in str(error):
            raise
        return str(error)
    sys.path.insert(0, str(folder))
    import _wasmill_codec  # noqa: F401

    return None


NO_CODEC = _build_codec()


@pytest.fixture(scope="session")
def set_up_codec():
    """The C codec, built natively and set up."""
    if NO_CODEC:
        warnings.warn(f"the native codec is NOT tested: {NO_CODEC}", stacklevel=1)
        pytest.skip(f"no native codec: {NO_CODEC}")
    import native

    return native.set_up()


@pytest.fixture(params=[1 << 30, 0], ids=["in C", "in bytecode"])
def codec(request, set_up_codec):
    """The codec, with loops in C for all bundles, or with those of bytecode for all functions that have one."""
    set_up_codec.raw.drive_from(request.param)
    return set_up_codec


@pytest.fixture(scope="session")
def wasm():
    """The module `wasm_host`, if the runner is built and the package wasmtime is there."""
    pytest.importorskip("wasmtime", reason="the runner is NOT tested: pip install wasmtime")
    import wasm_host

    if not wasm_host.RUNNER.exists():
        pytest.skip(f"the runner is NOT tested: {wasm_host.RUNNER} is not built (make python-runner)")
    return wasm_host

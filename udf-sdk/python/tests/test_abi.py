"""Prototypes that are written out for WebAssembly must be those of CPython."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CODEC = Path(__file__).resolve().parent.parent / "codec"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the stable ABI of 3.12 is what the codec is written for")
def test_our_prototypes_against_python_h(tmp_path):
    include, compiler = Path(sysconfig.get_path("include")), shutil.which("cc")
    if not (include / "Python.h").exists() or not compiler:
        pytest.skip(f"NOT checked: no {include}/Python.h or no C compiler")
    source = tmp_path / "check.c"
    source.write_text('#define WASMILL_CHECK_ABI\n#define Py_LIMITED_API 0x030c0000\n#include "abi.h"\n')
    subprocess.run([compiler, "-fsyntax-only", "-Werror", f"-I{include}", f"-I{CODEC}", str(source)], check=True)


def test_all_that_the_codec_calls_is_declared():
    """The wasm linker is told to allow undefined symbols, so a misspelt one would be noticed only when it is called."""
    import re

    declared = set(re.findall(r"\b(_?Py\w+)\b", (CODEC / "abi.h").read_text(encoding="utf-8")))
    used = {n for path in CODEC.glob("*.c") if path.name != "hostcalls.c" for n in re.findall(r"\b(_?Py[A-Z]\w+)\(", path.read_text(encoding="utf-8"))}
    assert used <= declared | {"PyInit__wasmill_codec"}, used - declared

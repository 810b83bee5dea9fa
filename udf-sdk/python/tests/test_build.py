"""The build: the contract that the runner is built from is the contract."""

import build


def test_the_runner_is_built_from_the_contract_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "WORK", tmp_path)
    made = build.wit_folder() / "deps" / "udf" / "udf.wit"
    assert made.read_bytes() == build.PACKAGE_WIT.read_bytes()


def test_the_fingerprint_knows_what_it_is_made_of():
    names = {path.name for path in build.inputs()}
    assert {"loops.c", "codec.h", "wasmill_runner.py", "rows.py", "runner.wit", "main.rs", "udf.wit", "build.py"} <= names
    assert not any("__pycache__" in str(path) for path in build.inputs())

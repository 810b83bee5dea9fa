"""The build: the contract that the runner is built from is the contract."""

import build


def test_only_escapes_are_added_to_the_contract():
    contract = build.PACKAGE_WIT.read_text(encoding="utf-8")
    made = build.escaped(contract)
    assert "%" not in contract or build.escaped(made) == made
    assert made.replace("%", "") == contract.replace("%", "")
    assert "        %map,\n" in made and "record %resource {" in made and "list<%resource>" in made


def test_the_fingerprint_knows_what_it_is_made_of():
    names = {path.name for path in build.inputs()}
    assert {"loops.c", "codec.h", "wasmill_runner.py", "rows.py", "runner.wit", "main.rs", "udf.wit", "build.py"} <= names
    assert not any("__pycache__" in str(path) for path in build.inputs())

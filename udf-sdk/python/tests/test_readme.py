"""What README.md shows works as it stands there."""

import re
import sys
import types
from pathlib import Path

from wasmill.declare import functions_of

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_examples():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 3
    module = types.ModuleType("readme")
    sys.modules["readme"] = module
    for block in blocks:
        exec(compile(block, "README.md", "exec"), module.__dict__)
    assert module.late(20) is True and module.late(None) is False
    module.test_sum()
    assert {n: d.kind for n, d in functions_of(module).items()} == {"late": "scalar", "Sum": "process"}


def test_the_named_classes_are_there():
    import wasmill

    for name in re.findall(r"^\| `(\w+)`", README, re.M):
        if name[0].isupper():
            assert hasattr(wasmill, name), name

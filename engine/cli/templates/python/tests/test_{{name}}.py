"""These run in your own Python, without WebAssembly: set a breakpoint where you like."""

import unittest

import {{name}}
from wasmill.testing import Harness


class Test(unittest.TestCase):
    def test_water_freezes_at_zero(self):
        h = Harness({{name}}.celsius, on_error="collect")
        self.assertEqual(h.feed(32.0, -500.0, None), [0.0, None])
        self.assertEqual([(e.row, e.message) for e in h.errors], [(1, "-500.0 °F is below absolute zero")])

    def test_only_warmer_measurements_come_out(self):
        h = Harness({{name}}.Warmest, key="station")
        out = h.feed(*[{"station": s, "celsius": c} for s, c in [("a", 3.0), ("b", 5.0), ("a", 2.0), ("a", 4.0)]])
        self.assertEqual([row.celsius for row in out], [3.0, 5.0, 4.0])
        self.assertEqual(h.state("so_far"), {"a": 4.0, "b": 5.0})


if __name__ == "__main__":
    unittest.main()

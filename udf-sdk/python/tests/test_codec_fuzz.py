"""The C codec against plain Python: made-up types, functions and bundles, both ways, with states and errors.

Another seed each time; a failure names it, and WASMILL_FUZZ_SEED=… does the same again. WASMILL_FUZZ_TIMES=10 goes on for ten times as long.
"""

import os
import random

import codec_fuzz
import frames
import plain

SEED = int(os.environ.get("WASMILL_FUZZ_SEED", random.randrange(1 << 32)))
ROUNDS = 600 * int(os.environ.get("WASMILL_FUZZ_TIMES", 1))


def each_round(name, check):
    for number in range(ROUNDS):
        try:
            check(random.Random(f"{name} {SEED} {number}"))
        except BaseException as error:
            raise AssertionError(f"round {number} with WASMILL_FUZZ_SEED={SEED}: {error}") from error


def test_bundles_and_answers_are_what_plain_python_makes_of_them(codec):
    each_round("bundles", lambda rng: codec_fuzz.Case(rng, codec).check())


def test_values_are_what_plain_python_makes_of_them(codec):
    def check(rng):
        t = codec_fuzz.random_type(rng, nullable=False)
        reference = frames.parse(str(t))
        for value in [codec_fuzz.random_value(rng, t) for _ in range(5)]:
            encoded, coarse = (frames.encode_value(reference, v) for v in (value, plain.coarse(t, value)))
            made = plain.to_python(t, value)
            assert plain.same(codec.raw.decode_value(t.compiled(), encoded), made), f"{t}: {value!r}"
            assert codec.raw.encode_value(t.compiled(), codec_fuzz.other_form(rng, t, made)) == coarse, f"{t}: {value!r}"

    each_round("values", check)

"""What a value costs on its way in and out, by its type: the job says which type that is.

    wasmill udf bench guests/bench/values.py took
"""

from wasmill import udf


def took(x) -> bool:
    """Takes a value, and gives none back that is worth speaking of."""
    return True


@udf
def same(x):
    """Takes a value and gives it back."""
    return x

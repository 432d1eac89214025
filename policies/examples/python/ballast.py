"""What helps a policy in Python: parameters that are whole numbers, and exceptions that are answers instead of traps."""

import functools
import json
import traceback

from componentize_py_types import Err
from wit_world.imports.types import Failure_Internal


def read_parameters(text: str, known: dict[str, tuple[int, int, int]]) -> dict[str, int]:
    """The parameters in a JSON object; `known` tells the least, the most and the default of each."""
    try:
        written = json.loads(text)
    except ValueError:
        written = None
    if not isinstance(written, dict):
        raise Err("parameters: give one JSON object")
    parameters = {key: default for key, (_, _, default) in known.items()}
    for key, value in written.items():
        if key not in known:
            raise Err(f"unknown parameter '{key}': there are {' and '.join(known)}")
        least, most, _ = known[key]
        # Python counts True as an int.
        if type(value) is not int or not least <= value <= most:
            raise Err(f"{key}: give a whole number from {least} to {most}")
        parameters[key] = value
    return parameters


def failing_politely(plan):
    """An exception that is no Err would end the instance, mute: this makes it a failure with its traceback."""

    @functools.wraps(plan)
    def call(self):
        try:
            return plan(self)
        except Err:
            raise
        except Exception:
            raise Err(Failure_Internal(traceback.format_exc())) from None

    return call

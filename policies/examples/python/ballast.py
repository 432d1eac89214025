"""What helps a policy in Python: parameters that are whole numbers, and mistakes that are answers instead of traps."""

import functools
import json
import traceback

from componentize_py_types import Err
from wit_world.imports import log
from wit_world.imports.types import Failure_BadParameters, Failure_Internal, Failure_NotReady, Move, Proposal

FAILURE = (Failure_BadParameters, Failure_Internal, Failure_NotReady)
# What each function may raise in an Err. The others cannot fail.
RAISES = {"plan": FAILURE, "advise": FAILURE, "configure": str, "restore": str, "describe": (), "save": ()}


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


def failing_politely(interface):
    """For the classes Policy, State and Scaling, such that they say what went wrong. Whatever else their functions raised, and
    whatever they answered that does not fit the contract, would end the instance, mute."""
    for name in RAISES.keys() & vars(interface).keys():
        setattr(interface, name, polite(name, getattr(interface, name)))
    return interface


def polite(name, function):
    @functools.wraps(function)
    def call(*given):
        try:
            answer = function(*given)
            if name == "plan":
                check_proposal(answer)
            return answer
        # SystemExit and its like too: there is nobody else to catch them.
        except BaseException as problem:
            if isinstance(problem, Err) and isinstance(problem.value, RAISES[name]):
                raise
            words = words_of(problem)
        if not RAISES[name]:
            # The instance ends, and the daemon quotes what it logged last.
            log.log(log.Level.ERROR, words)
        raise Err(words if RAISES[name] is str else Failure_Internal(words))

    return call


def words_of(problem: BaseException) -> str:
    """What was raised and where: the innermost function first, without this file's. `traceback` would read source files, and
    there are none."""
    try:
        text = f"{type(problem).__name__}: {problem}".removesuffix(": ")
    except BaseException:
        text = f"{type(problem).__name__}, whose text cannot be made"
    files = [(frame.f_code, line) for frame, line in traceback.walk_tb(problem.__traceback__)]
    places = [f"{code.co_filename.rpartition('/')[2]}:{line} in {code.co_name}" for code, line in reversed(files)]
    return f"{text}; {', '.join(place for place in places if not place.startswith('ballast.py:'))}"


def check_proposal(proposal: Proposal) -> None:
    """Names the first field that does not fit the contract."""
    must("the answer", proposal, isinstance(proposal, Proposal), "Proposal")
    must("moves", proposal.moves, isinstance(proposal.moves, list), "list")
    must("summary", proposal.summary, isinstance(proposal.summary, str), "text")
    must("gauges", proposal.gauges, isinstance(proposal.gauges, list), "list")
    for place, move in enumerate(proposal.moves):
        must(f"moves[{place}]", move, isinstance(move, Move), "Move")
        must(f"moves[{place}].slot", move.slot, is_whole(move.slot, 16383), "slot")
        must(f"moves[{place}].target", move.target, is_whole(move.target, 0xFFFFFFFF), "index of a node")
        must(f"moves[{place}].reason", move.reason, isinstance(move.reason, str), "text")
    for place, gauge in enumerate(proposal.gauges):
        must(f"gauges[{place}]", gauge, isinstance(gauge, tuple) and len(gauge) == 2, "tuple of a name and a number")
        name, value = gauge
        must(f"gauges[{place}][0]", name, isinstance(name, str), "name")
        must(f"gauges[{place}][1]", value, isinstance(value, (int, float)), "number")


def must(field: str, value: object, fits: bool, kind: str) -> None:
    if not fits:
        raise Err(Failure_Internal(f"{field}: {value!r} is no {kind}"))


def is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and 0 <= value <= most

"""What the OpenAPI document cannot say."""

import ast
import threading

import schemathesis

LONGEST_ID = 128

_parse, _parsing = ast.parse, threading.Lock()


def _parse_alone(*arguments, **options):
    """Python before 3.11.8 and 3.12.2 fails where two threads parse at once (python/cpython#106905)."""
    with _parsing:
        return _parse(*arguments, **options)


ast.parse = _parse_alone


@schemathesis.hook
def filter_case(context, case):
    """Leaves out the requests that the document and the service judge differently, on purpose."""
    return not is_left_to_words(case.body) and short_enough(case)


def is_left_to_words(body):
    """Null counts as no body, since some clients send it so. That all connections are closed neither with the name of
    one nor with a grace period is said in words, and so is that no user is both added and removed: what a schema could
    say of it, generators cannot read."""
    if isinstance(body, dict):
        is_of_one = any(body.get(name) is not None for name in ("connectionId", "graceMs"))
        in_both = [each for each in lists(body.get("add")) if each in lists(body.get("remove"))]
        return is_of_one and body.get("all") is True or bool(in_both)
    return body is None


def short_enough(case):
    """A schema counts the characters of an id, and the service its bytes."""
    parameters = case.path_parameters or {}
    body = case.body if isinstance(case.body, dict) else {}
    query = case.query or {}
    ids = [parameters.get("userId"), parameters.get("groupId")]
    for name in ("userIds", "groupIds", "groups", "members", "add", "remove"):
        ids += [*lists(body.get(name)), *lists(query.get(name))]
    texts = [each for each in ids if isinstance(each, str) and len(each) <= LONGEST_ID]
    return all(len(text.encode(errors="replace")) <= LONGEST_ID for text in texts)


def lists(value):
    return value if isinstance(value, list) else []

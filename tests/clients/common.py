"""What the scripts in Python share: the addresses of the three servers that run.sh starts, and what they say of themselves."""

import json
import os
import re
import time
import urllib.request

BASE = os.environ["BASE_URL"]  # open to all
GUARDED = os.environ["GUARDED_URL"]  # wants KEY; one slot, one place in the queue
TOOLS = os.environ["TOOLS_URL"]  # with a template that has tools
KEY = "the-key"

PROMPT = "Tell me of the bird that flew over the sea."
MESSAGES = [{"role": "user", "content": PROMPT}]
# A schema whose answers end by themselves, whatever a model of four million parameters would like to say.
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": ["glad", "sad", "afraid"]},
        "wings": {"type": "integer", "enum": [0, 1, 2]},
        "flies": {"type": "boolean"},
    },
    "required": ["mood", "wings", "flies"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look_at_bird", "description": "Looks at a bird.", "parameters": SCHEMA}}


def get(path, base=BASE, key=None):
    request = urllib.request.Request(base + path, headers={"authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


MODEL = json.loads(get("/v1/models"))["data"][0]["id"]


def metric(name, base=BASE):
    """The sum of a metric over its labels; a metric that is not there is an error, so that a changed name is noticed."""
    values = re.findall(rf"^sterna_{name}(?:\{{[^}}]*\}})? ([0-9.eE+-]+)$", get("/metrics", base), re.MULTILINE)
    assert values, f"no metric sterna_{name}"
    return sum(map(float, values))


def wait_for(what, holds, seconds=10):
    """Asks until it holds. Each question is a request to the server, which paces the loop."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"


def at_rest(base=BASE):
    return metric("num_requests_running", base) == 0 and metric("num_requests_waiting", base) == 0


def assert_fits_schema(value):
    assert set(value) == {"mood", "wings", "flies"}, value
    assert value["mood"] in ("glad", "sad", "afraid") and value["wings"] in (0, 1, 2) and isinstance(value["flies"], bool), value

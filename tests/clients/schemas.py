"""Has Python's jsonschema judge answers that the test `constrain` wrote, against the schemas that they were made by.

    STERNA_ANSWERS=target/answers.jsonl cargo test --features constrain --test constrain random
    python3 -m venv target/judge && target/judge/bin/pip install jsonschema
    target/judge/bin/python tests/clients/schemas.py target/answers.jsonl
"""

import json
import sys

from jsonschema import Draft202012Validator, FormatChecker

# Of dates and times it knows the calendar: the grammars let any February have 29 days, and any minute a second 60.
checker = FormatChecker(["ipv4", "uuid"])
answers = 0
wrong = 0
for line in open(sys.argv[1], encoding="utf-8"):
    record = json.loads(line)
    answers += 1
    Draft202012Validator.check_schema(record["schema"])
    try:
        document = json.loads(record["answer"])
        error = next(Draft202012Validator(record["schema"], format_checker=checker).iter_errors(document), None)
    except ValueError as cause:
        error = cause
    if error is not None:
        wrong += 1
        print(f"{error}\n  {record['answer']!r}\n  {json.dumps(record['schema'])}")
print(f"{answers} answers, {wrong} of them not valid")
sys.exit(1 if wrong or not answers else 0)

"""The command `llm`, with models as its users configure them: a YAML file in its folder of settings."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from common import BASE, GUARDED, KEY, MODEL, PROMPT, SCHEMA, assert_fits_schema, at_rest, wait_for

folder = tempfile.TemporaryDirectory()
Path(folder.name, "extra-openai-models.yaml").write_text(
    "".join(
        f"- model_id: {name}\n  model_name: {MODEL}\n  api_base: {base}/v1\n  api_key_name: {name}\n  supports_schema: true\n"
        for name, base in (("tales", BASE), ("guarded", GUARDED))
    )
)
Path(folder.name, "keys.json").write_text(json.dumps({"tales": "unused", "guarded": KEY}))
GREEDY = ["-o", "temperature", "0", "-o", "seed", "7", "-o", "max_tokens", "40"]


def llm(*arguments):
    environment = {**os.environ, "LLM_USER_PATH": folder.name}
    command = [str(Path(sys.executable).parent / "llm"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


class Llm(unittest.TestCase):
    def test_streamed_and_whole_are_the_same_text_and_usage_is_kept(self):
        streamed = llm("-m", "tales", *GREEDY, PROMPT)
        whole = llm("-m", "tales", *GREEDY, "--no-stream", PROMPT)
        self.assertEqual((streamed.returncode, whole.returncode), (0, 0), streamed.stderr + whole.stderr)
        self.assertTrue(whole.stdout.strip())
        self.assertEqual(streamed.stdout, whole.stdout)
        logged = json.loads(llm("logs", "--json", "-n", "2").stdout)
        self.assertEqual(len({(entry["input_tokens"], entry["output_tokens"]) for entry in logged}), 1)
        self.assertTrue(logged[0]["input_tokens"] > 0 and 0 < logged[0]["output_tokens"] <= 40)

    def test_a_conversation_goes_on(self):
        first = llm("-m", "tales", *GREEDY, PROMPT)
        second = llm("-c", *GREEDY, "And then?")
        self.assertEqual((first.returncode, second.returncode), (0, 0), second.stderr)
        entries = json.loads(llm("logs", "--json", "-n", "2").stdout)
        self.assertEqual(len({entry["conversation_id"] for entry in entries}), 1)
        self.assertGreater(max(entry["input_tokens"] for entry in entries), min(entry["input_tokens"] for entry in entries))

    def test_a_schema_is_kept_to(self):
        answer = llm("-m", "tales", "-o", "temperature", "0", "--schema", json.dumps(SCHEMA), PROMPT)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        assert_fits_schema(json.loads(answer.stdout))

    def test_errors_are_told_in_the_servers_words(self):
        refused = llm("-m", "guarded", "--key", "wrong", PROMPT)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("401", refused.stderr)
        self.assertEqual(llm("-m", "guarded", *GREEDY, PROMPT).returncode, 0)
        too_long = llm("-m", "tales", "sea " * 20000)
        self.assertNotEqual(too_long.returncode, 0)
        self.assertIn("maximum context length", too_long.stderr)

    def test_nothing_runs_afterwards(self):
        wait_for("at rest", at_rest)


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""LiteLLM's proxy before two servers, with the configuration of examples/serve/deploy."""

import concurrent.futures
import os
import socket
import subprocess
import sys
import time
import unittest
import urllib.request
from pathlib import Path

import openai

from common import BASE, MESSAGES, TOOLS, at_rest, metric, wait_for

with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    PORT = one.getsockname()[1]
KEY = "sk-of-the-master"
GREEDY = {"model": "sterna", "messages": MESSAGES, "temperature": 0, "seed": 7, "max_tokens": 30}
client = openai.OpenAI(base_url=f"http://127.0.0.1:{PORT}/v1", api_key=KEY, max_retries=0)


def setUpModule():
    global proxy
    environment = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": KEY,
        "STERNA_A": f"{BASE}/v1",
        "STERNA_B": f"{TOOLS}/v1",
    }
    program = str(Path(sys.executable).parent / "litellm")
    command = [program, "--config", "examples/serve/deploy/litellm.yaml", "--host", "127.0.0.1", "--port", str(PORT)]
    log = open("target/clients/litellm.log", "w")
    proxy = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def lives():
        assert proxy.poll() is None, "the proxy has ended: see target/clients/litellm.log"
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/liveliness", timeout=5).status == 200
        except OSError:
            time.sleep(0.5)  # It takes most of a minute to start, and has no line to wait for.
            return False

    wait_for("the proxy lives", lives, 180)


def tearDownModule():
    proxy.terminate()
    proxy.wait()


class Proxy(unittest.TestCase):
    def test_streamed_and_whole_are_the_same_text(self):
        whole = client.chat.completions.create(**GREEDY)
        self.assertTrue(whole.choices[0].message.content.strip())
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
        chunks = list(client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), whole.choices[0].message.content)
        self.assertEqual([chunk.usage.completion_tokens for chunk in chunks if chunk.usage][-1], whole.usage.completion_tokens)

    def test_both_servers_get_some(self):
        before = [metric("generation_tokens_total", base) for base in (BASE, TOOLS)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda _: client.chat.completions.create(**GREEDY), range(24)))
        for base, count in zip((BASE, TOOLS), before):
            self.assertGreater(metric("generation_tokens_total", base), count)

    def test_errors_are_of_their_classes(self):
        # Without a database of keys, the proxy says 400 to a key that is not the master's.
        with self.assertRaises((openai.AuthenticationError, openai.BadRequestError)):
            openai.OpenAI(base_url=client.base_url, api_key="sk-wrong", max_retries=0).chat.completions.create(**GREEDY)
        with self.assertRaises(openai.BadRequestError):
            client.chat.completions.create(**{**GREEDY, "messages": [{"role": "user", "content": "sea " * 20000}]})

    def test_a_stream_that_is_closed_ends_its_work(self):
        stream = client.chat.completions.create(**{**GREEDY, "max_tokens": 3500}, stream=True)
        next(stream)
        stream.close()
        wait_for("both at rest", lambda: at_rest(BASE) and at_rest(TOOLS))


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""Two servers behind a router. With vllm-router: the turns of a conversation stay on one server, both get some, and when one is killed
all conversations go on. With haproxy: a server that is told to end finishes its stream while nothing new reaches it, and with none
left a client is told 503."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

SERVE = os.environ["STERNA_SERVE"]
STRETCHED = ["--rope-scaling", "linear", "--rope-factor", "8"]  # so that a stream lasts longer than the fast model's 512 tokens
TURNS = ["Tell me of the sea.", "And then?", "How did it end?"]


class Server:
    """A server of the small model, and what it says of itself."""

    def __init__(self, name):
        self.process = subprocess.Popen([SERVE, *STRETCHED, "--port", "0", "--slots", "8", "--drain-delay", "2"], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"listening on http://(\S+?)/?$", line):
                self.address = found[1]
            if line.startswith("ready:"):
                break
        else:
            raise SystemExit(f"server {name} did not start")
        self.log = concurrent.futures.ThreadPoolExecutor(1).submit(self.process.stderr.read)

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10) as answer:
            values = re.findall(rf"^sterna_{name}(?:\{{[^}}]*\}})? (\S+)$", answer.read().decode(), re.MULTILINE)
        assert values, f"no metric sterna_{name}"
        return sum(map(float, values))


def ask(address, messages, stream=False, **more):
    body = {"messages": messages, "temperature": 0, "max_tokens": 24, "stream": stream, **more}
    request = urllib.request.Request(f"http://{address}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    answer = urllib.request.urlopen(request, timeout=60)
    if stream:
        return answer
    with answer:
        return json.load(answer)


def wait_for(what, holds, seconds=20):
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.1)  # The router is another's program, which has no line to wait for.


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def healthy(address):
    with urllib.request.urlopen(f"http://{address}/health", timeout=5) as answer:
        return answer.status == 200


def start(stack, command, environment=None):
    log = open(f"target/clients/{os.path.basename(command[0])}.log", "w")
    router = stack.enter_context(subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=log, stderr=log))
    stack.callback(router.kill)


def vllm_router(a, b, stack):
    port = free_port()
    address = f"127.0.0.1:{port}"
    workers = [f"http://{server.address}" for server in (a, b)]
    program = os.path.join(os.path.dirname(sys.executable), "vllm-router")
    # Left to itself, the router tries a dead server five times for each request, and notices after minutes.
    notices = ["--cb-failure-threshold", "1", "--health-check-interval-secs", "2", "--health-failure-threshold", "1"]
    places = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    start(stack, [program, *places, "--policy", "cache_aware", *notices, "--worker-urls", *workers])
    wait_for("vllm-router healthy", lambda: healthy(address))

    chats = [[{"role": "system", "content": f"You are teller number {n}. " + f"You tell of {n} ships and {n} birds. " * 4}] for n in range(6)]
    before = [0] * len(chats)
    at_once = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(chats)))

    def turn(said):
        """All at once: a router whose servers are idle sends what is new to the first of them."""

        def one(chat):
            chat.append({"role": "user", "content": said})
            answer = ask(address, chat, max_tokens=60)
            chat.append(answer["choices"][0]["message"])
            return answer["usage"]

        return list(enumerate(at_once.map(one, chats)))

    cached = []
    for round_, said in enumerate(TURNS):
        for n, usage in turn(said):
            if round_:
                # All of the turn before is there, and most likely its answer.
                assert usage["prompt_tokens_details"]["cached_tokens"] >= before[n], (n, usage, before[n])
                cached.append(usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"])
            before[n] = usage["prompt_tokens"]
    shares = [server.metric("prompt_tokens_total") for server in (a, b)]
    assert min(shares) > 0, f"one server got all: {shares}"
    print(f"vllm-router: {len(cached)} later turns found {100 * sum(cached) / len(cached):.0f} % of their prompts cached; prompt tokens by server: {shares}")

    b.process.kill()
    b.process.wait()
    ended = time.monotonic()
    for n, usage in turn("Once more."):
        assert usage["completion_tokens"] > 0
    print(f"vllm-router: one server killed, all {len(chats)} conversations went on within {time.monotonic() - ended:.1f} s")


def haproxy(a, b, stack):
    port = free_port()
    address = f"127.0.0.1:{port}"
    environment = {"LISTEN": address, "STERNA_A": a.address, "STERNA_B": b.address}
    start(stack, ["haproxy", "-db", "-f", "examples/serve/deploy/haproxy.cfg"], environment)
    wait_for("haproxy finds a server", lambda: healthy(address))

    messages = [{"role": "user", "content": TURNS[0]}]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(answer["choices"] for answer in pool.map(lambda _: ask(address, messages), range(32)))
    shares = [server.metric("generation_tokens_total") for server in (a, b)]
    assert min(shares) > 0, f"one server got all: {shares}"

    stream = ask(address, messages, stream=True, max_tokens=3500, ignore_eos=True)
    stream.readline()
    busy = a if a.metric("num_requests_running") else b
    other = b if busy is a else a
    assert busy.metric("num_requests_running"), "the stream ended before its server could be told to end"
    busy.process.send_signal(signal.SIGTERM)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(answer["choices"] for answer in pool.map(lambda _: ask(address, messages), range(32)))
    rest = stream.read().decode()
    assert '"finish_reason":"length"' in rest.replace(" ", "") and rest.rstrip().endswith("data: [DONE]"), rest[-500:]
    assert busy.process.wait(timeout=40) == 0
    print(f"haproxy: a server drained with its stream whole, 32 requests meanwhile served by the other; tokens made before: {shares}")

    other.process.terminate()
    assert other.process.wait(timeout=40) == 0
    try:
        ask(address, messages)
        raise AssertionError("no server is left, yet somebody answered")
    except urllib.error.HTTPError as refused:
        assert refused.code == 503, refused.code
    print("haproxy: no server left, and a client is told 503")


with contextlib.ExitStack() as everything:
    servers = [Server(name) for name in "ab"]
    for server in servers:
        everything.callback(server.process.kill)
    {"vllm-router": vllm_router, "haproxy": haproxy}[sys.argv[1]](*servers, everything)

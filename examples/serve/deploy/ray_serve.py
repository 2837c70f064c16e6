"""Ray Serve: each replica starts a server of its own and hands requests on to it, streams included. Run with
    STERNA_SERVE=target/release/examples/serve STERNA_ARGUMENTS="--model FILE" serve run examples.serve.deploy.ray_serve:sterna
"""

import os
import re
import subprocess
import threading

import aiohttp
from fastapi import FastAPI, Request
from ray import serve
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

app = FastAPI()


@serve.deployment(num_replicas=2, max_ongoing_requests=32, ray_actor_options={"num_cpus": int(os.environ.get("STERNA_CPUS", "1"))})
@serve.ingress(app)
class Sterna:
    def __init__(self, program: str, arguments: list[str]):
        self.server = subprocess.Popen([program, "--port", "0", *arguments], stderr=subprocess.PIPE, text=True)
        self.address = next(filter(None, (re.search(r"listening on (http://\S+)", line) for line in self.server.stderr)))[1]
        next(line for line in self.server.stderr if line.startswith("ready:"))
        threading.Thread(target=self.server.stderr.read, daemon=True).start()  # a full pipe would stop the server
        self.client = None

    def check_health(self):
        if self.server.poll() is not None:
            raise RuntimeError(f"the server ended with {self.server.returncode}")

    def __del__(self):
        self.server.terminate()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def hand_on(self, path: str, request: Request):
        self.client = self.client or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        answer = await self.client.request(request.method, f"{self.address}/{path}", headers=headers, data=await request.body())
        kept = {name: value for name, value in answer.headers.items() if name.lower() in ("content-type", "retry-after", "x-request-id")}
        # Closed when the client has all, or has gone: the server stops its work then.
        return StreamingResponse(answer.content.iter_any(), answer.status, kept, background=BackgroundTask(answer.close))


sterna = Sterna.bind(os.path.abspath(os.environ["STERNA_SERVE"]), os.environ.get("STERNA_ARGUMENTS", "").split())

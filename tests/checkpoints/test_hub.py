"""To the hub and from it: the hub's own client, against a server on this machine that keeps what is sent to it."""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import torch

import whatwhere as ww
from whatwhere.checkpoints import build
from whatwhere.checkpoints.hub import write_folder
from whatwhere.networks import ModelConfig

pytest.importorskip("huggingface_hub")
COMMIT = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as making a repository, one commit and a download take."""

    kept: dict[str, bytes]

    def log_message(self, *_):
        """Say nothing."""

    def answer(self, values):
        self.respond(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def respond(self, status, content=b"", headers=None, head=False):
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not head:
            self.wfile.write(content)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def do_POST(self):
        body, address = self.body(), f"http://{self.headers['Host']}/me/net"
        if self.path.endswith("/repos/create"):
            self.answer({"url": address, "name": "me/net"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            rows = [json.loads(line)["value"] for line in body.splitlines() if json.loads(line)["key"] == "file"]
            self.kept.update({row["path"]: base64.b64decode(row["content"]) for row in rows})
            self.answer({"commitUrl": f"{address}/commit/{COMMIT}", "commitOid": COMMIT, "success": True})
        else:
            self.answer({"errors": [], "warnings": []})

    def do_GET(self, head=False):
        content = self.kept.get(self.path.rpartition("/")[2]) if self.path.startswith("/me/net/") else None
        if content is None:
            self.respond(404, headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        else:
            self.respond(200, content, {"ETag": '"1"', "X-Repo-Commit": COMMIT}, head)

    def do_HEAD(self):
        self.do_GET(head=True)


@pytest.fixture
def hub():
    handler = type("KeepingHub", (Hub,), {"kept": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.kept
    server.shutdown()
    server.server_close()
    thread.join()


def run(code, address, folder, *arguments):
    """Run code in a process of its own: the client reads the hub's address when it is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(folder / "home"),
        "HF_TOKEN": "hf_x",
        "HF_HUB_OFFLINE": "0",
    }
    environment = {key: value for key, value in environment.items() if "proxy" not in key.lower()}
    command = [sys.executable, "-c", f"import sys, torch, whatwhere as ww\n{code}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def content(file):
    """Header (whose keys have no order) and tensors of a safetensors file."""
    size = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + size]), file[8 + size :]


@pytest.mark.slow
def test_there_and_back(hub, tmp_path):
    address, kept = hub
    model = build(ModelConfig("small-resnet", "cbam", 4), size=32)
    path = ww.save(model, tmp_path / "m.safetensors")
    push = "print(ww.push_to_hub(ww.load_model(sys.argv[1]), 'me/net', license='mit'))"
    done = run(push, address, tmp_path, path)
    assert done.stdout.strip() == f"{address}/me/net/commit/{COMMIT}", done.stderr
    assert kept.keys() == {"model.safetensors", "whatwhere.json", "README.md"}
    assert content(kept["model.safetensors"]) == content(path.read_bytes())
    assert "license: mit" in kept["README.md"].decode()
    back = run("ww.save(ww.from_pretrained('me/net'), sys.argv[1])", address, tmp_path, tmp_path / "back.safetensors")
    assert back.returncode == 0, back.stderr
    assert content((tmp_path / "back.safetensors").read_bytes()) == content(path.read_bytes())


@pytest.mark.slow
def test_what_is_not_on_the_hub(hub, tmp_path):
    done = run("ww.from_pretrained('me/other')", hub[0], tmp_path)
    assert "WhatwhereError: me/other is no file or folder here, and could not be fetched from the hub" in done.stderr


@pytest.mark.slow
def test_without_a_connection(tmp_path):
    path = ww.save(build(ModelConfig("small-resnet")), tmp_path / "m.safetensors")
    nowhere = "http://127.0.0.1:9"  # the port for discarding, at which nobody listens
    done = run("ww.push_to_hub(ww.load_model(sys.argv[1]), 'me/net')", nowhere, tmp_path, path)
    assert "WhatwhereError: me/net was not uploaded" in done.stderr
    done = run("ww.from_pretrained('me/net')", nowhere, tmp_path)
    assert "WhatwhereError: me/net is no file" in done.stderr


def test_a_folder_here_is_taken_from_here(tmp_path):
    model = build(ModelConfig("small-resnet", "cbam"), size=32)
    write_folder(model, tmp_path, "me/net")
    back = ww.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), back.state_dict().values(), strict=True))
    assert json.loads((tmp_path / "whatwhere.json").read_text())["base"]["name"] == "small-resnet"
    card = (tmp_path / "README.md").read_text()
    assert "| `cbam` | 3 | `stages.0.0.bn2`, `stages.1.0.bn2`, `stages.2.0.bn2` |" in card
    assert ww.load(build(ModelConfig("small-resnet", "cbam"), size=32), tmp_path).complete


@pytest.mark.parametrize("name", ["no/such/thing", "../up", "", "a b"])
def test_names_that_are_none(name):
    with pytest.raises(ww.WhatwhereError):
        ww.from_pretrained(name)
    with pytest.raises(ww.WhatwhereError, match="user/name"):
        ww.push_to_hub(build(ModelConfig("small-resnet")), name)

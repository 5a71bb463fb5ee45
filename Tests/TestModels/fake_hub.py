"""A hub to test against: models, rows of data sets, and an OpenAI-compatible server, with faults on demand.

    python3 fake_hub.py FOLDER

serves FOLDER/models/OWNER/REPO/… and FOLDER/datasets/OWNER/NAME/CONFIG/SPLIT.json ({"features", "rows"}), and prints the
ports of the hub and of the host that it redirects large files to. FOLDER/requests.jsonl gets a line for each request.
FOLDER/faults.json is a list of {"id", "match", "do", "times", …}: a request whose address holds `match` gets the fault so
many times. A repository with a file .token answers to that token alone.
"""
import hashlib, http.server, json, os, socket, sys, threading, time, urllib.parse

folder = sys.argv[1]
counts, lock = {}, threading.Lock()
PAGE = 2  # entries of a page of a repository's tree
cdn_port = 0


def read(path):
    with open(path, "rb") as file:
        return file.read()


def fault(address):
    try:
        faults = json.loads(read(f"{folder}/faults.json"))
    except (OSError, ValueError):
        return None
    for entry in faults:
        if entry["match"] in address:
            with lock:
                used = counts.get(entry["id"], 0)
                if used >= entry.get("times", 1):
                    continue
                counts[entry["id"]] = used + 1
            return entry
    return None


def repository(owner, name):
    """The files of a repository by their paths, and its commit; None where there is none."""
    root = f"{folder}/models/{owner}/{name}"
    if not os.path.isdir(root):
        return None
    files = {}
    for place, _, names in os.walk(root):
        for file in names:
            if not file.startswith("."):
                path = os.path.relpath(f"{place}/{file}", root)
                data = read(f"{root}/{path}")
                large = path.endswith(".gguf") or len(data) > 10000
                sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
                files[path] = {
                    "data": data, "oid": sha1, "size": len(data),
                    "lfs": hashlib.sha256(data).hexdigest() if large else None}
    files = dict(sorted(files.items()))
    listing = json.dumps([[p, f["oid"]] for p, f in files.items()])
    return files, hashlib.sha1(listing.encode()).hexdigest(), root


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.handle_request(json.loads(body or b"{}"))

    def do_GET(self):
        self.handle_request(None)

    def handle_request(self, posted):
        line = {
            "host": "cdn" if self.server.server_port == cdn_port else "hub", "method": self.command, "path": self.path,
            "authorization": self.headers.get("Authorization"), "range": self.headers.get("Range"), "body": posted}
        with lock, open(f"{folder}/requests.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        self.fault = fault(self.path)
        kind = self.fault and self.fault["do"]
        if kind == "status":
            headers = {k: v for k, v in self.fault.get("headers", {}).items()}
            return self.send(self.fault["status"], {"error": self.fault.get("error", "a fault")}, headers)
        if kind == "redirect":
            return self.send(302, b"", {"Location": self.fault["to"]})
        if kind == "drop":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if kind == "garbage":
            return self.send(200, b"<html>welcome</html>")
        url = urllib.parse.urlparse(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        query = dict(urllib.parse.parse_qsl(url.query))
        if posted is not None:
            return self.answer(parts, posted)
        if parts[0] in ("splits", "rows"):
            return self.rows(parts[0], query)
        if parts[0] == "cdn":
            return self.file(*parts[1:3], None, "/".join(parts[3:]))
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            return self.api(parts, query)
        if len(parts) >= 5 and parts[2] == "resolve":
            return self.file(parts[0], parts[1], parts[3], "/".join(parts[4:]))
        self.send(404, {"error": "Not Found"})

    # Models

    def found(self, owner, name):
        found = repository(owner, name)
        if found is None:
            self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        token = f"{found[2]}/.token"
        if os.path.exists(token) and self.headers.get("Authorization") != "Bearer " + read(token).decode():
            self.send(401, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
            return None
        return found

    def api(self, parts, query):
        found = self.found(parts[2], parts[3])
        if found is None:
            return
        files, commit, _ = found
        what = parts[4] if len(parts) > 4 else "revision"
        if what == "refs":
            ref = {"name": "main", "ref": "refs/heads/main", "targetCommit": commit}
            return self.send(200, {"branches": [ref], "tags": [], "converts": []})
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self.send(200, {"id": "/".join(parts[2:4]), "sha": commit, "siblings": siblings})
        entries = [
            {"type": "file", "path": path, "oid": file["oid"], "size": file["size"]}
            | ({"lfs": {"oid": file["lfs"], "size": file["size"], "pointerSize": 130}} if file["lfs"] else {})
            for path, file in files.items()]
        start = int(query.get("cursor", 0))
        more = f"{parts[0]}/models/{parts[2]}/{parts[3]}/tree/{commit}?recursive=true&cursor={start + PAGE}"
        base = f"http://127.0.0.1:{self.server.server_port}/"
        link = {"Link": f'<{base}{more}>; rel="next"'} if start + PAGE < len(entries) else {}
        self.send(200, entries[start:start + PAGE], link)

    def file(self, owner, name, revision, path):
        found = repository(owner, name) if revision is None else self.found(owner, name)
        if found is None:
            return
        files, commit, _ = found
        file = files.get(path)
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if file is None:
            return self.send(404, {"error": "Entry not found"}, headers | {"X-Error-Code": "EntryNotFound"})
        if revision is not None and file["lfs"]:
            headers |= {"X-Linked-ETag": f'"{file["lfs"]}"', "X-Linked-Size": str(file["size"])}
            place = urllib.parse.quote(f"/cdn/{owner}/{name}/{path}")
            headers["Location"] = f"http://localhost:{cdn_port}{place}?signature=1"
            return self.send(302, b"", headers)
        data, status = file["data"], 200
        if self.fault and self.fault["do"] == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers["ETag"] = f'"{file["lfs"] or file["oid"]}"'
        wanted = self.headers.get("Range")
        if wanted and not (self.fault and self.fault["do"] == "whole"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                return self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        self.send(status, data, headers)

    # Data sets

    def rows(self, what, query):
        owner, name = query["dataset"].split("/")
        root = f"{folder}/datasets/{owner}/{name}"
        if not os.path.isdir(root):
            return self.send(404, {"error": "The dataset does not exist."})
        if what == "splits":
            splits = [
                {"dataset": query["dataset"], "config": config, "split": split.removesuffix(".json")}
                for config in sorted(os.listdir(root)) for split in sorted(os.listdir(f"{root}/{config}"))]
            return self.send(200, {"splits": splits, "pending": [], "failed": []})
        data = json.loads(read(f"{root}/{query['config']}/{query['split']}.json"))
        start, count = int(query["offset"]), int(query["length"])
        if count > 100:
            return self.send(422, {"error": "Parameter 'length' must not be greater than 100"})
        if count > data.get("most", 100):
            return self.send(
                500, {"error": "Rows are too large"}, {"X-Error-Code": "TooBigContentError"})
        cut = data.get("cut", {})
        rows = [
            {"row_idx": i, "row": row, "truncated_cells": cut.get(str(i), []) if count > 1 or "always" in data else []}
            for i, row in enumerate(data["rows"])][start:start + count]
        features = [{"feature_idx": i, "name": k, "type": v} for i, (k, v) in enumerate(data["features"].items())]
        body = {
            "features": features, "rows": rows, "num_rows_total": len(data["rows"]), "num_rows_per_page": 100,
            "partial": data.get("partial", False)}
        self.send(200, body, {"X-Revision": data.get("revision", "r1")})

    # An OpenAI-compatible server

    def answer(self, parts, posted):
        key = f"{folder}/key"
        if os.path.exists(key) and self.headers.get("Authorization") != "Bearer " + read(key).decode():
            return self.send(401, {"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}})
        time.sleep(float(os.environ.get("FAKE_HUB_DELAY", 0)))
        chat = parts[-2:] == ["chat", "completions"]
        asked = posted["messages"][-1]["content"] if chat else posted["prompt"]
        temperature = posted.get("temperature", 0)
        choices = []
        for i in range(posted.get("n", 1)):
            text = f"answer to {asked}" + (f" ({posted.get('seed', 0)})" if temperature else "")
            if asked.startswith("sum "):  # right where the seed is even
                text = f"#### {sum(map(int, asked.split()[1:])) + posted.get('seed', 0) % 2}"
            finish = "length" if "long" in asked else "stop"
            reply = {"role": "assistant", "content": text}
            if asked.startswith("think"):
                reply["reasoning_content"] = "hm"
                reply["content"] = None if finish == "length" else text
            if asked.startswith("call"):
                reply["content"] = None
                # Every call has an id of its own; some servers write arguments as they are.
                arguments = {"a": [1, "b"]} if "object" in asked else "{}"
                call = {"id": f"c{posted.get('seed', 0)}", "type": "function", "function": {"name": "f", "arguments": arguments}}
                reply["tool_calls"] = [call | {"function": {}} if "nameless" in asked else call]
            message = {"message": reply} if chat else {"text": text}
            choices.append({"index": i, "finish_reason": finish} | message)
        self.send(200, {
            "choices": choices, "model": posted.get("model", "fake"),
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}})

    # Answers

    def send(self, status, body, headers={}):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if not isinstance(body, bytes):
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        kind = self.fault and self.fault["do"]
        if kind == "cut":
            data = data[:self.fault["after"]]
        try:
            for start in range(0, len(data), 4096):
                self.wfile.write(data[start:start + 4096])
                if kind == "slow":
                    time.sleep(self.fault.get("pause", 0.01))
            self.wfile.flush()
            if kind == "cut":
                self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def serve(address):
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


cdn_port = serve("127.0.0.1")
print(serve("127.0.0.1"), cdn_port, flush=True)
sys.stdin.read()  # until whoever started it is gone

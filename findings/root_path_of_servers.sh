#!/usr/bin/env bash
# Started with the same root path, uvicorn tells the app another path than Hypercorn, Granian, Gunicorn and Daphne.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  uvicorn==0.54.0 hypercorn==0.18.0 granian==2.8.9 gunicorn==27.0.1 daphne==4.2.3 || exit 2

cat >"$dir/app.py" <<'EOF'
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    seen = scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(seen))]})
    await send({"type": "http.response.body", "body": seen})
EOF

cd "$dir"
timeout 120 venv/bin/python - <<'EOF'
import http.client, importlib.metadata, os, socket, subprocess, sys, time

# Unix sockets: no port is taken, and nothing outside this machine can connect.
SERVERS = {
    "uvicorn": ["--uds", "uvicorn.sock", "--root-path", "/api", "--lifespan", "off"],
    "hypercorn": ["--bind", "unix:hypercorn.sock", "--root-path", "/api"],
    "granian": ["--uds", "granian.sock", "--interface", "asginl", "--url-path-prefix", "/api"],
    "gunicorn": ["--bind", "unix:gunicorn.sock", "--worker-class", "asgi", "--no-control-socket", "--root-path", "/api"],
    "daphne": ["-u", "daphne.sock", "--root-path", "/api"],
}


def ask(name, path):
    for _ in range(100):
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        try:
            connection.sock.connect(f"{name}.sock")
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    sys.exit(f"{name} did not start")


seen = {}
for name, options in SERVERS.items():
    command = [f"venv/bin/{name}", *options, "app:app"]
    with open(os.devnull, "w") as null, subprocess.Popen(command, stdout=null, stderr=null) as server:
        try:
            seen[name] = (ask(name, "/mcp"), ask(name, "/api/mcp"))
        finally:
            server.terminate()

print("Expected: with root path /api, every server gives an app the same `path` for the same request.")
print("          ASGI, HTTP connection scope: `path` is the path from the URL. WSGI compatibility: PATH_INFO is derived")
print("          from `path` and `root_path`.")
print("Seen:     GET /mcp, as a proxy sends it that takes /api away; GET /api/mcp, as one sends it that does not.")
for name, paths in seen.items():
    print(f"          {name:9} {importlib.metadata.version(name):7} /mcp -> {paths[0]:9} /api/mcp -> {paths[1]}")
as_described = seen == dict.fromkeys(SERVERS, ("/mcp", "/api/mcp")) | {"uvicorn": ("/api/mcp", "/api/api/mcp")}
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF

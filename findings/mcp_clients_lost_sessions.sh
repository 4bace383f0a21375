#!/usr/bin/env bash
# Clients of the MCP SDKs do not begin a new session when the server says that theirs is gone: they fail from then on.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0 httpx2==2.16.2 || exit 2
cd "$dir"
echo '{"private": true, "type": "module"}' >package.json
timeout 300 npm install --silent --no-audit --no-fund --ignore-scripts \
  @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0 || exit 2

cat >client.py <<'EOF'
import asyncio, logging, sys

from mcp import Client
from mcp.client.streamable_http import streamable_http_client

logging.disable()


async def main():
    async with Client(streamable_http_client(sys.argv[1]), mode="legacy") as client:
        for _ in range(3):
            try:
                print((await client.call_tool("say")).content[0].text)
            except Exception as error:
                print(error)


asyncio.run(main())
EOF

cat >main.js <<'EOF'
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { promisify } from "node:util";
import * as v2 from "@modelcontextprotocol/client";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

let seen = []; // what the server is asked, in order
let sessions = 0; // the newest one is known, the others are gone

// An MCP server with sessions of MCP 2025-11-25, which forgets each of them after its first tool.
const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const answer = (status, document, headers = {}) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(document && JSON.stringify(document));
  };
  if (request.method !== "POST") return answer(405);
  const { id, method, params } = JSON.parse(body);
  const result = (result, headers) => answer(200, { jsonrpc: "2.0", id, result }, headers);
  if (method === "initialize") {
    seen.push("initialize");
    return result(
      { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo: { name: "notes", version: "1" } },
      { "mcp-session-id": `session-${++sessions}` },
    );
  }
  if (id === undefined) return answer(202);
  if (method === "tools/list") return result({ tools: [{ name: "say", inputSchema: { type: "object" } }] });
  if (request.headers["mcp-session-id"] !== `session-${sessions}`) {
    seen.push(`${method}: 404`);
    return answer(404, { jsonrpc: "2.0", id, error: { code: -32600, message: "Session not found" } });
  }
  seen.push(`${method}: 200`);
  if (!seen.includes("forgotten")) {
    sessions += 1;
    seen.push("forgotten");
  }
  result({ content: [{ type: "text", text: "said" }] });
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${server.address().port}/mcp`;

async function typescript(client, transport) {
  await client.connect(transport);
  for (let calls = 0; calls < 3; calls += 1) {
    try {
      await client.callTool({ name: "say", arguments: {} });
    } catch {
      // Whatever it says, what reaches the server tells whether it goes on.
    }
  }
  await client.close();
}

const clients = {
  "@modelcontextprotocol/sdk 1.32.2": () =>
    typescript(new Client({ name: "client", version: "1" }), new StreamableHTTPClientTransport(new URL(url))),
  "@modelcontextprotocol/client 2.4.0": () =>
    typescript(new v2.Client({ name: "client", version: "1" }), new v2.StreamableHTTPClientTransport(new URL(url))),
  "mcp 2.3.0": () => promisify(execFile)("venv/bin/python", ["client.py", url]),
};
console.log("Expected: a client that gets a 404 for its session MUST start a new one, by an InitializeRequest without a session ID");
console.log("          (MCP 2025-11-25, Transports, Session Management, item 4). Here the server forgets the session after a call.");
const described = ["initialize", "tools/call: 200", "forgotten", "tools/call: 404", "tools/call: 404"].join(" | ");
let asDescribed = true;
for (const [name, run] of Object.entries(clients)) {
  seen = [];
  await run();
  console.log(`Seen:     ${name.padEnd(34)} ${seen.join(" | ")}`);
  asDescribed &&= seen.join(" | ") === described;
}
server.close();
server.closeAllConnections();
console.log(asDescribed ? "As described." : "CHANGED.");
process.exitCode = asDescribed ? 0 : 1;
EOF
timeout 60 node main.js

#!/usr/bin/env bash
# The MCP TypeScript SDKs sign the person in for a stream that they open by themselves, and once more for the first call that needs it.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true, "type": "module"}' >package.json
timeout 300 npm install --silent --no-audit --no-fund --ignore-scripts \
  @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0 || exit 2

cat >main.js <<'EOF'
import { createServer } from "node:http";
import * as v2 from "@modelcontextprotocol/client";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

console.warn = () => {}; // how credentials are stored is not the point here
let seen = []; // what the server answers at /mcp, and each browser
let stream = 401; // what it answers a GET

// An MCP server whose list of tools is for everyone, and whose tool and stream are not; and its authorization server.
const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const metadata = `${base}/.well-known/oauth-protected-resource/mcp`;
  const answer = (status, document) => {
    const challenge = status === 401 ? { "www-authenticate": `Bearer resource_metadata="${metadata}"` } : {};
    response.writeHead(status, { "content-type": "application/json", ...challenge });
    response.end(document && JSON.stringify(document));
  };
  if (request.url === "/.well-known/oauth-protected-resource/mcp")
    return answer(200, { resource: `${base}/mcp`, authorization_servers: [base] });
  if (request.url === "/.well-known/oauth-authorization-server")
    return answer(200, {
      issuer: base,
      authorization_endpoint: `${base}/authorize`,
      token_endpoint: `${base}/token`,
      response_types_supported: ["code"],
      code_challenge_methods_supported: ["S256"],
    });
  if (request.url !== "/mcp") return answer(404);
  if (request.method === "GET") {
    seen.push(`GET: ${stream}`);
    return answer(stream);
  }
  if (request.method !== "POST") return answer(405);
  const { id, method } = JSON.parse(body);
  if (id === undefined) return answer(202);
  const result = {
    initialize: { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo: { name: "notes", version: "1" } },
    "tools/list": { tools: [{ name: "write", inputSchema: { type: "object" } }] },
  }[method];
  const status = result ? 200 : 401;
  seen.push(`${method}: ${status}`);
  answer(status, result && { jsonrpc: "2.0", id, result });
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const base = `http://127.0.0.1:${server.address().port}`;

// Connect, look at the tools, wait for what happens in the background, call the tool.
async function use(client, Transport, status) {
  [seen, stream] = [[], status];
  const authProvider = {
    redirectUrl: "http://127.0.0.1:1/callback",
    clientMetadata: { redirect_uris: ["http://127.0.0.1:1/callback"] },
    clientInformation: () => ({ client_id: "client" }),
    saveClientInformation: () => {},
    tokens: () => undefined,
    saveTokens: () => {},
    codeVerifier: () => "",
    saveCodeVerifier: () => {},
    redirectToAuthorization: () => seen.push("browser"),
  };
  client.onerror = () => {};
  await client.connect(new Transport(new URL(`${base}/mcp`), { authProvider }));
  await client.listTools();
  await new Promise((resolve) => setTimeout(resolve, 500));
  try {
    await client.callTool({ name: "write", arguments: {} });
  } catch {
    // The browser is open now.
  }
  await client.close();
  return [...seen].sort();
}

const clients = {
  "@modelcontextprotocol/sdk 1.32.2": [Client, StreamableHTTPClientTransport],
  "@modelcontextprotocol/client 2.4.0": [v2.Client, v2.StreamableHTTPClientTransport],
};
console.log("Expected: a client that has listed the tools without a token asks the person to sign in when a call is answered with 401,");
console.log("          once. The stream of a GET is optional (MCP 2025-11-25, Transports, Listening for Messages from the Server).");
let asDescribed = true;
for (const [name, [AClient, Transport]] of Object.entries(clients)) {
  for (const [status, browsers] of [[401, 2], [405, 1]]) {
    const events = await use(new AClient({ name: "client", version: "1" }), Transport, status);
    console.log(`Seen:     ${name.padEnd(35)} ${events.join(" | ")}`);
    asDescribed &&= events.filter((event) => event === "browser").length === browsers;
  }
}
server.close();
server.closeAllConnections();
console.log(asDescribed ? "As described." : "CHANGED.");
process.exitCode = asDescribed ? 0 : 1;
EOF
timeout 60 node main.js

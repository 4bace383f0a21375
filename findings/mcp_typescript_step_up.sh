#!/usr/bin/env bash
# The MCP TypeScript SDK 1.x refreshes when a scope is missing, which cannot add one, and never asks the person for it.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true, "type": "module"}' >package.json
timeout 300 npm install --silent --no-audit --no-fund --ignore-scripts @modelcontextprotocol/sdk@1.32.2 || exit 2

cat >main.js <<'EOF'
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

let seen = []; // what reaches the token endpoint and the browser, in order

// An MCP server whose one tool needs notes:write, and its authorization server.
const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const answer = (status, document, headers = {}) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(document && JSON.stringify(document));
  };
  if (request.url === "/.well-known/oauth-protected-resource/mcp")
    return answer(200, { resource: `${base}/mcp`, authorization_servers: [base], scopes_supported: ["notes:read", "notes:write"] });
  if (request.url === "/.well-known/oauth-authorization-server")
    return answer(200, {
      issuer: base,
      authorization_endpoint: `${base}/authorize`,
      token_endpoint: `${base}/token`,
      response_types_supported: ["code"],
      code_challenge_methods_supported: ["S256"],
    });
  if (request.url === "/token") {
    const form = new URLSearchParams(body);
    seen.push(`token request: ${form.get("grant_type")}, scope ${form.get("scope") ?? "-"}`);
    return answer(200, { access_token: "second", token_type: "Bearer", refresh_token: "refresh", scope: "notes:read" });
  }
  if (request.url !== "/mcp") return answer(404);
  if (request.method !== "POST") return answer(405);
  const { id, method, params } = JSON.parse(body);
  if (method === "initialize")
    return answer(200, {
      jsonrpc: "2.0",
      id,
      result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "notes", version: "1" } },
    });
  if (id === undefined) return answer(202);
  seen.push("/mcp: 403");
  const metadata = `${base}/.well-known/oauth-protected-resource/mcp`;
  answer(403, {}, { "www-authenticate": `Bearer error="insufficient_scope", scope="notes:write", resource_metadata="${metadata}"` });
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const base = `http://127.0.0.1:${server.address().port}`;

// A client that signed in before, for notes:read.
async function callTool(refreshToken) {
  seen = [];
  let tokens = { access_token: "first", token_type: "Bearer", scope: "notes:read", issuer: `${base}/`, ...refreshToken };
  const authProvider = {
    redirectUrl: "http://127.0.0.1:1/callback",
    clientMetadata: { redirect_uris: ["http://127.0.0.1:1/callback"], scope: "notes:read" },
    clientInformation: () => ({ client_id: "client", issuer: `${base}/` }),
    saveClientInformation: () => {},
    tokens: () => tokens,
    saveTokens: (newTokens) => (tokens = newTokens),
    saveCodeVerifier: () => {},
    codeVerifier: () => "",
    redirectToAuthorization: (url) => seen.push(`browser: ${url.pathname}, scope ${url.searchParams.get("scope")}`),
  };
  const client = new Client({ name: "client", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${base}/mcp`), { authProvider }));
  try {
    await client.callTool({ name: "write" });
  } catch (error) {
    seen.push(error.message);
  }
  await client.close();
  return seen;
}

const steps = {
  "with a refresh token": await callTool({ refresh_token: "refresh" }),
  "without one": await callTool({}),
};
server.close();
server.closeAllConnections();

const version = JSON.parse(readFileSync("node_modules/@modelcontextprotocol/sdk/package.json")).version;
console.log("Expected: 403 insufficient_scope for notes:write makes the client ask for authorization with the scope that is missing");
console.log("          (MCP 2025-11-25, Authorization, Step-Up Authorization Flow, step 3), and with what it has, notes:read, as");
console.log("          well (MCP 2026-07-28, there, step 2). A refresh cannot add a scope (RFC 6749, section 6).");
console.log(`Seen:     @modelcontextprotocol/sdk ${version}, Node ${process.versions.node}`);
for (const [step, events] of Object.entries(steps)) console.log(`          ${step.padEnd(20)}  ${events.join(" | ")}`);
const described = {
  "with a refresh token": [
    "/mcp: 403",
    "token request: refresh_token, scope -",
    "/mcp: 403",
    "Streamable HTTP error: Server returned 403 after trying upscoping",
  ],
  "without one": ["/mcp: 403", "browser: /authorize, scope notes:write", "Unauthorized"],
};
const asDescribed = JSON.stringify(steps) === JSON.stringify(described);
console.log(asDescribed ? "As described." : "CHANGED.");
process.exitCode = asDescribed ? 0 : 1;
EOF
timeout 60 node main.js

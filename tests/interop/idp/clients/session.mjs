// An MCP client made of the TypeScript SDK: finds its way from the server's URL to a tool's answer, signing in on the way.
//
//   node call_tool.mjs URL TOOL [USER]     writes {"answer": the tool's text, "signIns": how often, "scopes": what was granted}
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [url, tool, user = 'alice'] = process.argv.slice(2);
const REDIRECT_URL = 'http://127.0.0.1:8123/callback';

// What a person and their browser do: follow redirects and keep cookies, until the client's redirect URL comes up.
async function followInBrowser(start) {
  const cookies = new Map();
  let location = start;
  while (!location.href.startsWith(REDIRECT_URL)) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(location, { redirect: 'manual', headers: { cookie } });
    if (response.status < 300 || response.status > 399) {
      throw new Error(`no redirect from ${location}: ${response.status} ${await response.text()}`);
    }
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      cookies.set(name, value);
    }
    location = new URL(response.headers.get('location'), location);
  }
  return location.searchParams;
}

class Memory {
  signIns = 0;
  redirectUrl = REDIRECT_URL;
  clientMetadata = {
    application_type: 'native',
    client_name: 'TypeScript SDK',
    grant_types: ['authorization_code'],
    redirect_uris: [REDIRECT_URL],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };
  state = () => crypto.randomUUID();
  clientInformation = () => this.client;
  saveClientInformation = (client) => void (this.client = client);
  tokens = () => this.saved;
  saveTokens = (tokens) => void (this.saved = tokens);
  codeVerifier = () => this.verifier;
  saveCodeVerifier = (verifier) => void (this.verifier = verifier);

  async redirectToAuthorization(authorizationUrl) {
    this.signIns += 1;
    authorizationUrl.searchParams.set('login_hint', user);
    const answer = await followInBrowser(authorizationUrl);
    if (answer.get('state') !== authorizationUrl.searchParams.get('state')) throw new Error('another state came back');
    if (!answer.get('code')) throw new Error(`no code: ${answer}`);
    this.code = answer.get('code');
  }
}

const memory = new Memory();

// The SDK stops with UnauthorizedError where a person has to act; with the code in hand the whole is done once more.
// Twice at most: once to get in, once to be allowed more.
async function signingIn(attempt) {
  for (;;) {
    const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: memory });
    try {
      return await attempt(transport);
    } catch (error) {
      if (!(error instanceof UnauthorizedError) || memory.signIns > 2) throw error;
      await transport.finishAuth(memory.code);
    }
  }
}

async function connectAndCall(transport) {
  const client = new Client({ name: 'test', version: '1.0.0' });
  try {
    await client.connect(transport);
    return await client.callTool({ name: tool, arguments: {} });
  } finally {
    await client.close(); // an open event stream would keep this process alive
  }
}

const result = await signingIn(connectAndCall);
console.log(JSON.stringify({ answer: result.content[0].text, signIns: memory.signIns, scopes: memory.saved.scope }));

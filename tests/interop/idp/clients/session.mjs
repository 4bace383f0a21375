// An MCP client made of the TypeScript SDK: finds its way from the server's URL to a tool's answer, and keeps at it.
//
//   node session.mjs PACKAGES URL [CREDENTIALS]
//
// PACKAGES is the folder whose node_modules has the SDK, of the first or the second generation. Each line of stdin names
// tools to call at once, or is ? for the names of all; each line of stdout is {"answers": what they said} or {"error": why not}. It ends when stdin does.
//
// Where a person has to sign in, it opens $BROWSER and listens for what comes back. CREDENTIALS {"clientMetadataUrl"} are
// its metadata document; with {"clientId", "clientSecret"} or {"clientId", "privateKey", "algorithm"} it acts for itself.
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [packages, url, credentials] = process.argv.slice(2);
const sdk = loadSDK(createRequire(join(packages, 'package.json')));

function loadSDK(require) {
  try {
    return require('@modelcontextprotocol/client');
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error;
    const modules = ['index', 'auth', 'auth-extensions', 'streamableHttp'];
    return Object.assign({}, ...modules.map((name) => require(`@modelcontextprotocol/sdk/client/${name}.js`)));
  }
}

// What comes back from the browser, once each time.
const callbacks = [];
const listener = createServer((request, response) => {
  response.end('You can close this page.');
  callbacks.shift()?.(new URL(request.url, redirectUrl).searchParams);
});
await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
const redirectUrl = `http://127.0.0.1:${listener.address().port}/callback`;

class Person {
  redirectUrl = redirectUrl;
  clientMetadata = {
    application_type: 'native',
    client_name: 'TypeScript SDK',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [redirectUrl],
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
  discoveryState = () => this.discovery;
  saveDiscoveryState = (discovery) => void (this.discovery = discovery);
  invalidateCredentials = (what) => {
    if (what === 'tokens' || what === 'all') this.saved = undefined;
    if (what === 'client' || what === 'all') this.client = undefined;
  };

  async redirectToAuthorization(authorizationUrl) {
    const answer = await new Promise((resolve) => {
      callbacks.push(resolve);
      spawn(process.env.BROWSER, [authorizationUrl.href], { stdio: 'ignore' });
    });
    if (answer.get('state') !== authorizationUrl.searchParams.get('state')) throw new Error('another state came back');
    if (!answer.get('code')) throw new Error(`no code: ${answer}`);
    this.answer = answer;
  }
}

function providerFor(known) {
  if (known === undefined) return new Person();
  const options = JSON.parse(known);
  if (options.clientMetadataUrl) return Object.assign(new Person(), options);
  return options.privateKey ? new sdk.PrivateKeyJwtProvider(options) : new sdk.ClientCredentialsProvider(options);
}

const provider = providerFor(credentials);
let client, transport;

async function connect() {
  transport = new sdk.StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
  client = new sdk.Client({ name: 'test', version: '1.0.0' });
  await client.connect(transport);
}

// The SDK stops with UnauthorizedError where a person had to act; with the code in hand the whole is done once more.
// Twice at most: once to get in, once to be allowed more.
async function signingIn(attempt) {
  for (let left = 2; ; left -= 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof sdk.UnauthorizedError) || left === 0) throw error;
      await transport.finishAuth(provider.answer.get('code'), provider.answer.get('iss') ?? undefined);
    }
  }
}

async function ask(name) {
  if (name === '?') return (await client.listTools()).tools.map((tool) => tool.name).join(' ');
  return (await client.callTool({ name, arguments: {} })).content[0].text;
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    if (client === undefined || client.transport === undefined) await signingIn(connect);
    const answers = line.split(' ').map((name) => signingIn(() => ask(name)));
    console.log(JSON.stringify({ answers: await Promise.all(answers) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await client?.close(); // an open event stream would keep this process alive
listener.close();

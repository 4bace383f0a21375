// The tests' identity provider: node-oidc-provider on a free loopback port, with keys that live as long as the process.
//
//   node server.mjs        writes {"issuer": "http://127.0.0.1:PORT"} as its first line, stops when its stdin is closed
//
// The last path segment of the resource that a client asks for chooses the access token: .../ES256, .../PS256, .../EdDSA
// give a JWT signed so, .../opaque one for introspection; everything else RS256.
//
// There are no pages: whoever arrives at /authorize is signed in as login_hint says (else alice) and consents to all.
//
//   GET  /admin/hits                                    requests by path
//   POST /admin/rotate  {"drop": false}                 new keys sign; the old ones stay published unless dropped
//   POST /admin/fail    {"path", "status", "times"}     that many requests get the status; null: all of them
//   POST /admin/delay   {"path", "ms"}                  requests wait first
//   POST /admin/reset                                   no failures, no delays, no hits
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import Provider from 'oidc-provider';

const SCOPES = ['mcp:read', 'mcp:write'];
const ALGORITHMS = new Set(['RS256', 'PS256', 'ES256', 'EdDSA']);

function newKeys() {
  const pairs = [
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
    generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    generateKeyPairSync('ed25519'),
  ];
  return pairs.map(({ privateKey }) => ({ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig' }));
}

function resourceServer(resource) {
  const choice = new URL(resource).pathname.split('/').pop();
  const common = { audience: resource, scope: SCOPES.join(' '), accessTokenTTL: 300 };
  if (choice === 'opaque') return { ...common, accessTokenFormat: 'opaque' };
  return { ...common, accessTokenFormat: 'jwt', jwt: { sign: { alg: ALGORITHMS.has(choice) ? choice : 'RS256' } } };
}

const configuration = {
  clients: [
    {
      client_id: 'test-app',
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: ['http://127.0.0.1/callback'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    },
    {
      client_id: 'resource-server',
      client_secret: 'resource-server-secret-0123456789',
      grant_types: [],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  cookies: { keys: [randomUUID()] },
  // A client registers with the scopes that its first challenge named; without this, it could never ask for more.
  extraClientMetadata: {
    properties: ['scope'],
    validator: (_, name, value, client) => void delete client[name],
  },
  features: {
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === 'resource-server' },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => resourceServer(resource),
      useGrantedResource: () => true,
    },
    revocation: { enabled: true },
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  interactions: { url: (_, interaction) => `/sign-in/${interaction.uid}` },
  pkce: { required: () => true },
  renderError(context, out) {
    context.type = 'json';
    context.body = out;
  },
  scopes: ['openid', 'offline_access', ...SCOPES],
};

async function signIn(provider, request, response) {
  const { params, prompt, session, grantId } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    const login = { accountId: params.login_hint ?? 'alice' };
    return provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
  }
  const known = grantId && (await provider.Grant.find(grantId));
  const grant = known || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

let issuer;
let keys = newKeys();
let provider;
let handle;
const failures = new Map();
const delays = new Map();
const hits = new Map();

// A provider's keys are fixed, so rotation makes a new one; the memory adapter's storage is the module's, all share it.
function build() {
  provider = new Provider(issuer, { ...configuration, jwks: { keys } });
  handle = provider.callback();
}

const admin = {
  hits: () => Object.fromEntries(hits),
  rotate({ drop = false }) {
    keys = drop ? newKeys() : [...newKeys(), ...keys];
    build();
    return {};
  },
  fail({ path, status = 503, times = null }) {
    failures.set(path, { status, left: times ?? Infinity });
    return {};
  },
  delay({ path, ms }) {
    delays.set(path, ms);
    return {};
  },
  reset() {
    for (const knob of [failures, delays, hits]) knob.clear();
    return {};
  },
};

function answer(response, status, value) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, issuer);
  try {
    if (pathname.startsWith('/admin/')) {
      const chunks = await request.toArray();
      const body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
      return answer(response, 200, admin[pathname.slice('/admin/'.length)](body));
    }
    hits.set(pathname, (hits.get(pathname) ?? 0) + 1);
    if (delays.has(pathname)) await sleep(delays.get(pathname));
    const failure = failures.get(pathname);
    if (failure && failure.left > 0) {
      failure.left -= 1;
      return answer(response, failure.status, { error: 'injected' });
    }
    if (pathname.startsWith('/sign-in/')) return await signIn(provider, request, response);
    return await handle(request, response);
  } catch (error) {
    return answer(response, 500, { error: String(error) });
  }
});

server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  build();
  console.log(JSON.stringify({ issuer }));
});

// The tests hold the other end of stdin: however they end, this process does not outlive them.
process.stdin.resume().on('end', () => process.exit(0));

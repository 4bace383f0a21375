// The certified upstream of the proxy's tests: node-oidc-provider with registration off, as companies run one.
//
//   node upstream.mjs
//   node upstream.mjs '{"callback": "http://…/auth/callback", "accessSeconds": 300, …}'
//
// Its first line is {"control"}, the URL of its knobs, and in the second form {"issuer", "control"}; it stops when its
// stdin is closed. POST /begin makes another provider of it, at a port of its own, that knows nothing of the one before: a
// process for each test would take longer than the tests. People sign in on its pages with a name and no password, and decide there. It wants PKCE, signs with ES256, has opaque
// access tokens, rotates refresh tokens, and revokes everything when one is used twice. The knobs are on another port, so
// that it can be down itself:
//
//   POST /begin       {"callback", "accessSeconds", …}      another provider; the answer is {"issuer"}
//   GET  /seen                                              requests to the token endpoint, and how many to each path
//   POST /fail        {"path", "status", "times"}           that many requests get the status; null: all of them
//   POST /fail_refresh {"every": 10}                        one refresh in ten gets 503, before anything is done
//   POST /delay       {"path", "ms"}                        requests wait first
//   POST /refuse      {"parameters": {"error": "…"}}        the next authorization request is answered so at once
//   POST /revoke_user {"user"}                              nothing that this person has granted is good any more
//   POST /account     {"user", "claims"}                    what is known of a person, from now on
//   POST /down, /up                                         nobody listens any more; again, and nothing is forgotten
//   POST /reset                                             no failures and delays, nothing seen
import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { parse } from 'node:querystring';
import { setTimeout as sleep } from 'node:timers/promises';

import Provider from 'oidc-provider';

const DEFAULTS = {
  callback: 'http://localhost:8000/auth/callback',
  secret: 'upstream-secret-0123456789-0123456789',
  accessSeconds: 300,
  refreshSeconds: 86400,
  claimsInIdToken: true,
};
let options;

// ------------------------------------------------------------------------------------------------------------- people

const PEOPLE = {
  alice: { name: 'Alice', email: 'alice@example.com', email_verified: true, groups: ['staff', 'editors'] },
  bob: { name: 'Bob', email: 'bob@example.org', email_verified: false, groups: [] },
};
const accounts = new Map();

function findAccount(_, id) {
  return { accountId: id, claims: () => ({ ...accounts.get(id.replace(/^id-of-/, '')), sub: id }) };
}

// ------------------------------------------------------------------------------------------------------------ storage

const stored = new Map();
const expired = ({ expiresAt }) => expiresAt !== undefined && expiresAt <= Date.now();

class Storage {
  constructor(name) {
    this.name = name;
  }
  async upsert(id, payload, seconds) {
    stored.set(`${this.name}:${id}`, { payload, expiresAt: seconds && Date.now() + seconds * 1000 });
  }
  async find(id) {
    const entry = stored.get(`${this.name}:${id}`);
    return entry && !expired(entry) ? entry.payload : undefined;
  }
  async findByUid(uid) {
    return [...stored.values()].find(({ payload }) => payload.kind === this.name && payload.uid === uid)?.payload;
  }
  async findByUserCode() {}
  async consume(id) {
    (await this.find(id)).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    stored.delete(`${this.name}:${id}`);
  }
  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of stored) if (payload.grantId === grantId) stored.delete(key);
  }
}

// ----------------------------------------------------------------------------------------------------------- provider

function client(client_id, token_endpoint_auth_method) {
  return {
    client_id,
    ...(token_endpoint_auth_method === 'none' ? {} : { client_secret: options.secret }),
    client_name: 'The MCP server',
    grant_types: ['authorization_code', 'refresh_token'],
    id_token_signed_response_alg: 'ES256',
    redirect_uris: [options.callback],
    response_types: ['code'],
    token_endpoint_auth_method,
  };
}

const configuration = () => ({
  adapter: Storage,
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'], groups: ['groups'] },
  clientBasedCORS: () => false,
  clients: [
    client('proxy-basic', 'client_secret_basic'),
    client('proxy-post', 'client_secret_post'),
    client('proxy-public', 'none'),
  ],
  conformIdTokenClaims: !options.claimsInIdToken,
  cookies: { keys: [randomUUID()] },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  expiresWithSession: () => false,
  features: {
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: false },
  },
  findAccount,
  interactions: { url: (_, { uid }) => `/sign-in/${uid}` },
  issueRefreshToken: (_, { grantTypes }) => grantTypes.includes('refresh_token'),
  jwks: {
    keys: [
      {
        ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }),
        kid: randomUUID(),
        use: 'sig',
      },
    ],
  },
  pkce: { required: () => true },
  renderError(context, out) {
    context.type = 'json';
    context.body = out;
  },
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access'],
  ttl: {
    // A second more than it says: it counts from the last whole second, which leaves little of a lifetime of one.
    AccessToken: options.accessSeconds + 1,
    AuthorizationCode: 60,
    Grant: 86400,
    IdToken: 86400,
    Interaction: 600,
    RefreshToken: options.refreshSeconds,
    Session: 86400,
  },
});

// -------------------------------------------------------------------------------------------------------------- pages

const escaped = (text) => text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);

function page(response, title, inner) {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  response.end(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title></head>
<body><main><h1>${title}</h1>${inner}</main></body></html>`);
}

const button = (action, label) => `<button name="action" value="${action}">${label}</button>`;

async function interact(provider, request, response) {
  const { params, prompt, session, grantId } = await provider.interactionDetails(request, response);
  if (request.method !== 'POST') {
    if (prompt.name === 'login') {
      const inner = `<label>Account <input name="username" value="${escaped(params.login_hint ?? '')}"></label>`;
      const form = `<form method="post">${inner} ${button('approve', 'Continue')} ${button('deny', 'Cancel')}</form>`;
      return page(response, 'Sign in at Upstream', form);
    }
    const asked = `<p>${escaped(session.accountId)}: The MCP server asks for ${escaped(params.scope)}.</p>`;
    const form = `<form method="post">${button('approve', 'Authorize')} ${button('deny', 'Deny')}</form>`;
    return page(response, 'Upstream: share your data?', asked + form);
  }
  const form = parse(request.body);
  const finish = (result, more) => provider.interactionFinished(request, response, result, more);
  if (form.action === 'deny') {
    return finish({ error: 'access_denied', error_description: 'The person said no' });
  }
  if (prompt.name === 'login') {
    return finish({ login: { accountId: `id-of-${form.username || 'alice'}` } }, { mergeWithLastSubmission: false });
  }
  const known = grantId && (await provider.Grant.find(grantId));
  const grant = known || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (prompt.details.missingOIDCScope) grant.addOIDCScope(prompt.details.missingOIDCScope.join(' '));
  if (prompt.details.missingOIDCClaims) grant.addOIDCClaims(prompt.details.missingOIDCClaims);
  return finish({ consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

// -------------------------------------------------------------------------------------------------------------- knobs

const failures = new Map();
const delays = new Map();
const hits = new Map();
const tokenRequests = [];
let failEvery = Infinity;
let refreshes = 0;
let refusal;

const control = {
  begin,
  seen: () => ({ tokenRequests, hits: Object.fromEntries(hits) }),
  fail: ({ path, status = 503, times = null, headers = {} }) =>
    void failures.set(path, { status, headers, left: times ?? Infinity }),
  fail_refresh: ({ every }) => void (failEvery = every),
  delay: ({ path, ms }) => void delays.set(path, ms),
  refuse: ({ parameters }) => void (refusal = parameters),
  revoke_user({ user }) {
    for (const [key, { payload }] of stored) {
      const ends = payload.accountId === `id-of-${user}`;
      if (ends && !['Session', 'Interaction'].includes(payload.kind)) stored.delete(key);
    }
  },
  account: ({ user, claims }) => void accounts.set(user, claims),
  down: () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())),
  up: () => new Promise((resolve) => server.listen(new URL(issuer).port, '127.0.0.1', resolve)),
  reset,
};

function reset() {
  for (const knob of [failures, delays, hits]) knob.clear();
  tokenRequests.length = 0;
  [failEvery, refreshes, refusal] = [Infinity, 0, undefined];
}

function answer(response, status, value, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value ?? {}));
}

async function bodyOf(request) {
  return Buffer.concat(await request.toArray()).toString();
}

function noteTokenRequest(request, response) {
  const form = parse(request.body);
  const basic = request.headers.authorization?.startsWith('Basic ');
  const secret = form.refresh_token ?? form.code ?? '';
  const noted = {
    grant_type: form.grant_type,
    client_auth: basic ? 'client_secret_basic' : form.client_secret ? 'client_secret_post' : 'none',
    client_id: basic ? Buffer.from(request.headers.authorization.slice(6), 'base64').toString().split(':')[0] : form.client_id,
    hash: createHash('sha256').update(secret).digest('hex'),
    parameters: Object.keys(form).sort(),
    status: null,
    injected: false,
  };
  tokenRequests.push(noted);
  response.on('finish', () => (noted.status = response.statusCode));
  return noted;
}

function refuse(url, response) {
  const answered = new URL(url.searchParams.get('redirect_uri'));
  const all = { ...refusal, state: url.searchParams.get('state'), iss: refusal.iss ?? issuer };
  for (const [name, value] of Object.entries(all)) answered.searchParams.set(name, value);
  refusal = undefined;
  response.writeHead(303, { location: answered.href });
  response.end();
}

// ------------------------------------------------------------------------------------------------------------- server

let issuer;
let provider;
let handle;
let server;

async function serve(request, response) {
  const url = new URL(request.url, issuer);
  const { pathname } = url;
  hits.set(pathname, (hits.get(pathname) ?? 0) + 1);
  if (request.method === 'POST') request.body = await bodyOf(request);
  const noted = pathname === '/token' ? noteTokenRequest(request, response) : {};
  const asked = provider;
  if (delays.has(pathname)) await sleep(delays.get(pathname));
  if (provider !== asked) return response.destroy(); // it belongs to a test that is over
  const failure = failures.get(pathname);
  if (failure && failure.left > 0) {
    failure.left -= 1;
    noted.injected = true;
    return answer(response, failure.status, { error: 'injected' }, failure.headers);
  }
  if (noted.grant_type === 'refresh_token' && ++refreshes % failEvery === 0) {
    noted.injected = true;
    return answer(response, 503, { error: 'temporarily_unavailable' });
  }
  if (pathname === '/auth' && refusal) return refuse(url, response);
  if (pathname.startsWith('/sign-in/')) return await interact(provider, request, response);
  return await handle(request, response);
}

function listener(handler) {
  return createServer((request, response) =>
    Promise.resolve(handler(request, response)).catch((error) => answer(response, 500, { error: String(error) })),
  );
}

const portOf = (each) => new Promise((resolve) => each.listen(0, '127.0.0.1', () => resolve(each.address().port)));

async function begin(wanted) {
  if (server?.listening) await control.down();
  options = { ...DEFAULTS, ...wanted };
  reset();
  stored.clear();
  accounts.clear();
  for (const [user, claims] of Object.entries(PEOPLE)) accounts.set(user, claims);
  server = listener(serve);
  issuer = `http://127.0.0.1:${await portOf(server)}`;
  provider = new Provider(issuer, configuration());
  provider.use(async (context, next) => {
    await next();
    if (context.path === '/token' && context.body?.expires_in) context.body.expires_in = options.accessSeconds;
  });
  handle = provider.callback();
  return { issuer };
}

const controls = listener(async (request, response) => {
  const body = await bodyOf(request);
  answer(response, 200, await control[request.url.slice(1)](body ? JSON.parse(body) : {}));
});

const first = process.argv[2] ? await begin(JSON.parse(process.argv[2])) : {};
console.log(JSON.stringify({ ...first, control: `http://127.0.0.1:${await portOf(controls)}` }));

// The tests hold the other end of stdin: however they end, this process does not outlive them.
process.stdin.resume().on('end', () => process.exit(0));

// oauth2-mock-server and better-auth with their default settings, a client and a person each:
//
//     node server.mjs REDIRECT_URI SECRET RESOURCE
//
// Prints a line of JSON: what the proxy has to know of each, and where a GET ends all sign-ins ("end"). Stops when its
// stdin is closed.
import { createServer } from 'node:http';
import { oauthProvider } from '@better-auth/oauth-provider';
import { betterAuth } from 'better-auth';
import { memoryAdapter } from 'better-auth/adapters/memory';
import { toNodeHandler } from 'better-auth/node';
import { jwt } from 'better-auth/plugins';
import { Events, OAuth2Server } from 'oauth2-mock-server';

const [callback, secret, resource] = process.argv.slice(2);
process.stdin.on('end', () => process.exit()).resume();

const http = createServer();
await new Promise((listening) => http.listen(0, '127.0.0.1', listening));
const origin = `http://127.0.0.1:${http.address().port}`;

// ---------------------------------------------------------------------------------------------------- oauth2-mock-server

const mock = new OAuth2Server();
await mock.issuer.keys.generate('RS256');
await mock.start(0, '127.0.0.1');
// It refuses nothing by itself: this is how its README lets it.
const issued = new Set();
const ended = new Set();
mock.service.on(Events.BeforeResponse, (response, request) => {
  issued.add(response.body.refresh_token);
  if (ended.has(request.body.refresh_token)) {
    Object.assign(response, { statusCode: 400, body: { error: 'invalid_grant' } });
  }
});

// ----------------------------------------------------------------------------------------------------------- better-auth

const tables = {};
for (const name of ['user', 'session', 'account', 'verification', 'jwks', 'oauthClient', 'oauthResource',
  'oauthClientResource', 'oauthClientAssertion', 'oauthAccessToken', 'oauthRefreshToken', 'oauthConsent']) {
  tables[name] = [];
}
const auth = betterAuth({
  baseURL: origin,
  secret: 'the secret that better-auth signs with',
  database: memoryAdapter(tables),
  emailAndPassword: { enabled: true },
  plugins: [jwt(), oauthProvider({
    loginPage: '/sign-in',
    consentPage: '/consent',
    resources: [resource],
    clientRegistrationDefaultResources: [resource],
  })],
});
const person = { name: 'Alice', email: 'alice@example.com', password: 'correct horse battery staple' };
const signedUp = await auth.api.signUpEmail({ body: person, asResponse: true });
const client = await auth.api.adminCreateOAuthClient({
  body: { redirect_uris: [callback], skip_consent: true },
  headers: { cookie: signedUp.headers.getSetCookie().map((each) => each.split(';')[0]).join('; ') },
});
const betterAuthHandler = toNodeHandler(auth);

// The page that an app brings itself. Here nothing is typed.
async function signIn(query, response) {
  const answer = await auth.handler(new Request(`${origin}/api/auth/sign-in/email`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', origin },
    body: JSON.stringify({ ...person, oauth_query: query }),
  }));
  const { url } = await answer.json();
  response.writeHead(302, { location: url, 'set-cookie': answer.headers.getSetCookie() }).end();
}

http.on('request', (request, response) => {
  const { pathname, search } = new URL(request.url, origin);
  if (pathname === '/sign-in') return signIn(search.slice(1), response);
  if (pathname !== '/end') return betterAuthHandler(request, response);
  tables.oauthRefreshToken.length = 0;
  issued.forEach((each) => ended.add(each));
  return response.end();
});

console.log(JSON.stringify({
  end: `${origin}/end`,
  'oauth2-mock-server': { issuer: mock.issuer.url, client_id: 'the-proxy', client_secret: secret },
  'better-auth': {
    issuer: `${origin}/api/auth`,
    client_id: client.client_id,
    client_secret: client.client_secret,
  },
}));

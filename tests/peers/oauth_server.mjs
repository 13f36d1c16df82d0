// An OAuth 2.0 server for tests: oidc-provider, which rotates refresh tokens and ends a grant whose old one is used again.
// Arguments: the folder of its packages, its port, the port that the test controls it by, and a file with its clients as JSON.
// Everything is in memory. It ends with the process.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [folder, port, controlPort, clients] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${folder}/node_modules/oidc-provider/lib/index.js`));
const issuer = `http://127.0.0.1:${port}`;

const state = { fault: '', claimed: 3600 }; // the lifetime of an access token in seconds, as its answer says
const LIFETIME = 3600; // what it really is
const issued = []; // every token, so that the test can look for it
const requests = []; // the kind of each request for a token, as answered
const grants = new Set();
const alive = []; // access tokens
let held = 0; // answers that are kept back

const provider = new Provider(issuer, {
  clients: JSON.parse(readFileSync(clients)),
  extraClientMetadata: { properties: ['mailbox'] },
  scopes: ['openid', 'offline_access', 'smtp'],
  cookies: { keys: ['only for tests'] },
  rotateRefreshToken: true,
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: LIFETIME, ClientCredentials: LIFETIME,
    RefreshToken: 86400, Grant: 86400, Interaction: 600, Session: 600, AuthorizationCode: 60, DeviceCode: 600,
  },
  // The mailbox that the smarthost compares with the login.
  extraTokenClaims: (ctx, token) => ({ email: token.accountId ?? token.client.mailbox }),
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientId === 'smarthost' },
    revocation: { enabled: true },
  },
});

provider.use(async (ctx, next) => {
  await next();
  if (ctx.path !== '/token') return;
  const kind = ctx.oidc?.params?.grant_type ?? '';
  requests.push(ctx.status === 200 ? kind : `${kind}: ${ctx.body?.error}`);
  if (ctx.status !== 200) return;
  for (const name of ['access_token', 'refresh_token']) if (ctx.body[name]) issued.push(ctx.body[name]);
  ctx.body.expires_in = state.claimed;
  const { AccessToken: token, ClientCredentials: own } = ctx.oidc.entities;
  if (token?.grantId) grants.add(token.grantId);
  alive.push(token ?? own);
  if (state.fault === 'hold') {
    held += 1;
    await new Promise(() => {}); // the server has rotated; the client never learns it
  }
});

async function read(request) {
  let text = '';
  for await (const part of request) text += part;
  return text;
}

// A person's answer: who logs in, and the consent to whatever is asked. A GET shows the question only.
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (request.method !== 'POST') {
    response.end(prompt.name);
    return;
  }
  const answer = new URLSearchParams(await read(request));
  let result = { error: 'access_denied', error_description: 'the person said no' };
  if (answer.has('no')) {
    // as it is
  } else if (prompt.name === 'login') {
    result = { login: { accountId: answer.get('login') } };
  } else {
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: !answer.has('no') });
}

const serve = provider.callback();

function misbehave(response) {
  switch (state.fault) {
    case 'reset':
      response.socket.destroy();
      return true;
    case 'html':
      response.setHeader("Content-Type", "text/html").end('<!doctype html><title>Welcome</title>');
      return true;
    case 'huge':
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ access_token: 'a'.repeat(8 << 20), token_type: 'Bearer' }));
      return true;
    case 'slow':
      return true; // no answer at all
    case 'unavailable':
      response.statusCode = 503;
      response.end();
      return true;
    default:
      return false;
  }
}

const server = createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (path === '/token' && misbehave(response)) {
    requests.push(state.fault);
    return;
  }
  if (path.startsWith('/interaction/')) {
    interact(request, response).catch((error) => {
      console.error(error);
      response.statusCode = 500;
      response.end(String(error));
    });
    return;
  }
  serve(request, response);
});
// Dovecot asks about tokens on kept connections, and refuses a login whose request meets the end of an idle one.
server.keepAliveTimeout = 0;
server.listen(Number(port), '127.0.0.1', () => console.log(`${issuer} listens`));

createServer(async (request, response) => {
  const wanted = request.method === 'POST' ? JSON.parse(await read(request)) : {};
  if (wanted.revoke) {
    for (const id of grants) {
      await provider.RefreshToken.revokeByGrantId(id);
      await provider.AccessToken.revokeByGrantId(id);
      await (await provider.Grant.find(id))?.destroy();
    }
    grants.clear();
  }
  if (wanted.end) for (const token of alive.splice(0)) await token.destroy();
  for (const name of ['fault', 'claimed']) if (name in wanted) state[name] = wanted[name];
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ issued, requests, held }));
}).listen(Number(controlPort), '127.0.0.1');

// An identity provider that is not ours (npm oidc-provider) for the portal's tests: accounts, an address to log in by,
// and a second factor that is checked. Usage: node provider.mjs SETTINGS.json; listens on loopback, by TLS.
//
// SETTINGS: { port, tls: { certificate, key }, client_id, client_secret, redirect_uri,
//             accounts: { ADDRESS: { sub, verified, totp: HEX or null, amr: [..], acr: TEXT or null } } }
import { createHmac, generateKeyPairSync, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const issuer = `https://127.0.0.1:${settings.port}`;
const accounts = new Map(Object.entries(settings.accounts));
const bySubject = new Map([...accounts].map(([email, account]) => [account.sub, { email, ...account }]));
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

// As in its defaults, what a scope brings is told by userinfo and not by the ID token, and `amr` only who asks for it.
const provider = new Provider(issuer, {
  clients: [{
    client_id: settings.client_id,
    client_secret: settings.client_secret,
    redirect_uris: [settings.redirect_uri],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  jwks: { keys: [{ ...key, use: 'sig', alg: 'RS256', kid: 'one' }] },
  cookies: { keys: [key.d] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], acr: null, amr: null },
  acrValues: [...new Set([...accounts.values()].map(({ acr }) => acr).filter(Boolean))],
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false }, claimsParameter: { enabled: true } },
  interactions: { url: (_, { uid }) => `/login/${uid}` },
  ttl: { Session: 600, Interaction: 600, Grant: 600, AccessToken: 60, IdToken: 300, AuthorizationCode: 60 },
  findAccount: (_, sub) => {
    const { email, verified } = bySubject.get(sub);
    return { accountId: sub, claims: () => ({ sub, email, email_verified: verified }) };
  },
  // There is one client, and it is the house's own: nobody is asked whether it may know the address.
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid email');
    grant.addOIDCClaims(['amr', 'acr']);
    await grant.save();
    return grant;
  },
});

// RFC 6238 with SHA-1, six digits and steps of 30 s; the step before counts too, for who types slowly.
const codeAt = (secret, step) => {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const digest = createHmac('sha1', Buffer.from(secret, 'hex')).update(counter).digest();
  const offset = digest.at(-1) & 15;
  return String((digest.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, '0');
};
const codeFits = (secret, code) => {
  const now = Math.floor(Date.now() / 30_000);
  const given = Buffer.from(code.padEnd(6).slice(0, 6));
  return [now, now - 1].some((step) => timingSafeEqual(Buffer.from(codeAt(secret, step)), given));
};

const page = (uid, said, step) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>Identity provider</title>
<h1>Identity provider</h1><p role="alert">${said}</p><form method="post" action="/login/${uid}">${step}
<button>Continue</button></form></html>`;
const ASK_ADDRESS = '<label>E-mail address <input name="email" type="email" required></label>';
const ASK_CODE = '<label>Code <input name="code" inputmode="numeric" autocomplete="one-time-code" required></label>';
const waiting = new Map(); // the address by which somebody began, until their code has come

const read = async (request) => {
  let body = '';
  for await (const part of request) body += part;
  return new URLSearchParams(body);
};
const show = (response, status, text) => {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  response.end(text);
};

async function login(request, response, uid) {
  const { prompt } = await provider.interactionDetails(request, response); // throws for a browser that did not begin it
  if (prompt.name !== 'login') throw new Error(`asked for ${prompt.name}`);
  if (request.method !== 'POST') {
    waiting.delete(uid);
    return show(response, 200, page(uid, '', ASK_ADDRESS));
  }
  const form = await read(request);
  const email = waiting.get(uid) ?? form.get('email');
  const account = accounts.get(email);
  if (account === undefined) return show(response, 403, page(uid, 'Unknown address', ASK_ADDRESS));
  if (account.totp !== null && !waiting.has(uid)) {
    waiting.set(uid, email);
    return show(response, 200, page(uid, '', ASK_CODE));
  }
  if (account.totp !== null && !codeFits(account.totp, form.get('code') ?? '')) {
    return show(response, 403, page(uid, 'Wrong code', ASK_CODE));
  }
  waiting.delete(uid);
  const { sub: accountId, amr, acr } = account;
  return provider.interactionFinished(request, response, {
    login: { accountId, amr, ...(acr === null ? {} : { acr }), remember: false },
  });
}

const rest = provider.callback();
const tls = { cert: readFileSync(settings.tls.certificate), key: readFileSync(settings.tls.key) };
createServer(tls, (request, response) => {
  const [, uid] = /^\/login\/([\w-]+)$/.exec(request.url) ?? [];
  if (uid === undefined) return rest(request, response);
  return login(request, response, uid).catch((error) => {
    console.error(error);
    show(response, 400, page('', 'This login was not begun here', ''));
  });
}).listen(settings.port, '127.0.0.1');

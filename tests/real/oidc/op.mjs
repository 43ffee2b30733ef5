// A real OpenID provider for the tests: RS256, ES256 and EdDSA access tokens (JWT, RFC 9068) for a confidential
// client (client_credentials) and a public native one (device flow, authorization code). The audience of a token is
// AUDIENCE; the last segment of the requested resource names the algorithm that signs it.
//
//   node op.mjs PORT     0 lets the system choose; prints {"issuer": …} on one line when it listens
//
// POST /__rotate  new keys first, the former ones still published      POST /__drop  only the newest keys are left

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The packages live in a cache folder outside of the repository.
const packages = createRequire(`${process.env.OP_PACKAGES}/package.json`);
const { default: Provider, errors } = await import(pathToFileURL(packages.resolve('oidc-provider')));

const AUDIENCE = process.env.OP_AUDIENCE ?? 'lightsail-broker';
const LIFETIME = Number(process.env.OP_TOKEN_SECONDS ?? 300);
const CONSOLE = process.env.OP_CONSOLE;
const SCOPES = ['openid', 'offline_access', 'creds'];
const KINDS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

let generation = 0;
const newKeys = () => {
  generation += 1;
  return Object.entries(KINDS).map(([alg, [type, options]]) => ({
    ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
    kid: `${alg}-${generation}`,
    alg,
    use: 'sig',
  }));
};

const configuration = (keys) => ({
  jwks: { keys },
  scopes: SCOPES,
  clients: [
    {
      client_id: 'ci',
      client_secret: 'ci-secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: 'cli',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: ['http://127.0.0.1/cb'], // any port matches (RFC 8252, 7.3)
      response_types: ['code'],
    },
    ...(CONSOLE
      ? [
          {
            client_id: 'console',
            client_secret: 'console-secret',
            grant_types: ['authorization_code'],
            redirect_uris: [`${CONSOLE}/console/callback`],
            response_types: ['code'],
          },
        ]
      : []),
  ],
  // Whoever logs in as NAME is NAME; NAME+GROUP+GROUP is in these groups, everybody else in "ops".
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...person(id) }) }),
  claims: { openid: ['sub', 'groups', 'email', 'email_verified'] },
  extraTokenClaims: (context, token) =>
    token.accountId ? { ...person(token.accountId), ...login(context, token.accountId) } : { groups: ['ci'] },
  cookies: { keys: ['only for tests'] },
  ttl: { AccessToken: LIFETIME, ClientCredentials: LIFETIME, Session: 600, Grant: 600, Interaction: 600 },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    dPoP: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://broker.test/RS256',
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => {
        const alg = new URL(resource).pathname.slice(1);
        if (!(alg in KINDS)) throw new errors.InvalidTarget();
        return {
          scope: 'creds',
          audience: AUDIENCE,
          accessTokenTTL: LIFETIME,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg } },
        };
      },
    },
  },
});

// Everybody has a second factor; whoever is called weak… uses it only when `acr_values` ask for it, or `never`; and
// whoever is called old… logged in a day ago, but for `max_age`.
const login = (context, id) => {
  const { DeviceCode: device } = context.oidc.entities;
  if (id.startsWith('old')) {
    const { authTime, params } = device ?? {};
    return { auth_time: params?.max_age === undefined ? Math.floor(Date.now() / 1000) - 86_400 : authTime };
  }
  if (!id.startsWith('weak')) return {};
  const asked = device?.params?.acr_values;
  return { amr: ['pwd'], acr: asked && !id.includes('never') ? asked : 'weak', auth_time: device?.authTime };
};

const person = (id) => {
  const [name, ...groups] = id.split('+');
  return {
    groups: groups.length ? groups : ['ops'],
    email: `${name}@example.com`,
    email_verified: true,
    amr: ['pwd', 'mfa'],
  };
};

let handler;
let keys = newKeys();
const serve = () => {
  handler = new Provider(issuer, configuration(keys)).callback();
};
const controls = {
  '/__rotate': () => {
    keys = [...newKeys(), ...keys];
  },
  '/__drop': () => {
    keys = keys.slice(0, Object.keys(KINDS).length);
  },
};

let issuer;
const server = createServer((request, response) => {
  const control = request.method === 'POST' && controls[request.url];
  if (!control) return handler(request, response);
  control();
  serve();
  return response.writeHead(204).end();
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  serve();
  console.log(JSON.stringify({ issuer }));
});

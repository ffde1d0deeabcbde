// A token endpoint for the tests, which checks client authentication against the OAuth standards. It prints its URL.
// Argument: the certificate of the client `certificate-app`.
import Provider from 'oidc-provider';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';

const certificate = fs.readFileSync(process.argv[2]);
const jwk = { ...crypto.createPublicKey(certificate).export({ format: 'jwk' }), kid: 'app', use: 'sig', alg: 'PS256' };
const thumbprint = crypto.createHash('sha256').update(new crypto.X509Certificate(certificate).raw).digest('base64url');
const scope = 'https://graph.microsoft.com/.default';
const base = { grant_types: ['client_credentials'], response_types: [], redirect_uris: [] };

const server = http.createServer((request, response) => handle(request, response));
let handle;
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      { client_id: 'secret-app', client_secret: process.env.TEST_SECRET, token_endpoint_auth_method: 'client_secret_post', ...base },
      { client_id: 'certificate-app', token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'PS256', jwks: { keys: [jwk] }, ...base },
    ],
    scopes: ['openid', scope],
    clientAuthMethods: ['client_secret_post', 'private_key_jwt'],
    enabledJWA: { clientAuthSigningAlgValues: ['PS256'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'https://graph.microsoft.com',
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ scope, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } }, accessTokenTTL: 3599 }),
      },
    },
    ttl: { ClientCredentials: 3599 },
    routes: { token: '/tenant/oauth2/v2.0/token' },
    // Entra requires this header parameter in addition to what the standard (RFC 7523) requires.
    assertJwtClientAuthClaimsAndHeader: (context, claims, header) => {
      if (header['x5t#S256'] !== thumbprint) throw new Error('x5t#S256 is not the thumbprint of the certificate');
    },
  });
  handle = provider.callback();
  console.log(issuer);
});

// node's oidc-provider: client_credentials, JWT access tokens (RS256), everything in memory. It says its port.
// Arguments: the package's entry, the client's secret, how many processes.
import cluster from 'node:cluster';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [entry, secret, processes] = process.argv.slice(2);

if (cluster.isPrimary) {
  let ready = 0;
  cluster.on('listening', (_worker, address) => {
    ready += 1;
    if (ready === Number(processes)) console.log(JSON.stringify({ port: address.port }));
  });
  cluster.on('exit', () => process.exit(1));
  process.on('SIGTERM', () => process.exit(0));
  for (let number = 0; number < Number(processes); number += 1) cluster.fork();
} else {
  const { default: Provider } = await import(pathToFileURL(entry));
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const provider = new Provider('http://127.0.0.1', {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: '1' }] },
    clients: [
      {
        client_id: 'agent',
        client_secret: secret,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
    ],
    cookies: { keys: [secret] },
    scopes: ['read:metrics'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:api',
        getResourceServerInfo: () => ({
          scope: 'read:metrics',
          audience: 'authsec-api',
          accessTokenTTL: 3600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
  provider.listen(0, '127.0.0.1');
}

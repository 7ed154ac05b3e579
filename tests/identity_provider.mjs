// A real OpenID provider for tests: any name signs in, whose groups are told by the first line of its standard input.
// node identity_provider.mjs MODULES ISSUER PORT REDIRECT_URI
import { createInterface } from 'node:readline';

const [modules, issuer, port, redirectUri] = process.argv.slice(2);
const { default: Provider } = await import(`file://${modules}/oidc-provider/lib/index.js`);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const groups = JSON.parse((await lines.next()).value);

const provider = new Provider(issuer, {
  clients: [{ client_id: 'optio', client_secret: 'a secret of 32 characters or more', redirect_uris: [redirectUri] }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username', 'groups'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, groups: groups[id] ?? [] }),
  }),
  cookies: { keys: ['of the tests'] },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));

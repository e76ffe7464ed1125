// A real OpenID Connect provider (node's oidc-provider), and a browser of few words to log in at it.
//
//   node provider.mjs serve MODULES REDIRECT_URI           prints {"issuer": …} when it answers
//   node provider.mjs tls CERT KEY PORT                    a door of TLS to what listens there; prints {"port": …}
//   node provider.mjs browse URL USER [STOP_ORIGIN]        fills in and sends every form; prints where it ends: the form
//                                                          that would go to STOP_ORIGIN, or the last page
import { createServer, request } from 'node:http'
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import tls from 'node:tls'
import { pathToFileURL } from 'node:url'

const PASSWORD = 'pw'
const people = {
  ann: { groups: ['ops'], email: 'ann@corp.example', preferred_username: 'ann', name: 'Ann' },
  bob: { groups: [], email: 'bob@corp.example', preferred_username: 'bob', name: 'Bob' },
}
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'

function jwk(type, options, more) {
  const { privateKey } = generateKeyPairSync(type, options)
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', ...more }
}

async function serve(modules, redirect) {
  // The provider's own notices: nobody reads on after the first line.
  console.info = console.error
  const { default: Provider, errors } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`))
  const server = createServer()
  await new Promise(done => server.listen(0, '127.0.0.1', done))
  const issuer = `http://127.0.0.1:${server.address().port}`
  const client = (client_id, more) => ({
    client_id, client_secret: 's3cret', redirect_uris: [redirect], response_types: ['code'],
    grant_types: ['authorization_code', 'client_credentials', 'password', DEVICE], ...more,
  })
  const account = id => people[id] && { accountId: id, claims: async () => ({ sub: id, ...people[id] }) }
  const provider = new Provider(issuer, {
    clients: [client('aquifer'), client('signed'), client('wiki')],
    jwks: { keys: [jwk('rsa', { modulusLength: 2048 }, { kid: 'rsa1', alg: 'RS256' }),
      jwk('ec', { namedCurve: 'P-256' }, { kid: 'ec1', alg: 'ES256' })] },
    cookies: { keys: ['test'] },
    claims: { openid: ['sub'], email: ['email'], profile: ['name', 'preferred_username', 'groups'] },
    conformIdTokenClaims: false,
    findAccount: (_, id) => account(id),
    extraTokenClaims: (_, token) => token.clientId === 'signed' ? people[token.accountId] : undefined,
    // Any login is good at the provider's own form.
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: ctx => ctx.oidc.client.clientId === 'signed' ? 'urn:cloud' : undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ scope: 'openid profile email', audience: 'cloud', accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } } }),
      },
    },
  })
  provider.registerGrantType('password', async ctx => {
    const { params, client } = ctx.oidc
    if (!people[params.username] || params.password !== PASSWORD) throw new errors.InvalidGrant('wrong')
    const scope = params.scope ?? 'openid profile email'
    const grant = new provider.Grant({ accountId: params.username, clientId: client.clientId })
    grant.addOIDCScope(scope)
    const token = new provider.AccessToken({ accountId: params.username, client, gty: 'password', scope,
      grantId: await grant.save(), claims: {} })
    if (client.clientId === 'signed') {
      grant.addResourceScope('urn:cloud', scope)
      await grant.save()
      token.resourceServer = new provider.ResourceServer('urn:cloud', { scope, audience: 'cloud',
        accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } })
    }
    ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration, scope }
  }, ['username', 'password', 'scope'])
  server.on('request', provider.callback())
  console.log(JSON.stringify({ issuer }))
}

function secure(cert, key, port) {
  const door = tls.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, inside => {
    const outside = connect(port, '127.0.0.1')
    for (const side of [inside, outside]) side.on('error', () => { inside.destroy(); outside.destroy() })
    inside.pipe(outside).pipe(inside)
  })
  // Who does not believe us goes away.
  door.on('tlsClientError', () => {})
  door.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: door.address().port })))
}

// One exchange; redirects are the browser's.
function exchange(url, method, headers, body = '') {
  return new Promise((done, failed) => {
    const sent = request(url, { method, headers }, reply => {
      let text = ''
      reply.setEncoding('utf8').on('data', part => { text += part }).on('end', () =>
        done({ headers: reply.headers, status: reply.statusCode, text }))
    })
    sent.on('error', failed).end(body)
  })
}

async function browse(start, user, stop) {
  const jars = {}
  let [url, method, body] = [start, 'GET', undefined]
  for (let step = 0; step < 30; step++) {
    const at = new URL(url)
    const jar = jars[at.host] ??= {}
    const cookie = Object.entries(jar).map(([k, v]) => `${k}=${v}`).join('; ')
    const headers = { cookie, accept: 'text/html' }
    if (body) headers['content-type'] = 'application/x-www-form-urlencoded'
    const reply = await exchange(url, method, headers, body)
    for (const line of reply.headers['set-cookie'] ?? []) {
      const [pair] = line.split(';')
      const eq = pair.indexOf('=')
      const [name, value] = [pair.slice(0, eq), pair.slice(eq + 1)]
      if (value) jar[name] = value; else delete jar[name]
    }
    if (reply.status >= 300 && reply.status < 400) {
      ;[url, method, body] = [new URL(reply.headers.location, url).href, 'GET', undefined]
      continue
    }
    const page = reply.text
    const form = page.match(/<form[^>]*action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/i)
    const end = { url, status: reply.status, cookies: jars, page }
    if (!form) return end
    const attribute = (tag, name) => tag.match(new RegExp(`${name}="([^"]*)"`, 'i'))?.[1]
    const plain = text => text?.replaceAll('&amp;', '&').replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>')
    const fields = {}
    for (const [tag] of form[2].matchAll(/<input[^>]*>/gi)) {
      const name = attribute(tag, 'name')
      if (name) fields[name] = plain(attribute(tag, 'value')) ?? ''
    }
    const action = new URL(plain(form[1]), url).href
    if (stop && action.startsWith(stop)) return { ...end, action, fields }
    if ('login' in fields) Object.assign(fields, { login: user, password: PASSWORD })
    ;[url, method, body] = [action, 'POST', new URLSearchParams(fields).toString()]
  }
  throw new Error('too many steps')
}

const [command, ...args] = process.argv.slice(2)
if (command === 'serve') await serve(...args)
else if (command === 'tls') secure(...args)
else console.log(JSON.stringify(await browse(...args)))

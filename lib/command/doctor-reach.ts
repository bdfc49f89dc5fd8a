// Finds out whether a server accepts connections, and judges why a request has got no answer.
// Needs `../failure.ts`, `doctor-finding.ts` and `doctor-probe.ts` beside it.

import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type ConnectError, shown } from '../failure.ts';
import { type Finding, problem, type Reach, seconds } from './doctor-finding.ts';
import { codeOf } from './doctor-probe.ts';

const CONNECT_TIMEOUT = 3000;
const PROXY_VARIABLES = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy'];

/** Connects without a request. `undefined`: not examined, because the requests go through a proxy. */
export function reachOf({ protocol, hostname, port }: URL, signal: AbortSignal): Promise<Reach | undefined> {
  if (PROXY_VARIABLES.some((name) => process.env[name])) return Promise.resolve(undefined);
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve) => {
    const isTls = protocol === 'https:';
    const socket = isTls
      ? connectTls({
          ...{ host, port: Number(port || 443), ALPNProtocols: ['h2', 'http/1.1'] },
          // A name is no address.
          ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
          // The request has judged the certificate.
          rejectUnauthorized: false,
        })
      : connect({ host, port: Number(port || 80) });
    const done = (reach: Reach | undefined): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      socket.destroy();
      resolve(reach);
    };
    const stop = (): void => done(undefined);
    const fail = (): void => done({ isConnected: false });
    const timer = setTimeout(fail, CONNECT_TIMEOUT);
    signal.addEventListener('abort', stop, { once: true });
    socket.once(isTls ? 'secureConnect' : 'connect', () => {
      const alpn = 'alpnProtocol' in socket ? socket.alpnProtocol || '' : undefined;
      done({ isConnected: true, alpn });
    });
    socket.on('error', fail);
    if (signal.aborted) stop();
  });
}

/** No connection was made in time. */
export function notConnected(time: number): Finding {
  return problem('answer', 'unreachable', {
    seen: `no connection within ${seconds(time)}`,
    cause:
      'the name is not resolved, a firewall drops what is sent to this address, or the server accepts no more connections',
    cure: 'check the address, the port, the firewall, and whether the server is too busy to accept',
  });
}

/** A request failed before a head came. */
export function unreachable({ message, code, cause }: ConnectError): Finding {
  const reason = codeOf(cause);
  if (code === 'ERR_SSE_HEAD_TOO_LARGE') {
    return problem('answer', 'head-too-large', {
      seen: message,
      cause: 'the server sends more headers than readers take',
      cure: 'send fewer or smaller headers; cookies are the usual reason',
    });
  }
  const [, why, cure] = REASONS.find(([pattern]) => pattern.test(reason)) ?? OTHER;
  return problem('answer', 'unreachable', { seen: shown(message), cause: why, cure });
}

type Reason = readonly [codes: RegExp, cause: string, cure: string];

/** By the codes of Node and OpenSSL; the first one that fits. */
const REASONS: readonly Reason[] = [
  [/^HPE_/, 'what answers at this address does not speak HTTP', 'check the address and the port'],
  [
    /^UNABLE_TO_(VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT)/,
    'the certificate is not accepted: the server does not send the certificates between its own and that of an authority, or this machine does not know the authority',
    'send the whole chain of the certificate (`fullchain.pem`); NODE_EXTRA_CA_CERTS names further authorities',
  ],
  [
    /SELF_SIGNED/,
    'the certificate is not accepted: it is signed by itself, or by an authority that this machine does not know',
    'a certificate of a public authority; NODE_EXTRA_CA_CERTS names further authorities',
  ],
  [
    /ALTNAME_INVALID|HOSTNAME_MISMATCH/,
    'the certificate is not accepted: it is for another name',
    'a certificate that has the name of this URL, or a URL with a name that it has',
  ],
  [
    /^CERT_(HAS_EXPIRED|NOT_YET_VALID)/,
    'the certificate is not accepted: it has expired, or is not valid yet',
    'renew the certificate and let the server load it; check the clock of this machine',
  ],
  [
    /^CERT|^ERR_TLS_CERT|^(INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED)$/,
    'the certificate is not accepted: it, or one of its chain, is not made for this use, is revoked, or has a wrong signature',
    'a certificate for servers, from a public authority',
  ],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/,
    'what answers at this port does not speak TLS',
    'an http: URL, or the port of HTTPS',
  ],
  [
    /PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/,
    'the server has no version of TLS that readers take',
    'offer TLS 1.2 and 1.3',
  ],
  [
    /SSL|TLS/,
    'the TLS of the server is not accepted',
    'check its versions, its ciphers, and whether it asks for a certificate of the client',
  ],
];

const OTHER: Reason = [
  /./,
  'the server, or a proxy before it, cannot be reached or closes the connection',
  'check the address, the port, and what the server logs',
];

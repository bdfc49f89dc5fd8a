// Finds the address of a client, also behind proxies, and the group of addresses that counts as one client.
// Stands alone: copy this file by itself.

import { isIP, isIPv6 } from 'node:net';

/** Whether an address is one of loopback: 127.0.0.0/8, also written as IPv6, or ::1. */
export function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
}

/** The members of a request that are used: those of HTTP/1 and HTTP/2 alike. */
export interface AddressRequest {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/**
 * The client's address: that of the socket, or, behind `trustProxy` proxies, the one that the outermost of
 * them appended to `X-Forwarded-For`. Addresses are counted from the right, because a client can write
 * anything further left.
 *
 * `undefined` on a Unix socket, and after the client has disconnected.
 */
export function clientAddress(req: AddressRequest, trustProxy = 0): string | undefined {
  const direct = req.socket.remoteAddress;
  const forwarded = req.headers['x-forwarded-for'];
  if (trustProxy === 0 || forwarded === undefined) return direct;
  const hops = String(forwarded).split(',');
  const hop = hops[Math.max(0, hops.length - trustProxy)]!.trim();
  // Some proxies add the port.
  const address = /^\[(.+)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
  return isIP(address) === 0 ? direct : address;
}

/**
 * The group of addresses that counts as one client. For IPv4 it is the address itself, in the same spelling
 * where it is mapped (`::ffff:192.0.2.1`) or translated (`64:ff9b::192.0.2.1`) to IPv6. For IPv6 it is the
 * /64, the least that one customer gets.
 */
export function addressGroup(address: string): string {
  const plain = address.replace(/%.*$/, '');
  if (!isIPv6(plain)) return plain;
  const groups = groupsOf(plain);
  const prefix = groups.slice(0, 6).join(':');
  if (prefix === '0:0:0:0:0:ffff' || prefix === '64:ff9b:0:0:0:0') return dotted(groups.slice(6));
  return `${groups.slice(0, 4).join(':')}::/64`;
}

/** The eight groups of an IPv6 address, lower-case, without leading zeros. */
function groupsOf(address: string): string[] {
  // A URL has each address in one spelling: only `::` may stand for some of the groups.
  const [left = '', right = ''] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const [head, tail] = [left, right].map((part) => part.split(':').filter(Boolean)) as [string[], string[]];
  return [...head, ...new Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
}

function dotted(groups: readonly string[]): string {
  const hex = groups.map((group) => group.padStart(4, '0')).join('');
  return Buffer.from(hex, 'hex').join('.');
}

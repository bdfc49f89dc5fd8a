import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { addressGroup, clientAddress, isLoopback } from '../lib/address.ts';

describe('clientAddress', () => {
  const request = (forwarded?: string) => ({
    headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
    socket: { remoteAddress: '10.0.0.1' },
  });

  it('is the address of the socket when no proxy is trusted, whatever the header says', () => {
    assert.equal(clientAddress(request('1.2.3.4')), '10.0.0.1');
    assert.equal(clientAddress(request(), 1), '10.0.0.1');
  });

  it('is counted from the right of the header, so that a client cannot forge it', () => {
    const forged = request('6.6.6.6, 192.0.2.1 , 10.9.9.9');
    assert.equal(clientAddress(forged, 1), '10.9.9.9');
    assert.equal(clientAddress(forged, 2), '192.0.2.1');
    assert.equal(clientAddress(request('192.0.2.1'), 2), '192.0.2.1');
  });

  it('leaves out the port that some proxies add', () => {
    assert.equal(clientAddress(request('192.0.2.1:4711'), 1), '192.0.2.1');
    assert.equal(clientAddress(request('[2001:db8::1]:4711'), 1), '2001:db8::1');
    assert.equal(clientAddress(request('[2001:db8::1]'), 1), '2001:db8::1');
    assert.equal(clientAddress(request('2001:db8::1'), 1), '2001:db8::1');
  });

  it('is the address of the socket when the proxy wrote no address', () => {
    for (const text of ['unknown', '', '_hidden', '999.1.1.1', '1.2.3.4,', 'x'.repeat(10_000)]) {
      assert.equal(clientAddress(request(text), 1), '10.0.0.1', text.slice(0, 20));
    }
  });
});

describe('addressGroup', () => {
  it('is the /64 of an IPv6 address, in any spelling', () => {
    const spellings = [
      '2001:db8:0:1::1',
      '2001:DB8:0:1:ffff:ffff:ffff:ffff',
      '2001:0db8:0000:0001:0:0:1.2.3.4',
    ];
    for (const one of spellings) assert.equal(addressGroup(one), '2001:db8:0:1::/64');
    assert.equal(addressGroup('::1'), '0:0:0:0::/64');
    assert.equal(addressGroup('fe80::1%eth0'), 'fe80:0:0:0::/64');
    assert.equal(addressGroup('2001:db8::'), '2001:db8:0:0::/64');
  });

  it('is the IPv4 address itself, also when that is mapped or translated to IPv6', () => {
    for (const one of [
      '192.0.2.33',
      '::ffff:192.0.2.33',
      '::FFFF:c000:221',
      '64:ff9b::192.0.2.33',
      '64:ff9b::c000:221',
    ]) {
      assert.equal(addressGroup(one), '192.0.2.33', one);
    }
  });

  it('is the same for all spellings of an address and for its neighbours, and differs between /64s', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }),
        fc.boolean(),
        (groups, pad) => {
          groups[0] = 0x2000 | (groups[0]! & 0xfff);
          const written = groups.map((group) => group.toString(16).padStart(pad ? 4 : 1, '0')).join(':');
          const short = new URL(`http://[${written}]`).hostname.slice(1, -1);
          assert.equal(addressGroup(short), addressGroup(written.toUpperCase()));
          const neighbour = [...groups.slice(0, 4), 1, 2, 3, 4].map((group) => group.toString(16)).join(':');
          assert.equal(addressGroup(neighbour), addressGroup(written));
          const stranger = [...groups.slice(0, 3), groups[3]! ^ 1, ...groups.slice(4)].map((group) =>
            group.toString(16),
          );
          assert.notEqual(addressGroup(stranger.join(':')), addressGroup(written));
        },
      ),
    );
  });
});

describe('isLoopback', () => {
  it('accepts 127.0.0.0/8, also written as IPv6, and ::1, and nothing else', () => {
    for (const address of ['127.0.0.1', '127.9.8.7', '::ffff:127.0.0.1', '::1'])
      assert.ok(isLoopback(address));
    for (const address of ['128.0.0.1', '10.127.0.1', '::', '::2', '0.0.0.0', '/tmp/socket', '', undefined])
      assert.equal(isLoopback(address), false);
  });
});

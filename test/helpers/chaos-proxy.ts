// The proxy of `sluice/testing`, until a test is over.

import { ChaosProxy, type ChaosTarget } from '../../lib/chaos-proxy.ts';
import type { Cleanup } from './server.ts';

export async function startChaosProxy(t: Cleanup, target: ChaosTarget): Promise<ChaosProxy> {
  const proxy = await ChaosProxy.listen(target);
  t.after(() => proxy.close());
  return proxy;
}

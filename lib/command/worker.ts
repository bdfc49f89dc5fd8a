// A server that is one of several: what it has from the owner of the log and from the process that started it.
// Needs `../permissions.ts`, `../problem.ts`, `../processes.ts`, `metrics-sum.ts`, `owner.ts` and `part.ts` beside it.

import type { IssuedTicket, TicketStore } from '../permissions.ts';
import { httpError } from '../problem.ts';
import { ProcessesLog } from '../processes.ts';
import { MetricsSum } from './metrics-sum.ts';
import { questions, type WorkerStreams } from './owner.ts';
import { onOrder, type Part, report } from './part.ts';

/** The members of a server that are used. */
interface MemberServer {
  readonly streams: { readonly size: number };
  readonly registry: { render(): string };
}

/** What replaces the own log, tickets and page of metrics of a server. */
export class Membership {
  readonly number: number;
  readonly port: number;
  readonly log: ProcessesLog;
  readonly tickets: TicketStore;
  /** Aborts when it is to stop; the reason says how. */
  readonly signal: AbortSignal;
  readonly #stop = new AbortController();
  #metrics: { readonly resolve: (page: string) => void; readonly timer: NodeJS.Timeout } | undefined;
  #render = (): string => '';

  constructor({ socket, number, port }: Extract<Part, { role: 'worker' }>) {
    this.number = number;
    this.port = port;
    this.log = new ProcessesLog({ path: socket });
    this.tickets = {
      issue: async (principal) => (await this.log.ask(questions.issueTicket, principal)) as IssuedTicket,
      redeem: async (ticket) => (await this.log.ask(questions.redeemTicket, ticket)) ?? undefined,
    };
    this.signal = this.#stop.signal;
    onOrder((order) => {
      if ('stop' in order) this.#stop.abort(order.stop);
      else if ('ask' in order) report({ page: this.#render() });
      else this.#gotMetrics(order.metrics);
    });
  }

  /** Whether the owner has gone: nothing more can be delivered. */
  get isSoon(): boolean {
    return this.signal.reason === 'soon';
  }

  /** The server serves. */
  announce(url: string, { streams, registry }: MemberServer): void {
    this.#render = () => new MetricsSum().add(registry.render()).ofWorker().render();
    // The owner may still have the number of a worker that had this one's place.
    let told: number | undefined;
    const tell = (): void => {
      const { size } = streams;
      if (size === told) return;
      const value: WorkerStreams = { worker: this.number, size };
      told = size;
      this.log.ask(questions.streams, value).catch(() => {
        told = undefined;
      });
    };
    setInterval(tell, STREAMS_INTERVAL).unref();
    report({ ready: true, url });
  }

  /** The page of all processes. A server asks for one at a time. */
  readonly metricsPage = (): Promise<string> => {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(unavailable()), METRICS_TIMEOUT);
      this.#metrics = { resolve, timer };
      report({ ask: 'metrics' });
    });
  };

  /** Lets the process end. */
  leave(): void {
    process.disconnect?.();
  }

  #gotMetrics(page: string): void {
    clearTimeout(this.#metrics?.timer);
    this.#metrics?.resolve(page);
    this.#metrics = undefined;
  }
}

/** Milliseconds. */
const STREAMS_INTERVAL = 1000;
const METRICS_TIMEOUT = 5000;

function unavailable(): Error {
  const message = 'The metrics of all workers could not be collected.';
  return httpError({ status: 503, error: 'unavailable', message });
}

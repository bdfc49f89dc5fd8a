import type { ChildProcess } from 'node:child_process';

const running = new Map<ChildProcess, NodeJS.Signals>();

/** A child that does not outlive this process, even where its test is cut off and nothing is cleaned up. */
export function kept<Child extends ChildProcess>(child: Child, signal: NodeJS.Signals = 'SIGKILL'): Child {
  if (running.size === 0) process.on('exit', endAll).on('SIGTERM', leave).on('SIGINT', leave);
  running.set(child, signal);
  child.once('exit', () => {
    running.delete(child);
    if (running.size === 0) process.off('exit', endAll).off('SIGTERM', leave).off('SIGINT', leave);
  });
  return child;
}

function endAll(): void {
  for (const [child, signal] of running) child.kill(signal);
}

/** The test runner's way to end a file that takes too long; by itself it would leave the children behind. */
function leave(): void {
  process.exit(1);
}

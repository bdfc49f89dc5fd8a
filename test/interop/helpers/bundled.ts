// Bundles an example of the docs, and what a page does with it, into a script element.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { type Example, runnable } from '../../helpers/docs.ts';

/** What a page does with the components of the recipes. */
export const mounts = {
  react: `import { createRoot } from 'react-dom/client';
    import { StrictMode } from 'react';
    createRoot(document.querySelector('#app')!).render(<StrictMode><Price /></StrictMode>);`,
  vue: `import { createApp } from 'vue'; createApp(Price).mount('#app');`,
} as const;

export async function bundled(example: Example, origin: string, use: string): Promise<string> {
  const built = await build({
    stdin: {
      contents: `${runnable(example, origin)}\n${use}`,
      loader: example.language === 'tsx' ? 'tsx' : 'ts',
      resolveDir: fileURLToPath(new URL('..', import.meta.url)),
    },
    bundle: true,
    format: 'esm',
    jsx: 'automatic',
    write: false,
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  const script = built.outputFiles[0]!.text.replaceAll('</script', '<\\/script');
  return `<div id="app"></div><script type="module">${script}</script>`;
}

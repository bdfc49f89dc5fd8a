// Runs the scripts of the model of Redis, as they are, in the Lua 5.1 that Redis has.

import { createHash } from 'node:crypto';
import { LuaApi } from 'wasmoon-lua5.1';
import { Failure, formatDouble, type Reply, Status } from './reply.ts';

/** Runs a command for a script. */
export type Call = (command: readonly string[]) => Reply | Failure;

/** The machine below: a C API, whose strings are addresses. */
interface Machine {
  readonly HEAPU8: Uint8Array;
  readonly HEAP32: Int32Array;
  addFunction(run: (state: number) => number, signature: string): number;
  _malloc(bytes: number): number;
  _free(address: number): void;
  _luaL_newstate(): number;
  _luaL_openlibs(state: number): void;
  _luaL_loadbuffer(state: number, text: number, bytes: number, name: number): number;
  _luaL_ref(state: number, table: number): number;
  _lua_checkstack(state: number, count: number): number;
  _lua_createtable(state: number, items: number, fields: number): void;
  _lua_gettop(state: number): number;
  _lua_insert(state: number, index: number): void;
  _lua_pcall(state: number, args: number, results: number, handler: number): number;
  _lua_pushboolean(state: number, value: number): void;
  _lua_pushcclosure(state: number, run: number, values: number): void;
  _lua_pushlstring(state: number, text: number, bytes: number): void;
  _lua_pushnumber(state: number, value: number): void;
  _lua_rawget(state: number, index: number): void;
  _lua_rawgeti(state: number, index: number, item: number): void;
  _lua_rawset(state: number, index: number): void;
  _lua_rawseti(state: number, index: number, item: number): void;
  _lua_settop(state: number, index: number): void;
  _lua_toboolean(state: number, index: number): number;
  _lua_tolstring(state: number, index: number, length: number): number;
  _lua_tonumber(state: number, index: number): number;
  _lua_type(state: number, index: number): number;
}

const REGISTRY = -10_000;
const GLOBALS = -10_002;
const NUMBER = 3;
const STRING = 4;
const BOOLEAN = 1;
const TABLE = 5;

/** What scripts find, made from `raw`, which runs a command. What Redis has no use for is not there. */
const PRELUDE = `
local raw, sha1hex = ...
local type, error, tostring, rawget = type, error, tostring, rawget
local function reply(field, text) return {[field] = text} end
redis = {
  pcall = raw,
  call = function(...)
    local answer = raw(...)
    if type(answer) == 'table' and answer.err ~= nil then error(answer) end
    return answer
  end,
  status_reply = function(text) return reply('ok', text) end,
  error_reply = function(text)
    text = text:gsub('^-', '')
    return reply('err', text:find(' ') and text or 'ERR ' .. text)
  end,
  sha1hex = sha1hex, log = function() end, setresp = function() end,
  replicate_commands = function() return true end, set_repl = function() end,
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
}
os = {clock = os.clock}
io, package, require, module, dofile, loadfile, print, newproxy, debug = nil
setmetatable(_G, {
  __index = function(_, name)
    error('Script attempted to access nonexistent global variable \\'' .. tostring(name) .. '\\'', 2)
  end,
  __newindex = function() error('Attempt to modify a readonly table', 2) end,
})
return function(err)
  if type(err) ~= 'table' then return 'ERR ' .. tostring(err) end
  return rawget(err, 'err') or 'ERR unknown error'
end
`;

/** One interpreter serves all servers: a script can keep nothing in it. */
class Lua {
  readonly #machine: Machine;
  readonly #state: number;
  readonly #handler: number;
  readonly #length: number;
  readonly #chunks: Map<string, number> = new Map();
  #bytes: Buffer;
  #scratch: number;
  #capacity = 1 << 16;
  #call: Call = () => new Failure('ERR no script is running');
  #thrown: unknown;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#bytes = Buffer.from(machine.HEAPU8.buffer);
    this.#scratch = machine._malloc(this.#capacity);
    this.#length = machine._malloc(8);
    this.#state = machine._luaL_newstate();
    machine._luaL_openlibs(this.#state);
    this.#load(PRELUDE, '=prelude');
    this.#pushFunction(() => this.#command());
    this.#pushFunction(() => this.#digest());
    if (machine._lua_pcall(this.#state, 2, 1, 0) !== 0) throw new Error(this.#text(-1));
    this.#handler = machine._luaL_ref(this.#state, REGISTRY);
  }

  /** @returns what `run` takes, or an error reply. */
  compile(text: string): number | Failure {
    const known = this.#chunks.get(text);
    if (known !== undefined) return known;
    const problem = this.#load(text, '@user_script');
    if (problem !== undefined) return new Failure(`ERR Error compiling script (new function): ${problem}`);
    const chunk = this.#machine._luaL_ref(this.#state, REGISTRY);
    this.#chunks.set(text, chunk);
    return chunk;
  }

  run(chunk: number, keys: readonly string[], args: readonly string[], call: Call): Reply | Failure {
    const machine = this.#machine;
    const state = this.#state;
    this.#call = call;
    this.#setGlobal('KEYS', keys);
    this.#setGlobal('ARGV', args);
    machine._lua_rawgeti(state, REGISTRY, this.#handler);
    machine._lua_rawgeti(state, REGISTRY, chunk);
    const status = machine._lua_pcall(state, 0, 1, -2);
    const answer = status === 0 ? this.#reply(-1) : new Failure(oneLine(this.#text(-1)));
    machine._lua_settop(state, 0);
    const thrown = this.#thrown;
    this.#thrown = undefined;
    if (thrown !== undefined) throw thrown;
    return answer;
  }

  // ── what scripts call ───────────────────────────────────────────────────────────────────────────────────

  /** Nothing may be thrown through the machine: a fault of the model waits until the script has ended. */
  #command(): number {
    try {
      this.#push(this.#answer());
    } catch (error) {
      this.#thrown ??= error;
      this.#push(new Failure('ERR the model has failed'));
    }
    return 1;
  }

  #answer(): Reply | Failure {
    const machine = this.#machine;
    const count = machine._lua_gettop(this.#state);
    if (count === 0) return new Failure('ERR Please specify at least one argument for this redis lib call');
    const command: string[] = [];
    for (let i = 1; i <= count; i++) {
      const type = machine._lua_type(this.#state, i);
      if (type === STRING) command.push(this.#text(i));
      else if (type === NUMBER) command.push(formatDouble(machine._lua_tonumber(this.#state, i)));
      else return new Failure('ERR Lua redis lib command arguments must be strings or integers');
    }
    return this.#call(command);
  }

  #digest(): number {
    this.#pushText(sha1(this.#text(1)));
    return 1;
  }

  #pushFunction(run: () => number): void {
    this.#machine._lua_pushcclosure(this.#state, this.#machine.addFunction(run, 'ii'), 0);
  }

  // ── values ──────────────────────────────────────────────────────────────────────────────────────────────

  #push(value: Reply | Failure): void {
    const machine = this.#machine;
    if (typeof value === 'string') this.#pushText(value);
    else if (typeof value === 'number') machine._lua_pushnumber(this.#state, value);
    else if (value === null) machine._lua_pushboolean(this.#state, 0);
    else if (value instanceof Status) this.#pushField('ok', value.text);
    else if (value instanceof Failure) this.#pushField('err', oneLine(value.message));
    else this.#pushList(value as readonly Reply[]);
  }

  #pushField(name: string, text: string): void {
    this.#machine._lua_createtable(this.#state, 0, 1);
    this.#pushText(name);
    this.#pushText(text);
    this.#machine._lua_rawset(this.#state, -3);
  }

  #pushList(items: readonly Reply[]): void {
    this.#machine._lua_checkstack(this.#state, 4);
    this.#machine._lua_createtable(this.#state, items.length, 0);
    for (let i = 0; i < items.length; i++) {
      this.#push(items[i]!);
      this.#machine._lua_rawseti(this.#state, -2, i + 1);
    }
  }

  #pushText(text: string): void {
    const address = this.#put(text);
    this.#machine._lua_pushlstring(this.#state, address, text.length);
  }

  #setGlobal(name: string, items: readonly string[]): void {
    this.#pushText(name);
    this.#pushList(items);
    this.#machine._lua_rawset(this.#state, GLOBALS);
  }

  #reply(index: number): Reply | Failure {
    const machine = this.#machine;
    switch (machine._lua_type(this.#state, index)) {
      case STRING:
        return this.#text(index);
      case NUMBER:
        return Math.trunc(machine._lua_tonumber(this.#state, index));
      case BOOLEAN:
        return machine._lua_toboolean(this.#state, index) ? 1 : null;
      case TABLE:
        return this.#tableReply();
      default:
        return null;
    }
  }

  /** Of the table on top. */
  #tableReply(): Reply | Failure {
    const failed = this.#field('err');
    if (failed !== undefined) return new Failure(oneLine(failed));
    const status = this.#field('ok');
    if (status !== undefined) return new Status(oneLine(status));
    const machine = this.#machine;
    const items: Reply[] = [];
    machine._lua_checkstack(this.#state, 4);
    for (;;) {
      machine._lua_rawgeti(this.#state, -1, items.length + 1);
      const isEnd = machine._lua_type(this.#state, -1) === 0;
      const item = isEnd ? null : this.#reply(-1);
      machine._lua_settop(this.#state, -2);
      if (isEnd) return items;
      items.push(item as Reply);
    }
  }

  #field(name: string): string | undefined {
    const machine = this.#machine;
    this.#pushText(name);
    machine._lua_rawget(this.#state, -2);
    const text = machine._lua_type(this.#state, -1) === STRING ? this.#text(-1) : undefined;
    machine._lua_settop(this.#state, -2);
    return text;
  }

  // ── memory ──────────────────────────────────────────────────────────────────────────────────────────────

  /** @returns what is wrong with a text, or leaves its function on the stack. */
  #load(text: string, name: string): string | undefined {
    const machine = this.#machine;
    const [chunk, called] = [machine._malloc(text.length + 1), machine._malloc(name.length + 1)];
    this.#memory.write(text, chunk, 'latin1');
    this.#memory.write(`${name}\0`, called, 'latin1');
    const status = machine._luaL_loadbuffer(this.#state, chunk, text.length, called);
    machine._free(chunk);
    machine._free(called);
    if (status === 0) return undefined;
    const problem = this.#text(-1);
    machine._lua_settop(this.#state, 0);
    return problem;
  }

  #put(text: string): number {
    if (text.length > this.#capacity) {
      this.#machine._free(this.#scratch);
      this.#capacity = text.length * 2;
      this.#scratch = this.#machine._malloc(this.#capacity);
    }
    this.#memory.write(text, this.#scratch, 'latin1');
    return this.#scratch;
  }

  #text(index: number): string {
    const address = this.#machine._lua_tolstring(this.#state, index, this.#length);
    return this.#memory.toString('latin1', address, address + this.#machine.HEAP32[this.#length >> 2]!);
  }

  /** The machine's memory is another one after it has grown. */
  get #memory(): Buffer {
    const { buffer } = this.#machine.HEAPU8;
    if (this.#bytes.buffer !== buffer) this.#bytes = Buffer.from(buffer as ArrayBuffer);
    return this.#bytes;
  }
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]+$/, '').replace(/[\r\n]/g, ' ');
}

export function sha1(text: string): string {
  return createHash('sha1').update(Buffer.from(text, 'latin1')).digest('hex');
}

export const lua: Lua = new Lua((await LuaApi.initialize()).module as unknown as Machine);

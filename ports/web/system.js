/* The operating system of qwen.c in a page: arguments, files in memory, a clock, and standard
 * output, as far as WASI (preview 1) has the program ask for them. In a page this is a Worker. */
"use strict";

/* Runs a WebAssembly.Module once. files: { name: Uint8Array }. write(descriptor, Uint8Array) gets
 * what it prints. Returns its exit status. */
function runProgram(module, files, args, write) {
  const OK = 0, BAD_FILE = 8, NO_ENTRY = 44, NOT_THERE = 52;
  const REGULAR = 4, DIRECTORY = 3, FOLDER = 3;     // descriptor 3 is the folder of the files
  const opened = [];                                // [{ bytes, at }] of descriptor 4 + index
  const encode = text => new TextEncoder().encode(text + "\0");
  let memory;
  const view = () => new DataView(memory.buffer);   // made anew: the buffer moves when memory grows
  const bytes = (at, n) => new Uint8Array(memory.buffer, at, n);
  const name = (at, n) => new TextDecoder().decode(bytes(at, n).slice());
  const file = descriptor => opened[descriptor - FOLDER - 1];

  function writeList(texts, pointers, at) {
    for (const text of texts.map(encode)) {
      view().setUint32(pointers, at, true);
      bytes(at, text.length).set(text);
      pointers += 4;
      at += text.length;
    }
    return OK;
  }
  function writeSizes(texts, count, size) {
    view().setUint32(count, texts.length, true);
    view().setUint32(size, texts.reduce((sum, text) => sum + encode(text).length, 0), true);
    return OK;
  }
  function* buffers(list, n) {                      // of an iovec
    for (let i = 0; i < n; i++)
      yield bytes(view().getUint32(list + 8 * i, true), view().getUint32(list + 8 * i + 4, true));
  }

  const calls = {
    args_sizes_get: (count, size) => writeSizes(args, count, size),
    args_get: (pointers, at) => writeList(args, pointers, at),
    environ_sizes_get: (count, size) => writeSizes([], count, size),
    environ_get: () => OK,
    clock_time_get(id, precision, out) {
      const now = id === 0 ? Date.now() : performance.now();
      view().setBigUint64(out, BigInt(Math.round(now * 1e6)), true);
      return OK;
    },
    fd_prestat_get(descriptor, out) {
      if (descriptor !== FOLDER) return BAD_FILE;
      bytes(out, 8).set([0, 0, 0, 0, 1, 0, 0, 0]);  // a folder, whose name is one byte long
      return OK;
    },
    fd_prestat_dir_name(descriptor, out) {
      bytes(out, 1).set(encode(".").subarray(0, 1));
      return OK;
    },
    fd_fdstat_get(descriptor, out) {
      const type = descriptor === FOLDER ? DIRECTORY : REGULAR;
      bytes(out, 24).fill(0);
      view().setUint8(out, type);
      view().setBigUint64(out + 8, ~0n, true);      // it may do anything
      view().setBigUint64(out + 16, ~0n, true);
      return OK;
    },
    fd_fdstat_set_flags: () => OK,
    path_open(folder, lookup, at, n, how, rights, inherited, flags, out) {
      const content = files[name(at, n)];
      if (!content) return NO_ENTRY;
      view().setUint32(out, FOLDER + opened.push({ bytes: content, at: 0 }), true);
      return OK;
    },
    fd_filestat_get(descriptor, out) {
      bytes(out, 64).fill(0);
      view().setBigUint64(out + 8, BigInt(descriptor), true);
      view().setUint8(out + 16, REGULAR);
      view().setBigUint64(out + 32, BigInt(file(descriptor)?.bytes.length ?? 0), true);
      return OK;
    },
    fd_read(descriptor, list, n, out) {
      let total = 0;
      for (const buffer of descriptor === 0 ? [] : buffers(list, n)) {
        const { bytes: content, at } = file(descriptor);
        const part = content.subarray(at, at + buffer.length);
        buffer.set(part);
        file(descriptor).at += part.length;
        total += part.length;
      }
      view().setUint32(out, total, true);
      return OK;
    },
    fd_write(descriptor, list, n, out) {
      let total = 0;
      for (const buffer of buffers(list, n)) {
        if (buffer.length > 0) write(descriptor, buffer.slice());
        total += buffer.length;
      }
      view().setUint32(out, total, true);
      return OK;
    },
    fd_close: () => OK,
    path_filestat_get: () => NO_ENTRY,
    proc_exit(status) { throw { status }; },
  };

  for (const { name } of WebAssembly.Module.imports(module)) calls[name] ??= () => NOT_THERE;
  const { exports } = new WebAssembly.Instance(module, { wasi_snapshot_preview1: calls });
  memory = exports.memory;
  try {
    exports._start();
  } catch (end) {
    if (!(end instanceof Error)) return end.status;
    throw end;
  }
  return 0;
}

/* The Worker. First message: { module, files }; then { id, args }, each answered by { id, out }
 * messages while it runs and one { id, status, err } at its end. */
if (typeof importScripts === "function") {
  let module, files;
  onmessage = ({ data }) => {
    if (data.module) { ({ module, files } = data); return; }
    const out = new TextDecoder(), err = new TextDecoder();
    let errors = "", status = 1;
    try {
      status = runProgram(module, files, ["qwen", ...data.args], (descriptor, bytes) => {
        if (descriptor === 2) errors += err.decode(bytes, { stream: true });
        else postMessage({ id: data.id, out: out.decode(bytes, { stream: true }) });
      });
    } catch (error) {
      errors += `${error}\n`;
    }
    postMessage({ id: data.id, status, err: errors });
  };
}

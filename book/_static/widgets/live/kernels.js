// The innermost loops of a convolution, twice: in plain JavaScript, and as a WebAssembly module that
// this file puts together byte by byte, so that no binary lies beside its source.
//
// Both compute four output channels over a stretch of pixels:
//
//     out[k][p] = bias[k] + sum over c, t of  weights[c][t][k] * in[c][p + taps[t]]
//
// A feature map lies in planes, one for each channel, its rows one after another; p counts through a
// plane. The taps of a 3x3 kernel lie at dy * stride + dx. At the end of a row they reach into the next
// one, and what comes out there is left where it is: nobody reads beyond a row's width.
//
// Arguments, all of them numbers of bytes but `channels`: conv(in, plane, channels, stride, weights, bias,
// out, outPlane, end), where `end` is where the stretch ends in the first output plane.
(function () {
  "use strict";

  function kernels() {
    const STRETCH = 4080; // the longest, in pixels; a multiple of what the inner loops take at once
    const MULTIPLE = 8;

    // ---- in JavaScript: a row of sums for each of the four channels, which stay in the nearest cache

    function inJavaScript(heap) {
      const sums = [0, 1, 2, 3].map(() => new Float64Array(STRETCH));
      const [A, B, C, D] = sums;

      function addRow(from, w, count) {
        const [a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2] = heap.subarray(w, w + 12);
        let x0 = heap[from];
        let x1 = heap[from + 1];
        for (let p = 0; p < count; p++) {
          const x2 = heap[from + p + 2];
          A[p] += x0 * a0 + x1 * a1 + x2 * a2;
          B[p] += x0 * b0 + x1 * b1 + x2 * b2;
          C[p] += x0 * c0 + x1 * c1 + x2 * c2;
          D[p] += x0 * d0 + x1 * d1 + x2 * d2;
          x0 = x1;
          x1 = x2;
        }
      }

      function addPixels(from, w, count) {
        const [a, b, c, d] = heap.subarray(w, w + 4);
        for (let p = 0; p < count; p++) {
          const x = heap[from + p];
          A[p] += x * a;
          B[p] += x * b;
          C[p] += x * c;
          D[p] += x * d;
        }
      }

      function byRows(rows, add) {
        const taps = rows * rows;
        return (...bytes) => {
          const [from, plane, , stride, weights, bias, out, outPlane, end] = bytes.map((n) => n >>> 2);
          const [channels, count] = [bytes[2], end - out];
          sums.forEach((sum, k) => sum.fill(heap[bias + k], 0, count));
          for (let c = 0; c < channels; c++)
            for (let dy = 0; dy < rows; dy++)
              add(from + c * plane + dy * stride, weights + 4 * (c * taps + dy * rows), count);
          sums.forEach((sum, k) => heap.set(sum.subarray(0, count), out + k * outPlane));
        };
      }

      return { conv1: byRows(1, addPixels), conv3: byRows(3, addRow) };
    }

    // ---- in WebAssembly: the sums of four channels by eight pixels stay in registers

    // Chapter 5 of the WebAssembly specification: numbers, vectors of things, sections.
    function number(value) {
      const bytes = [];
      do {
        bytes.push((value & 127) | (value > 127 ? 128 : 0));
        value >>>= 7;
      } while (value);
      return bytes;
    }
    const list = (items) => [...number(items.length), ...items.flat()];
    const section = (id, content) => [id, ...number(content.length), ...content];
    const name = (text) => list([...text].map((letter) => letter.charCodeAt(0)));

    const I32 = 0x7f;
    const V128 = 0x7b;
    const get = (local) => [0x20, ...number(local)];
    const set = (local) => [0x21, ...number(local)];
    const setAndGet = (local) => [0x22, ...number(local)];
    const plus = (a, b) => [...a, ...b, 0x6a];
    const simd = (code) => [0xfd, ...number(code)];
    const load = (pointer, offset) => [...get(pointer), ...simd(0), 0, ...number(offset)];
    const splat = (pointer, offset) => [...get(pointer), ...simd(9), 2, ...number(offset)];
    const store = (pointer, value, at) => [...get(pointer), ...get(value), ...simd(11), 0, ...number(at)];
    const repeatWhile = (body) => [0x03, 0x40, ...body, 0x0d, 0, 0x0b]; // the body leaves the condition
    const times = (count, what) => Array.from({ length: count }, (_, i) => what(i)).flat();

    // Constants are signed: a byte whose sixth bit is set would end a negative number.
    function constant(value) {
      const bytes = number(value);
      if (bytes.at(-1) & 64) bytes.splice(-1, 1, bytes.at(-1) | 128, 0);
      return [0x41, ...bytes];
    }

    function convolution(side) {
      const vectors = 2; // of four pixels; with more, the sums do not fit the registers
      const [IN, PLANE, CHANNELS, STRIDE, WEIGHTS, BIAS, OUT, OUT_PLANE, END] = Array(9).keys();
      const [channel, weight, target, row, factor, pixels] = [9, 10, 11, 12, 15, 16]; // 3 rows
      const sum = (k, v) => pixels + vectors * (k + 1) + v;

      const multiplyAdd = (x, w, total) =>
        [...get(total), ...get(x), ...get(w), ...simd(0xe6), ...simd(0xe4), ...set(total)];
      const tap = (dy, dx) => [
        ...times(vectors, (v) => [...load(row + dy, 4 * dx + 16 * v), ...set(pixels + v)]),
        ...times(4, (k) => [
          ...splat(weight, 16 * (side * dy + dx) + 4 * k), ...set(factor),
          ...times(vectors, (v) => multiplyAdd(pixels + v, factor, sum(k, v))),
        ]),
      ];
      const oneChannel = [
        ...times(side - 1, (dy) => [...plus(get(row + dy), get(STRIDE)), ...set(row + dy + 1)]),
        ...times(side, (dy) => times(side, (dx) => tap(dy, dx))),
        ...plus(get(row), get(PLANE)), ...set(row),
        ...plus(get(weight), constant(16 * side * side)), ...set(weight),
        ...get(channel), ...constant(1), 0x6b, ...setAndGet(channel), // less one; 0 ends the loop
      ];
      const somePixels = [
        ...get(IN), ...set(row), ...get(WEIGHTS), ...set(weight), ...get(CHANNELS), ...set(channel),
        ...times(4, (k) => times(vectors, (v) => [...splat(BIAS, 4 * k), ...set(sum(k, v))])),
        ...repeatWhile(oneChannel),
        ...get(OUT), ...set(target),
        ...times(4, (k) => [
          ...times(vectors, (v) => store(target, sum(k, v), 16 * v)),
          ...plus(get(target), get(OUT_PLANE)), ...set(target),
        ]),
        ...plus(get(IN), constant(16 * vectors)), ...set(IN),
        ...plus(get(OUT), constant(16 * vectors)), ...setAndGet(OUT), ...get(END), 0x49, // OUT < END
      ];
      const locals = list([[6, I32], [1 + 5 * vectors, V128]]);
      const body = [...locals, ...repeatWhile(somePixels), 0x0b];
      return [...number(body.length), ...body];
    }

    // The module: two functions on a memory that it is given.
    function wasm() {
      const type = [0x60, ...list(Array(9).fill(I32)), ...list([])];
      return new Uint8Array([
        0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
        ...section(1, list([type])),
        ...section(2, list([[...name("env"), ...name("memory"), 2, 0, 1]])),
        ...section(3, list([0, 0])),
        ...section(7, list([[...name("conv1"), 0, 0], [...name("conv3"), 0, 1]])),
        ...section(10, list([convolution(1), convolution(3)])),
      ]);
    }

    // What this browser can run, the fastest first.
    function available() {
      const simd = typeof WebAssembly === "object" && WebAssembly.validate(wasm());
      return simd ? ["simd", "javascript"] : ["javascript"];
    }

    // Memory that grows, and the two convolutions on it. Views of the memory end when it grows.
    function machine(kind = available()[0]) {
      if (kind === "javascript") {
        const made = { kind, heap: new Float32Array(0) };
        made.grow = (floats) => {
          if (floats <= made.heap.length) return;
          const old = made.heap;
          made.heap = new Float32Array(floats);
          made.heap.set(old);
          Object.assign(made, inJavaScript(made.heap));
        };
        return made;
      }
      const PAGE = 65536;
      const memory = new WebAssembly.Memory({ initial: 1 });
      const instance = new WebAssembly.Instance(new WebAssembly.Module(wasm()), { env: { memory } });
      const made = { kind, heap: new Float32Array(memory.buffer), ...instance.exports };
      made.grow = (floats) => {
        if (floats <= made.heap.length) return;
        memory.grow(Math.ceil((4 * floats) / PAGE) - memory.buffer.byteLength / PAGE);
        made.heap = new Float32Array(memory.buffer);
      };
      return made;
    }

    return { MULTIPLE, STRETCH, available, machine };
  }

  window.unetWidgets.live = { kernels };
})();

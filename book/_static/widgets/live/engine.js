// The network of Fig. 1 on typed arrays: its layers, overlap-tile (Fig. 2) and the receptive field.
// unet_np's network, operations and tiling again, compared layer by layer by tests/test_live.py.
//
// A network is a table of layers, which the book's build takes from the package, and a safetensors
// file. A kind of layer is one entry of KINDS: a new kind needs one entry more.
(function () {
  "use strict";

  function engine(kernels) {
    const CACHE = 65536; // numbers of a layer's input that a core should keep at hand: 256 KB
    const SLACK = 32; // numbers behind each plane, since the inner loops overshoot

    // ---- weights

    // float16 to float32. Subnormal numbers are counted in steps of 2 ** -24.
    function fromHalf(bits) {
      const exponent = (bits >> 10) & 31;
      const fraction = bits & 1023;
      const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
      return bits & 32768 ? -size : size;
    }

    function fromHalves(buffer) {
      const halves = new Uint16Array(buffer);
      const values = new Float32Array(halves.length);
      for (let i = 0; i < values.length; i++) values[i] = fromHalf(halves[i]);
      return values;
    }

    const READERS = { F16: fromHalves, F32: (buffer) => new Float32Array(buffer) };

    // A safetensors file: its arrays as float32, and the metadata of its header.
    function readWeights(buffer) {
      const length = Number(new DataView(buffer).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
      const { __metadata__: metadata = {}, ...entries } = header;
      const arrays = {};
      for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
        const values = READERS[dtype](buffer.slice(8 + length + from, 8 + length + to));
        arrays[name] = { shape, values };
      }
      return { arrays, metadata };
    }

    const upToFour = (channels) => 4 * Math.ceil(channels / 4);

    // Kernels as the inner loops read them: (out / 4, in, taps, 4), with zeros where out ends before.
    function pack(out, into, taps, at) {
      const packed = new Float32Array(upToFour(out) * into * taps);
      for (let k = 0; k < out; k++)
        for (let c = 0; c < into; c++)
          for (let t = 0; t < taps; t++)
            packed[4 * ((Math.floor(k / 4) * into + c) * taps + t) + (k % 4)] = at(k, c, t);
      return packed;
    }

    function biases(out, at) {
      const packed = new Float32Array(upToFour(out));
      for (let k = 0; k < out; k++) packed[k] = at(k);
      return packed;
    }

    // ---- layers

    const compact = (channels, height, width) => ({ channels, height, width, stride: width });
    const same = (layer, from) => ({ ...from, inPlace: true });

    // out = in convolved, four channels and one stretch of the cache at a time.
    function convolve(machine, side, from, to, { packed: { weights, bias } }) {
      const conv = side === 3 ? machine.conv3 : machine.conv1;
      const fits = CACHE / from.channels - (side - 1) * from.stride;
      const { MULTIPLE, STRETCH } = kernels;
      const stretch = Math.min(Math.max(Math.floor(fits / MULTIPLE), 4) * MULTIPLE, STRETCH);
      const count = (to.height - 1) * to.stride + to.width;
      for (let p = 0; p < count; p += stretch)
        for (let k = 0; k < to.channels; k += 4) {
          const out = to.at + k * to.plane + p;
          const numbers = [
            from.at + p, from.plane, 0, from.stride, weights + k * from.channels * side * side,
            bias + k, out, to.plane, out + Math.min(stretch, count - p),
          ].map((index) => 4 * index);
          numbers[2] = from.channels;
          conv(...numbers);
        }
    }

    const KINDS = {
      conv: {
        shape: ({ out_channels, kernel }, { height, width, stride }) =>
          ({ channels: out_channels, height: height - kernel + 1, width: width - kernel + 1, stride }),
        parameters({ in_channels: into, out_channels: out, kernel }, { weight, bias }) {
          const taps = kernel ** 2;
          return {
            weights: pack(out, into, taps, (k, c, t) => weight.values[(k * into + c) * taps + t]),
            bias: biases(out, (k) => (bias ? bias.values[k] : 0)),
          };
        },
        run: (machine, layer, from, to) => convolve(machine, layer.kernel, from, to, layer),
        needed: ({ kernel }, first, last) => [first, last + kernel - 1],
      },
      relu: {
        shape: same,
        run: (machine, layer, from) => rectify(machine.heap, from.at, from.at + from.channels * from.plane),
      },
      // By the running mean and variance, which come with the weights.
      batch_norm: {
        shape: same,
        parameters({ out_channels: out }, { weight, bias, mean, var: variance }) {
          const all = Array.from({ length: out }, (_, c) =>
            straightLine(weight.values[c], bias.values[c], mean.values[c], variance.values[c]));
          return { weights: Float32Array.from(all, ([scale]) => scale), bias: Float32Array.from(all, ([, shift]) => shift) };
        },
        run: ({ heap }, layer, from) => scaleAndShift(heap, from, (c) => [heap[layer.packed.weights + c], heap[layer.packed.bias + c]]),
      },
      // By mean and variance of the image, which `measure` takes from all tiles of a pass.
      instance_norm: {
        shape: same,
        parameters: (layer, { weight, bias }) => ({ weights: weight.values, bias: bias.values }),
        measure: ({ heap }, maps) => Array.from({ length: maps[0].channels }, (_, c) => channelStatistics(heap, maps, c)),
        run: ({ heap }, { packed }, from, to, { statistics }) =>
          scaleAndShift(heap, from, (c) => straightLine(heap[packed.weights + c], heap[packed.bias + c], ...statistics[c])),
      },
      dropout: { shape: same, run() {} }, // only in training
      pool: {
        shape: (layer, { channels, height, width }) => compact(channels, height / 2, width / 2),
        run(machine, layer, from, to) {
          eachRow(to, (c, y, at) => maxOfFour(machine.heap, from.at + c * from.plane + 2 * y * from.stride, from.stride, at, to.width));
        },
        needed: (layer, first, last) => [2 * first, 2 * last + 1],
      },
      // An output pixel lies under one pixel of the input only: four 1x1 convolutions, whose results
      // take turns.
      upconv: {
        shape: ({ out_channels }, { height, width }) => compact(out_channels, 2 * height, 2 * width),
        scratch: ({ out_channels }, { height, width, stride }) => ({ channels: 4 * out_channels, height, width, stride }),
        parameters({ in_channels: into, out_channels: out }, { weight, bias }) {
          return {
            weights: pack(4 * out, into, 1, (k, c) => weight.values[(c * out + (k % out)) * 4 + Math.floor(k / out)]),
            bias: biases(4 * out, (k) => bias.values[k % out]),
          };
        },
        run(machine, layer, from, to, { scratch }) {
          convolve(machine, 1, from, scratch, layer);
          eachRow(to, (c, y, at) => {
            const part = scratch.at + (2 * (y % 2) * to.channels + c) * scratch.plane;
            interleave(machine.heap, part + (y >> 1) * scratch.stride, to.channels * scratch.plane, at, to.width);
          });
        },
        needed: (layer, first, last) => [first >> 1, last >> 1],
      },
      // The skip's channels come first, as Fig. 1 draws them.
      crop_concat: {
        shape: ({ out_channels }, { height, width }) => compact(out_channels, height, width),
        run(machine, layer, from, to, { skip }) {
          const [top, left] = [(skip.height - to.height) >> 1, (skip.width - to.width) >> 1];
          eachRow(to, (c, y, at) => {
            const other = c - skip.channels;
            const start = other < 0
              ? skip.at + c * skip.plane + (y + top) * skip.stride + left
              : from.at + other * from.plane + y * from.stride;
            machine.heap.copyWithin(at, start, start + to.width);
          });
        },
      },
    };

    function eachRow(map, what) {
      for (let c = 0; c < map.channels; c++)
        for (let y = 0; y < map.height; y++) what(c, y, map.at + c * map.plane + y * map.stride);
    }

    // Without a branch, which would be guessed wrong half of the time.
    function rectify(heap, from, to) {
      for (let i = from; i < to; i++) heap[i] = Math.max(heap[i], 0);
    }

    const EPSILON = 1e-5;

    // y = weight (x - mean) / sqrt(variance + 1e-5) + bias, as slope and constant.
    function straightLine(weight, bias, mean, variance) {
      const scale = weight / Math.sqrt(variance + EPSILON);
      return [scale, bias - mean * scale];
    }

    function scaleAndShift(heap, map, lineOf) {
      let [scale, shift] = [0, 0];
      eachRow(map, (c, y, at) => {
        if (!y) [scale, shift] = lineOf(c);
        for (let i = at; i < at + map.width; i++) heap[i] = scale * heap[i] + shift;
      });
    }

    // Mean and variance of one channel over all maps; the variance is that of the differences.
    function channelStatistics(heap, maps, channel) {
      const mean = (of) => {
        let [sum, count] = [0, 0];
        for (const { at, plane, height, width, stride } of maps)
          for (let y = 0, row = at + channel * plane; y < height; y++, row += stride, count += width)
            for (let i = row; i < row + width; i++) sum += of(heap[i]);
        return sum / count;
      };
      const middle = mean((value) => value);
      return [middle, mean((value) => (value - middle) ** 2)];
    }

    function maxOfFour(heap, from, stride, to, width) {
      for (let x = 0, i = from; x < width; x++, i += 2) {
        const above = heap[i] > heap[i + 1] ? heap[i] : heap[i + 1];
        const below = heap[i + stride] > heap[i + stride + 1] ? heap[i + stride] : heap[i + stride + 1];
        heap[to + x] = above > below ? above : below;
      }
    }

    function interleave(heap, from, apart, to, width) {
      for (let x = 0; x < width; x += 2) {
        heap[to + x] = heap[from + (x >> 1)];
        heap[to + x + 1] = heap[from + apart + (x >> 1)];
      }
    }

    // ---- the network

    // `table` has layers, margin, size_step and min_input_size, as unet_np.Architecture has them.
    function network(table, buffer, kind) {
      const machine = kernels.machine(kind);
      const { arrays } = readWeights(buffer);
      const unknown = table.layers.find((layer) => !KINDS[layer.kind] || layer.padding);
      if (unknown) throw new Error(`${unknown.name}: got a layer of kind ${unknown.kind} (padding ${unknown.padding}), expected one of ${Object.keys(KINDS).join(", ")} without padding`);
      let used = 0;
      const place = (values) => {
        const at = used;
        used += values.length;
        return { at, values };
      };
      const layers = table.layers.map((layer) => {
        const { parameters } = KINDS[layer.kind];
        const own = (what) => arrays[`${layer.name}.${what}`];
        const packed = parameters && parameters(layer, { weight: own("weight"), bias: own("bias"), mean: own("mean"), var: own("var") });
        return { ...layer, packed: packed && { weights: place(packed.weights), bias: place(packed.bias) } };
      });
      machine.grow(used);
      for (const { packed } of layers)
        for (const { at, values } of Object.values(packed || {})) machine.heap.set(values, at);
      for (const layer of layers)
        if (layer.packed) layer.packed = { weights: layer.packed.weights.at, bias: layer.packed.bias.at };
      const made = { ...table, layers, machine, maps: null, measured: layers.some(({ kind }) => KINDS[kind].measure) };

      // Where each map of a tile lies. All are kept for who wants to look at them, or else a place is
      // free again once what lay there was read.
      function plan(channels, height, width, start, kept) {
        const places = placesFrom(start);
        const reserve = (map) => {
          const plane = map.height * map.stride + SLACK;
          return { ...map, plane, at: places.take(upToFour(map.channels) * plane) };
        };
        const maps = { input: reserve(compact(channels, height, width)) };
        const steps = [];
        let from = maps.input;
        layers.forEach((layer, number) => {
          const { shape, scratch } = KINDS[layer.kind];
          const wanted = shape(layer, from);
          const to = wanted.inPlace ? from : reserve(wanted);
          const step = { from, to, skip: maps[layer.skip], scratch: scratch && reserve(scratch(layer, from)) };
          steps.push(step);
          maps[layer.name] = from = to;
          const isRead = (map) => map === to || layers.slice(number + 1).some(({ skip }) => maps[skip] === map);
          for (const map of kept ? [] : [step.from, step.skip, step.scratch])
            if (map && !isRead(map)) places.give(map.at);
        });
        return { maps, steps, end: places.end() };
      }

      // Tiles of one image, (channels, height, width) each in a Float32Array. Stops for a moment after
      // each layer of each. `statistics` are by layer; those that are not there are measured over all
      // tiles, and noted in it.
      function* pass(tiles, height, width, statistics, kept) {
        for (const size of [height, width]) checkSize(table, size);
        let end = used;
        const plans = tiles.map((tile) => {
          const made = plan(tile.length / (height * width), height, width, end, kept);
          end = made.end;
          return made;
        });
        machine.grow(end);
        made.maps = plans[0].maps;
        tiles.forEach((tile, n) =>
          eachRow(plans[n].maps.input, (c, y, at) => machine.heap.set(tile.subarray((c * height + y) * width, (c * height + y + 1) * width), at)));
        for (const [number, layer] of layers.entries()) {
          const { measure, run } = KINDS[layer.kind];
          const steps = plans.map((one) => one.steps[number]);
          if (measure && !statistics[layer.name]) statistics[layer.name] = measure(machine, steps.map(({ from }) => from));
          for (const { from, to, ...more } of steps) {
            run(machine, layer, from, to, { ...more, statistics: statistics[layer.name] });
            yield { layer, map: to };
          }
        }
      }

      // One tile, all of whose maps are there afterwards; by default with statistics of its own.
      made.forward = (tile, height, width, statistics = {}) => pass([tile], height, width, statistics, true);

      // Several tiles, for the statistics that they have as one image.
      made.measure = (tiles, height, width, statistics) => pass(tiles, height, width, statistics, false);

      // The numbers of a map, (channels, height, width) without what lies between.
      made.values = (map) => {
        const values = new Float32Array(map.channels * map.height * map.width);
        let next = 0;
        eachRow(map, (c, y, at) => {
          values.set(machine.heap.subarray(at, at + map.width), next);
          next += map.width;
        });
        return values;
      };
      return made;
    }

    // Places in memory that are taken and given back; each begins where the first gap is wide enough.
    function placesFrom(start) {
      const taken = []; // first number and the one after the last, in order
      let most = start;
      return {
        take(size) {
          const free = (number) => (number ? taken[number - 1][1] : start);
          const gap = taken.findIndex(([next], number) => next - free(number) >= size);
          const number = gap < 0 ? taken.length : gap;
          const at = free(number);
          taken.splice(number, 0, [at, at + size]);
          most = Math.max(most, at + size);
          return at;
        },
        give: (at) => taken.splice(taken.findIndex(([from]) => from === at), 1),
        end: () => most,
      };
    }

    // The probability of each class (classes, pixels); the largest logit first subtracted, as ever.
    function softmax(logits, classes) {
      const pixels = logits.length / classes;
      const result = new Float32Array(logits.length);
      for (let p = 0; p < pixels; p++) {
        let most = -Infinity;
        for (let c = 0; c < classes; c++) most = Math.max(most, logits[c * pixels + p]);
        let sum = 0;
        for (let c = 0; c < classes; c++) sum += Math.exp(logits[c * pixels + p] - most);
        for (let c = 0; c < classes; c++) result[c * pixels + p] = Math.exp(logits[c * pixels + p] - most) / sum;
      }
      return result;
    }

    // ---- sizes and tiles, along one axis

    function isValid({ min_input_size: least, size_step: step }, size) {
      return size >= least && (size - least) % step === 0;
    }

    function checkSize(table, size) {
      if (!isValid(table, size)) throw new Error(`tile: got ${size}, expected ${table.min_input_size} and a multiple of ${table.size_step} more`);
    }

    // The smallest tile whose output has `size` pixels.
    function tileFor({ margin, min_input_size: least, size_step: step }, size) {
      return least + step * Math.ceil(Math.max(size + margin - least, 0) / step);
    }

    const REFERENCE_PIXELS = 2 ** 20; // of all windows together
    const WINDOWS = 3; // along each axis

    // Where the statistics of an image come from: the whole of it, or windows from border to border, as
    // in unet_np/tiling/statistics.py.
    function referenceWindows(table, height, width) {
      const { margin, min_input_size: least, size_step: step } = table;
      const whole = [height, width].map((size) => tileFor(table, size));
      const wanted = Math.floor(Math.sqrt(REFERENCE_PIXELS) / WINDOWS);
      const side = least + step * Math.floor(Math.max(wanted - least, 0) / step);
      const fits = whole[0] * whole[1] <= REFERENCE_PIXELS;
      const window = fits ? whole : whole.map((size) => Math.min(size, side));
      const [rows, columns] = whole.map((size, axis) => {
        const last = size - window[axis];
        return (last ? [0, last >> 1, last] : [0]).map((start) => start - margin / 2);
      });
      const corners = rows.flatMap((top) => columns.map((left) => ({ top, left })));
      return corners.map((corner) => ({ ...corner, height: window[0], width: window[1] }));
    }

    // Tiles begin at multiples of the pooling's step, so that every pixel sees what it would in one pass.
    function planAxis(table, size, tile) {
      const chosen = Math.min(tile, tileFor(table, size));
      checkSize(table, chosen);
      const covered = chosen - table.margin;
      const apart = Math.floor(covered / table.size_step) * table.size_step;
      const count = covered >= size ? 1 : 1 + Math.ceil((size - covered) / apart);
      return Array.from({ length: count }, (_, i) => {
        const end = i === count - 1 ? size : (i + 1) * apart;
        return { start: i * apart - table.margin / 2, from: i * apart, to: end, tile: chosen };
      });
    }

    // Where a coordinate beyond the border falls when mirrored; the edge pixel is the mirror.
    function reflected(index, size) {
      const period = Math.max(2 * (size - 1), 1);
      const inside = ((index % period) + period) % period;
      return inside < size ? inside : period - inside;
    }

    // height x width pixels of a grey image from (top, left) on, which may lie outside.
    function cut({ values, height, width }, top, left, tileHeight, tileWidth) {
      const tile = new Float32Array(tileHeight * tileWidth);
      const columns = Array.from({ length: tileWidth }, (_, x) => reflected(left + x, width));
      for (let y = 0; y < tileHeight; y++) {
        const row = width * reflected(top + y, height);
        for (let x = 0; x < tileWidth; x++) tile[y * tileWidth + x] = values[row + columns[x]];
      }
      return tile;
    }

    // First and last row (or column) of the tile that the output's row (or column) depends on.
    function receptiveField({ layers }, pixel) {
      let range = [pixel, pixel];
      for (const layer of [...layers].reverse()) {
        const { needed } = KINDS[layer.kind];
        if (needed) range = needed(layer, ...range);
      }
      return range;
    }

    // Zero mean and unit variance; a constant image becomes zeros.
    function normalise(image) {
      let largest = 0;
      for (const value of image) largest = Math.max(largest, Math.abs(value));
      largest = largest || 1;
      let [sum, square] = [0, 0];
      for (const value of image) sum += value / largest;
      const mean = sum / image.length;
      for (const value of image) square += (value / largest - mean) ** 2;
      const spread = Math.sqrt(square / image.length) || 1;
      return Float32Array.from(image, (value) => (value / largest - mean) / spread);
    }

    return { network, readWeights, softmax, isValid, tileFor, planAxis, referenceWindows, reflected, cut, receptiveField, normalise };
  }

  window.unetWidgets.live.engine = engine;
})();

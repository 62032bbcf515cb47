// What runs in the worker: the network on tiles and whole images, layer by layer. It is made from the
// text of functions, since a browser starts no worker from a file on disk.
//
// Each message has an `id` and a command in `do`; the answer has the same id, and events come before it.
(function () {
  "use strict";

  function worker(scope, kernels, makeEngine) {
    const engine = makeEngine(kernels());
    const THUMB = 72; // pixels of a box's picture, at most
    let net = null;
    let image = null; // { values, height, width }, normalised
    let statistics = null; // of the image, by layer, once they are known
    let watched = null; // the last tile that was computed alone
    let stopped = false;

    // ---- feature maps as pictures

    const isBox = ({ kind, name }) => ["relu", "pool", "crop_concat"].includes(kind) || name === "output";

    // Mean size of a channel's numbers, over every `step`-th row and column.
    function activity(map, channel, step = 1) {
      const { heap } = net.machine;
      let [sum, count] = [0, 0];
      for (let y = 0; y < map.height; y += step)
        for (let x = 0, at = map.at + channel * map.plane + y * map.stride; x < map.width; x += step, count++)
          sum += Math.abs(heap[at + x]);
      return sum / count;
    }

    function mostActiveFirst(map, step) {
      const all = Array.from({ length: map.channels }, (_, number) => ({ number, mean: activity(map, number, step) }));
      return all.sort((a, b) => b.mean - a.mean || a.number - b.number);
    }

    // One channel from black to white, between its 1st and its 99th percentile.
    function picture(map, channel, side) {
      const step = Math.max(1, Math.ceil(Math.max(map.height, map.width) / side));
      const [height, width] = [Math.ceil(map.height / step), Math.ceil(map.width / step)];
      const values = new Float32Array(height * width);
      for (let y = 0, i = 0; y < height; y++)
        for (let x = 0; x < width; x++, i++)
          values[i] = net.machine.heap[map.at + channel * map.plane + step * (y * map.stride + x)];
      const sorted = values.slice().sort();
      const low = sorted[Math.floor(0.01 * (values.length - 1))];
      const range = sorted[Math.ceil(0.99 * (values.length - 1))] - low || 1;
      return { height, width, grey: Uint8ClampedArray.from(values, (v) => (255 * (v - low)) / range) };
    }

    // ---- passes

    // Lets the messages in that have come meanwhile, a wish to stop among them.
    const bell = new MessageChannel();
    const pause = () =>
      new Promise((resolve) => {
        bell.port1.onmessage = resolve;
        bell.port2.postMessage(0);
      });

    async function through(steps, done) {
      for (const step of steps) {
        done(step);
        await pause();
        if (stopped) throw new Error("stopped");
      }
    }

    async function forward(tile, height, width, shared, boxDone) {
      let begin = performance.now();
      let last = null;
      await through(net.forward(tile, height, width, shared), ({ layer, map }) => {
        if (!last && boxDone) boxDone({ name: "input" }, net.maps.input, 0);
        last = map;
        if (!boxDone || !isBox(layer)) return;
        boxDone(layer, map, performance.now() - begin);
        begin = performance.now();
      });
      return last;
    }

    // What all tiles of an image share: with instance normalisation its statistics, else nothing.
    async function sharedBy(id, source) {
      const found = {};
      if (!net.measured) return found;
      const windows = engine.referenceWindows(net, source.height, source.width);
      const tiles = windows.map((place) => cutTile(place, source));
      const total = tiles.length * net.layers.length;
      let done = 0;
      const tell = () => scope.postMessage({ id, event: "statistics", share: ++done / total });
      await through(net.measure(tiles, windows[0].height, windows[0].width, found), tell);
      return found;
    }

    const sharedByImage = async (id) => (statistics = statistics || (await sharedBy(id, image)));

    const boxEvent = (id, silent) => (layer, map, ms) =>
      scope.postMessage({
        id, event: "box", name: layer.name, ms, channels: map.channels, height: map.height, width: map.width,
        picture: silent ? null : picture(map, mostActiveFirst(map, 4)[0].number, THUMB),
      });

    // The probability of class 1.
    function foreground(map) {
      const pixels = map.height * map.width;
      return engine.softmax(net.values(map), map.channels).slice(pixels, 2 * pixels);
    }

    const cutTile = ({ top, left, height, width }, source = image) => engine.cut(source, top, left, height, width);

    // ---- the whole image

    function cutIntoTiles(source, tile) {
      const rows = engine.planAxis(net, source.height, tile);
      const columns = engine.planAxis(net, source.width, tile);
      return { source, tiles: rows.flatMap((row) => columns.map((column) => [row, column])) };
    }

    // What is kept of a tile's output, to its place.
    function paste(probability, map, answer, row, column) {
      const half = net.margin / 2;
      for (let y = row.from; y < row.to; y++) {
        const from = (y - row.start - half) * map.width - column.start - half;
        answer.values.set(probability.subarray(from + column.from, from + column.to), y * answer.width + column.from);
      }
    }

    // The symmetries of the square: whether mirrored left to right first, quarter turns after that.
    const SYMMETRIES = [false, true].flatMap((mirrored) => [0, 1, 2, 3].map((quarters) => ({ mirrored, quarters })));

    function turned(one, { mirrored, quarters }) {
      return turn(mirrored ? mirror(one) : one, quarters);
    }

    function turnedBack(one, { mirrored, quarters }) {
      const back = turn(one, (4 - quarters) % 4);
      return mirrored ? mirror(back) : back;
    }

    function mirror(one) {
      const { values, width } = one;
      return { ...one, values: values.map((_, at) => values[at - 2 * (at % width) + width - 1]) };
    }

    // A quarter turn against the clock, so often.
    function turn(map, quarters) {
      if (!quarters) return map;
      const { values, channels = 1, height, width } = map;
      const made = new Float32Array(values.length);
      for (let c = 0, i = 0; c < channels; c++)
        for (let x = width - 1; x >= 0; x--)
          for (let y = 0; y < height; y++, i++) made[i] = values[(c * height + y) * width + x];
      return turn({ channels, values: made, height: width, width: height }, quarters - 1);
    }

    // ---- experiments: what a change of the tile changes in each box and in the answer

    function gauss(values, height, width, sigma) {
      const reach = Math.ceil(4 * sigma);
      const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma ** 2)));
      const sum = weights.reduce((a, b) => a + b);
      const along = (from, count, apart, lines, between) => {
        const to = new Float32Array(from.length);
        const places = Array.from({ length: count + 2 * reach }, (_, i) => apart * engine.reflected(i - reach, count));
        for (let line = 0; line < lines; line++)
          for (let i = 0; i < count; i++) {
            let total = 0;
            for (let k = 0; k < weights.length; k++) total += weights[k] * from[line * between + places[i + k]];
            to[line * between + i * apart] = total / sum;
          }
        return to;
      };
      return along(along(values, width, 1, height, width), height, width, width, 1);
    }

    // A square of `side` pixels around the middle becomes as grey as the image's mean.
    function hide(values, height, width, side) {
      const hidden = values.slice();
      const [top, left] = [(height - side) >> 1, (width - side) >> 1];
      for (let y = top; y < top + side; y++) hidden.fill(0, y * width + left, y * width + left + side);
      return hidden;
    }

    const CHANGES = {
      blur: (tile, sigma) => ({ ...tile, values: gauss(tile.values, tile.height, tile.width, sigma) }),
      hide: (tile, side) => ({ ...tile, values: hide(tile.values, tile.height, tile.width, side) }),
      turn,
    };

    // Where (y, x) of a map lies in the map of a tile that was turned so often: first place, steps.
    function turnedPlaces({ height, width, stride }, quarters) {
      return [
        [0, stride, 1],
        [(height - 1) * stride, 1, -stride],
        [(height - 1) * stride + width - 1, -stride, -1],
        [width - 1, -1, stride],
      ][quarters];
    }

    // Size of a map's difference from what it was, as a share of that; without a copy of the map.
    function difference(before, map, quarters) {
      const { heap } = net.machine;
      const [height, width] = quarters % 2 ? [map.width, map.height] : [map.height, map.width];
      const [first, down, across] = turnedPlaces(map, quarters);
      let [apart, all] = [0, 0];
      for (let c = 0, i = 0; c < map.channels; c++)
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++, i++) {
            const now = heap[map.at + c * map.plane + first + y * down + x * across];
            apart += (before[i] - now) ** 2;
            all += before[i] ** 2;
          }
      return all ? Math.sqrt(apart / all) : 0;
    }

    // ---- commands

    const COMMANDS = {
      network({ table, buffer, kind }) {
        net = engine.network(table, buffer, kind);
        watched = statistics = null;
        return { kind: net.machine.kind, measured: net.measured, metadata: engine.readWeights(buffer).metadata };
      },
      image({ values, height, width }) {
        image = { values: engine.normalise(values), height, width };
        watched = statistics = null;
        return {};
      },
      async tile({ id, place }) {
        watched = null;
        const map = await forward(cutTile(place), place.height, place.width, await sharedByImage(id), boxEvent(id));
        watched = place;
        return { probability: foreground(map), height: map.height, width: map.width };
      },
      // The mean over so many versions of the image, each answer turned back.
      async whole({ id, tile, averaging = 1 }) {
        watched = null;
        const versions = SYMMETRIES.slice(0, averaging).map((version) => ({ version, ...cutIntoTiles(turned(image, version), tile) }));
        const total = versions.reduce((sum, { tiles }) => sum + tiles.length, 0);
        const mean = new Float32Array(image.values.length);
        let done = 0;
        for (const { version, tiles, source } of versions) {
          const answer = { values: new Float32Array(mean.length).fill(NaN), height: source.height, width: source.width };
          const first = version === SYMMETRIES[0];
          const tell = (shown) => scope.postMessage({ id, event: "part", done, total, answer: shown ? answer.values : null });
          try {
            const shared = first ? await sharedByImage(id) : await sharedBy(id, source);
            for (const [row, column] of tiles) {
              const place = { top: row.start, left: column.start, height: row.tile, width: column.tile };
              scope.postMessage({ id, event: "tile", done, total, place: first ? place : null });
              const map = await forward(cutTile(place, source), place.height, place.width, shared, boxEvent(id, total > 16));
              paste(foreground(map), map, answer, row, column);
              done++;
              tell(first && done % Math.ceil(tiles.length / 16) === 0); // not worth a copy each time
              watched = place;
            }
          } catch (error) {
            tell(first);
            throw error;
          }
          turnedBack(answer, version).values.forEach((p, at) => (mean[at] += p / averaging));
        }
        return { answer: mean, total };
      },
      maps({ name, side, count, channel }) {
        const map = watched && net.maps[name];
        if (!map) throw new Error(`The maps of ${name} are no longer there; watch a tile again.`);
        const all = mostActiveFirst(map).filter(({ number }) => channel === undefined || number === channel);
        return {
          channels: all.slice(0, count).map((one) => ({ ...one, picture: picture(map, one.number, side) })),
          total: map.channels, height: map.height, width: map.width,
        };
      },
      async compare({ id, place, change, amount }) {
        watched = null;
        const tile = { values: cutTile(place), height: place.height, width: place.width };
        const changed = CHANGES[change](tile, amount);
        const quarters = change === "turn" ? amount : 0;
        const shared = await sharedByImage(id);
        const before = {};
        const boxes = [];
        const count = 2 * net.layers.filter(isBox).length + 2; // the input's are boxes too
        const tell = () => scope.postMessage({ id, event: "progress", share: (Object.keys(before).length + boxes.length) / count });
        const keep = ({ name }, map) => {
          before[name] = net.values(map);
          tell();
        };
        const first = foreground(await forward(tile.values, tile.height, tile.width, shared, keep));
        const compare = ({ name }, map) => {
          boxes.push({ name, change: difference(before[name], map, quarters) });
          tell();
        };
        const map = await forward(changed.values, changed.height, changed.width, shared, compare);
        const answer = { values: foreground(map), height: map.height, width: map.width };
        const { values: after, height, width } = turn(answer, (4 - quarters) % 4);
        return { before: first, after, height, width, boxes, tile: changed };
      },
    };

    let queue = Promise.resolve();

    async function answer(message) {
      stopped = false;
      try {
        scope.postMessage({ id: message.id, result: await COMMANDS[message.do](message) });
      } catch (error) {
        scope.postMessage({ id: message.id, error: error.message });
      }
    }

    scope.onmessage = ({ data }) => {
      if (data.do === "stop") stopped = true;
      else queue = queue.then(() => answer(data));
    };
  }

  window.unetWidgets.live.worker = worker;
})();

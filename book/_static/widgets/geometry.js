// The network's table without arrays: unet_np/architecture.py again, compared by
// tests/test_widgets.py. A network is {inChannels, numClasses, baseChannels, depth, padding}.
(function () {
  "use strict";

  const PAPER = { inChannels: 1, numClasses: 2, baseChannels: 64, depth: 4, padding: 0 };

  function layers(network) {
    const { inChannels, numClasses, baseChannels, depth, padding } = { ...PAPER, ...network };
    const channels = (level) => baseChannels * 2 ** (level - 1);
    const rows = [];
    const add = (block, name, kind, into, out, kernel = 0, skip = "") => {
      const pad = kernel === 3 ? padding : 0;
      rows.push({ name, block, kind, into, out, kernel, padding: pad, skip });
    };
    const convBlock = (block, into, out) => {
      add(block, `${block}.conv1`, "conv", into, out, 3);
      add(block, `${block}.relu1`, "relu", out, out);
      add(block, `${block}.conv2`, "conv", out, out, 3);
      add(block, `${block}.relu2`, "relu", out, out);
    };
    for (let level = 1; level <= depth + 1; level++) {
      const block = `contract${level}`;
      const out = channels(level);
      const into = level === 1 ? inChannels : out / 2;
      if (level > 1) add(block, `${block}.pool`, "pool", into, into, 2);
      convBlock(block, into, out);
      if (level >= depth) add(block, `${block}.dropout`, "dropout", out, out);
    }
    for (let level = depth; level >= 1; level--) {
      const block = `expand${level}`;
      const out = channels(level);
      const skip = `contract${level}.${level >= depth ? "dropout" : "relu2"}`;
      add(block, `${block}.upconv`, "upconv", 2 * out, out, 2);
      add(block, `${block}.crop_concat`, "crop_concat", out, 2 * out, 0, skip);
      convBlock(block, 2 * out, out);
    }
    add("output", "output", "conv", baseChannels, numClasses, 1);
    return rows;
  }

  function layerOutput(layer, size) {
    if (layer.kind === "conv") return size - layer.kernel + 1 + 2 * layer.padding;
    if (layer.kind === "pool") return Math.floor(size / 2);
    return layer.kind === "upconv" ? 2 * size : size;
  }

  function parameters(layer) {
    if (layer.kind !== "conv" && layer.kind !== "upconv") return 0;
    return layer.into * layer.out * layer.kernel ** 2 + layer.out;
  }

  function margin({ depth, padding }) {
    return padding ? 0 : 12 * 2 ** depth - 8;
  }

  function minInputSize(network) {
    const step = 2 ** network.depth;
    if (network.padding) return step;
    let size = 5;
    for (let level = 0; level < network.depth; level++) size = 2 * size + 4;
    return size + Math.max(0, Math.ceil((margin(network) + 1 - size) / step)) * step;
  }

  function isValid(network, size) {
    const least = minInputSize(network);
    return size >= least && (size - least) % 2 ** network.depth === 0;
  }

  function nearestSizes(network, size) {
    const least = minInputSize(network);
    const step = 2 ** network.depth;
    if (size <= least) return [least];
    const below = size - ((size - least) % step);
    return below === size ? [below] : [below, below + step];
  }

  // Why a size fails, and in which layer; null if it works.
  function problem(network, size) {
    if (isValid(network, size)) return null;
    let current = size;
    for (const layer of layers(network)) {
      if (layer.kind === "pool" && current % 2)
        return { layer: layer.name, size: current, reason: `which is odd (${current}) at ${layer.name}` };
      current = layerOutput(layer, current);
      if (current < 1)
        return { layer: layer.name, size: current, reason: `which leaves no pixel at ${layer.name}` };
    }
    return null;
  }

  // Each layer with the channels and the size of its output, up to the layer that fails.
  function shapes(network, size) {
    const fault = problem(network, size);
    const rows = [];
    let current = size;
    for (const layer of layers(network)) {
      if (fault && fault.layer === layer.name) break;
      current = layerOutput(layer, current);
      rows.push({ ...layer, size: current, parameters: parameters(layer) });
    }
    return { rows, fault };
  }

  // First and last input row that an output row depends on.
  function receptiveField(network, pixel) {
    let [first, last] = [pixel, pixel];
    for (const layer of layers(network).reverse()) {
      if (layer.kind === "conv") [first, last] = [first - layer.padding, last + layer.kernel - 1 - layer.padding];
      if (layer.kind === "pool") [first, last] = [2 * first, 2 * last + 1];
      if (layer.kind === "upconv") [first, last] = [Math.floor(first / 2), Math.floor(last / 2)];
    }
    return [first, last];
  }

  // unet_np/tiling/plan.py: how far apart tiles begin, 0 if they cannot be joined.
  function stride(network, tile) {
    const step = 2 ** network.depth;
    if (!network.padding) return Math.floor((tile - margin(network)) / step) * step;
    let [before, after] = [0, 0];
    for (let pixel = 0; pixel < step; pixel++) {
      const [first, last] = receptiveField(network, pixel);
      before = Math.max(before, pixel - first);
      after = Math.max(after, last - pixel);
    }
    return Math.max(0, tile - step * (Math.ceil(before / step) + Math.ceil(after / step)));
  }

  // Tiles along an axis of the image, 0 if they cannot be joined.
  function tileCount(network, image, tile) {
    const [covered, apart] = [tile - margin(network), stride(network, tile)];
    if (covered >= image) return 1;
    const step = 2 ** network.depth;
    const size = network.padding ? Math.ceil(image / step) * step : image;
    return apart ? 1 + Math.ceil((size - covered) / apart) : 0;
  }

  // unet_np/tiling/memory.py: bytes of the feature maps of one tile, in float32, at their peak.
  function forwardBytes(network, tile) {
    const [waiting, skips] = [{}, new Set(layers(network).map((layer) => layer.skip))];
    let before = { ...PAPER, ...network }.inChannels * tile ** 2;
    let most = 0;
    for (const row of shapes(network, tile).rows) {
      const size = row.out * row.size ** 2;
      const kept = Object.values(waiting).reduce((a, b) => a + b, 0);
      if (row.kind !== "relu" && row.kind !== "dropout") most = Math.max(most, before + size + kept);
      before = size;
      delete waiting[row.skip];
      if (skips.has(row.name)) {
        waiting[row.name] = size;
        before = 0; // a skip that is also the next layer's input exists once
      }
    }
    return 4 * most;
  }

  window.unetWidgets.geometry = {
    PAPER, layers, shapes, problem, isValid, nearestSizes, minInputSize, margin, parameters, stride, tileCount, forwardBytes,
  };
})();

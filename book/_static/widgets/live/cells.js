// From a probability to numbered cells: unet_np/tasks/segmentation.py's instances and grown_instances again,
// compared by tests/test_live.py. A map is an array of height * width numbers, row by row.
(function () {
  "use strict";

  // For each pixel the pixels above, below and beside it, as far as they are there.
  function forNeighbours(at, height, width, what) {
    const x = at % width;
    if (at >= width) what(at - width);
    if (x > 0) what(at - 1);
    if (x < width - 1) what(at + 1);
    if (at < (height - 1) * width) what(at + width);
  }

  // Everything that can be reached from the pixels on the list, which grows by it.
  function spread(reached, height, width, take) {
    for (let i = 0; i < reached.length; i++)
      forNeighbours(reached[i], height, width, (next) => take(next) && reached.push(next));
    return reached;
  }

  // The 4-connected parts of a mask that have `minArea` pixels, numbered as they are met row by row.
  function instances(mask, height, width, minArea = 1) {
    const ids = new Int32Array(mask.length);
    const seen = new Uint8Array(mask.length);
    const take = (at) => mask[at] && !seen[at] && (seen[at] = 1);
    let count = 0;
    for (let at = 0; at < mask.length; at++) {
      if (!take(at)) continue;
      const part = spread([at], height, width, take);
      if (part.length < minArea) continue;
      count++;
      for (const pixel of part) ids[pixel] = count;
    }
    return { ids, count };
  }

  // Numbers spread within a mask, one pixel at a time; where two arrive at once the larger one stays.
  function grow(ids, mask, height, width) {
    let front = [];
    ids.forEach((id, at) => id && front.push(at));
    while (front.length) {
      const arrived = new Map();
      for (const at of front)
        forNeighbours(at, height, width, (next) => {
          if (mask[next] && !ids[next]) arrived.set(next, Math.max(arrived.get(next) || 0, ids[at]));
        });
      arrived.forEach((id, at) => (ids[at] = id));
      front = [...arrived.keys()];
    }
  }

  // First and last row and column of each number.
  function boxes(ids, count, width) {
    const found = Array.from({ length: count + 1 }, () => [Infinity, Infinity, -1, -1]);
    ids.forEach((id, at) => {
      const [y, x] = [Math.floor(at / width), at % width];
      const [top, left, bottom, right] = found[id];
      found[id] = [Math.min(top, y), Math.min(left, x), Math.max(bottom, y), Math.max(right, x)];
    });
    return found;
  }

  // Background that one cell encloses is given to it.
  function fillHoles(ids, count, width) {
    boxes(ids, count, width).forEach(([top, left, bottom, right], id) => {
      if (!id || bottom < 0) return;
      // One pixel more on each side, from which everything outside of the cell is reached.
      const [tall, wide] = [bottom - top + 3, right - left + 3];
      const place = (at) => (top - 1 + Math.floor(at / wide)) * width + left - 1 + (at % wide);
      const inBox = (at) => at >= wide && at < (tall - 1) * wide && at % wide > 0 && at % wide < wide - 1;
      const outside = new Uint8Array(tall * wide);
      const take = (at) => !outside[at] && !(inBox(at) && ids[place(at)] === id) && (outside[at] = 1);
      spread([0], tall, wide, take);
      outside.forEach((out, at) => {
        if (!out && ids[place(at)] === 0) ids[place(at)] = id;
      });
    });
  }

  // Without the pixels that are no further than `radius` from one outside; the edge does not erode.
  function eroded(mask, height, width, radius) {
    const left = Uint8Array.from(mask);
    const reach = Math.floor(radius);
    mask.forEach((inside, at) => {
      let border = false;
      if (!inside) forNeighbours(at, height, width, (next) => (border = border || mask[next]));
      if (!border) return;
      const [y, x] = [Math.floor(at / width), at % width];
      for (let v = Math.max(y - reach, 0); v <= Math.min(y + reach, height - 1); v++)
        for (let u = Math.max(x - reach, 0); u <= Math.min(x + reach, width - 1); u++)
          if ((v - y) ** 2 + (u - x) ** 2 <= radius ** 2) left[v * width + u] = 0;
    });
    return left;
  }

  // How many pairs of neighbouring pixels each number has with each other one.
  function commonBorders(ids, count, height, width) {
    const borders = Array.from({ length: count + 1 }, () => new Map());
    const add = (a, b) => borders[a].set(b, (borders[a].get(b) || 0) + 1);
    ids.forEach((a, at) => {
      for (const next of [at % width < width - 1 ? at + 1 : -1, at + width < ids.length ? at + width : -1]) {
        const b = next < 0 ? 0 : ids[next];
        if (a && b && a !== b) {
          add(a, b);
          add(b, a);
        }
      }
    });
    return borders;
  }

  // Cells of fewer pixels become a part of a neighbour, the smallest first; numbered anew.
  function joinSmall(ids, count, height, width, minArea) {
    const areas = new Array(count + 1).fill(0);
    ids.forEach((id) => areas[id]++);
    const borders = commonBorders(ids, count, height, width);
    const home = areas.map((_, n) => n);
    const small = () => home.reduce((best, own, n) => {
      const takes = n && own === n && areas[n] < minArea && borders[n].size && (!best || areas[n] < areas[best]);
      return takes ? n : best;
    }, 0);
    for (let one = small(); one; one = small()) {
      const near = [...borders[one]].sort(([a, long], [b, longer]) => longer - long || a - b);
      const other = near[0][0];
      home[one] = other;
      areas[other] += areas[one];
      for (const [third, length] of near) {
        borders[third].delete(one);
        if (third === other) continue;
        const both = (borders[third].get(other) || 0) + length;
        borders[third].set(other, both);
        borders[other].set(third, both);
      }
    }
    const root = (n) => (home[n] === n ? n : root(home[n]));
    const kept = home.map((own, n) => n).filter((n) => home[n] === n);
    const numbers = home.map((_, n) => kept.indexOf(root(n)));
    ids.forEach((id, at) => (ids[at] = numbers[id]));
    return kept.length - 1;
  }

  // A cell begins as a part above `seeds` and grows to where the probability is not above `threshold`.
  function grownInstances(probability, height, width, { seeds, threshold, min_area: minArea = 1, erosion = 0 }) {
    let { ids, count } = instances(probability.map((p) => p > seeds), height, width, minArea);
    if (erosion) ({ ids, count } = instances(eroded(ids.map((id) => id > 0), height, width, erosion), height, width));
    grow(ids, probability.map((p) => p > threshold), height, width);
    if (erosion && minArea > 1) count = joinSmall(ids, count, height, width, minArea);
    fillHoles(ids, count, width);
    return { ids, count };
  }

  // What the command line numbers: by the limits of the weights' header, or the parts of class 1.
  function number(probability, height, width, limits, threshold) {
    if (!limits) return instances(probability.map((p) => p > threshold), height, width);
    const seeds = Math.max(limits.seeds, threshold);
    return grownInstances(probability, height, width, { ...limits, seeds, threshold });
  }

  // Pixels of a map with another value below or to the right, unknown ones (-1) left out.
  function outline(values, height, width) {
    const line = new Uint8Array(values.length);
    values.forEach((value, at) => {
      if (value < 0) return;
      const right = at % width < width - 1 ? values[at + 1] : value;
      const below = at + width < values.length ? values[at + width] : value;
      if ((right >= 0 && right !== value) || (below >= 0 && below !== value)) line[at] = 1;
    });
    return line;
  }

  // Mean row and column of each number, where its label goes.
  function centres(ids, count, width) {
    const sums = Array.from({ length: count + 1 }, () => [0, 0, 0]);
    ids.forEach((id, at) => {
      sums[id][0] += Math.floor(at / width);
      sums[id][1] += at % width;
      sums[id][2]++;
    });
    return sums.map(([y, x, pixels]) => [y / pixels, x / pixels, pixels]);
  }

  window.unetWidgets.live.cells = { instances, grow, grownInstances, number, outline, centres };
})();

// The weight map of two round cells: unet_np/weighting/eq2.py again, compared by
// tests/test_widgets.py. Distances are to the centre of a cell's nearest pixel.
(function () {
  "use strict";

  const DEFAULTS = { paper: { w0: 10, sigma: 5 }, falk2019: { w0: 50, sigma: 6 } };
  const V_BAL = 0.1;
  const SIGMA_BAL = 10;

  // Two discs on the middle row with `gap` background pixels between them, or the first alone.
  function twoCells({ height = 72, width = 120, radius = 18, gap = 4, second = true } = {}) {
    const cells = new Uint8Array(height * width);
    const middle = Math.floor(height / 2);
    const left = Math.floor((width - gap - 1) / 2) - radius;
    const centres = second ? [left, left + 2 * radius + 1 + gap] : [left];
    centres.forEach((centre, number) => {
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          if ((y - middle) ** 2 + (x - centre) ** 2 <= radius ** 2) cells[y * width + x] = number + 1;
    });
    return { cells, height, width, middle };
  }

  // For each pixel the distance to one cell: by trying the cell's border pixels.
  function distanceTo(label, { cells, height, width }) {
    const inside = (y, x) =>
      y >= 0 && y < height && x >= 0 && x < width && cells[y * width + x] === label;
    const border = [];
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        if (inside(y, x) && !(inside(y - 1, x) && inside(y + 1, x) && inside(y, x - 1) && inside(y, x + 1)))
          border.push([y, x]);
    const distance = new Float64Array(height * width);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (inside(y, x)) continue;
        let least = Infinity;
        for (const [v, u] of border) least = Math.min(least, (y - v) ** 2 + (x - u) ** 2);
        distance[y * width + x] = Math.sqrt(least);
      }
    return distance;
  }

  function distances(image) {
    const first = distanceTo(1, image);
    const second = distanceTo(2, image);
    return { d1: first.map((d, i) => Math.min(d, second[i])), d2: first.map((d, i) => Math.max(d, second[i])) };
  }

  function weightMap(image, { d1, d2 }, { w0, sigma, variant = "paper", term = "background" }) {
    const pixels = image.cells.length;
    const inCells = image.cells.reduce((sum, label) => sum + (label > 0), 0);
    const balance = [pixels / (2 * (pixels - inCells)), pixels / (2 * inCells)];
    return Float64Array.from(image.cells, (label, i) => {
      const separation = w0 * Math.exp(-((d1[i] + d2[i]) ** 2) / (2 * sigma ** 2));
      if (variant === "paper") return balance[label ? 1 : 0] + (label && term === "background" ? 0 : separation);
      if (label) return 1;
      return V_BAL + (1 - V_BAL) * Math.exp(-(d1[i] ** 2) / (2 * SIGMA_BAL ** 2)) + separation;
    });
  }

  window.unetWidgets.weights = { DEFAULTS, twoCells, distances, weightMap };
})();

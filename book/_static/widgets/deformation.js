// A smooth random displacement: unet_np/warp.py's displacement_field again, compared by
// tests/test_widgets.py.
(function () {
  "use strict";

  // The index of a point beyond the ends, mirrored with the end point not repeated.
  function mirrored(index, count) {
    if (count === 1) return 0;
    const period = 2 * count - 2;
    const inside = ((index % period) + period) % period;
    return Math.min(inside, period - inside);
  }

  // Rows of the cubic B-spline basis at real places, one column for each mirrored coefficient.
  function basis(places, count) {
    return places.map((at) => {
      const whole = Math.floor(at);
      const t = at - whole;
      const taps = [(1 - t) ** 3, 3 * t ** 3 - 6 * t ** 2 + 4, -3 * t ** 3 + 3 * t ** 2 + 3 * t + 1, t ** 3];
      const row = new Array(count).fill(0);
      taps.forEach((weight, tap) => (row[mirrored(whole + tap - 1, count)] += weight / 6));
      return row;
    });
  }

  // Coefficients whose spline takes these values at the points: Gaussian elimination, since the
  // matrix is small and diagonally dominant.
  function coefficients(values) {
    const count = values.length;
    const rows = basis(values.map((_, i) => i), count).map((row, i) => [...row, values[i]]);
    for (let i = 0; i < count; i++)
      for (let j = 0; j < count; j++) {
        if (j === i || rows[j][i] === 0) continue;
        const factor = rows[j][i] / rows[i][i];
        for (let k = i; k <= count; k++) rows[j][k] -= factor * rows[i][k];
      }
    return rows.map((row, i) => row[count] / row[i]);
  }

  function places(size, count) {
    return Array.from({ length: size }, (_, i) => (size > 1 ? (i * (count - 1)) / (size - 1) : 0));
  }

  // One component: values on a grid (array of rows) to an array of height x width.
  function interpolate(values, height, width) {
    const count = values[0].length;
    const along = values.map(coefficients);
    const columns = Array.from({ length: count }, (_, j) => coefficients(along.map((row) => row[j])));
    const vertical = basis(places(height, values.length), values.length);
    const horizontal = basis(places(width, count), count);
    const field = new Float64Array(height * width);
    vertical.forEach((row, y) => {
      const line = columns.map((column) => column.reduce((sum, c, i) => sum + c * row[i], 0));
      horizontal.forEach((weights, x) => {
        field[y * width + x] = weights.reduce((sum, weight, j) => sum + weight * line[j], 0);
      });
    });
    return field;
  }

  function displacementField(vectors, height, width) {
    return vectors.map((component) => interpolate(component, height, width));
  }

  // Standard normal numbers from a seed (mulberry32, Box and Muller).
  function normals(seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
    };
    return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  function drawVectors(seed, grid, sigma) {
    const next = normals(seed);
    const component = () =>
      Array.from({ length: grid }, () => Array.from({ length: grid }, () => sigma * next()));
    return [component(), component()];
  }

  // Share of the pixels where the map from the result to the image turns over: there it folds.
  function foldedShare([down, across], height, width) {
    let folded = 0;
    for (let y = 0; y < height - 1; y++)
      for (let x = 0; x < width - 1; x++) {
        const i = y * width + x;
        const determinant =
          (1 + down[i + width] - down[i]) * (1 + across[i + 1] - across[i]) -
          (down[i + 1] - down[i]) * (across[i + width] - across[i]);
        folded += determinant <= 0;
      }
    return folded / ((height - 1) * (width - 1));
  }

  window.unetWidgets.deformation = { displacementField, drawVectors, foldedShare, normals };
})();

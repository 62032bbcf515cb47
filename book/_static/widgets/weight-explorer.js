// Weight-map explorer: two cells, their gap, w0 and sigma of equation 2.
// In a chapter, one line:
//
//     <div data-widget="weight-explorer">On the book's web page the weight map can be moved here.</div>
(function () {
  "use strict";

  const { element, slider, field, define, weights } = window.unetWidgets;
  // Points of the colour map cividis, which readers with any colour vision see as a ramp.
  const RAMP = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
  // Yellow stands for this weight and more, whatever the sliders say: so maps can be compared.
  const YELLOW = { paper: 12, falk2019: 60 };
  const PLOT = { width: 330, height: 190, left: 38, right: 8, top: 8, bottom: 36 };

  function colour(share) {
    const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
    const low = Math.min(Math.floor(at), RAMP.length - 2);
    return RAMP[low].map((value, i) => value + (at - low) * (RAMP[low + 1][i] - value));
  }

  define("weight-explorer", (place) => {
    const state = { w0: 10, sigma: 5, gap: 4, second: true, variant: "paper", term: "background", probe: 60 };
    let image, both, map;
    const canvas = element("canvas", { role: "img", "aria-label": "Weight map of the cells" });
    const caption = element("figcaption");
    const plot = element("svg", {
      viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img",
      "aria-label": "Weight along the middle row of the map",
    });
    const reading = element("p", { class: "unet-note", role: "status" });

    const change = (name) => (value) => {
      state[name] = value;
      update();
    };
    const w0 = slider("w0", { min: 0, max: 60, step: 1, value: state.w0 }, change("w0"));
    const sigma = slider("sigma", { min: 1, max: 20, step: 0.5, value: state.sigma, unit: "px" }, change("sigma"));
    const gap = slider("gap", { min: 0, max: 40, step: 1, value: state.gap, unit: "px" }, change("gap"));
    const probe = slider("pixel of the middle row", { min: 0, max: 119, step: 1, value: state.probe }, change("probe"));
    const second = element("input", {
      type: "checkbox", checked: true,
      input: (event) => change("second")(event.target.checked),
    });
    const formula = element(
      "select",
      {
        input: (event) => {
          state.variant = event.target.value;
          Object.assign(state, weights.DEFAULTS[state.variant]);
          term.disabled = state.variant !== "paper"; // the later formula says where it adds
          w0.set(state.w0);
          sigma.set(state.sigma);
          update();
        },
      },
      element("option", { value: "paper" }, "equation 2 of the paper"),
      element("option", { value: "falk2019" }, "the authors' later one (2019)")
    );

    const term = element(
      "select",
      { input: (event) => change("term")(event.target.value) },
      element("option", { value: "background" }, "in the background, as Fig. 3d"),
      element("option", { value: "everywhere" }, "everywhere, as printed")
    );

    canvas.addEventListener("pointerdown", (event) => {
      const box = canvas.getBoundingClientRect();
      state.probe = Math.min(Math.floor(((event.clientX - box.left) / box.width) * image.width), image.width - 1);
      probe.set(state.probe);
      update();
    });

    function update() {
      image = weights.twoCells(state);
      both = weights.distances(image);
      map = weights.weightMap(image, both, state);
      draw();
      drawRow();
      read();
    }

    function draw() {
      const { width, height, cells } = image;
      canvas.width = width;
      canvas.height = height;
      const context = canvas.getContext("2d");
      const pixels = context.createImageData(width, height);
      const yellow = YELLOW[state.variant];
      const most = map.reduce((a, b) => Math.max(a, b));
      for (let i = 0; i < map.length; i++) {
        const [y, x] = [Math.floor(i / width), i % width];
        // The rim of a cell is drawn lighter, so that cells show where weights are equal.
        const rim = cells[i] && [i - 1, i + 1, i - width, i + width].some((j) => cells[j] !== cells[i]);
        const base = colour(map[i] / yellow);
        const shown = y === image.middle && x === state.probe ? [213, 94, 0] : base.map((v) => (rim ? v * 0.4 + 153 : v));
        pixels.data.set([...shown, 255], 4 * i);
      }
      context.putImageData(pixels, 0, 0);
      caption.textContent =
        `The weights, dark for 0 and yellow for ${yellow} and more; the largest is ${most.toFixed(2)}. ` +
        "Light rings: the rims of the cells.";
    }

    function drawRow() {
      const { width, middle, cells } = image;
      const row = map.subarray(middle * width, (middle + 1) * width);
      const most = Math.max(1, ...row) * 1.05;
      const x = (i) => PLOT.left + (i / (width - 1)) * (PLOT.width - PLOT.left - PLOT.right);
      const y = (w) => PLOT.height - PLOT.bottom - (w / most) * (PLOT.height - PLOT.top - PLOT.bottom);
      const line = (attributes) => element("line", { stroke: "currentColor", ...attributes });
      const words = (text, at) =>
        element("text", { fill: "currentColor", "font-size": 12, ...at }, text);
      const floor = y(0);
      const parts = [];
      for (let i = 0; i < width; i++)
        if (cells[middle * width + i])
          parts.push(element("rect", { x: x(i - 0.5), y: floor + 2, width: x(1) - x(0) + 0.2, height: 5, fill: "#56b4e9" }));
      parts.push(
        line({ x1: PLOT.left, x2: PLOT.left, y1: PLOT.top, y2: floor }),
        line({ x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: floor, y2: floor }),
        line({ x1: x(state.probe), x2: x(state.probe), y1: PLOT.top, y2: floor, stroke: "#d55e00", "stroke-width": 1.5, "stroke-dasharray": "4 3" }),
        element("polyline", {
          points: Array.from(row, (w, i) => `${x(i).toFixed(1)},${y(w).toFixed(1)}`).join(" "),
          fill: "none", stroke: "currentColor", "stroke-width": 2,
        }),
        words("0", { x: PLOT.left - 6, y: floor + 4, "text-anchor": "end" }),
        words((most / 1.05).toFixed(1), { x: PLOT.left - 6, y: y(most / 1.05) + 4, "text-anchor": "end" }),
        words("pixel of the middle row; blue: inside a cell", { x: PLOT.left, y: PLOT.height - 8 })
      );
      plot.replaceChildren(...parts);
    }

    function read() {
      const i = image.middle * image.width + state.probe;
      const pixels = (d) => (Number.isFinite(d) ? `${d.toFixed(1)} px` : "infinite (there is no second cell)");
      const where = image.cells[i] ? "in a cell" : "background";
      reading.textContent =
        `Pixel ${state.probe}, ${where}: d1 = ${pixels(both.d1[i])}, d2 = ${pixels(both.d2[i])}, ` +
        `weight ${map[i].toFixed(2)}.`;
    }

    place.append(
      element(
        "div",
        { class: "unet-controls" },
        w0, sigma, gap, field("second cell", second), field("formula", formula), field("border term", term), probe
      ),
      element("div", { class: "unet-views" }, element("figure", {}, canvas, caption), element("div", {}, plot)),
      reading
    );
    update();
  });
})();

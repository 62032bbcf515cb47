// Momentum explorer: a narrow valley, an effective rate, a momentum, and noise.
// In a chapter, one line:
//
//     <div data-widget="momentum-explorer">On the book's web page momentum can be tried here.</div>
(function () {
  "use strict";

  const { element, slider, define, momentum, deformation } = window.unetWidgets;
  const [STEPS, COPIES, SIZE] = [200, 200, 300];
  const REACH = 1.5; // how far the picture of the valley goes
  const PLOT = { width: 300, height: 220, left: 42, right: 8, top: 8, bottom: 40 };
  const RANGE = { x: [-3, 3], y: [0, 3.5] }; // powers of ten
  const [VERMILION, BLUE] = ["#d55e00", "#0072b2"];

  function short(value) {
    const size = Math.abs(value);
    if (size >= 100 && size < 1e5) return value.toFixed(0);
    return size === 0 || (size >= 0.01 && size < 100) ? String(Number(value.toPrecision(2))) : value.toExponential(0);
  }

  define("momentum-explorer", (place) => {
    const state = { power: 1, momentum: 0.9, noise: 0, seed: 1 };
    const valley = element("svg", {
      viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": "The way of the parameters through the valley",
    });
    const plot = element("svg", {
      viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img",
      "aria-label": "Steps until the error is a tenth, over effective rate times curvature",
    });
    const reading = element("p", { class: "unet-note", role: "status" });
    const change = (name) => (value) => {
      state[name] = value;
      update();
    };

    const effective = () => 10 ** state.power;
    const settings = () => ({ rate: effective() * (1 - state.momentum), momentum: state.momentum, noise: state.noise });

    function update() {
      const now = settings();
      const normal = deformation.normals(state.seed);
      const path = momentum.descend({ ...now, steps: STEPS }, normal);
      const cloud = [];
      if (state.noise) for (let i = 0; i < COPIES; i++) cloud.push(momentum.descend({ ...now, steps: STEPS }, normal).pop());
      drawValley(path, cloud);
      drawRange(now);
      read(now, path, cloud);
    }

    const at = (value) => SIZE / 2 + (Math.min(Math.max(value, -2), 2) / REACH) * (SIZE / 2);

    function drawValley(path, cloud) {
      const rings = [0.03, 0.1, 0.3, 0.6, 1, 1.4].map((size) =>
        // Where the energy is the same: ten times as long as wide.
        element("ellipse", {
          cx: SIZE / 2, cy: SIZE / 2, rx: (10 * size * SIZE) / 2 / REACH, ry: (size * SIZE) / 2 / REACH,
          fill: "none", stroke: "currentColor", opacity: 0.25,
        })
      );
      const points = path.map(([steep, shallow]) => `${at(shallow).toFixed(1)},${at(-steep).toFixed(1)}`).join(" ");
      valley.replaceChildren(
        ...rings,
        ...cloud.map(([steep, shallow]) => element("circle", { cx: at(shallow), cy: at(-steep), r: 2, fill: BLUE, opacity: 0.6 })),
        element("polyline", { points, fill: "none", stroke: VERMILION, "stroke-width": 1.5 }),
        element("circle", { cx: at(1), cy: at(-1), r: 5, fill: VERMILION }),
        element("circle", { cx: at(0), cy: at(0), r: 4, fill: "none", stroke: "currentColor", "stroke-width": 2 })
      );
    }

    function drawRange(now) {
      const inner = { width: PLOT.width - PLOT.left - PLOT.right, height: PLOT.height - PLOT.top - PLOT.bottom };
      const x = (power) => PLOT.left + ((power - RANGE.x[0]) / (RANGE.x[1] - RANGE.x[0])) * inner.width;
      const y = (power) => PLOT.top + (1 - (power - RANGE.y[0]) / (RANGE.y[1] - RANGE.y[0])) * inner.height;
      const steps = (root) => Math.log10(Math.max(1, Math.log(10) / -Math.log(Math.max(root, 1e-9))));
      const curve = (mu) => {
        const points = [];
        for (let power = RANGE.x[0]; power <= RANGE.x[1]; power += 0.02) {
          const root = momentum.modulus({ rate: 10 ** power * (1 - mu), momentum: mu }, 1);
          if (root < 1) points.push(`${x(power).toFixed(1)},${y(Math.min(steps(root), RANGE.y[1])).toFixed(1)}`);
        }
        return points.join(" ");
      };
      const words = (text, place) => element("text", { fill: "currentColor", "font-size": 11, ...place }, text);
      const limit = Math.log10((2 * (1 + state.momentum)) / (1 - state.momentum));
      const parts = [
        element("rect", { x: x(limit), y: PLOT.top, width: Math.max(0, x(RANGE.x[1]) - x(limit)), height: inner.height, fill: VERMILION, opacity: 0.15 }),
        element("line", { x1: PLOT.left, x2: PLOT.left, y1: PLOT.top, y2: y(0), stroke: "currentColor" }),
        element("line", { x1: PLOT.left, x2: x(RANGE.x[1]), y1: y(0), y2: y(0), stroke: "currentColor" }),
        element("polyline", { points: curve(0), fill: "none", stroke: "currentColor", opacity: 0.4, "stroke-dasharray": "4 3" }),
        element("polyline", { points: curve(state.momentum), fill: "none", stroke: "currentColor", "stroke-width": 2 }),
        words("effective rate x curvature", { x: PLOT.left, y: PLOT.height - 6 }),
        words("explodes", { x: x(RANGE.x[1]) - 2, y: PLOT.top + 12, "text-anchor": "end" }),
      ];
      for (const power of [-2, 0, 2]) parts.push(words(short(10 ** power), { x: x(power), y: y(0) + 14, "text-anchor": "middle" }));
      for (const power of [0, 1, 2, 3]) parts.push(words(String(10 ** power), { x: PLOT.left - 4, y: y(power) + 4, "text-anchor": "end" }));
      momentum.CURVATURES.forEach((curvature, i) => {
        const power = Math.log10(effective() * curvature);
        const root = momentum.modulus(now, curvature);
        const height = root < 1 ? Math.min(steps(root), RANGE.y[1]) : RANGE.y[1];
        parts.push(
          element("circle", { cx: x(Math.min(Math.max(power, RANGE.x[0]), RANGE.x[1])), cy: y(height), r: 5, fill: i ? BLUE : VERMILION, stroke: "currentColor" })
        );
      });
      plot.replaceChildren(...parts);
    }

    function read(now, path, cloud) {
      const limit = (2 * (1 + state.momentum)) / (1 - state.momentum);
      const last = path[path.length - 1];
      const says = [
        `Rate ${short(now.rate)}, effective rate ${short(effective())}. In the steep direction effective rate times curvature is ` +
          `${short(effective())}; with momentum ${state.momentum} the limit is ${short(limit)}: `,
        effective() < limit ? "stable. " : "it explodes. ",
      ];
      if (!state.noise) says.push(`After ${path.length - 1} steps: steep ${short(Math.abs(last[0]))}, shallow ${short(Math.abs(last[1]))} from the bottom.`);
      else if (effective() < limit) {
        const mean = cloud.reduce((sum, [steep]) => sum + steep, 0) / cloud.length;
        const spread = Math.sqrt(cloud.reduce((sum, [steep]) => sum + (steep - mean) ** 2, 0) / cloud.length);
        says.push(
          `Spread of ${COPIES} descents in the steep direction: ${spread.toFixed(2)}; ` +
            `in the long run, by the equation, ${Math.sqrt(momentum.variance(now, momentum.CURVATURES[0])).toFixed(2)}.`
        );
      }
      reading.textContent = says.join("");
    }

    place.append(
      element(
        "div",
        { class: "unet-controls" },
        slider("effective rate", { min: -1, max: 3, step: 0.1, value: state.power, words: (power) => short(10 ** power) }, change("power")),
        slider("momentum", { min: 0, max: 0.99, step: 0.01, value: state.momentum }, change("momentum")),
        slider("noise", { min: 0, max: 0.5, step: 0.02, value: state.noise }, change("noise")),
        element("button", { type: "button", click: () => change("seed")(state.seed + 1) }, "Draw again")
      ),
      element(
        "div",
        { class: "unet-views" },
        element(
          "figure",
          {},
          valley,
          element("figcaption", {}, `${STEPS} steps from the orange dot; the ring is the bottom. Up and down it is 100 times steeper than across. With noise: blue, where ${COPIES} such descents end.`)
        ),
        element(
          "figure",
          {},
          plot,
          element("figcaption", {}, "Steps until the error is a tenth. Solid: this momentum; dashed: none. Orange: the steep direction, blue: the shallow one.")
        )
      ),
      reading
    );
    update();
  });
})();

// Deformation explorer: the standard deviation and the grid of section 3.1, on a drawn tissue.
// In a chapter, one line:
//
//     <div data-widget="deformation-explorer">On the book's web page a deformation can be moved here.</div>
(function () {
  "use strict";

  const { element, slider, field, define, deformation } = window.unetWidgets;
  const SIZE = 256;
  const LINES = 32;

  // Cells around random centres, dark membranes between them, and a square grid on top.
  function tissue() {
    const next = deformation.normals(7);
    const centres = [];
    for (let y = -1; y < 8; y++)
      for (let x = -1; x < 8; x++)
        centres.push([32 * (y + 0.5) + 9 * next(), 32 * (x + 0.5) + 9 * next(), 150 + 25 * next()]);
    return (y, x, withLines) => {
      const near = (at) => Math.abs(at - LINES * Math.round(at / LINES)) < 0.7;
      if (withLines && (near(y) || near(x))) return [0, 114, 178];
      let [least, other, grey] = [Infinity, Infinity, 0];
      for (const [v, u, shade] of centres) {
        const distance = Math.hypot(y - v, x - u);
        if (distance < least) [other, least, grey] = [least, distance, shade];
        else if (distance < other) other = distance;
      }
      const value = other - least < 3 ? 45 : Math.min(Math.max(grey, 110), 215);
      return [value, value, value];
    };
  }

  function mirror(at) {
    const inside = ((at % (2 * SIZE - 2)) + 2 * SIZE - 2) % (2 * SIZE - 2);
    return Math.min(inside, 2 * SIZE - 2 - inside);
  }

  define("deformation-explorer", (place) => {
    const state = { sigma: 10, grid: 3, seed: 1, lines: true, arrows: true };
    const picture = tissue();
    const canvas = element("canvas", {
      role: "img", width: SIZE, height: SIZE,
      "aria-label": "Cells with membranes under a square grid, warped by the deformation",
    });
    const reading = element("p", { class: "unet-note", role: "status" });
    const change = (name) => (value) => {
      state[name] = value;
      request();
    };
    const tick = (name) =>
      element("input", {
        type: "checkbox", checked: true,
        input: (event) => change(name)(event.target.checked),
      });
    let waiting = false;

    // At most one picture for each frame, however fast the slider moves.
    function request() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        update();
      });
    }

    function update() {
      const vectors = deformation.drawVectors(state.seed, state.grid, state.sigma);
      const both = deformation.displacementField(vectors, SIZE, SIZE);
      const [down, across] = both;
      const context = canvas.getContext("2d");
      const pixels = context.createImageData(SIZE, SIZE);
      let longest = 0;
      for (let i = 0; i < SIZE * SIZE; i++) {
        const [y, x] = [Math.floor(i / SIZE), i % SIZE];
        const from = [mirror(y + down[i]), mirror(x + across[i])];
        pixels.data.set([...picture(...from, state.lines), 255], 4 * i);
        longest = Math.max(longest, Math.hypot(down[i], across[i]));
      }
      context.putImageData(pixels, 0, 0);
      if (state.arrows) drawArrows(context, vectors);
      const folded = 100 * deformation.foldedShare(both, SIZE, SIZE);
      reading.textContent =
        `Draw ${state.seed}: the farthest pixel moves by ${longest.toFixed(1)} px. ` +
        (folded ? `The image is folded over itself in ${folded.toFixed(1)} % of its area.` : "Nothing folds.");
    }

    function drawArrows(context, [down, across]) {
      const step = state.grid > 1 ? (SIZE - 1) / (state.grid - 1) : 0;
      context.fillStyle = context.strokeStyle = "#d55e00";
      context.lineWidth = 2.5;
      down.forEach((row, i) =>
        row.forEach((dy, j) => {
          const [y, x] = state.grid > 1 ? [i * step, j * step] : [SIZE / 2, SIZE / 2];
          const dx = across[i][j];
          context.beginPath();
          context.moveTo(x, y);
          context.lineTo(x + dx, y + dy);
          context.stroke();
          context.beginPath();
          context.arc(x + dx, y + dy, 4, 0, 2 * Math.PI);
          context.fill();
        })
      );
    }

    place.append(
      element(
        "div",
        { class: "unet-controls" },
        slider("sigma", { min: 0, max: 40, step: 1, value: state.sigma, unit: "px" }, change("sigma")),
        slider("grid", { min: 1, max: 12, step: 1, value: state.grid, unit: "vectors a side" }, change("grid")),
        field("grid lines", tick("lines")),
        field("arrows", tick("arrows")),
        element("button", { type: "button", click: () => change("seed")(state.seed + 1) }, "Draw again")
      ),
      element(
        "div",
        { class: "unet-views" },
        element(
          "figure",
          { class: "unet-square" },
          canvas,
          element(
            "figcaption",
            {},
            `An image of ${SIZE} x ${SIZE} pixels; the lines were straight and ${LINES} px apart. ` +
              "An arrow leads from a pixel to the place in the image that it is read from."
          )
        )
      ),
      reading
    );
    update();
  });
})();

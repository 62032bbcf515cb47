// What one output pixel sees: a click on a micrograph shows its receptive field and the gradient.
// In a chapter, one line:
//
//     <div data-widget="receptive-field">On the book's web page the receptive field can be seen here.</div>
//
// The maps in field/ are computed by tools/book_fields.py when the book is built.
(function () {
  "use strict";

  const { element, slider, field, define, fields } = window.unetWidgets;
  const SCALE = 2; // pixels of the canvas in a pixel of the image

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  // From black through red to yellow; what pulls little lets the picture through.
  const heat = (v) => [Math.min(255, 3 * v), Math.max(0, 1.5 * v - 128), 0, Math.min(235, 1.4 * v)];

  define("receptive-field", (place) => {
    if (!fields) {
      place.append("The maps of this picture are made when the book is built, and are not here.");
      return;
    }
    const { side, bin, widest, margin, places, spans } = fields;
    const cells = widest / bin;
    const output = side - 2 * margin;
    const maps = Object.fromEntries(
      Object.entries(fields.networks).map(([name, one]) => [name, bytes(one.maps)])
    );
    const middle = Math.floor(places.length / 2);
    const state = { row: middle, column: middle, network: "trained", heat: true };
    const picture = new Image();
    const canvas = element("canvas", {
      width: side * SCALE, height: side * SCALE, role: "img",
      "aria-label": "Micrograph with the receptive field of the chosen output pixel",
    });
    const layer = element("canvas", { width: cells, height: cells });
    const reading = element("p", { class: "unet-note", role: "status" });

    const apart = places[1] - places[0];
    const last = places[places.length - 1];
    const control = (name) =>
      slider(`${name} of the output pixel`, { min: 0, max: last, step: apart, value: places[state[name]] }, (value) => {
        state[name] = places.indexOf(value);
        update();
      });
    const controls = { row: control("row"), column: control("column") };
    const network = element(
      "select",
      {
        input: () => {
          state.network = network.value;
          update();
        },
      },
      element("option", { value: "trained" }, "trained"),
      element("option", { value: "drawn" }, "as drawn, before training")
    );
    const shown = element("input", {
      type: "checkbox", checked: true,
      input: () => {
        state.heat = shown.checked;
        update();
      },
    });

    function choose(event) {
      const box = canvas.getBoundingClientRect();
      const index = (at, from, length) => {
        const pixel = ((at - from) / length) * side - margin;
        return Math.min(Math.max(Math.round(pixel / apart), 0), places.length - 1);
      };
      state.row = index(event.clientY, box.top, box.height);
      state.column = index(event.clientX, box.left, box.width);
      for (const name of ["row", "column"]) controls[name].set(places[state[name]]);
      update();
    }
    canvas.addEventListener("pointerdown", choose);
    canvas.addEventListener("pointermove", (event) => event.buttons && choose(event));

    const number = () => state.row * places.length + state.column;

    function drawHeat(context) {
      const small = layer.getContext("2d");
      const pixels = small.createImageData(cells, cells);
      const from = number() * cells * cells;
      for (let i = 0; i < cells * cells; i++) pixels.data.set(heat(maps[state.network][from + i]), 4 * i);
      small.putImageData(pixels, 0, 0);
      const size = widest * SCALE;
      context.imageSmoothingEnabled = false;
      context.drawImage(layer, spans[state.column][0] * SCALE, spans[state.row][0] * SCALE, size, size);
    }

    function outline(context, x, y, width, height, colour, dash = []) {
      context.setLineDash(dash);
      for (const [stroke, line] of [["#000", 6], [colour, 3]]) {
        context.strokeStyle = stroke;
        context.lineWidth = line;
        context.strokeRect(x * SCALE, y * SCALE, width * SCALE, height * SCALE);
      }
    }

    function update() {
      const context = canvas.getContext("2d");
      context.drawImage(picture, 0, 0, canvas.width, canvas.height);
      if (state.heat) drawHeat(context);
      const [row, column] = [spans[state.row], spans[state.column]];
      const [tall, wide] = [row, column].map(([first, end]) => end - first + 1);
      outline(context, margin, margin, output, output, "#ffffff", [10, 8]);
      outline(context, column[0], row[0], wide, tall, "#56b4e9");
      outline(context, places[state.column] + margin - 3, places[state.row] + margin - 3, 7, 7, "#56b4e9");
      const [half, most] = fields.networks[state.network].sides[number()];
      reading.textContent =
        `Output pixel (${places[state.row]}, ${places[state.column]}) sees rows ${row[0]} to ${row[1]} (${tall}) and ` +
        `columns ${column[0]} to ${column[1]} (${wide}) of the image. Half of the gradient lies in a square of ` +
        `${half} pixels around it, 95 % in one of ${most}.`;
    }

    place.append(
      element(
        "div",
        { class: "unet-controls" },
        controls.row, controls.column, field("network", network), field("show the gradient", shown)
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
            `A slice of ${side} x ${side} pixels. Dashed: the ${output} x ${output} pixels that get an answer. ` +
              `Click one; every ${apart}th in each direction is computed.`
          )
        ),
        element(
          "div",
          {},
          reading,
          element(
            "p",
            { class: "unet-note" },
            "The blue square is what can change the answer. The colours say how much it does, from nothing through red to yellow: the size of the gradient."
          )
        )
      )
    );
    update();
    picture.addEventListener("load", update);
    picture.src = `data:image/jpeg;base64,${fields.picture}`;
  });
})();

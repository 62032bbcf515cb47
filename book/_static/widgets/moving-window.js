// Moving window: the reader drags a window over an image, edits the kernel, and predicts each output
// pixel before it is shown. In a chapter, one line:
//
//     <div data-widget="moving-window">On the book's web page a window can be moved here.</div>
(function () {
  "use strict";

  const { element, field, define } = window.unetWidgets;
  const SIDE = 3;
  const CELL = 40;
  const ENOUGH = 3;
  const rows = (...lines) => lines.map((line) => line.split(" ").map(Number));
  const IMAGES = {
    "an edge": rows(
      "0 0 0 1 1 1 1", "0 0 0 1 1 1 1", "0 0 1 1 1 2 2", "0 0 1 1 2 2 2", "0 1 1 2 2 2 2", "1 1 2 2 2 2 2", "1 1 2 2 2 2 2"
    ),
    "a spot": rows(
      "0 0 0 0 0 0 0", "0 0 0 0 0 0 0", "0 0 1 2 1 0 0", "0 0 2 3 2 0 0", "0 0 1 2 1 0 0", "0 0 0 0 0 0 0", "0 0 0 0 0 0 0"
    ),
    stripes: Array.from({ length: 7 }, () => [0, 2, 0, 2, 0, 2, 0]),
  };
  const KERNELS = {
    "right minus left": rows("-1 0 1", "-1 0 1", "-1 0 1"),
    "below minus above": rows("-1 -1 -1", "0 0 0", "1 1 1"),
    "sum of all nine": rows("1 1 1", "1 1 1", "1 1 1"),
    "middle against its neighbours": rows("0 -1 0", "-1 4 -1", "0 -1 0"),
    "the pixel on the left": rows("0 0 0", "1 0 0", "0 0 0"),
  };
  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  // The nine products under the window at row i, column j.
  const products = (image, kernel, i, j) =>
    kernel.flatMap((line, m) => line.map((w, l) => w * image[i + m][j + l]));
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const convolve = (image, kernel) =>
    Array.from({ length: image.length - SIDE + 1 }, (_, i) =>
      Array.from({ length: image[0].length - SIDE + 1 }, (_, j) => sum(products(image, kernel, i, j)))
    );
  window.unetWidgets.movingWindow = { IMAGES, KERNELS, convolve };

  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const plain = (number) => String(Number(number.toFixed(3))).replace("-", "−");

  define("moving-window", (place) => {
    let image = IMAGES["an edge"];
    let kernel = KERNELS["right minus left"].map((line) => [...line]);
    let [row, column] = [1, 0];
    let found = new Set(); // output pixels that are shown, as "row,column"
    let right = 0; // how many of them were predicted

    const options = (names, ...more) => [...names, ...more].map((name) => element("option", { value: name }, name));
    const choice = element("select", { change: () => restart(() => (image = IMAGES[choice.value])) }, ...options(Object.keys(IMAGES)));
    const preset = element(
      "select",
      { change: () => preset.value in KERNELS && restart(() => fill(KERNELS[preset.value])) },
      ...options(Object.keys(KERNELS), "your own")
    );
    const grid = (attributes) => element("svg", { class: "unet-numbers", ...attributes });
    const picture = grid({
      tabindex: 0, role: "application", "aria-label": "Image. Arrow keys move the window.",
      pointerdown: drag, pointermove: (event) => event.buttons && drag(event), keydown: step,
    });
    const output = grid({ role: "img", pointerdown: pick });
    const inputs = kernel.map((line, m) =>
      line.map((_, l) =>
        element("input", {
          type: "number", step: "any", inputmode: "text", "aria-label": `Kernel, row ${m}, column ${l}`, input: edit,
        })
      )
    );
    const guess = element("input", {
      type: "number", step: "any", inputmode: "text", keydown: (event) => event.key === "Enter" && check(),
    });
    const button = (text, click) => element("button", { type: "button", click }, text);
    const rest = button("Fill in the rest", () => {
      convolve(image, kernel).forEach((line, i) => line.forEach((_, j) => found.add(`${i},${j}`)));
      say("The whole output, every window with the same nine numbers.");
    });
    const where = element("p", { class: "unet-note" });
    const verdict = element("div", { class: "unet-verdict", role: "status" });

    function fill(numbers) {
      kernel = numbers.map((line) => [...line]);
      inputs.forEach((line, m) => line.forEach((input, l) => (input.value = kernel[m][l])));
    }

    function restart(change) {
      change();
      [found, right] = [new Set(), 0];
      say("Predict the framed output pixel.");
    }

    function edit() {
      restart(() => (kernel = inputs.map((line) => line.map((input) => Number(input.value) || 0))));
      preset.value = "your own";
    }

    function move(i, j) {
      [row, column] = [clamp(i, image.length - SIDE), clamp(j, image[0].length - SIDE)];
      guess.value = "";
      say(found.has(`${row},${column}`) ? "This one is known." : "Predict the framed output pixel.");
    }

    function step(event) {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      move(row + STEPS[event.key][0], column + STEPS[event.key][1]);
    }

    function pixel(event, shape, svg) {
      const box = svg.getBoundingClientRect();
      return [((event.clientY - box.top) / box.height) * shape, ((event.clientX - box.left) / box.width) * shape].map(Math.floor);
    }

    function drag(event) {
      if (event.type === "pointerdown") picture.setPointerCapture(event.pointerId);
      const [i, j] = pixel(event, image.length, picture);
      const at = [clamp(i - 1, image.length - SIDE), clamp(j - 1, image.length - SIDE)];
      if (at[0] !== row || at[1] !== column) move(...at);
    }

    function pick(event) {
      move(...pixel(event, image.length - SIDE + 1, output));
    }

    function check() {
      const exact = sum(products(image, kernel, row, column));
      if (guess.value === "") say("Type a number first.", false);
      else if (Math.abs(Number(guess.value) - exact) > 1e-6) {
        const nine = products(image, kernel, row, column).map(plain);
        say(`Not ${plain(Number(guess.value))}. The nine products are ${nine.join(", ")}. Add them up.`, false);
      } else {
        if (!found.has(`${row},${column}`)) right += 1;
        found.add(`${row},${column}`);
        say(`Right, ${plain(exact)}. ${right} predicted${right < ENOUGH ? "" : "; the rest can be filled in now"}.`);
      }
    }

    function show() {
      found.add(`${row},${column}`);
      const terms = products(image, kernel, row, column).map((one) => (one < 0 ? `(${plain(one)})` : plain(one)));
      say(`${terms.join(" + ")} = ${plain(sum(products(image, kernel, row, column)))}.`);
    }

    function say(sentence, good = true) {
      verdict.textContent = sentence;
      verdict.classList.toggle("unet-bad", !good);
      draw();
    }

    // Numbers in squares, orange above zero and blue below, with one frame.
    function squares(svg, numbers, frame) {
      const side = numbers.length;
      const most = Math.max(1, ...numbers.flat().map((one) => Math.abs(one ?? 0)));
      svg.setAttribute("viewBox", `-2 -2 ${side * CELL + 4} ${side * CELL + 4}`);
      const cells = numbers.flatMap((line, i) =>
        line.flatMap((number, j) => [
          element("rect", {
            x: j * CELL, y: i * CELL, width: CELL, height: CELL, stroke: "currentColor", "stroke-width": 0.5,
            fill: number < 0 ? "#0072b2" : "#e69f00", "fill-opacity": (0.55 * Math.abs(number ?? 0)) / most,
          }),
          element(
            "text",
            { x: (j + 0.5) * CELL, y: (i + 0.5) * CELL + 6, "text-anchor": "middle", "font-size": 17, fill: "currentColor" },
            number === null ? "?" : plain(number)
          ),
        ])
      );
      const [i, j, size] = frame;
      const style = { fill: "none", stroke: "#d55e00", "stroke-width": 4 };
      cells.push(element("rect", { x: j * CELL, y: i * CELL, width: size * CELL, height: size * CELL, ...style }));
      svg.replaceChildren(...cells);
    }

    function draw() {
      const known = convolve(image, kernel).map((line, i) =>
        line.map((number, j) => (found.has(`${i},${j}`) ? number : null))
      );
      squares(picture, image, [row, column, SIDE]);
      squares(output, known, [row, column, 1]);
      const total = known.flat().length;
      output.setAttribute("aria-label", `Output: ${found.size} of ${total} pixels are shown.`);
      const seen = image.slice(row, row + SIDE).map((line) => line.slice(column, column + SIDE).join(" "));
      where.textContent = `Window at row ${row}, column ${column}: ${seen.join(", ")}.`;
      rest.hidden = right < ENOUGH || found.size === total;
    }

    const caption = (text) => element("figcaption", {}, text);
    place.append(
      element("div", { class: "unet-controls" }, field("image", choice), field("kernel", preset)),
      element(
        "div",
        { class: "unet-window" },
        element("figure", {}, picture, caption("image: drag the window")),
        element(
          "figure",
          { class: "unet-kernel", role: "group", "aria-label": "Kernel" },
          element("div", {}, ...inputs.flat()),
          caption("kernel: type other numbers")
        ),
        element("figure", {}, output, caption("output"))
      ),
      where,
      element(
        "div",
        { class: "unet-controls unet-guess" },
        field("your guess", guess), button("Check", check), button("Show it", show), rest
      ),
      verdict
    );
    fill(kernel);
    say("Predict the framed output pixel.");
  });
})();

// The page's main widget: choose an image, watch a tile or the whole of it go through the network, look
// at the answer and keep it. In a page, one line:
//
//     <div data-widget="live">On the book's web page a U-Net computes here.</div>
(function () {
  "use strict";

  const { base, element, slider, field, define, live } = window.unetWidgets;
  const { session, files, cells, figure } = live;
  const SAMPLES = { em: "EM membranes", hela: "HeLa cells", u373: "U373 cells" };
  const TILES = [220, 316, 444, 572];
  const ORANGE = [213, 94, 0];
  // Okabe and Ito's colours, one after another, for neighbours that can be told apart.
  const COLOURS = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]];

  document.head.append(element("link", { rel: "stylesheet", href: `${base}live/live.css` }));

  const bySize = ({ height, width }) => `${height} × ${width}`;
  const seconds = (ms) => (ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

  // Grey bytes from the darkest to the lightest value.
  function pictureOf({ values, width, height }) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    const grey = Uint8ClampedArray.from(values, (value) => (255 * (value - low)) / (high - low || 1));
    return { width, height, grey };
  }

  // ---- drawing

  const mix = (data, i, colour, share) => {
    for (let c = 0; c < 3; c++) data[4 * i + c] += share * (colour[c] - data[4 * i + c]);
  };

  const OVERLAYS = {
    none() {},
    probability: (data, { answer }) => answer.forEach((p, i) => p >= 0 && mix(data, i, COLOURS[4], 0.7 * p)),
    outline(data, { answer, width, height }, threshold) {
      const side = Int8Array.from(answer, (p) => (Number.isNaN(p) ? -1 : Number(p > threshold)));
      cells.outline(side, height, width).forEach((on, i) => on && mix(data, i, ORANGE, 1));
    },
    numbered(data, image, threshold) {
      const { ids } = numbers(image, threshold);
      ids.forEach((id, i) => id && mix(data, i, COLOURS[id % 7], 0.55));
    },
  };

  // Kept until threshold or answer change: a large image takes a while.
  function numbers(image, threshold) {
    const key = `${threshold} ${image.version}`;
    if (!image.numbers || image.numbers.key !== key) {
      const { answer, width, height } = image;
      image.numbers = { key, ...cells.number(answer, height, width, session.network.limits, threshold) };
    }
    return image.numbers;
  }

  function paint(canvas, image, state) {
    const { width, height, picture } = image;
    const context = figure.draw(canvas, picture, (data) => OVERLAYS[state.show](data, image, state.threshold));
    if (state.show === "numbered") writeNumbers(context, image, state.threshold);
    context.lineWidth = Math.max(1.5, width / 200);
    for (const { top, left, height: h, width: w, colour, dash } of state.frames) {
      context.strokeStyle = colour;
      context.setLineDash(dash.map((length) => length * context.lineWidth));
      context.strokeRect(left, top, w, h);
    }
    cross(context, session.point);
  }

  function writeNumbers(context, image, threshold) {
    const { ids, count } = numbers(image, threshold);
    const size = Math.max(11, image.width / 24);
    Object.assign(context, { font: `bold ${size}px sans-serif`, textAlign: "center", textBaseline: "middle", lineWidth: size / 6 });
    cells.centres(ids, count, image.width).forEach(([y, x, pixels], id) => {
      if (!id || pixels < 2 * size ** 2) return;
      context.strokeStyle = "#000";
      context.fillStyle = "#fff";
      context.strokeText(id, x, y);
      context.fillText(id, x, y);
    });
  }

  function cross(context, [y, x]) {
    const arm = 4 * context.lineWidth;
    context.setLineDash([]);
    context.strokeStyle = "#cc79a7";
    context.beginPath();
    context.moveTo(x + 0.5 - arm, y + 0.5);
    context.lineTo(x + 0.5 + arm, y + 0.5);
    context.moveTo(x + 0.5, y + 0.5 - arm);
    context.lineTo(x + 0.5, y + 0.5 + arm);
    context.stroke();
  }

  // The probability from black to white; blue where nothing is known yet.
  function paintAnswer(canvas, { answer, width, height }) {
    const grey = Uint8ClampedArray.from(answer, (p) => 255 * p);
    const context = figure.draw(canvas, { width, height, grey }, (data) =>
      answer.forEach((p, i) => Number.isNaN(p) && mix(data, i, COLOURS[1], 0.4))
    );
    context.lineWidth = Math.max(1.5, width / 200);
    cross(context, session.point);
  }

  // ---- the widget

  function mount(place) {
    const state = { show: "outline", threshold: 0.5, frames: [], page: 0, file: null };
    const error = element("p", { role: "alert", class: "live-error", hidden: true });
    const status = element("p", { role: "status", class: "unet-note" });
    const progress = element("progress", { max: 1, value: 0, "aria-label": "Progress of the computation" });
    const stop = element("button", { type: "button", disabled: true, click: session.stop }, "Stop");
    const say = (...words) => (status.textContent = words.filter(Boolean).join(" "));

    function fail(problem, ...more) {
      if (problem.message === "stopped") return say("Stopped. What was computed stays.");
      error.hidden = false;
      error.replaceChildren(problem.message, ...more);
      say("");
    }

    // One computation at a time; what goes wrong is one line, and the page stays as it was.
    async function attempt(what) {
      error.hidden = true;
      try {
        return await session.alone(what);
      } catch (problem) {
        fail(problem, ...(problem.tooLarge ? [" ", cutButton()] : []));
        return undefined;
      }
    }

    // ---- choosing

    const network = element(
      "select", { input: () => session.network && changeNetwork() },
      ...Object.entries(SAMPLES).map(([value, words]) => element("option", { value }, words))
    );
    const file = element("input", { type: "file", accept: ".png,.jpg,.jpeg,.tif,.tiff,image/png,image/jpeg,image/tiff", input: () => file.files[0] && open(file.files[0]) });
    const page = element("input", { type: "number", min: 1, value: 1, change: () => open(state.file, { page: Math.max(0, Number(page.value) - 1 || 0) }) });
    const pageField = field("page of the stack", page);
    pageField.hidden = true;

    const cutButton = () =>
      element("button", { type: "button", click: () => open(state.file, { cut: true, page: state.page }) }, `Take its middle, ${files.SIDE} × ${files.SIDE}`);

    async function sample(name) {
      say(`Loading the ${SAMPLES[name]} and their network.`);
      const done = await attempt(async () => {
        await session.useSample(name);
        network.value = name;
        return true;
      });
      pageField.hidden = true;
      if (done) await watch();
    }

    async function open(chosen, options = {}) {
      state.file = chosen;
      state.page = options.page || 0;
      say(`Reading ${chosen.name}.`);
      const image = await attempt(async () => {
        const read = await files.read(chosen, options);
        await session.useNetwork(network.value);
        const words = `${chosen.name}, ${bySize(read)} pixels of ${read.bits} bits.`;
        const own = { ...read, name: chosen.name.replace(/\.\w+$/, ""), words, colour: read.colour };
        await session.useImage(own);
        return own;
      });
      if (!image) return;
      pageField.hidden = image.pages < 2;
      page.max = image.pages;
      page.value = Math.min(state.page, image.pages - 1) + 1;
      await watch();
    }

    async function changeNetwork() {
      say("Loading the network.");
      if (await attempt(() => session.useNetwork(network.value).then(() => true))) await (session.image && watch());
    }

    // ---- computing

    const tile = element(
      "select", { input: () => (session.tile = Number(tile.value)) },
      ...TILES.map((size) => element("option", { value: size, selected: size === session.tile }, `${size} × ${size}`))
    );
    const seven = element("input", { type: "checkbox" });
    const segment = element("button", { type: "button", disabled: true, click: whole }, "Segment the whole image");
    const here = element("button", { type: "button", disabled: true, click: watch }, "Watch the tile here");

    const frame = ({ top, left, height, width }, colour, dash = []) => ({ top, left, height, width, colour, dash });
    function tileFrames(one) {
      const half = session.network.table.margin / 2;
      const inner = { top: one.top + half, left: one.left + half, height: one.height - 2 * half, width: one.width - 2 * half };
      return [frame(one, "#56b4e9", [4, 3]), frame(inner, "#56b4e9")];
    }

    // A tile's answer to its place in the image; what lies beyond the border is left out.
    function paste({ probability, height, width }, top, left) {
      const { image } = session;
      for (let y = 0; y < Math.min(height, image.height - top); y++)
        image.answer.set(probability.subarray(y * width, y * width + Math.min(width, image.width - left)), (top + y) * image.width + left);
      image.version++;
    }

    // Before its tiles, a network with instance normalisation goes over the whole image.
    const measuring = (next) => ({ share }) => {
      progress.value = share;
      say(share < 1 ? "Measuring mean and variance of each channel over the whole image." : next);
    };

    async function watch() {
      const begin = performance.now();
      const count = u.count() || 1;
      await attempt(async () => {
        if (!session.image) throw new Error("There is no image yet; choose a sample or a file of your own.");
        const one = session.place();
        state.frames = tileFrames(one);
        u.empty();
        const words = `Computing a tile of ${bySize(one)} pixels.`;
        say(words);
        draw();
        const hear = {
          statistics: measuring(words),
          box(data) {
            u.fill(data);
            progress.value = u.done() / count;
          },
        };
        const found = await session.ask({ do: "tile", place: one }, (event, data) => hear[event](data));
        const half = session.network.table.margin / 2;
        paste(found, one.top + half, one.left + half);
        draw();
        await u.reopen();
        say(`The tile of ${bySize(one)} pixels took ${seconds(performance.now() - begin)}: an answer for ${bySize(found)} pixels.`, notes());
      });
    }

    async function whole() {
      const begin = performance.now();
      await attempt(async () => {
        const { image } = session;
        session.forget();
        const words = "Computing the whole image, tile by tile.";
        say(words);
        let finished = 0;
        const hear = {
          statistics: measuring(words),
          box(data) {
            u.fill(data);
            progress.value = (finished + u.done() / u.count()) / progress.total;
          },
          tile({ done, total, place: one }) {
            u.empty();
            [finished, progress.total] = [done, total];
            state.frames = one ? tileFrames(one) : [];
            draw();
          },
          part({ done, total, answer }) {
            if (answer) known(answer);
            say(`Tile ${done} of ${total}.`);
          },
        };
        const command = { do: "whole", tile: session.tile, averaging: seven.checked ? 7 : 1 };
        const { answer, total } = await session.ask(command, (event, data) => hear[event](data));
        known(answer);
        image.whole = true;
        state.frames = [];
        say(`Done: ${bySize(image)} pixels in ${total} tile${total > 1 ? "s" : ""}, ${seconds(performance.now() - begin)}.`, result(), notes());
      });
    }

    // An answer for the whole image, NaN where no tile was yet.
    function known(answer) {
      session.image.answer = answer;
      session.image.version++;
      draw();
    }

    const notes = () => (session.image.colour ? "It is a colour image; the network reads its grey values." : "");

    function result() {
      const { answer } = session.image;
      const inside = answer.reduce((sum, p) => sum + (p > state.threshold), 0);
      const { count } = numbers(session.image, state.threshold);
      return `${((100 * inside) / answer.length).toFixed(1)} % of the pixels are cell; ${count} ${count === 1 ? "part is" : "parts are"} numbered.`;
    }

    // ---- looking

    const views = [
      element("canvas", { role: "img", width: 1, height: 1, "aria-label": "The image, with what was found over it" }),
      element("canvas", { role: "img", width: 1, height: 1, "aria-label": "The probability of cell in each pixel" }),
    ];
    const caption = element("figcaption");
    const [row, column] = ["row", "column"].map((name, axis) => {
      const input = element("input", { type: "number", min: 0, value: 0, input: () => choose(axis, Number(input.value)) });
      return input;
    });
    const look = element("button", { type: "button", disabled: true, click: seen }, "Show its receptive field");
    const show = element(
      "select", { input: () => change("show", show.value) },
      element("option", { value: "outline" }, "outline"),
      element("option", { value: "numbered" }, "numbered parts"),
      element("option", { value: "probability" }, "probability"),
      element("option", { value: "none" }, "image alone")
    );
    const threshold = slider("threshold", { min: 0.01, max: 0.99, step: 0.01, value: 0.5 }, (value) => change("threshold", value));
    const keep = element("button", { type: "button", disabled: true, click: save }, "Download the label map");

    function change(name, value) {
      state[name] = value;
      draw();
      if (session.image && session.image.whole && !session.busy) later(() => say(result()));
    }

    function choose(axis, value) {
      const { image } = session;
      if (!image) return;
      const size = [image.height, image.width][axis];
      session.point[axis] = Math.min(Math.max(Math.floor(value) || 0, 0), size - 1);
      draw();
    }

    function pixelAt(event) {
      const box = event.target.getBoundingClientRect();
      const { width, height } = session.image;
      session.point = [
        Math.min(Math.floor(((event.clientY - box.top) / box.height) * height), height - 1),
        Math.min(Math.floor(((event.clientX - box.left) / box.width) * width), width - 1),
      ].map((at) => Math.max(at, 0));
      [row.value, column.value] = session.point;
    }

    views[0].addEventListener("click", (event) => {
      if (!session.image) return;
      pixelAt(event);
      watch();
    });
    views[1].addEventListener("click", (event) => {
      if (!session.image) return;
      pixelAt(event);
      seen();
    });

    // Which pixels of the image decide the answer in the chosen one.
    function seen() {
      const { table } = session.network;
      const { image, point } = session;
      const [rows, columns] = point.map((at) => {
        const within = at % table.size_step;
        return session.engine().receptiveField(table, within).map((edge) => edge + at - within - table.margin / 2);
      });
      const box = { top: rows[0], left: columns[0], height: rows[1] - rows[0] + 1, width: columns[1] - columns[0] + 1 };
      state.frames = [frame(box, "#cc79a7")];
      draw();
      const p = image.answer[point[0] * image.width + point[1]];
      const outside = rows[0] < 0 || columns[0] < 0 || rows[1] >= image.height || columns[1] >= image.width;
      say(
        `Pixel (${point.join(", ")}):`,
        Number.isNaN(p) ? "not computed yet." : `cell with probability ${p.toFixed(3)}.`,
        `Its receptive field is rows ${rows.join(" to ")} and columns ${columns.join(" to ")}, ${bySize(box)} pixels;`,
        outside ? "what lies outside of the image is mirrored." : "no other pixel has a say in it.",
        session.network.measured ? "Mean and variance of each channel are those of the whole image, and are taken as given here." : ""
      );
    }

    async function save() {
      const { image } = session;
      const { ids, count } = numbers(image, state.threshold);
      const link = element("a", { href: URL.createObjectURL(await files.writePng(ids, image.width, image.height)), download: `${image.name}-labels.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      say(`${link.download}: ${count} parts numbered from 1, 0 between them, ${count > 255 ? 16 : 8} bits.`);
    }

    // At most one picture for each frame, however fast a slider moves.
    let waiting = [];
    function later(what) {
      if (!waiting.length)
        requestAnimationFrame(() => {
          const now = waiting;
          waiting = [];
          now.forEach((one) => one());
        });
      if (!waiting.includes(what)) waiting.push(what);
    }
    const draw = () => later(repaint);
    function repaint() {
      if (!session.image) return;
      paint(views[0], session.image, state);
      paintAnswer(views[1], session.image);
      caption.textContent = `A click cuts a tile there. ${session.image.words}`;
    }

    // ---- together

    const inside = element("div");
    const u = figure.mount(inside, { fail });

    session.changed.addEventListener("network", () => {
      state.threshold = session.network.limits ? session.network.limits.threshold : 0.5;
      threshold.set(state.threshold);
      network.value = session.network.name;
    });
    session.changed.addEventListener("image", () => {
      session.image.picture = pictureOf(session.image);
      state.frames = [];
      [row.value, column.value] = session.point;
      [row.max, column.max] = [session.image.height - 1, session.image.width - 1];
      shown.hidden = false;
      draw();
    });
    session.changed.addEventListener("busy", () => {
      const { busy, image } = session;
      stop.disabled = !busy;
      progress.value = 0;
      for (const button of [segment, here, look]) button.disabled = busy || !image;
      keep.disabled = busy || !(image && image.whole);
      place.setAttribute("aria-busy", busy);
    });

    // Anywhere on the page: beside the widget a browser would leave the page for the file.
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      const dropped = event.dataTransfer.files[0];
      if (dropped) open(dropped);
      else fail(new Error("What was dropped is no file, expected a PNG, JPEG or TIFF image."));
    });

    const shown = element(
      "div", { hidden: true },
      element(
        "div", { class: "unet-views" },
        element("figure", {}, views[0], caption),
        element("figure", {}, views[1], element("figcaption", {}, "A click shows what decides the answer there. The probability of cell, black for 0 and white for 1."))
      ),
      element("div", { class: "unet-controls" }, threshold, field("over the image", show), keep),
      element("div", { class: "unet-controls" }, field("row", row), field("column", column), here, look)
    );
    place.append(
      element(
        "div", { class: "unet-controls", role: "group", "aria-label": "Choose an image" },
        ...Object.entries(SAMPLES).map(([name, words]) => element("button", { type: "button", click: () => sample(name) }, words)),
        field("or a file of your own", file), pageField, field("network", network)
      ),
      error,
      element("div", { class: "unet-controls" }, segment, field("tiles of", tile), field("mean over 7 turned versions", seven), stop, progress),
      status, shown, inside
    );
    say("Choose a sample, or drop an image on the page. It stays on this machine: the page sends nothing.");
  }

  define("live", mount);
})();

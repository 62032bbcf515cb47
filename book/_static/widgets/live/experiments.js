// Three experiments on the tile that was chosen last: blur it, hide a part, turn it. In a page, one line:
//
//     <div data-widget="live-blur">On the book's web page the tile can be blurred here.</div>
(function () {
  "use strict";

  const { element, slider, field, define, live } = window.unetWidgets;
  const { session, figure } = live;
  const MOST = 444; // pixels of the tile's side: two passes are kept at once
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

  const CHANGES = {
    blur: {
      button: "Blur and compare",
      control: (change) => slider("standard deviation", { min: 0.5, max: 8, step: 0.5, value: 2, unit: "px" }, change),
      amount: 2,
      words: ({ boxes }, amount) => {
        const last = (block) => boxes.filter(({ name }) => name.startsWith(block)).at(-1).change;
        return `Blurred by ${amount} px: the first level changes by ${percent(last("contract1"))}, the lowest by ${percent(last("contract5"))}, the last by ${percent(last("expand1"))}.`;
      },
    },
    hide: {
      button: "Hide and compare",
      control: (change) => slider("side of the square", { min: 4, max: 96, step: 4, value: 24, unit: "px" }, change),
      amount: 24,
      words: (found, amount) => {
        const far = (limit) => farthest(found, amount, limit);
        return `A square of ${amount} px is as grey as the mean. The answer moves by more than 0.1 as far as ${far(0.1)} px from its edge, by more than 0.001 as far as ${far(0.001)} px. Fig. 1 allows ${reach()} px.`;
      },
    },
    turn: {
      button: "Turn and compare",
      control: (change) =>
        field(
          "turned by",
          element(
            "select", { input: (event) => change(Number(event.target.value)) },
            ...[1, 2, 3].map((quarters) => element("option", { value: quarters }, `${90 * quarters}°`))
          )
        ),
      amount: 1,
      words: (_, quarters) => `Turned by ${90 * quarters}°, and the answer turned back.`,
    },
  };

  // How far an output pixel sees in any direction, from its own place in the image.
  function reach() {
    const { table } = session.network;
    const engine = session.engine();
    const half = table.margin / 2;
    return Array.from({ length: table.size_step }, (_, at) => engine.receptiveField(table, at).map((edge) => Math.abs(edge - at - half)))
      .flat()
      .reduce((a, b) => Math.max(a, b));
  }

  // The largest distance from the square, in rows or columns, at which the answer moves by more than `limit`.
  function farthest({ before, after, height, width }, side, limit) {
    let most = 0;
    const outside = (at, size) => {
      const first = (size - side) >> 1;
      return Math.max(first - at, at - (first + side - 1), 0);
    };
    before.forEach((p, i) => {
      if (Math.abs(p - after[i]) > limit)
        most = Math.max(most, outside(Math.floor(i / width), height), outside(i % width, width));
    });
    return most;
  }

  const threshold = () => (session.network.limits ? session.network.limits.threshold : 0.5);

  function moved({ before, after }) {
    let [other, sum] = [0, 0];
    before.forEach((p, i) => {
      other += p > threshold() !== after[i] > threshold();
      sum += Math.abs(p - after[i]);
    });
    return `The answer moves by ${(sum / before.length).toFixed(3)} on average; ${percent(other / before.length)} of the pixels get another class.`;
  }

  // The part of the tile that the output covers.
  function middle({ values: tile, height, width }) {
    const half = session.network.table.margin / 2;
    const values = [];
    for (let y = half; y < height - half; y++) values.push(...tile.subarray(y * width + half, (y + 1) * width - half));
    return { values, height: height - 2 * half, width: width - 2 * half };
  }

  function view(words, { values, height, width }, low = 0, high = 1) {
    const canvas = element("canvas", { role: "img", "aria-label": words });
    figure.draw(canvas, { height, width, grey: Uint8ClampedArray.from(values, (v) => (255 * (v - low)) / (high - low)) });
    return element("figure", {}, canvas, element("figcaption", {}, words));
  }

  // One row for each block: how much its last map changed.
  function table({ boxes }) {
    const blocks = new Map();
    for (const { name, change } of boxes) if (name !== "input") blocks.set(name.split(".")[0], change);
    const rows = [...blocks].map(([block, change]) =>
      element(
        "tr", {},
        element("th", { scope: "row" }, block),
        element("td", { class: "unet-number" }, percent(change)),
        element("td", { class: "live-bar" }, element("span", { style: `width: ${Math.min(100 * change, 100)}%` }))
      )
    );
    const head = ["block", "change", "as a bar"].map((words) => element("th", { scope: "col" }, words));
    return element(
      "div", { class: "unet-scroll live-changes", tabindex: 0, role: "region", "aria-label": "Change of each block" },
      element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))
    );
  }

  function mount(place, change) {
    const { button, control, amount, words } = CHANGES[change];
    const state = { amount };
    const result = element("div");
    const status = element("p", { role: "status", class: "unet-note" });
    const error = element("p", { role: "alert", class: "live-error", hidden: true });
    const run = element("button", { type: "button", click: compare }, button);
    const progress = element("progress", { max: 1, value: 0, "aria-label": "Progress of the experiment" });
    const stop = element("button", { type: "button", disabled: true, click: session.stop }, "Stop");

    async function compare() {
      error.hidden = true;
      status.textContent = "Computing the tile twice.";
      try {
        await session.alone(async () => {
          if (!session.image) await session.useSample("em");
          const command = { do: "compare", place: session.place(MOST), change, amount: state.amount };
          show(await session.ask(command, (_, { share }) => (progress.value = share)));
        });
      } catch (problem) {
        if (problem.message === "stopped") return void (status.textContent = "Stopped.");
        status.textContent = "";
        error.hidden = false;
        error.textContent = problem.message;
      }
    }

    function show(found) {
      const { before, after, height, width } = found;
      const apart = before.map((p, i) => Math.abs(p - after[i]));
      status.textContent = [words(found, state.amount), moved(found)].join(" ");
      result.replaceChildren(
        element(
          "div", { class: "unet-views live-four" },
          view("What the network got", middle(found.tile), -2, 2),
          view("The answer before", { values: before, height, width }),
          view("The answer now", { values: after, height, width }),
          view("How far it moved", { values: apart, height, width })
        ),
        table(found)
      );
    }

    session.changed.addEventListener("busy", () => {
      run.disabled = session.busy;
      stop.disabled = !session.busy;
      progress.value = 0;
    });
    place.append(
      element("div", { class: "unet-controls" }, control((value) => (state.amount = value)), run, stop, progress),
      error, status, result
    );
  }

  for (const change of Object.keys(CHANGES)) define(`live-${change}`, (place) => mount(place, change));
})();

// The boxes of Fig. 1, which fill as they are computed; each opens its channels.
(function () {
  "use strict";

  const { element, live } = window.unetWidgets;
  const { session } = live;
  const FIRST = 16; // channels that are shown before all are asked for
  const SIDE = 128; // pixels of a channel's picture in the list

  const times = (...numbers) => numbers.join(" × ");
  const shapeOf = ({ channels, height, width }) =>
    height === width ? `${channels}×${height}²` : `${channels}×${height}×${width}`;
  const inMs = (ms) => (ms < 10 ? ms.toFixed(1) : ms.toFixed(0)) + " ms";

  // Grey values on a canvas; `change` may colour the pixels before.
  function draw(canvas, { height, width, grey }, change) {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const whole = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < grey.length; i++) whole[i] = 0xff000000 | (0x010101 * grey[i]);
    if (change) change(pixels.data);
    context.putImageData(pixels, 0, 0);
    return context;
  }

  // Each box with its place in the U: eight columns, one row for each level.
  function boxes({ layers }) {
    const shown = layers.filter(({ kind, name }) => ["relu", "pool", "crop_concat"].includes(kind) || name === "output");
    const deepest = Math.max(...shown.map(({ block }) => Number(block.match(/\d+$/) || 1)));
    const places = {};
    return [{ name: "input", block: "contract1", kind: "input" }, ...shown].map(({ name, block, kind }) => {
      if (block === "output") return { name, kind, level: 1, column: 8 };
      const level = Number(block.match(/\d+$/));
      places[block] = (places[block] || 0) + 1;
      const first = level === deepest ? 2 : block.startsWith("contract") ? 0 : 4;
      return { name, kind, level, column: first + places[block] };
    });
  }

  function mount(place, { fail }) {
    const grid = element("div", { role: "tablist", class: "live-u", "aria-label": "Feature maps, from the image to the output" });
    const frame = element("div", { class: "unet-scroll unet-figure", tabindex: 0, role: "region", "aria-label": "Fig. 1 as boxes" }, grid);
    const panel = element("div", { role: "tabpanel", id: "live-panel" });
    const legend = element(
      "p", { class: "unet-note" },
      "Each box shows its most active channel, with channels × size and the time that it took. ",
      "Blue: convolution and ReLU; orange: max pooling; green: up-convolution, with the copy and crop across. ",
      "Open a box by a click or by the arrow keys."
    );
    let all = [];
    let chosen = 0;

    function build() {
      all = boxes(session.network.table).map((box, i) => {
        const canvas = element("canvas", { width: 1, height: 1, "aria-hidden": "true" });
        const caption = element("span", { class: "live-caption" });
        const tab = element(
          "button",
          {
            type: "button", role: "tab", id: `live-box-${i}`, class: `live-box live-${box.kind}`, tabindex: -1,
            "aria-selected": "false", "aria-controls": "live-panel", "aria-label": `${box.name}: not computed`,
            style: `grid-row: ${box.level}; grid-column: ${box.column}; --level: ${box.level}`,
            click: () => show(i),
          },
          canvas, caption
        );
        return { ...box, canvas, caption, tab };
      });
      const copies = all.filter(({ kind }) => kind === "crop_concat").map(({ level }) =>
        element("span", { class: "live-copy", "aria-hidden": "true", style: `grid-row: ${level}; grid-column: 4` })
      );
      grid.replaceChildren(...all.map(({ tab }) => tab), ...copies);
      chosen = 0;
      all[0].tab.tabIndex = 0;
      panel.replaceChildren();
      place.replaceChildren(frame, legend, panel);
    }

    function empty() {
      for (const box of all) {
        box.tab.classList.remove("live-done");
        box.tab.setAttribute("aria-label", `${box.name}: not computed`);
        box.caption.textContent = "";
        box.done = null;
      }
      panel.replaceChildren();
    }

    function fill({ name, ms, picture, ...shape }) {
      const box = all.find((one) => one.name === name);
      if (picture) draw(box.canvas, picture);
      box.done = { ms, ...shape };
      box.tab.classList.add("live-done");
      box.tab.setAttribute("aria-label", `${name}: ${times(shape.channels, shape.height, shape.width)}, ${inMs(ms)}`);
      const lines = [shapeOf(shape), name === "input" ? "" : inMs(ms)];
      box.caption.replaceChildren(...lines.map((line) => element("span", {}, line)));
    }

    async function show(number, focus = false) {
      all[chosen].tab.tabIndex = -1;
      all[chosen].tab.setAttribute("aria-selected", "false");
      chosen = Math.min(Math.max(number, 0), all.length - 1);
      const { tab } = all[chosen];
      tab.tabIndex = 0;
      tab.setAttribute("aria-selected", "true");
      panel.setAttribute("aria-labelledby", tab.id);
      if (focus) tab.focus();
      await list(FIRST);
    }

    // What was open before shows the new tile.
    async function reopen() {
      if (all[chosen].tab.getAttribute("aria-selected") === "true") await list(FIRST, false);
    }

    async function list(count, busy = session.busy) {
      const box = all[chosen];
      if (!box.done || busy)
        return panel.replaceChildren(element("p", { class: "unet-note" }, `${box.name} opens when the tile is computed.`));
      try {
        const found = await session.ask({ do: "maps", name: box.name, side: SIDE, count });
        if (all[chosen] === box) panel.replaceChildren(...contents(box, found));
      } catch (error) {
        fail(error);
      }
    }

    function contents(box, { channels, total, height, width }) {
      const title = element("strong", {}, box.name);
      const about = `: ${total} channel${total > 1 ? "s" : ""} of ${times(height, width)}` + (total > 1 ? ", most active first." : ".");
      const large = element("figure", { class: "live-large", hidden: true });
      const items = channels.map(({ number, mean, picture }) => {
        const canvas = element("canvas", { "aria-hidden": "true" });
        draw(canvas, picture);
        const label = `channel ${number}, mean size ${mean.toPrecision(2)}`;
        return element(
          "button", { type: "button", class: "live-channel", "aria-label": `${label}: enlarge`, click: () => enlarge(box, number, large) },
          canvas, element("span", { "aria-hidden": "true" }, `${number}: ${mean.toPrecision(2)}`)
        );
      });
      const more = channels.length < total && element("button", { type: "button", click: () => list(total) }, `Show all ${total}`);
      return [
        element("p", {}, title, about, " Below each: its number and the mean size of its values."),
        element("div", { class: "live-channels" }, ...items),
        ...(more ? [more] : []),
        large,
      ];
    }

    async function enlarge(box, channel, large) {
      try {
        const found = await session.ask({ do: "maps", name: box.name, side: 4096, channel });
        const canvas = element("canvas", { role: "img", "aria-label": `channel ${channel} of ${box.name} in full` });
        draw(canvas, found.channels[0].picture);
        large.hidden = false;
        large.replaceChildren(canvas, element("figcaption", {}, `Channel ${channel} of ${box.name} in full, ${times(found.height, found.width)}; black for its smallest values, white for its largest.`));
        large.scrollIntoView({ block: "nearest" });
      } catch (error) {
        fail(error);
      }
    }

    grid.addEventListener("keydown", (event) => {
      const to = {
        ArrowLeft: chosen - 1, ArrowUp: chosen - 1, ArrowRight: chosen + 1, ArrowDown: chosen + 1,
        Home: 0, End: all.length - 1,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to, true);
    });
    session.changed.addEventListener("network", build);
    session.changed.addEventListener("image", empty);
    return { empty, fill, reopen, count: () => all.length, done: () => all.filter((box) => box.done).length };
  }

  live.figure = { mount, draw };
})();

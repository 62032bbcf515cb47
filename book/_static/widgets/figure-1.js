// Fig. 1 of the paper to click on: each box opens its shape, parameters and feature maps.
// In a chapter, one line:
//
//     <div data-widget="figure-1">On the book's web page the boxes of the figure can be opened.</div>
//
// The pictures in maps/ are made by tools/feature_maps.py.
(function () {
  "use strict";

  const { base, element, define, geometry, maps } = window.unetWidgets;
  const INPUT = 572;
  const WIDTH = 740;
  const COLOURS = { box: "#56b4e9", copy: "#ffffff", pool: "#d55e00", up: "#009e73", skip: "#767676" };

  // What happened on the way into each box, with the parameters that it took.
  function boxes() {
    const rows = geometry.shapes(geometry.PAPER, INPUT).rows;
    const made = [{ name: "input", block: "contract1", channels: 1, size: INPUT, by: "the image tile", parameters: 0 }];
    let parameters = 0;
    let by = [];
    for (const row of rows) {
      parameters += row.parameters;
      if (row.kind === "conv") by.push(`${row.kernel}x${row.kernel} convolution, ${row.into} to ${row.out} channels`);
      if (row.kind === "relu") by.push("ReLU");
      if (row.kind === "pool") by.push("2x2 max pooling");
      if (row.kind === "upconv") by.push(`2x2 up-convolution, ${row.into} to ${row.out} channels`);
      if (row.kind === "crop_concat") by.push(`copy and crop of ${row.out / 2} channels from ${row.skip}`);
      if (!["relu", "pool", "crop_concat"].includes(row.kind) && row.name !== "output") continue;
      made.push({
        name: row.name, block: row.name === "output" ? "expand1" : row.block, kind: row.kind,
        channels: row.out, size: row.size, by: by.join("; then "), parameters,
      });
      parameters = 0;
      by = [];
    }
    return made;
  }

  // The U: boxes from left to right, levels from top to bottom.
  function layOut(all) {
    const tall = (size) => 20 + 0.2 * size;
    const tops = [];
    let top = 18;
    for (let level = 1; level <= 5; level++) {
      tops[level] = top;
      top += tall(Math.max(...all.filter((box) => box.block.endsWith(level)).map((box) => box.size))) + 36;
    }
    let x = 4;
    all.forEach((box, i) => {
      box.level = Number(box.block.slice(-1));
      const before = all[i - 1];
      if (before) x += before.block === box.block ? 6 : 10;
      box.width = 5 + 2 * Math.log2(box.channels);
      box.height = tall(box.size);
      box.x = x;
      box.y = tops[box.level];
      x += box.width;
    });
    return { width: x + 4, height: top - 8 };
  }

  function drawing(all, tabs) {
    const { width, height } = layOut(all);
    const scale = WIDTH / width;
    const svg = element("svg", {
      viewBox: `0 0 ${WIDTH} ${(height * scale).toFixed(0)}`, class: "unet-u", style: `min-width: ${WIDTH - 100}px`,
      role: "group", "aria-label": "Fig. 1 of the paper as boxes",
    });
    const lines = element("g", { "aria-hidden": "true" });
    const list = element("g", { role: "tablist", "aria-label": "Feature maps, from the image to the output" });
    for (const box of all) {
      box.x *= scale;
      box.width *= scale;
    }
    const line = (x1, y1, x2, y2, stroke, more = {}) =>
      lines.append(element("line", { x1, y1, x2, y2, stroke, "stroke-width": 2.5, ...more }));
    const centre = (box) => box.x + box.width / 2;
    all.forEach((box, i) => {
      const before = all[i - 1];
      if (!before) return;
      if (box.kind === "pool") line(centre(box), before.y + before.height / 2, centre(box), box.y, COLOURS.pool);
      if (box.kind === "pool") line(before.x + before.width, before.y + before.height / 2, centre(box), before.y + before.height / 2, COLOURS.pool);
      if (box.kind === "crop_concat") {
        const from = all.find((other) => box.by.endsWith(` ${other.name.replace("relu2", box.level === 4 ? "dropout" : "relu2")}`));
        const middle = box.y + 12;
        line(from.x + from.width, middle, box.x, middle, COLOURS.skip, { "stroke-dasharray": "6 4" });
        line(centre(box), before.y + before.height / 2, centre(box), box.y + box.height + 16, COLOURS.up);
        line(before.x + before.width, before.y + before.height / 2, centre(box), before.y + before.height / 2, COLOURS.up);
      }
    });
    all.forEach((box, i) => {
      const tab = element(
        "g",
        {
          role: "tab", id: `unet-box-${i}`, class: "unet-box", tabindex: -1,
          "aria-selected": "false", "aria-controls": "unet-box-panel",
          "aria-label": `${box.name}: ${box.channels} channels of ${box.size} x ${box.size}`,
        },
        // A finger needs more room than the box has.
        element("rect", { x: centre(box) - 13, y: box.y - 4, width: 26, height: box.height + 20, fill: "transparent" }),
        element("rect", { class: "unet-face", x: box.x, y: box.y, width: box.width, height: box.height, fill: COLOURS.box }),
        element("text", { x: centre(box), y: box.y + box.height + 12, "text-anchor": "middle", "font-size": 10.5, fill: "currentColor" }, String(box.channels))
      );
      if (box.kind === "crop_concat")
        tab.append(element("rect", { x: box.x, y: box.y, width: box.width / 2, height: box.height, fill: COLOURS.copy, "pointer-events": "none" }));
      tabs.push(tab);
      list.append(tab);
    });
    const size = (box, x, y, anchor) =>
      lines.append(
        element("text", { x, y, "font-size": 10.5, fill: "currentColor", "text-anchor": anchor }, `${box.size} x ${box.size}`)
      );
    all.forEach((box, i) => {
      if (box.name === "output") size(box, box.x + box.width, box.y + box.height + 26, "end");
      else if (i === 0 || box.block !== all[i - 1].block)
        size(box, box.kind === "pool" ? centre(box) + 4 : box.x, box.y - 6, "start");
    });
    svg.append(lines, list);
    return svg;
  }

  define("figure-1", (place) => {
    const all = boxes();
    const tabs = [];
    const svg = drawing(all, tabs);
    const panel = element("div", { role: "tabpanel", id: "unet-box-panel" });
    let chosen = 0;

    const slider = element("input", {
      type: "range", min: 0, max: all.length - 1, step: 1, "aria-label": "The way of the image through the U",
      input: () => show(Number(slider.value)),
    });

    function show(number, focus = false) {
      tabs[chosen].setAttribute("tabindex", -1);
      tabs[chosen].setAttribute("aria-selected", "false");
      chosen = Math.min(Math.max(number, 0), all.length - 1);
      tabs[chosen].setAttribute("tabindex", 0);
      tabs[chosen].setAttribute("aria-selected", "true");
      slider.value = chosen;
      slider.setAttribute("aria-valuetext", `${all[chosen].name}: ${all[chosen].channels} channels of ${all[chosen].size} x ${all[chosen].size}`);
      if (focus) tabs[chosen].focus();
      // On a phone the U is wider than the screen.
      const frame = svg.parentElement;
      const middle = (all[chosen].x + all[chosen].width / 2) * (svg.clientWidth / WIDTH);
      if (frame) frame.scrollLeft = middle - frame.clientWidth / 2;
      panel.setAttribute("aria-labelledby", tabs[chosen].id);
      panel.replaceChildren(...contents(all[chosen]));
    }

    function contents(box) {
      const numbers = box.channels * box.size ** 2;
      const fact = (name, value) => [element("dt", {}, name), element("dd", {}, value)];
      const [count, total] = maps.shown[box.name];
      const most = box.kind === "crop_concat" ? `The ${count / 2} most active channels of each half of ${total}` : `The ${count} most active of ${total} channels`;
      const which = count < total ? most : total > 1 ? `All ${total} channels` : "The only channel";
      return [
        element("strong", {}, box.name),
        element(
          "dl",
          {},
          ...fact("shape", `${box.channels} x ${box.size} x ${box.size}`),
          ...fact("made by", box.by),
          ...fact("parameters", box.parameters.toLocaleString("en")),
          ...fact("memory", `${((4 * numbers) / 1e6).toFixed(1)} MB in float32`)
        ),
        element("img", {
          class: "unet-maps", src: `${base}maps/${box.name}.webp`,
          alt: `${which} of ${box.name} as grey images.`,
        }),
        element("p", { class: "unet-note" }, `${which}. ${maps.words}`),
      ];
    }

    svg.addEventListener("click", (event) => {
      const tab = event.target.closest("[role=tab]");
      if (tab) show(tabs.indexOf(tab), true);
    });
    svg.addEventListener("keydown", (event) => {
      const to = {
        ArrowLeft: chosen - 1, ArrowUp: chosen - 1, ArrowRight: chosen + 1, ArrowDown: chosen + 1,
        Home: 0, End: all.length - 1,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to, true);
    });
    const step = (words, by) =>
      element("button", { type: "button", click: () => show(chosen + by) }, words);
    place.append(
      element(
        "div",
        { class: "unet-scroll unet-figure", tabindex: 0, role: "region", "aria-label": "Fig. 1 of the paper" },
        svg
      ),
      element(
        "p",
        { class: "unet-note" },
        "Choose a box, or send the image through the U with the slider: down on the left, up on the right. Below a box: its channels. ",
        "Orange: max pooling; green: up-convolution; dashed: copy and crop. On a narrow screen, swipe the figure; the slider moves it too."
      ),
      element("div", { class: "unet-controls" }, step("Box before", -1), slider, step("Next box", 1)),
      panel
    );
    show(2);
  });
})();

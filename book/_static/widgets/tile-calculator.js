// Tile-size calculator: type the size of a tile; does it work, why not, how many does an image take,
// and what shape has every layer?
// In a chapter, one line:
//
//     <div data-widget="tile-calculator">On the book's web page a calculator stands here.</div>
//
// Optional attributes: data-size="512" to start with another size than 572.
(function () {
  "use strict";

  const { element, field, define, geometry } = window.unetWidgets;
  const LARGEST = 65536;
  const WORDS = {
    conv: (layer) => `conv ${layer.kernel}x${layer.kernel}`,
    relu: () => "ReLU",
    pool: () => "max pool 2x2",
    upconv: () => "up-conv 2x2",
    crop_concat: () => "copy and crop",
    dropout: () => "dropout",
  };

  define("tile-calculator", (place) => {
    const size = element("input", {
      type: "number", inputmode: "numeric", min: 1, max: LARGEST, step: 1,
      value: place.dataset.size || 572,
    });
    const depth = element("input", {
      type: "number", inputmode: "numeric", min: 1, max: 6, step: 1, value: 4,
    });
    const padding = element(
      "select",
      {},
      element("option", { value: 0 }, "none, as in the paper"),
      element("option", { value: 1 }, "1, keeps the size")
    );
    const image = element("input", {
      type: "number", inputmode: "numeric", min: 1, max: LARGEST, step: 1, value: 512,
    });
    const channels = element("input", {
      type: "number", inputmode: "numeric", min: 1, max: 256, step: 1, value: 64,
    });
    const verdict = element("div", { class: "unet-verdict", role: "status" });
    const tiles = element("p", { class: "unet-note unet-tiles", role: "status" });
    const body = element("tbody");
    const table = element(
      "div",
      { class: "unet-scroll", tabindex: 0, role: "region", "aria-label": "Shape of every layer" },
      element(
        "table",
        {},
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ...["layer", "shape (C, H, W)", "operation", "parameters"].map((name, column) =>
              element("th", { scope: "col", class: column % 2 ? "unet-number" : "" }, name)
            )
          )
        ),
        body
      )
    );

    const whole = (input, least, most) => {
      const value = Number(input.value);
      const good = input.value !== "" && Number.isInteger(value) && value >= least && value <= most;
      input.setAttribute("aria-invalid", String(!good));
      return good ? value : null;
    };

    function say(good, sentence, ...more) {
      verdict.classList.toggle("unet-good", good);
      verdict.classList.toggle("unet-bad", !good);
      verdict.replaceChildren(element("strong", {}, good ? "Works. " : "Does not work. "), sentence, ...more);
    }

    function offer(number) {
      return element(
        "button",
        {
          type: "button",
          click: () => {
            size.value = number;
            update();
            size.focus();
          },
        },
        String(number)
      );
    }

    function update() {
      tiles.textContent = "";
      const asked = [
        [size, "size", LARGEST], [depth, "number of poolings", 6],
        [image, "size of the image", LARGEST], [channels, "number of channels", 256],
      ];
      const values = asked.map(([input, , most]) => whole(input, 1, most));
      const wrong = asked[values.indexOf(null)];
      if (wrong) {
        say(false, `Expected a ${wrong[1]} from 1 to ${wrong[2]}, a whole number.`);
        body.replaceChildren();
        return;
      }
      const [n, levels, pixels, baseChannels] = values;
      const network = { ...geometry.PAPER, depth: levels, padding: Number(padding.value), baseChannels };
      const { rows, fault } = geometry.shapes(network, n);
      if (fault) {
        const near = geometry.nearestSizes(network, n).flatMap((number) => [" ", offer(number)]);
        say(false, `Input size ${n}, ${fault.reason}. Nearest valid:`, ...near);
      } else {
        const lost = geometry.margin(network);
        const kept = `The output has ${n - lost} x ${n - lost} pixels`;
        say(true, lost ? `${kept}: ${lost / 2} fewer on each side.` : `${kept}, as many as the input.`);
        tiles.textContent = cover(network, n, pixels);
      }
      body.replaceChildren(
        line(["input", shape(network.inChannels, n), "", ""]),
        ...rows.map((row) =>
          line([row.name, shape(row.out, row.size), WORDS[row.kind](row), row.parameters || ""])
        )
      );
      if (fault) {
        const why = fault.size % 2 ? `${fault.size} is odd` : "no pixel left";
        body.append(line([fault.layer, why, "", ""], "unet-bad"));
      }
    }

    function cover(network, tile, pixels) {
      const count = geometry.tileCount(network, pixels, tile);
      const memory = `The feature maps of one tile take ${(geometry.forwardBytes(network, tile) / 2 ** 20).toFixed(0)} MiB at their peak.`;
      if (!count) return `Such tiles cannot be joined: they would have to begin a multiple of ${2 ** network.depth} pixels apart. ${memory}`;
      const read = ((count * tile) / pixels) ** 2;
      const apart = count > 1 ? `, which begin ${geometry.stride(network, tile)} pixels apart` : "";
      const number = count > 1 ? `${count} x ${count} = ${count ** 2} tiles` : "1 tile";
      return (
        `An image of ${pixels} x ${pixels} pixels takes ${number}${apart}. For each pixel of the image ` +
        `${read.toFixed(1)} are read: the rest is overlap and mirrored border. ${memory}`
      );
    }

    const shape = (channels, side) => `${channels} x ${side} x ${side}`;

    function line(cells, kind = "") {
      return element(
        "tr",
        { class: kind },
        ...cells.map((cell, column) =>
          element(
            column ? "td" : "th",
            column ? { class: column % 2 ? "unet-number" : "" } : { scope: "row" },
            cell.toLocaleString("en")
          )
        )
      );
    }

    for (const input of [size, depth, padding, image, channels]) input.addEventListener("input", update);
    place.append(
      element(
        "div",
        { class: "unet-controls" },
        field("Input height and width, in pixels", size),
        field("Poolings", depth),
        field("Padding of the 3x3 convolutions", padding),
        field("Image height and width, in pixels", image),
        field("Channels of the first level", channels)
      ),
      verdict,
      tiles,
      table
    );
    update();
  });
})();

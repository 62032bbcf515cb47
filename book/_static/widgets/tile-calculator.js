// Tile-size calculator: type a size; does it work, why not, and what shape has every layer?
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
    const verdict = element("div", { class: "unet-verdict", role: "status" });
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
      const n = whole(size, 1, LARGEST);
      const levels = whole(depth, 1, 6);
      if (n === null || levels === null) {
        const [what, most] = n === null ? ["size", LARGEST] : ["number of poolings", 6];
        say(false, `Expected a ${what} from 1 to ${most}, a whole number.`);
        body.replaceChildren();
        return;
      }
      const network = { ...geometry.PAPER, depth: levels, padding: Number(padding.value) };
      const { rows, fault } = geometry.shapes(network, n);
      if (fault) {
        const near = geometry.nearestSizes(network, n).flatMap((number) => [" ", offer(number)]);
        say(false, `Input size ${n}, ${fault.reason}. Nearest valid:`, ...near);
      } else {
        const lost = geometry.margin(network);
        const kept = `The output has ${n - lost} x ${n - lost} pixels`;
        say(true, lost ? `${kept}: ${lost / 2} fewer on each side.` : `${kept}, as many as the input.`);
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

    for (const input of [size, depth, padding]) input.addEventListener("input", update);
    place.append(
      element(
        "div",
        { class: "unet-controls" },
        field("Input height and width, in pixels", size),
        field("Poolings", depth),
        field("Padding of the 3x3 convolutions", padding)
      ),
      verdict,
      table
    );
    update();
  });
})();

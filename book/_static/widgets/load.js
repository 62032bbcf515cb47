// Loads the scripts of the widgets that a page asks for, and nothing on other pages. A page asks
// by an element such as
//
//     <div data-widget="tile-calculator">What readers without the web page see.</div>
//
// Classic scripts, not modules: a browser loads no module from a file on disk.
(function () {
  "use strict";

  const LIVE = ["kernels", "engine", "worker", "cells", "files", "session", "figure", "page"].map((name) => `live/${name}`);
  const EXPERIMENTS = [...LIVE, "live/experiments"];
  const NEEDED = {
    "tile-calculator": ["geometry", "tile-calculator"],
    "weight-explorer": ["weights", "weight-explorer"],
    "deformation-explorer": ["deformation", "deformation-explorer"],
    "figure-1": ["geometry", "maps/about", "figure-1"],
    "momentum-explorer": ["deformation", "momentum", "momentum-explorer"],
    "receptive-field": ["field/fields", "receptive-field"],
    "moving-window": ["moving-window"],
    live: LIVE,
    "live-blur": EXPERIMENTS,
    "live-hide": EXPERIMENTS,
    "live-turn": EXPERIMENTS,
  };
  const base = document.currentScript.src.replace(/[^/]*$/, "");
  const requested = new Set();

  // An element with attributes (functions become listeners) and children.
  function element(name, attributes = {}, ...children) {
    const svg = /^(svg|g|rect|text|path|line|polyline|circle|ellipse|title)$/.test(name);
    const made = svg
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (typeof value === "function") made.addEventListener(key, value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  let controls = 0;

  // A labelled slider with its value beside it, or what `words` makes of it; `change` gets the number.
  function slider(label, { min, max, step, value, unit = "", words = String }, change) {
    const id = `unet-control-${controls++}`;
    const shown = element("output", { for: id });
    const input = element("input", { type: "range", id, min, max, step, value });
    const show = () => {
      shown.textContent = `${words(Number(input.value))}${unit && " " + unit}`;
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    input.addEventListener("input", () => {
      show();
      change(Number(input.value));
    });
    show();
    const whole = element(
      "div",
      { class: "unet-control" },
      element("label", { for: id }, label),
      input,
      shown
    );
    whole.set = (number) => {
      input.value = number;
      show();
    };
    return whole;
  }

  // A labelled control of another kind.
  function field(label, control) {
    control.id = `unet-control-${controls++}`;
    return element(
      "div",
      { class: "unet-control" },
      element("label", { for: control.id }, label),
      control
    );
  }

  function script(name) {
    if (requested.has(name)) return;
    requested.add(name);
    const made = element("script", { src: `${base}${name}.js` });
    made.async = false; // in the order asked for
    document.head.append(made);
  }

  // Called by a widget's script: `mount` fills each element that asks for the widget.
  function define(name, mount) {
    document.querySelectorAll(`[data-widget="${name}"]`).forEach((place) => {
      place.replaceChildren();
      place.classList.add("unet-widget");
      mount(place);
      place.dataset.ready = "true";
    });
  }

  window.unetWidgets = { base, element, slider, field, define };

  function start() {
    const places = [...document.querySelectorAll("[data-widget]")];
    if (!places.length) return;
    document.head.append(element("link", { rel: "stylesheet", href: `${base}widgets.css` }));
    for (const place of places) (NEEDED[place.dataset.widget] || []).forEach(script);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();

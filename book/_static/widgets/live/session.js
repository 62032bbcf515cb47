// What the page's widgets share: the network, the image, the worker, and what was found. Nothing is
// loaded before it is asked for, and by scripts only, which a page opened from a folder may load too.
(function () {
  "use strict";

  const { base, live } = window.unetWidgets;
  const loaded = {};

  // Called by the files that the book's build writes: live/weights/em.js, live/samples/em.js.
  live.receive = (name, value) => (loaded[name] = value);

  function load(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${base}live/${name}.js`;
      script.onerror = () => reject(new Error(`${name}.js could not be loaded; is the book's whole folder there?`));
      script.onload = () => {
        script.remove();
        resolve(loaded[name]);
        delete loaded[name];
      };
      document.head.append(script);
    });
  }

  // A loop: `Uint8Array.from` would first make a list of four million letters.
  function bytesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes.buffer;
  }

  // ---- the worker

  let started = null;
  let last = 0;
  const waiting = new Map();

  function start() {
    const text = `"use strict"; (${live.worker})(self, ${live.kernels}, ${live.engine});`;
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const made = new Worker(address);
    made.onmessage = ({ data }) => receive(data);
    made.onerror = (event) => {
      event.preventDefault();
      waiting.forEach(({ reject }) => reject(new Error(`The worker failed: ${event.message || "out of memory"}.`)));
      waiting.clear();
      made.terminate();
      started = null;
      session.network = session.image = null;
    };
    return made;
  }

  function receive({ id, event, result, error, ...more }) {
    const { resolve, reject, listen } = waiting.get(id) || {};
    if (!resolve) return;
    if (event) return void (listen && listen(event, more));
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }

  // A command to the worker; `listen(event, data)` hears what comes before the answer.
  function ask(command, listen) {
    started = started || start();
    const id = ++last;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject, listen });
      started.postMessage({ id, ...command });
    });
  }

  // ---- the session

  const session = {
    network: null, // { name, table, limits, kind, measured }
    image: null, // { name, words, values, width, height, answer, ids }
    point: [0, 0], // the pixel that was chosen last: row, column
    tile: 444,
    busy: false,
    changed: new EventTarget(), // "network", "image", "busy"
    ask,
    stop: () => started && started.postMessage({ do: "stop" }),
  };

  const tell = (what) => session.changed.dispatchEvent(new Event(what));

  // `engine` is one of `kernels().available()`; by default the fastest.
  async function useNetwork(name, engine) {
    if (session.network && session.network.name === name) return;
    const { table, weights } = await load(`weights/${name}`);
    const { kind, metadata, measured } = await ask({ do: "network", table, buffer: bytesOf(weights), kind: engine });
    const limits = metadata.cells ? JSON.parse(metadata.cells) : null;
    session.network = { name, table, limits, kind, measured };
    if (session.image) forget();
    tell("network");
  }

  function forget() {
    const { width, height } = session.image;
    session.image.answer = new Float32Array(width * height).fill(NaN);
    session.image.whole = false;
    session.image.version = (session.image.version || 0) + 1;
  }

  async function useImage(image) {
    const first = image.values[0];
    if (image.values.every((value) => value === first))
      throw new Error(`${image.name} has the value ${first} in ${image.values.length === 1 ? "its only pixel" : "every pixel"}, expected an image with something in it.`);
    await ask({ do: "image", values: image.values, height: image.height, width: image.width });
    session.image = image;
    session.point = image.point || [image.height >> 1, image.width >> 1];
    forget();
    tell("image");
  }

  async function useSample(name, engine) {
    const { picture, ...about } = await load(`samples/${name}`);
    const file = new File([bytesOf(picture)], `${name}.png`, { type: "image/png" });
    const image = await live.files.read(file);
    await useNetwork(name, engine);
    await useImage({ ...image, ...about, name });
  }

  // Only one thing at a time is computed; whoever comes meanwhile is told so.
  async function alone(what) {
    if (session.busy) throw new Error("Something is being computed; wait for it, or stop it.");
    session.busy = true;
    tell("busy");
    try {
      return await what();
    } finally {
      session.busy = false;
      tell("busy");
    }
  }

  // The input tile whose output is centred on the chosen pixel, as far as the pooling's grid allows.
  function place(most = Infinity) {
    const { table } = session.network;
    const { tileFor } = engine();
    const along = (size, at) => {
      const tile = Math.min(session.tile, most, tileFor(table, size));
      const output = tile - table.margin;
      const step = table.size_step;
      const last = step * Math.ceil(Math.max(size - output, 0) / step);
      const start = Math.min(Math.max(step * Math.round((at - output / 2) / step), 0), last);
      return [start - table.margin / 2, tile];
    };
    const [top, height] = along(session.image.height, session.point[0]);
    const [left, width] = along(session.image.width, session.point[1]);
    return { top, left, height, width };
  }

  let own = null;
  const engine = () => (own = own || live.engine(live.kernels())); // for sizes and receptive fields

  Object.assign(session, { load, useNetwork, forget, useImage, useSample, alone, place, engine });
  live.session = session;
})();

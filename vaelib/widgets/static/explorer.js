// The latent explorer: a decoder that runs where the reader is. One module serves Jupyter (as an anywidget) and the plain
// page (mounted by the site's host script); it needs nothing but the state that the Python class stores.

// ---- The decoder -----------------------------------------------------------------------------------------------------

const ACTIVATIONS = {
  none: (h) => h,
  relu: (h) => (h > 0 ? h : 0),
  leaky_relu: (h) => (h > 0 ? h : 0.2 * h),
  tanh: Math.tanh,
};

/** Widen float16 numbers, given as bytes, to float32. */
export function widen(view) {
  const halves = new Uint16Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  return Float32Array.from(halves, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

/** out = W input + b for W stored row by row; four sums at a time keep the processor busy. */
function linear(weight, bias, input, out) {
  const width = input.length;
  const whole = width - (width % 4);
  for (let row = 0; row < out.length; row++) {
    const start = row * width;
    let a = bias[row], b = 0, c = 0, d = 0;
    for (let i = 0; i < whole; i += 4) {
      a += weight[start + i] * input[i];
      b += weight[start + i + 1] * input[i + 1];
      c += weight[start + i + 2] * input[i + 2];
      d += weight[start + i + 3] * input[i + 3];
    }
    for (let i = whole; i < width; i++) a += weight[start + i] * input[i];
    out[row] = a + b + c + d;
  }
}

/**
 * A transposed convolution of 4 x 4 weights and stride 2: each number of an image of height x width is spread over 4 x 4
 * numbers of one twice as large, beyond whose edges nothing is kept.
 */
function transposed(weight, bias, input, out, { channels: [from, to], size: [height, width] }) {
  const [pixels, row2, plane] = [height * width, 2 * width, 4 * height * width];
  for (let c = 0; c < to; c++) out.fill(bias[c], c * plane, (c + 1) * plane);
  for (let o = 0, at = 0; o < from; o++) {
    for (let c = 0; c < to; c++) {
      for (let s = 0; s < 4; s++) {
        const [top, bottom] = [s === 0 ? 1 : 0, s === 3 ? height - 1 : height];
        for (let t = 0; t < 4; t++, at++) {
          const each = weight[at];
          const [left, right] = [t === 0 ? 1 : 0, t === 3 ? width - 1 : width];
          for (let i = top; i < bottom; i++) {
            let place = c * plane + (2 * i + s - 1) * row2 + 2 * left + t - 1;
            const start = o * pixels + i * width;
            for (let j = left; j < right; j++, place += 2) out[place] += each * input[start + j];
          }
        }
      }
    }
  }
}

const softplus = (value) => Math.max(value, 0) + Math.log1p(Math.exp(-Math.abs(value)));
/** What the numbers of the last layer become: the mean image. */
const MEANS = {
  mean: (h) => h,
  sigmoid: (h) => 1 / (1 + Math.exp(-h)),
  logistic: (h, scale) => scale * (softplus(h / scale) - softplus((h - 1) / scale)),
};

/** Return a function (z, label) -> mean image, for one decoder of the specification. */
export function decoder(spec, numbers, classes) {
  const layers = spec.layers.map((layer) => {
    const weights = layer.channels ? 16 * layer.channels[0] * layer.channels[1] : layer.inputs * layer.outputs;
    const biases = layer.channels ? layer.channels[1] : layer.outputs;
    const start = layer.start + weights;
    return {
      layer,
      apply: layer.channels ? transposed : linear,
      weight: numbers.subarray(layer.start, start),
      bias: numbers.subarray(start, start + biases),
      activation: ACTIVATIONS[layer.activation],
      out: new Float32Array(layer.outputs),
    };
  });
  const mean = MEANS[spec.output];
  const input = new Float32Array(spec.layers[0].inputs);
  return (z, label) => {
    input.set(z);
    if (classes) for (let k = 0; k < classes; k++) input[z.length + k] = k === label ? 1 : 0;
    let hidden = input;
    for (const { layer, apply, weight, bias, activation, out } of layers) {
      apply(weight, bias, hidden, out, layer);
      for (let i = 0; i < out.length; i++) out[i] = activation(out[i]);
      hidden = out;
    }
    if (mean !== MEANS.mean) for (let i = 0; i < hidden.length; i++) hidden[i] = mean(hidden[i], spec.scale);
    return hidden;
  };
}

// ---- Small helpers ---------------------------------------------------------------------------------------------------

// Okabe and Ito's eight colours, then brown and violet, as in the book's figures. Each point is also its class's name.
const COLOURS = [
  "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#B8A800", "#808080", "#A0622D", "#8A4FE0",
];
const PAD = 320;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children); // strings become text, so that markup in a label stays visible as text
  return element;
}

const remark = (text) => make("p", { class: "vae-note" }, text);
/** Why a decoder moves only where Python runs. */
const why = (each) => each.why ?? "the browser does not know its decoder";
const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const clamp = (value, limit) => Math.max(-limit, Math.min(limit, value));
const fixed = (value) => value.toFixed(2).replace("-", "\u2212");

/** Paint values in [0, 1] on a canvas of height x width pixels: one plane of grey, or three of red, green and blue. */
function paint(canvas, values, height, width) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = height * width;
  const plane = values.length === 3 * pixels ? pixels : 0;
  for (let i = 0; i < pixels; i++) {
    for (let colour = 0; colour < 3; colour++) {
      const value = values[colour * plane + i];
      picture.data[4 * i + colour] = Math.max(0, Math.min(255, Math.round(255 * value)));
    }
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

/** A standard normal draw (Box and Muller). */
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// ---- The widget ------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const spec = model.get("_spec");
  const { height, width, latent_dim: dims, order, span, classes, decoders, names } = spec;
  const numbers = widen(model.get("_weights"));
  const decode = decoders.map((each) => (each.layers.length ? decoder(each, numbers, classes.length) : null));
  const codes = widen(model.get("_codes"));
  const codeLabels = bytes(model.get("_code_labels"));
  const count = codeLabels.length;
  const named = (k) => names?.[k] ?? String(k);
  // Short names stand on the plane themselves; of long ones the number, which a list below it explains.
  const short = !names || names.every((each) => each.length <= 3);
  const mark = (k) => (short ? named(k) : String(k));
  const thumbnails = new Image(); // all of them, one below the other
  if (count) thumbnails.src = URL.createObjectURL(new Blob([bytes(model.get("_thumbnails"))], { type: "image/png" }));
  const [across, up] = [order[0], dims > 1 ? order[1] : null];
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const stop = new AbortController();

  let z = Float64Array.from(model.get("z"));
  let label = model.get("label");
  let dirty = true;
  let frame = 0;
  let walking = 0;
  let resting = 0;
  const walk = { from: Float64Array.from(z), to: Float64Array.from(z) };
  walk.from[across] = -2;
  walk.to[across] = 2;
  // Without a kernel, what Python drew of a decoder that can't run here belongs to one place alone.
  const drawn = { z: Float64Array.from(z), label };
  const asleep = (i) => model.kernel === false && !decode[i];

  // -- Parts of the page
  const pad = make("canvas", {
    class: "vae-pad", width: 2 * PAD, height: 2 * PAD, tabindex: 0, role: "application",
    "aria-roledescription": "two-dimensional slider",
    "aria-label": `Latent plane: ${name(across)} across${up === null ? "" : `, ${name(up)} up`}. Arrow keys move, Home resets.`,
  });
  const screens = decoders.map((each, i) => {
    const canvas = make("canvas", { class: "vae-image", width, height, role: "img", "aria-label": `Decoded image, ${each.name}` });
    const place = spoken(drawn.z, drawn.label).replaceAll(" = ", "\u00a0=\u00a0");
    const note = `Moves only while Python runs: ${why(each)}. The image is that of ${place}.`;
    return { canvas, figure: make("figure", { class: "vae-screen" }, canvas, make("figcaption", {}, each.name, ...(asleep(i) ? [remark(note)] : []))) };
  });
  const value = make("output", { class: "vae-value", "aria-live": "polite" });
  const sliders = order.map((dimension) => {
    const input = make("input", {
      type: "range", min: -span, max: span, step: 0.05, "aria-label": name(dimension),
      oninput: () => move((next) => { next[dimension] = Number(input.value); }),
    });
    const shown = make("span", { class: "vae-number", "aria-hidden": "true" });
    return { dimension, input, shown, row: make("label", { class: "vae-row" }, make("span", {}, name(dimension)), input, shown) };
  });
  const chooser = make("select", { class: "vae-button", onchange: () => choose(Number(chooser.value)) });
  classes.forEach((each, k) => chooser.append(make("option", { value: k }, each)));
  const manifold = make("input", { type: "checkbox", onchange: draw });
  const points = make("input", { type: "checkbox", onchange: draw });
  points.checked = count > 0;
  const nearest = make("input", { type: "checkbox", onchange: draw });
  const nearby = Array.from({ length: Math.min(5, count) }, () => {
    const [canvas, caption] = [make("canvas", { width, height, "aria-hidden": "true" }), make("span")];
    return { canvas, caption, button: make("button", { type: "button", class: "vae-button vae-near" }, canvas, caption) };
  });
  const neighbours = make(
    "div", { class: "vae-neighbours", role: "group", "aria-label": "Nearest codes", hidden: true },
    ...nearby.map((each) => each.button),
  );
  const way = make("input", {
    type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Place on the walk",
    oninput: () => { halt(); stroll(Number(way.value)); },
  });
  const play = make("button", { type: "button", class: "vae-button", onclick: () => (walking ? halt() : start()) }, "Play walk");
  const button = (text, action) => make("button", { type: "button", class: "vae-button", onclick: action }, text);
  const legend = short ? [] : [...new Set(codeLabels)].sort((a, b) => a - b).map((k) =>
    make("li", {}, make("b", { style: `color: ${COLOURS[k % COLOURS.length]}` }, String(k)), ` ${named(k)}`));
  const tick = (input, text) => make("label", { class: "vae-tick" }, input, text);

  el.replaceChildren(
    make("div", { class: "vae-explorer", role: "group", "aria-label": "Latent explorer", onkeydown: keep },
      make("div", { class: "vae-plane" }, pad, ...(legend.length ? [make("ul", { class: "vae-legend" }, ...legend)] : [])),
      make("div", { class: "vae-screens" }, ...screens.map((screen) => screen.figure), neighbours),
      make("div", { class: "vae-controls" },
        value,
        ...(classes.length ? [make("label", { class: "vae-row" }, make("span", {}, "class"), chooser)] : []),
        make("div", { class: "vae-sliders" }, ...sliders.map((slider) => slider.row)),
        make("div", { class: "vae-buttons" },
          button("Reset", () => { halt(); move((next) => next.fill(0)); }),
          button("Random", () => { halt(); move((next) => next.forEach((_, k) => { next[k] = clamp(normal(), span); })); }),
          button("Walk from here", () => { walk.from = Float64Array.from(z); draw(); }),
          button("Walk to here", () => { walk.to = Float64Array.from(z); draw(); }),
          play,
        ),
        make("label", { class: "vae-row" }, make("span", {}, "walk"), way),
        make("div", { class: "vae-buttons" },
          ...(dims > 1 && decode.some(Boolean) ? [tick(manifold, "images behind the plane")] : []),
          ...(count ? [tick(points, "codes of images"), tick(nearest, "nearest codes")] : []),
        ),
      ),
    ),
  );

  /** Keys pressed here are meant for us: JupyterLab would take arrows and letters as its own commands. */
  function keep(event) {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  }

  function name(dimension) {
    return `z${dimension + 1}`;
  }

  /** The place in words: the two dimensions of the plane, and the class. */
  function spoken(code, k) {
    const words = order.slice(0, 2).map((each) => `${name(each)} = ${fixed(code[each])}`);
    return [...words, ...(classes.length ? [`class ${classes[k]}`] : [])].join(", ");
  }

  // -- Changes: whatever moves the point ends here, and is shown at the next frame
  function move(change) {
    const next = Float64Array.from(z);
    change(next);
    if (next.some((each) => !Number.isFinite(each))) return;
    z = next.map((each) => clamp(each, span));
    model.set("z", Array.from(z));
    draw();
  }

  function choose(next) {
    label = next;
    model.set("label", label);
    draw();
  }

  function draw() {
    dirty = true;
    if (!frame) frame = requestAnimationFrame(show);
  }

  function show() {
    frame = 0;
    if (!dirty) return;
    dirty = false;
    const away = label !== drawn.label || z.some((each, k) => each !== drawn.z[k]);
    screens.forEach(({ canvas }, i) => {
      if (decode[i]) paint(canvas, decode[i](z, label), height, width);
      else canvas.classList.toggle("vae-stale", asleep(i) && away);
    });
    drawPlane();
    sliders.forEach(({ dimension, input, shown }) => {
      input.value = z[dimension];
      input.setAttribute("aria-valuetext", fixed(z[dimension]));
      shown.textContent = fixed(z[dimension]);
    });
    if (classes.length) chooser.value = label;
    showNeighbours();
    model.save_changes();
    clearTimeout(resting);
    // Not at each of sixty moves a second.
    resting = setTimeout(rest, 250);
  }

  /** What is done when the point rests: it is spoken, and the images behind the plane follow. */
  function rest() {
    if (manifold.checked && background.place !== elsewhere()) {
      background = tiles();
      drawPlane();
    }
    value.textContent = spoken(z, label);
  }

  // -- The plane
  let background = null;
  /** The place in all that the plane does not show: the images behind it belong to one such place. */
  const elsewhere = () => `${label}:${z.filter((_, k) => k !== across && k !== up).join()}`;
  const toPad = (value) => ((value + span) / (2 * span)) * 2 * PAD;

  function drawPlane() {
    const context = pad.getContext("2d");
    const ink = getComputedStyle(pad).color;
    context.clearRect(0, 0, 2 * PAD, 2 * PAD);
    if (manifold.checked) context.drawImage((background ??= tiles()), 0, 0);
    context.lineWidth = 1.5;
    context.strokeStyle = ink;
    for (let sigma = 1; sigma <= span; sigma++) {
      context.globalAlpha = 0.35;
      context.beginPath();
      context.arc(PAD, PAD, (sigma * PAD) / span, 0, 2 * Math.PI);
      context.stroke();
    }
    context.globalAlpha = 1;
    if (points.checked) drawCodes(context);
    drawWalk(context, ink);
    const [x, y] = [toPad(z[across]), up === null ? PAD : 2 * PAD - toPad(z[up])];
    for (const [radius, colour] of [[17, "#ffffff"], [14, "#000000"], [10, "#ffffff"]]) {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.strokeStyle = colour;
      context.lineWidth = 4;
      context.stroke();
    }
  }

  function drawCodes(context) {
    context.font = "22px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let i = 0; i < count; i++) {
      const y = up === null ? PAD : 2 * PAD - toPad(codes[i * dims + up]);
      context.fillStyle = COLOURS[codeLabels[i] % COLOURS.length];
      context.fillText(mark(codeLabels[i]), toPad(codes[i * dims + across]), y);
    }
  }

  function drawWalk(context, ink) {
    const place = (code) => [toPad(code[across]), up === null ? PAD : 2 * PAD - toPad(code[up])];
    context.setLineDash([10, 8]);
    context.strokeStyle = ink;
    context.lineWidth = 3;
    context.beginPath();
    context.moveTo(...place(walk.from));
    context.lineTo(...place(walk.to));
    context.stroke();
    context.setLineDash([]);
  }

  /** The images of a grid over the plane, the other dimensions as they are. */
  function tiles() {
    const [n, canvas, tile] = [15, make("canvas", { width: 2 * PAD, height: 2 * PAD }), make("canvas", { width, height })];
    const first = decode.findIndex(Boolean);
    const context = canvas.getContext("2d");
    const code = Float64Array.from(z);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = 0.6;
    for (let row = 0; first >= 0 && row < n; row++) {
      for (let column = 0; column < n; column++) {
        code[across] = ((column + 0.5) / n) * 2 * span - span;
        code[up] = span - ((row + 0.5) / n) * 2 * span;
        paint(tile, decode[first](code, label), height, width);
        context.drawImage(tile, (column / n) * 2 * PAD, (row / n) * 2 * PAD, (2 * PAD) / n, (2 * PAD) / n);
      }
    }
    canvas.place = elsewhere();
    return canvas;
  }

  function showNeighbours() {
    neighbours.hidden = !nearest.checked;
    if (!nearest.checked) return;
    const distance = (i) => z.reduce((sum, each, k) => sum + (each - codes[i * dims + k]) ** 2, 0);
    const closest = Array.from({ length: count }, (_, i) => [distance(i), i]).sort((a, b) => a[0] - b[0]).slice(0, nearby.length);
    closest.forEach(([far, i], place) => {
      const { button, canvas, caption } = nearby[place];
      button.onclick = () => move((next) => next.set(codes.subarray(i * dims, (i + 1) * dims)));
      button.setAttribute("aria-label", `Go to the code of an image of class ${named(codeLabels[i])}, at distance ${fixed(Math.sqrt(far))}`);
      canvas.getContext("2d").drawImage(thumbnails, 0, -i * height);
      caption.textContent = named(codeLabels[i]);
    });
  }

  // -- The walk
  function stroll(share) {
    way.value = share;
    way.setAttribute("aria-valuetext", `${Math.round(100 * share)} percent of the way`);
    move((next) => next.forEach((_, k) => { next[k] = (1 - share) * walk.from[k] + share * walk.to[k]; }));
  }

  function start() {
    const begin = performance.now();
    // Whoever asked for less motion sees five stills in place of a film.
    const [seconds, stills] = [4, still.matches ? 4 : Infinity];
    const step = (now) => {
      const share = Math.min(1, (now - begin) / (1000 * seconds));
      stroll(stills === Infinity ? share : Math.floor(share * stills) / stills);
      walking = share < 1 ? requestAnimationFrame(step) : 0;
      if (!walking) halt();
    };
    play.textContent = "Stop walk";
    walking = requestAnimationFrame(step);
  }

  function halt() {
    cancelAnimationFrame(walking);
    walking = 0;
    play.textContent = "Play walk";
  }

  // -- Mouse, touch and keys on the plane
  function point(event) {
    const box = pad.getBoundingClientRect();
    halt();
    move((next) => {
      next[across] = ((event.clientX - box.left) / box.width) * 2 * span - span;
      if (up !== null) next[up] = span - ((event.clientY - box.top) / box.height) * 2 * span;
    });
  }
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    pad.focus({ preventScroll: true });
    point(event);
  });
  pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) point(event); });
  pad.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.5 : 0.1;
    const [dimension, change] = {
      ArrowLeft: [across, -step], ArrowRight: [across, step], ArrowUp: [up, step], ArrowDown: [up, -step], Home: [null, 0],
    }[event.key] ?? [];
    if (dimension === undefined) return;
    event.preventDefault();
    halt();
    move((next) => { if (event.key === "Home") next.fill(0); else if (dimension !== null) next[dimension] += change; });
  });

  // -- What comes from Python, or from another view of the same widget
  const follow = () => {
    const next = model.get("z");
    if (next.some((each, k) => each !== z[k])) { z = Float64Array.from(next); draw(); }
    if (model.get("label") !== label) { label = model.get("label"); draw(); }
  };
  const picture = () => {
    const frames = model.get("_frames");
    if (!frames?.byteLength) return;
    const values = Array.from(bytes(frames), (byte) => byte / 255);
    const unknown = screens.filter((_, i) => !decode[i]);
    const size = values.length / unknown.length;
    unknown.forEach(({ canvas }, i) => paint(canvas, values.slice(i * size, (i + 1) * size), height, width));
  };
  model.on("change:z", follow);
  model.on("change:label", follow);
  model.on("change:_frames", picture);
  still.addEventListener("change", halt, { signal: stop.signal });
  // The plane is drawn in the colour of the text around it. A page says by an attribute that it went dark: the site on
  // its root, JupyterLab and VS Code on the body; a saved page follows the system.
  const theme = new MutationObserver(draw);
  for (const each of [document.documentElement, document.body]) {
    theme.observe(each, { attributes: true, attributeFilter: ["class", "data-theme", "data-mode", "data-jp-theme-light"] });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal: stop.signal });
  thumbnails.addEventListener("load", draw);
  picture();
  show();
  rest();

  return () => {
    halt();
    cancelAnimationFrame(frame);
    clearTimeout(resting);
    stop.abort();
    theme.disconnect();
    URL.revokeObjectURL(thumbnails.src);
    model.off("change:z", follow);
    model.off("change:label", follow);
    model.off("change:_frames", picture);
  };
}


/** Bytes, as a DataView, of a base64 text. */
const unpack = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

/**
 * Show an explorer in a page without a kernel, from the state that Python stored (LatentExplorer.stored).
 * `shipped` holds the base64 texts of those weights that the state gives by name. `still` is the image that stands for
 * the explorer in the page: it stays, with the reason below it, where no decoder can run here.
 */
export function mount(el, stored, shipped = {}, still = null) {
  const state = Object.fromEntries(
    Object.entries(stored).map(([key, each]) => [key, each?.base64 === undefined ? each : unpack(each.base64)]),
  );
  const parts = stored._weights.map((part) => bytes(unpack(part.base64 ?? shipped[part.shipped])));
  const weights = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (weights.set(part, at), at + part.length), 0);
  state._weights = new DataView(weights.buffer);
  const model = {
    kernel: false,
    get: (key) => state[key],
    set: (key, next) => { state[key] = next; },
    on() {},
    off() {},
    save_changes() {},
  };
  const { decoders } = stored._spec;
  if (still && !decoders.some((each) => each.layers.length)) {
    const reasons = decoders.map((each) => remark(`${each.name}: ${why(each)}.`));
    el.replaceChildren(still.cloneNode(), remark("A still image: it moves only while Python runs."), ...reasons);
  } else {
    render({ model, el });
  }
  return model;
}

export default { render };

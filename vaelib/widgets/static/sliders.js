// Sliders that choose one of the stills that Python drew, in a page without a kernel; one slider alone can be played.
// Where the stills are pictures side by side, with a caption each, there is one for each position of one slider while
// the others are at the start: a slider that moves brings the others back.

function make(tag, className, attributes = {}) {
  return Object.assign(document.createElement(tag), { className, ...attributes });
}

/** Show the stills of `stored` (Sliders.stored) in `el`; `image` stands for them in the page, and lends its alt text. */
export function mount(el, { names, values, start, frames, captions }, image) {
  const at = [...start];
  const picture = image.cloneNode();
  const home = () => at.splice(0, at.length, ...start);
  const [box, rows, buttons] = [make("div", "vae-explorer"), make("div", "vae-controls"), make("div", "vae-buttons")];
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Sliders: ${names.join(", ")}`);
  const inputs = names.map((name, k) => {
    const row = make("label", "vae-row");
    const input = make("input", "", { type: "range", min: 0, max: values[k].length - 1, step: 1 });
    input.addEventListener("input", () => { halt(); if (captions) home(); at[k] = Number(input.value); show(); });
    row.append(make("span", "", { textContent: name }), input, make("span", "vae-number"));
    rows.append(row);
    return input;
  });
  const button = (textContent, onclick) => {
    buttons.append(make("button", "vae-button", { type: "button", textContent, onclick }));
    return buttons.lastChild;
  };
  button("Reset", () => { halt(); home(); show(); });
  const player = names.length === 1 ? button("Play", () => (playing ? halt() : play())) : null;
  let playing = 0;

  /** The place among the stills of all positions: the last slider moves fastest. */
  const rank = () => at.reduce((sum, each, k) => sum * values[k].length + each, 0);

  /** The place among the stills of each slider's positions, one slider behind the other. */
  function alone() {
    const moved = Math.max(0, at.findIndex((each, k) => each !== start[k]));
    return values.slice(0, moved).reduce((sum, each) => sum + each.length, at[moved]);
  }

  function show() {
    picture.src = `data:image/webp;base64,${frames[captions ? alone() : rank()]}`;
    inputs.forEach((input, k) => {
      input.value = at[k];
      input.setAttribute("aria-valuetext", values[k][at[k]]);
      input.nextSibling.textContent = values[k][at[k]];
    });
  }

  function play() {
    if (at[0] === values[0].length - 1) at[0] = 0;
    show();
    player.textContent = "Stop";
    playing = setInterval(() => {
      at[0] += 1;
      show();
      if (at[0] === values[0].length - 1) halt();
    }, 400);
  }

  function halt() {
    clearInterval(playing);
    playing = 0;
    if (player) player.textContent = "Play";
  }

  rows.append(buttons);
  box.append(rows);
  if (captions) {
    picture.className = "vae-pictures";
    box.classList.add("vae-wide");
    const below = make("div", "vae-captions");
    below.append(...captions.map((textContent) => make("span", "", { textContent })));
    const note = make("p", "vae-note", { textContent: "Here one slider moves at a time; with Python all move together." });
    el.replaceChildren(picture, below, box, note);
  } else {
    el.replaceChildren(picture, box);
  }
  show();
}

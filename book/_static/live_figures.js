// Brings the figures of a page to life: each state that the build has put into the page takes the place of its still image.
(() => {
  "use strict";

  /** The image that stands for a state, in the output of the cell before it. */
  function still(state) {
    let cell = state;
    while (!cell.matches(".cell")) cell = cell.previousElementSibling;
    return cell.querySelector(".cell_output img");
  }

  function enliven(kind, show) {
    for (const state of document.querySelectorAll(`script.vaelib-${kind}`)) {
      const [image, host] = [still(state), document.createElement("div")];
      host.className = "vaelib-live";
      try {
        show(host, JSON.parse(state.textContent), image);
        image.replaceWith(host);
      } catch (error) {
        console.error(error); // the still image stays
      }
    }
  }

  enliven("explorer", (host, stored, image) => vaelib.explorer(host, stored, vaelib.weights, image));
  enliven("frames", (host, stored, image) => vaelib.sliders(host, stored, image));
})();

// Brings the figures of a page to life: each state that the build has put into the page takes the place of its still image.
(() => {
  "use strict";

  /** The image that stands for a state, in the output of the cell before it. */
  function still(state) {
    let cell = state;
    while (!cell.matches(".cell")) cell = cell.previousElementSibling;
    return cell.querySelector(".cell_output img");
  }

  for (const state of document.querySelectorAll("script.vaelib-explorer")) {
    const [image, host] = [still(state), document.createElement("div")];
    host.className = "vaelib-live";
    try {
      vaelib.mount(host, JSON.parse(state.textContent), vaelib.weights);
      image.replaceWith(host);
    } catch (error) {
      console.error(error); // the still image stays
    }
  }
})();

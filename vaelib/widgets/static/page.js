/** Bring the page's widget to life; where that fails, its still image stays, and the reason. */
function show(kind) {
  const host = document.getElementById("widget");
  const still = document.createElement("template");
  still.innerHTML = document.querySelector("noscript").textContent;
  const image = still.content.querySelector("img");
  try {
    const state = JSON.parse(document.getElementById("state").textContent);
    if (kind === "explorer") vaelib.explorer(host, state, {}, image);
    else vaelib.sliders(host, state, image);
  } catch (error) {
    const reason = Object.assign(document.createElement("p"), { className: "vae-note" });
    reason.textContent = `A still image: in this browser it can't be brought to life (${error.message}).`;
    host.replaceChildren(image, reason);
    console.error(error);
  }
}

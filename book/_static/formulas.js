// A formula that is wider than its column scrolls: where it does, the keyboard reaches it.
(() => {
  "use strict";
  const reach = () => {
    for (const formula of document.querySelectorAll(".katex-display, span.math")) {
      if (formula.scrollWidth > formula.clientWidth && getComputedStyle(formula).overflowX === "auto") formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
  };
  addEventListener("load", reach);
  addEventListener("resize", reach);
})();

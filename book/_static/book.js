// What the theme leaves between its markup and a screen reader or a keyboard.
(function () {
  function mend() {
    // Their visible text says more than these labels, and a label hides it.
    document
      .querySelectorAll("summary[aria-label], .search-button-field[aria-label]")
      .forEach((element) => element.removeAttribute("aria-label"));
    // The arrow that unfolds a page's subpages in the sidebar has no text at all.
    document.querySelectorAll("summary:has(> .toctree-toggle)").forEach((arrow) => {
      const entry = arrow.closest("li").querySelector("a");
      arrow.setAttribute("aria-label", `Pages of ${entry ? entry.textContent.trim() : "this part"}`);
    });
    document.querySelectorAll(".theme-switch-button").forEach((button) => {
      button.setAttribute("aria-label", "Color mode: Light, Dark, System Settings");
      button.querySelectorAll("[title]").forEach((icon) => icon.setAttribute("aria-hidden", "true"));
    });
    // A list whose entries are no list items.
    document
      .querySelectorAll(".citation-list, .citation-list [role]")
      .forEach((element) => element.removeAttribute("role"));
  }

  // An equation wider than a phone scrolls; the keyboard must reach it to do so.
  function reachEquations() {
    document.querySelectorAll('mjx-container[display="true"]').forEach((equation) => {
      if (equation.scrollWidth > equation.clientWidth) equation.tabIndex = 0;
      else equation.removeAttribute("tabindex");
    });
  }

  function afterMath() {
    if (window.MathJax && MathJax.startup && MathJax.startup.promise)
      MathJax.startup.promise.then(reachEquations);
  }

  document.addEventListener("DOMContentLoaded", mend);
  window.addEventListener("load", () => {
    mend();
    afterMath();
  });
  window.addEventListener("resize", reachEquations);
})();

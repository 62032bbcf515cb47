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

  // A full stop that follows a formula does not begin a line, nor does a bracket before one end it.
  function keepPunctuation() {
    document.querySelectorAll(".bd-content span.math").forEach((formula) => {
      const [before, after] = [formula.previousSibling, formula.nextSibling];
      const opening = (before instanceof Text && before.data.match(/[([“‘]+$/)) || [""];
      const closing = (after instanceof Text && after.data.match(/^[.,;:!?)\]’”]+/)) || [""];
      if (!opening[0] && !closing[0]) return;
      const group = document.createElement("span");
      group.className = "unet-together";
      formula.replaceWith(group);
      group.append(opening[0], formula, closing[0]);
      if (opening[0]) before.data = before.data.slice(0, -opening[0].length);
      if (closing[0]) after.data = after.data.slice(closing[0].length);
    });
  }

  // What belongs together and has a blank or a hyphen: "Fig. 1", "512 x 512", "92 %", "3e-16", "fold-0", "U-Net", "--min-area".
  // A long shape breaks after two of its sizes.
  const WHOLE =
    /\b(?:Figs?\.|Figures?|[Ee]qs?\.|[Ee]quations?|Secs?\.|[Ss]ections?|Tables?|[Cc]hapters?|[Ll]evels?) \d[\d.]*|\b(?:\d+|[A-Z]) x (?:\d+|[A-Z])\b(?: x(?= [\dA-Z]))?|\b[\d.,]*\d (?:%|[kMGT]i?B(?:\/s)?|[GT]FLOPs?(?:\/s)?|[mµn]?[sm]|px)(?![\w%])|\b\d+(?:\.\d+)?e-\d+\b|\b[a-z]{2,}-\d\b|\b[Uu]-[Nn]ets?\b|(?<![\w-])--[a-z][a-z-]*/g;
  function keepWhole() {
    const texts = document.createTreeWalker(document.querySelector(".bd-content") || document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    for (let text = texts.nextNode(); text; text = texts.nextNode())
      if (text.data.search(WHOLE) >= 0 && !text.parentElement.closest("pre, script, style, svg, .math, [data-widget], .unet-together"))
        found.push(text);
    for (const text of found) {
      const parts = [];
      let end = 0;
      for (const { 0: whole, index } of text.data.matchAll(WHOLE)) {
        const together = document.createElement("span");
        together.className = "unet-together";
        together.textContent = whole;
        parts.push(text.data.slice(end, index), together);
        end = index + whole.length;
      }
      text.replaceWith(...parts, text.data.slice(end));
    }
  }

  // An error of exactly 0 is printed in the format of those that are not.
  function plainZeros() {
    for (const place of document.querySelectorAll(".bd-content .cell_output :is(pre, td)")) {
      const texts = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
      for (let text = texts.nextNode(); text; text = texts.nextNode())
        if (text.data.includes("0e+00")) text.data = text.data.replace(/\b0e\+00\b/g, "0");
    }
  }

  // Where an output is folded, and its code perhaps too, the folds say what is in them.
  function nameFolds() {
    document.querySelectorAll(".cell.tag_hide-output").forEach((cell) => {
      const kind = cell.querySelector(".cell_output img") ? "figure" : cell.querySelector(".cell_output table") ? "table" : "result";
      cell.querySelectorAll("summary .admonition-title").forEach((title) => {
        title.textContent = title.textContent.replace("the source", `the code of the ${kind}`).replace("the output", `the ${kind}`);
      });
    });
  }

  // A long name may break after a dot, an underscore or a bracket.
  function breakNames() {
    const names = [...document.querySelectorAll(".bd-content :is(td, p, li) code .pre")];
    const modules = document.querySelectorAll(".bd-content section[id^=module-] > h2");
    for (const name of [...names, ...modules].map((element) => element.firstChild)) {
      if (!(name instanceof Text)) continue;
      const parts = name.data.split(/(?<=[._/(,=])/);
      name.replaceWith(...parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part])));
    }
  }

  // What does not break at its hyphens: 1e-15, and the options of a command.
  const TAG_OR_WHOLE = /<[^>]*>|(\d(?:\.\d+)?e-\d+|(?<![\w-])--?[a-z][\w-]*)/g;

  // A line of code that is too long breaks, and goes on a little to the right of where it began.
  function breakCode() {
    document.querySelectorAll(".bd-content .highlight pre").forEach((code) => {
      const lines = code.innerHTML.replace(/\n$/, "").split("\n");
      code.innerHTML = lines
        .map((line) => {
          const indent = line.replace(/<[^>]*>/g, "").match(/^ */)[0].length;
          const whole = line
            .replace(TAG_OR_WHOLE, (tag, token) => (token ? `<span class="unet-together">${token}</span>` : tag))
            .replace(/<span class="[op]">[.,([{]+<\/span>/g, "$&<wbr>");
          return `<span class="unet-line" style="--indent: ${indent}ch">${whole}\n</span>`;
        })
        .join("");
    });
  }

  // A change makes the browser lay out the page anew before it can measure: all are measured first.
  function changeAll(ones, measure, change) {
    const measured = ones.map(measure);
    ones.forEach((one, i) => change(one, measured[i]));
  }

  // An equation or a table that is too wide shrinks; on a phone a table's short cells break, too. What
  // would be too small scrolls: the keyboard must reach it, and the eye see that more follows.
  const WIDE = 'mjx-container[display="true"], .table-wrapper, .pst-scrollable-table-container';
  const SMALLEST = 75; // per cent of the text beside it
  const narrow = matchMedia("(max-width: 576px)");
  const share = (one) => one.clientWidth / one.scrollWidth;
  const overflows = (one) => one.scrollWidth > one.clientWidth;
  const hidesMore = (one) => one.scrollWidth - one.clientWidth - one.scrollLeft > 2;
  function fitEquations(equations) {
    const setSize = (equation, percent) => (equation.style.fontSize = `${percent}%`);
    for (const equation of equations) {
      equation.dataset.size ||= parseFloat(equation.style.fontSize);
      setSize(equation, equation.dataset.size);
      equation.parentElement.classList.remove("unet-under");
    }
    // Its number has a line of its own before the equation becomes small.
    changeAll(equations, share, (one, part) => {
      if (part < 0.8) one.parentElement.classList.add("unet-under");
    });
    changeAll(equations, share, (one, part) => {
      if (part < 1) setSize(one, Math.max(SMALLEST, 0.99 * one.dataset.size * part));
    });
  }
  function fitTables(tables) {
    const ways = ["unet-small", "unet-tiny", "unet-tight"];
    tables.forEach((table) => table.classList.remove(...ways));
    for (const way of narrow.matches ? ways : ways.slice(0, 2))
      changeAll(tables, overflows, (table, does) => does && table.classList.add(way));
    changeAll(tables, overflows, (table, does) => does && table.classList.remove("unet-tight"));
  }
  // Printed rows and columns stay in line if ten pixels for a letter are small enough for that.
  function roomForLetters(printed) {
    const longest = Math.max(...printed.textContent.split("\n").map((line) => line.length));
    const { paddingLeft, paddingRight } = getComputedStyle(printed);
    const room = printed.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    return Math.floor((10 * room) / (longest * 0.61)) / 10;
  }
  function fitPrinted(ones) {
    ones.forEach((printed) => (printed.style.fontSize = ""));
    if (!narrow.matches) return;
    changeAll(ones, roomForLetters, (printed, size) => {
      if (size >= 10) printed.style.fontSize = `min(0.78rem, ${size}px)`;
    });
  }
  function showMore({ currentTarget: one }) {
    one.toggleAttribute("data-more", hidesMore(one));
  }
  function reachWide(places) {
    const find = (selector) => [...new Set(places.flatMap((one) => [...one.querySelectorAll(selector)]))];
    const wide = find(WIDE);
    const isEquation = (one) => one.matches("mjx-container");
    fitPrinted(find(".cell_output .output pre"));
    fitEquations(wide.filter(isEquation));
    fitTables(wide.filter((one) => !isEquation(one)));
    changeAll(wide, (one) => [overflows(one), hidesMore(one)], (one, [scrolls, more]) => {
      if (scrolls) one.tabIndex = 0;
      else if (isEquation(one)) one.removeAttribute("tabindex");
      one.toggleAttribute("data-more", more);
      one.addEventListener("scroll", showMore, { passive: true });
    });
  }

  // Once before the next picture, however much was opened or resized until then.
  const waiting = new Set();
  function fitSoon(place) {
    waiting.add(place);
    if (waiting.size > 1) return;
    requestAnimationFrame(() => {
      const places = waiting.has(document) ? [document] : [...waiting];
      waiting.clear();
      reachWide(places);
    });
  }

  function afterMath() {
    const fit = () => reachWide([document]);
    if (window.MathJax && MathJax.startup && MathJax.startup.promise) MathJax.startup.promise.then(fit);
    else fit();
  }

  // What is folded has no width before it is opened; the event does not bubble.
  document.addEventListener("toggle", (event) => fitSoon(event.target), true);
  document.addEventListener("DOMContentLoaded", () => {
    mend();
    plainZeros();
    nameFolds();
    keepPunctuation();
    breakNames();
    keepWhole();
    breakCode();
  });
  window.addEventListener("load", () => {
    mend();
    afterMath();
  });
  window.addEventListener("resize", () => fitSoon(document));
})();

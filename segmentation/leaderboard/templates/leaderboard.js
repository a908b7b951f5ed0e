"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Pointing at a row or its dot highlights both.
  for (const board of all(".board")) {
    for (const thing of all("[data-rank]", board)) {
      const both = all(`[data-rank="${thing.dataset.rank}"]`, board);
      thing.addEventListener("mouseenter", () => both.forEach((each) => each.classList.add("chosen")));
      thing.addEventListener("mouseleave", () => both.forEach((each) => each.classList.remove("chosen")));
    }
  }
})();

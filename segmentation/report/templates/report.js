"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  const number = (text) => (text === "" || text === "nan" ? NaN : Number(text));
  // Rows and images without a number come last in either order.
  const compare = (one, other, sign) => Number.isNaN(one) - Number.isNaN(other) || sign * (one - other) || 0;

  // A click on a number's heading sorts by it, highest first; a second click reverses the order.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    for (const button of all("thead button", table)) {
      const head = button.closest("th");
      const column = heads.indexOf(head) - 1;
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        const value = (row) => number(all("td", row)[column].dataset.value);
        const rows = all("tbody tr", table);
        rows.sort((one, other) => compare(value(one), value(other), sign));
        table.tBodies[0].append(...rows);
      });
    }
  }

  const filter = byId("filter");
  if (!filter) return;
  const cards = all(".card");

  const show = () => {
    const chosen = filter.value;
    const sign = Number(byId("order").value);
    const score = (card) => number(chosen === "" ? card.dataset.score : card.dataset.iou.split(" ")[Number(chosen)]);
    const there = cards.filter((card) => !Number.isNaN(score(card)) || chosen === "");
    there.sort((one, other) => compare(score(one), score(other), sign) || sign * (one.dataset.place - other.dataset.place));
    for (const card of cards) {
      card.hidden = !there.includes(card);
      card.querySelector(".score").textContent = Number.isNaN(score(card)) ? "-" : score(card).toFixed(3);
    }
    byId("cards").append(...there);
    byId("shown").textContent = `${there.length} shown`;
    document.body.classList.toggle("focused", chosen !== "");
    for (const thing of all("[data-class]")) thing.classList.toggle("chosen", thing.dataset.class === chosen);
  };

  filter.addEventListener("change", show);
  byId("order").addEventListener("change", show);
  byId("opacity").addEventListener("input", (event) => {
    document.documentElement.style.setProperty("--mask", event.target.value);
  });
  for (const thing of all("tbody tr[data-class], .key li[data-class]")) {
    thing.addEventListener("click", () => {
      filter.value = filter.value === thing.dataset.class ? "" : thing.dataset.class;
      show();
    });
  }
  show();
})();

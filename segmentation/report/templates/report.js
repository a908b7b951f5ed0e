"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  const number = (text) => (text === "" || text === "nan" ? NaN : Number(text));
  // Rows and images without a number come last in either order.
  const compare = (one, other, sign) => Number.isNaN(one) - Number.isNaN(other) || sign * (one - other) || 0;

  const filter = byId("filter");
  if (!filter) return;
  const cards = all("#cards .card");
  const main = cards.length ? cards[0].querySelector(".what").textContent : "";

  const show = () => {
    const chosen = filter.value;
    const sign = Number(byId("order").value);
    const score = (card) => number(chosen === "" ? card.dataset.score : card.dataset.iou.split(" ")[Number(chosen)]);
    const there = cards.filter((card) => !Number.isNaN(score(card)) || chosen === "");
    there.sort((one, other) => compare(score(one), score(other), sign) || sign * (one.dataset.place - other.dataset.place));
    for (const card of cards) {
      card.hidden = !there.includes(card);
      card.querySelector(".what").textContent = chosen === "" ? main : "IoU";
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

"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // A click on a heading sorts numbers from highest to lowest and text by alphabet; a second click reverses the order.
  // Missing values stay last.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    for (const button of all("thead button", table)) {
      const head = button.closest("th");
      const column = heads.indexOf(head);
      const value = (row) => row.cells[column].dataset.value;
      button.addEventListener("click", () => {
        const rows = all("tbody tr", table);
        const there = rows.filter((row) => value(row) !== "" && value(row) !== "-");
        const numeric = there.every((row) => !Number.isNaN(Number(value(row))));
        const before = head.getAttribute("aria-sort");
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const order = before ? (before === "ascending" ? "descending" : "ascending") : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const compare = (one, other) => (numeric ? Number(one) - Number(other) : one.localeCompare(other));
        there.sort((one, other) => sign * compare(value(one), value(other)));
        table.tBodies[0].append(...there, ...rows.filter((row) => !there.includes(row)));
      });
    }
  }
})();

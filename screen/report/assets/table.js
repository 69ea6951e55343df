// Tables that sort by the buttons in their heads, and the filter of the slides.
"use strict";
(() => {
  const keyOf = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;

  // Rows without a value stay last either way; equal ones keep their order.
  const compare = (a, b, numeric) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  };

  const sort = (table, head) => {
    const column = head.cellIndex;
    const numeric = head.querySelector(".sort").dataset.kind !== "word";
    const was = head.getAttribute("aria-sort");
    const now = was === "none" ? (numeric ? "descending" : "ascending") : was === "ascending" ? "descending" : "ascending";
    for (const other of head.parentElement.children) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", now);
    const sign = now === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
    rows.sort(([a], [b]) => (a === "" || b === "" ? 1 : sign) * compare(a, b, numeric));
    body.append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest(".sort");
      if (button) sort(table, button.closest("th"));
    });
  }

  const slides = document.getElementById("slide-table");
  const filter = document.getElementById("filter");
  const flaggedOnly = document.getElementById("flagged-only");
  const listed = document.getElementById("listed");
  const rows = [...slides.tBodies[0].rows];
  const texts = new Map(rows.map((row) => [row, `${row.cells[0].textContent} ${row.cells[row.cells.length - 1].textContent}`.toLowerCase()]));

  const narrow = () => {
    const sought = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !texts.get(row).includes(sought) || (flaggedOnly.checked && !row.classList.contains("flagged"));
      shown += !row.hidden;
    }
    const all = rows.length.toLocaleString("en");
    listed.textContent = shown === rows.length ? `${all} slide${shown === 1 ? "" : "s"}` : `${shown.toLocaleString("en")} of ${all} slides`;
  };
  filter.addEventListener("input", narrow);
  flaggedOnly.addEventListener("change", narrow);
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  slides.tBodies[0].addEventListener("click", (event) => {
    const link = event.target.closest("tr")?.querySelector("a");
    if (link && !event.target.closest("a") && !String(getSelection())) link.click();
  });
  if (filter.value || flaggedOnly.checked) narrow(); // a browser may restore them
})();

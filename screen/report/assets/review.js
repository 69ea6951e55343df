// What a person says of cells, which cells they chose, and both saved as files.
"use strict";
const review = (() => {
  const VERDICTS = ["agree", "disagree", "artefact", "unsure"];
  const desk = document.getElementById("desk");
  const tally = document.getElementById("tally");
  const marks = new Map();
  const chosen = new Set();
  let unsaved = 0;
  report.cells.forEach((cell, index) => { if (cell.mark) marks.set(index, { ...cell.mark }); });

  const many = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

  // Every card of a cell says what was said of it, wherever it stands.
  const showMark = (card, index) => {
    const mark = marks.get(index);
    card.querySelector(".mark").textContent = mark ? [mark.verdict, mark.note && "note"].filter(Boolean).join(", ") : "";
    const box = card.querySelector(".pick input");
    if (box) box.checked = chosen.has(index);
  };
  const refresh = (index) => {
    for (const thumb of document.querySelectorAll(`li > .thumb[data-cell="${index}"]`)) showMark(thumb.parentElement, index);
  };

  const count = () => {
    const said = VERDICTS.map((verdict) => [verdict, [...marks.values()].filter((mark) => mark.verdict === verdict).length]).filter(([, cells]) => cells);
    const parts = [];
    if (marks.size) parts.push(`${many(marks.size, "cell")} reviewed${said.length ? `: ${said.map(([verdict, cells]) => `${cells} ${verdict}`).join(", ")}` : ""}`);
    if (unsaved) parts.push(`${many(unsaved, "change")} not saved yet`);
    if (chosen.size) parts.push(`${many(chosen.size, "cell")} selected`);
    tally.textContent = parts.join(". ");
    desk.hidden = !parts.length;
    document.body.classList.toggle("with-desk", !desk.hidden);
    document.getElementById("save-review").hidden = !marks.size && !unsaved;
    for (const id of ["save-selection", "clear-selection"]) document.getElementById(id).hidden = !chosen.size;
  };

  const label = (index, verdict) => {
    const own = report.cells[index].class;
    if (verdict === "agree") return report.classes[own];
    return verdict === "disagree" && report.classes.length === 2 ? report.classes[1 - own] : "";
  };

  // Change what is said of a cell; a mark that says nothing is none.
  const say = (index, change) => {
    const was = marks.get(index) ?? { verdict: "", label: "", note: "" };
    const now = { ...was, ...change };
    if (change.verdict !== undefined) now.label = label(index, now.verdict);
    if (now.verdict || now.note) marks.set(index, now);
    else marks.delete(index);
    unsaved += 1;
    refresh(index);
    count();
  };

  const choose = (indices, on) => {
    for (const index of indices) {
      if (on) chosen.add(index);
      else chosen.delete(index);
      refresh(index);
    }
    count();
  };

  const save = (name, text, type) => {
    const address = URL.createObjectURL(new Blob([text], { type }));
    const link = page.element("a", { href: address, download: name, hidden: "" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  };

  const path = (index) => report.cells[index].raw ?? report.cells[index].path;
  const inOrder = (indices) => [...indices].sort((a, b) => a - b);
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const row = (index) => {
    const cell = report.cells[index];
    const { verdict, label: is, note } = marks.get(index);
    const slide = report.slides[cell.slide]?.name ?? "";
    return [path(index), verdict, is, note, report.classes[cell.class], cell.p ?? "", slide, report.run].map(quoted).join(",");
  };

  document.getElementById("save-review").addEventListener("click", () => {
    const head = "path,verdict,label,note,predicted,probability,slide,run";
    save("review.csv", `${[head, ...inOrder(marks.keys()).map(row)].join("\n")}\n`, "text/csv");
    unsaved = 0;
    count();
  });
  document.getElementById("save-selection").addEventListener("click", () => {
    save("paths.txt", `${inOrder(chosen).map(path).join("\n")}\n`, "text/plain");
  });
  document.getElementById("clear-selection").addEventListener("click", () => choose([...chosen], false));
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });

  count();
  return { VERDICTS, say, choose, showMark, markOf: (index) => marks.get(index), isChosen: (index) => chosen.has(index) };
})();

// One cell, large: its numbers, its evidence, what a person says of it, its neighbours.
"use strict";
const cellView = (() => {
  const { element } = page;
  const part = (name) => document.getElementById(`cell-${name}`);
  const dialog = document.getElementById("cell");
  const verdicts = [...part("verdicts").children];
  let cells = [];
  let at = 0;
  let place = "";
  let evidenceOn = false;
  const current = () => cells[at];

  const drawPicture = (cell) => {
    const { image, size, whole } = cell;
    part("evidence").hidden = !page.hasEvidence(cell);
    part("evidence").setAttribute("aria-pressed", String(evidenceOn));
    if (!image) {
      part("picture").replaceChildren(element("p", { class: "missing" }, `No picture: ${cell.why ?? "there is none"}.`));
      part("resolution").textContent = "";
      return;
    }
    const frame = page.frame(cell);
    frame.style.width = `min(100%, ${Math.max(size[0], 640)}px, calc(75vh * ${size[0] / size[1]}))`;
    page.setEvidence(frame, cell, evidenceOn);
    part("picture").replaceChildren(frame);
    const pixels = `${size[0].toLocaleString("en")} × ${size[1].toLocaleString("en")} pixels`;
    part("resolution").textContent = whole ? `The whole crop at its own resolution, ${pixels}.` : `The whole crop, made smaller to save space; it has ${pixels}.`;
  };

  const drawMark = () => {
    const mark = review.markOf(current());
    for (const button of verdicts) button.setAttribute("aria-pressed", String(button.dataset.verdict === mark?.verdict));
    if (part("note").value !== (mark?.note ?? "")) part("note").value = mark?.note ?? "";
    part("label-line").hidden = report.classes.length < 3 || mark?.verdict !== "disagree";
    part("label").value = mark?.label ?? "";
    part("select").setAttribute("aria-pressed", String(review.isChosen(current())));
  };

  const drawNumbers = (cell) => {
    const slide = report.slides[cell.slide];
    const pairs = [["Predicted class", report.words[cell.class]], ["Slide", slide?.name ?? ""], ...report.terms.map((term, i) => [term, cell.numbers[i]])];
    const rows = pairs.filter(([, text]) => text !== "").map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, element("bdi", {}, text))));
    part("numbers").replaceChildren(...rows);
  };

  const drawNear = (cell) => {
    const near = cell.near ?? [];
    part("near").hidden = !near.length;
    const around = [current(), ...near];
    part("near-list").replaceChildren(...near.map((index) => {
      const other = report.cells[index];
      return element("li", {}, page.thumb(index, around, "nearest cells and the cell they are near"), element("span", { class: other.called ? "p called" : "p" }, page.value(other)), element("span", { class: "mark" }));
    }));
    for (const item of part("near-list").children) review.showMark(item, Number(item.firstChild.dataset.cell));
  };

  const draw = () => {
    const cell = report.cells[current()];
    part("place").textContent = `${at + 1} of ${cells.length.toLocaleString("en")} ${place}`;
    part("title").replaceChildren("Cell ", element("bdi", {}, cell.path));
    const also = (cell.also ?? []).map((key) => report.galleries.find((words) => words.key === key)?.title.toLowerCase());
    const lines = [...cell.lines, ...(also.length ? [`also among: ${also.join(", ")}`] : [])];
    part("said").replaceChildren(
      element("p", { class: cell.called ? "p called" : "p" }, `${page.value(cell)} ${page.of(cell)}`),
      ...lines.map((line) => element("p", { class: line.startsWith("out of") ? "line strange" : "line" }, line)));
    drawPicture(cell);
    drawMark();
    drawNumbers(cell);
    drawNear(cell);
    part("previous").disabled = at === 0;
    part("next").disabled = at === cells.length - 1;
  };

  const open = (among, index, name) => {
    [cells, at, place] = [among, Math.max(0, among.indexOf(index)), name];
    draw();
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    part("title").focus();
  };

  const step = (by) => {
    if (!cells[at + by] && cells[at + by] !== 0) return;
    at += by;
    draw();
    if (document.activeElement?.disabled || !dialog.contains(document.activeElement)) part("title").focus();
  };

  const mark = (verdict) => {
    const was = review.markOf(current())?.verdict;
    review.say(current(), { verdict: was === verdict ? "" : verdict });
    drawMark();
  };
  const toggleEvidence = () => {
    evidenceOn = !evidenceOn;
    drawPicture(report.cells[current()]);
  };
  const toggleChosen = () => {
    review.choose([current()], !review.isChosen(current()));
    drawMark();
  };

  part("label").append(element("option", { value: "" }, "not said"), ...report.classes.map((name, i) => element("option", { value: name }, report.words[i])));
  part("label").addEventListener("change", () => review.say(current(), { label: part("label").value }));
  part("note").addEventListener("input", () => review.say(current(), { note: part("note").value.trim() }));
  for (const button of verdicts) button.addEventListener("click", () => mark(button.dataset.verdict));
  part("evidence").addEventListener("click", toggleEvidence);
  part("select").addEventListener("click", toggleChosen);
  part("previous").addEventListener("click", () => step(-1));
  part("next").addEventListener("click", () => step(1));
  part("close").addEventListener("click", () => dialog.close());

  const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), e: toggleEvidence, s: toggleChosen };
  review.VERDICTS.forEach((verdict, i) => { keys[String(i + 1)] = () => mark(verdict); });
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select")) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    const card = [...document.querySelectorAll(`main .thumb[data-cell="${current()}"]`)].find((each) => each.offsetParent);
    card?.focus();
  });
  addEventListener("hashchange", () => dialog.close());
  return { open };
})();

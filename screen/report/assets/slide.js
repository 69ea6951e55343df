// One slide: its facts, its probabilities, and its cells with the evidence laid over them.
"use strict";
(() => {
  const overview = document.getElementById("overview");
  const view = document.getElementById("slide");
  const content = document.getElementById("slide-content");
  const links = () => [...document.querySelectorAll("#slide-table tbody tr:not([hidden]) a")];
  let current = -1;
  let evidenceOn = false;

  const { element } = page;

  const card = (index, cells, place) => {
    const cell = report.cells[index];
    const lines = cell.lines.map((line) => element("span", { class: line.startsWith("out of") ? "line strange" : "line" }, line));
    const pick = element("label", { class: "pick" }, element("input", { type: "checkbox", "aria-label": `Select cell ${cell.path}` }), "Select");
    pick.firstChild.addEventListener("change", () => review.choose([index], pick.firstChild.checked));
    const item = element("li", {}, page.thumb(index, cells, place),
      element("span", { class: cell.called ? "p called" : "p" }, `${page.value(cell)} ${page.of(cell)}`), ...lines,
      element("bdi", { class: "path" }, cell.path), element("span", { class: "mark" }), pick);
    review.showMark(item, index);
    if (evidenceOn && cell.image) page.setEvidence(item.querySelector(".frame"), cell, true);
    return item;
  };

  const gallery = (slide, words) => {
    if (!slide.scored) return null;
    const cells = slide.galleries[words.key] ?? [];
    const above = report.cells.filter((cell) => cell.slide === current && cell.also?.includes(words.key)).length;
    if (!cells.length && !above && ["marked", "sample"].includes(words.key)) return null;
    const also = above ? ` ${above} more ${above === 1 ? "is" : "are"} shown above.` : "";
    const text = cells.length || above ? `${words.text} ${cells.length} of ${slide.scored.toLocaleString("en")} scored cells.${also}` : "None is shown here, to keep this file small: see the tables in cells/.";
    const select = element("button", { type: "button", class: "small" }, cells.length === 1 ? "Select it" : `Select these ${cells.length}`);
    select.addEventListener("click", () => review.choose(cells, true));
    return element("section", { "aria-labelledby": `gallery-${words.key}` }, element("h3", { id: `gallery-${words.key}` }, words.title),
      element("p", { class: "quiet text" }, text, ...(cells.length ? [" ", select] : [])), element("ul", { class: "gallery" }, ...cells.map((index) => card(index, all(slide), `cells shown of slide ${slide.name}`))));
  };

  // All cells of a slide in the order of its galleries: what the arrow keys go through.
  const all = (slide) => report.galleries.flatMap((words) => slide.galleries[words.key] ?? []);

  const faults = (slide) => {
    if (!slide.unscored) return null;
    const rows = slide.faults.map((texts) => element("tr", {}, element("th", { scope: "row" }, element("bdi", {}, texts[0])), element("td", {}, texts[1]), element("td", {}, texts[2])));
    const head = element("thead", {}, element("tr", {}, ...["Cell", "Status", "Why"].map((title) => element("th", { scope: "col" }, title))));
    const table = element("table", {}, element("caption", {}, `${slide.faults.length.toLocaleString("en")} of ${slide.unscored.toLocaleString("en")} cells without a score, by name`), head, element("tbody", {}, ...rows));
    return element("section", { "aria-labelledby": "faults" }, element("h3", { id: "faults" }, "Could not be scored"), element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of cells without a score" }, table));
  };

  const evidenceBar = (slide) => {
    const shown = Object.values(slide.galleries).flat().map((index) => report.cells[index]);
    if (!shown.some(page.hasEvidence)) return element("p", { class: "quiet text" }, shown.some((cell) => cell.image) ? "These results hold no evidence maps that could be laid over the cells." : "");
    const button = element("button", { type: "button", id: "evidence", "aria-pressed": String(evidenceOn) }, "Show evidence on all cells");
    button.addEventListener("click", () => {
      evidenceOn = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(evidenceOn));
      for (const each of content.querySelectorAll("button.thumb:not(.empty)")) page.setEvidence(each.querySelector(".frame"), report.cells[each.dataset.cell], evidenceOn);
    });
    const [height, width] = report.grid;
    const end = report.evidenceScale.toPrecision(2);
    const scale = element("span", { class: "scale" }, element("span", {}, `−${end}`), element("i", { role: "img", "aria-label": "colour scale from against to for" }), element("span", {}, `+${end}`));
    const of = report.positive === null ? "the most likely class" : report.positive;
    const text = element("p", { class: "quiet" }, `How each of the ${width} × ${height} squares adds to the model’s logit of ${of}: the mean of all squares, plus a constant, is the logit. Orange raises the score and blue lowers it; where there is no colour, the effect is near zero; all cells share one scale. Each square is centred on what it looks at, and is affected by what lies around it. The map shows what the model used; it is not an outline of the cell and does not explain why. Choose a cell to see it large.`);
    return element("div", { class: "evidence-bar" }, button, scale, text);
  };

  const facts = (slide) => element("dl", { class: "facts" }, ...slide.facts.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))));

  const show = (index) => {
    const slide = report.slides[index];
    current = index;
    const title = element("h2", { tabindex: "-1" }, "Slide ", element("bdi", {}, slide.name));
    const chart = element("figure", {}, element("h3", {}, "Probabilities"), element("div", { class: "chart", id: "chart-slide" }), element("figcaption", {}, `${slide.scored.toLocaleString("en")} scored cells`));
    content.replaceChildren(title, element("p", {}, ...page.pills(slide)),
      element("div", { class: "slide-head" }, facts(slide), chart),
      ...[evidenceBar(slide), ...report.galleries.map((words) => gallery(slide, words)), faults(slide)].filter(Boolean));
    overview.hidden = true;
    view.hidden = false;
    charts.histogram("chart-slide", slide.histogram, `Histogram of the probabilities of ${slide.scored} cells`);
    step();
    scrollTo(0, 0);
    title.focus({ preventScroll: true });
  };

  const leave = () => {
    const from = current;
    current = -1;
    view.hidden = true;
    overview.hidden = false;
    charts.overview();
    if (from >= 0) document.querySelector(`#slide-table a[href="#slide-${from}"]`)?.focus();
  };

  // Previous and next follow the table as it is sorted and filtered now.
  const neighbour = (by) => {
    const all = links();
    const here = all.findIndex((link) => link.hash === `#slide-${current}`);
    return here < 0 ? undefined : all[here + by];
  };
  const step = () => {
    for (const [id, by] of [["previous", -1], ["next", 1]]) document.getElementById(id).disabled = !neighbour(by);
  };
  for (const [id, by] of [["previous", -1], ["next", 1]]) {
    document.getElementById(id).addEventListener("click", () => { location.hash = neighbour(by).hash; });
  }

  const route = () => {
    const index = /^#slide-(\d+)$/.exec(location.hash)?.[1];
    if (index !== undefined && report.slides[index]) show(Number(index));
    else if (current >= 0 || !drawnOnce) leave();
    drawnOnce = true;
  };
  let drawnOnce = false;
  addEventListener("hashchange", route);
  route();
})();

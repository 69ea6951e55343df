// One slide: its facts, its probabilities, and its cells with the evidence laid over them.
"use strict";
(() => {
  const overview = document.getElementById("overview");
  const view = document.getElementById("slide");
  const content = document.getElementById("slide-content");
  const links = () => [...document.querySelectorAll("#slide-table tbody tr:not([hidden]) a")];
  let current = -1;
  let evidenceOn = false;

  // All text goes in as text: names come from strangers.
  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  };

  const colour = (name) => {
    const probe = element("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return found;
  };

  const overlay = (cell) => {
    const [height, width] = report.grid;
    const [left, top, wide, high] = cell.box;
    const levels = Int8Array.from(atob(cell.map), (char) => char.charCodeAt(0));
    const canvas = element("canvas", { "aria-hidden": "true", width, height });
    for (const [side, part] of Object.entries({ left, top, width: wide, height: high })) canvas.style[side] = `${100 * part}%`;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const colours = [colour("--against"), colour("--for")];
    levels.forEach((level, place) => {
      const alpha = 170 * (Math.abs(level) / 127) ** 0.8;
      pixels.data.set([...colours[Number(level > 0)], alpha], 4 * place);
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  };

  const canShow = (cell) => Boolean(cell.image && cell.map && report.grid && cell.box.length);

  const setEvidence = (button, cell, on) => {
    button.setAttribute("aria-pressed", String(on));
    const frame = button.querySelector(".frame");
    frame.querySelector("canvas")?.remove();
    if (on) frame.append(overlay(cell));
  };

  const picture = (cell, described) => {
    if (!cell.image) return element("div", { class: "thumb empty" }, cell.why ?? "no picture");
    const frame = element("span", { class: `frame ${cell.aspect >= 1 ? "wide" : "tall"}` }, element("img", { src: cell.image, alt: described }));
    frame.style.aspectRatio = String(cell.aspect);
    const button = element("button", { type: "button", class: "thumb" }, frame);
    if (!canShow(cell)) {
      button.disabled = true;
      return button;
    }
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `${described}. Evidence overlay`);
    button.addEventListener("click", () => setEvidence(button, cell, button.getAttribute("aria-pressed") !== "true"));
    button.cell = cell;
    if (evidenceOn) setEvidence(button, cell, true);
    return button;
  };

  const card = (index) => {
    const cell = report.cells[index];
    const value = cell.p === null ? "" : cell.p.toFixed(3);
    const described = `Cell ${cell.path}, probability of ${cell.of} ${value}`;
    const lines = cell.lines.map((line) => element("span", { class: line.startsWith("out of") ? "line strange" : "line" }, line));
    return element("li", {}, picture(cell, described),
      element("span", { class: cell.called ? "p called" : "p" }, `${value} ${cell.of}`), ...lines,
      element("bdi", { class: "path" }, cell.path));
  };

  const gallery = (slide, words) => {
    const cells = slide.galleries[words.key] ?? [];
    if (!slide.scored) return null;
    const heading = element("h3", { id: `gallery-${words.key}` }, words.title);
    const text = element("p", { class: "quiet text" }, cells.length ? `${words.text} ${cells.length} of ${slide.scored.toLocaleString("en")} scored cells.` : "None is shown here, to keep this file small: see the tables in cells/.");
    return element("section", { "aria-labelledby": `gallery-${words.key}` }, heading, text, element("ul", { class: "gallery" }, ...cells.map(card)));
  };

  const faults = (slide) => {
    if (!slide.unscored) return null;
    const rows = slide.faults.map((texts) => element("tr", {}, element("th", { scope: "row" }, element("bdi", {}, texts[0])), element("td", {}, texts[1]), element("td", {}, texts[2])));
    const head = element("thead", {}, element("tr", {}, ...["Cell", "Status", "Why"].map((title) => element("th", { scope: "col" }, title))));
    const table = element("table", {}, element("caption", {}, `${slide.faults.length.toLocaleString("en")} of ${slide.unscored.toLocaleString("en")} cells without a score, by name`), head, element("tbody", {}, ...rows));
    return element("section", { "aria-labelledby": "faults" }, element("h3", { id: "faults" }, "Could not be scored"), element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of cells without a score" }, table));
  };

  const evidenceBar = (slide) => {
    const shown = Object.values(slide.galleries).flat().map((index) => report.cells[index]);
    if (!shown.some(canShow)) return element("p", { class: "quiet text" }, shown.some((cell) => cell.image) ? "These results hold no evidence maps that could be laid over the cells." : "");
    const button = element("button", { type: "button", id: "evidence", "aria-pressed": String(evidenceOn) }, "Show evidence on all cells");
    button.addEventListener("click", () => {
      evidenceOn = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(evidenceOn));
      for (const each of content.querySelectorAll("button.thumb[aria-pressed]")) setEvidence(each, each.cell, evidenceOn);
    });
    const [height, width] = report.grid;
    const end = report.evidenceScale.toPrecision(2);
    const scale = element("span", { class: "scale" }, element("span", {}, `−${end}`), element("i", { role: "img", "aria-label": "colour scale from against to for" }), element("span", {}, `+${end}`));
    const of = report.positive === null ? "the most likely class" : report.positive;
    const text = element("p", { class: "quiet" }, `How each of the ${width} × ${height} squares adds to the model’s logit of ${of}: the mean of all squares, plus a constant, is the logit. Orange raises the score and blue lowers it; where there is no colour, the effect is near zero; all cells share one scale. Each square is centred on what it looks at, and is affected by what lies around it. The map shows what the model used; it is not an outline of the cell and does not explain why. Choose a cell to switch its own map.`);
    return element("div", { class: "evidence-bar" }, button, scale, text);
  };

  const facts = (slide) => element("dl", { class: "facts" }, ...slide.facts.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))));

  const show = (index) => {
    const slide = report.slides[index];
    current = index;
    const title = element("h2", { tabindex: "-1" }, "Slide ", element("bdi", {}, slide.name));
    const pills = (words, kind) => words.map((each) => element("span", { class: kind }, each));
    const flags = [...pills(slide.flags, "flag"), ...pills(slide.limits, "flag limit")];
    const chart = element("figure", {}, element("h3", {}, "Probabilities"), element("div", { class: "chart", id: "chart-slide" }), element("figcaption", {}, `${slide.scored.toLocaleString("en")} scored cells`));
    content.replaceChildren(title, element("p", {}, ...flags.flatMap((flag) => [flag, " "])),
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

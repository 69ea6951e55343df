// What every part of the page uses: the data, elements, pictures with the evidence over them.
"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const page = (() => {
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

  const hasEvidence = (cell) => Boolean(cell.image && cell.map && report.grid && cell.box.length);

  const setEvidence = (frame, cell, on) => {
    frame.querySelector("canvas")?.remove();
    if (on && hasEvidence(cell)) frame.append(overlay(cell));
  };

  const aspect = (cell) => cell.size[0] / cell.size[1];
  const value = (cell) => (cell.p === null ? "" : cell.p.toFixed(3));
  const of = (cell) => report.positive ?? report.words[cell.class];
  const described = (cell) => `Cell ${cell.path}, probability of ${of(cell)} ${value(cell)}`;

  const frame = (cell) => {
    const made = element("span", { class: `frame ${aspect(cell) >= 1 ? "wide" : "tall"}` }, element("img", { src: cell.image, alt: described(cell) }));
    made.style.aspectRatio = String(aspect(cell));
    return made;
  };

  // The picture of a cell as a button that opens it; `cells` are its neighbours, `place` their name.
  const thumb = (index, cells, place) => {
    const cell = report.cells[index];
    const inside = cell.image ? frame(cell) : element("span", { class: "missing" }, cell.why ?? "no picture");
    const button = element("button", { type: "button", class: cell.image ? "thumb" : "thumb empty", "data-cell": index }, inside);
    if (!cell.image) button.setAttribute("aria-label", `${described(cell)}, ${cell.why ?? "no picture"}`);
    button.addEventListener("click", () => cellView.open(cells, index, place));
    return button;
  };

  const pills = (slide) => {
    const made = (words, kind) => words.map((each) => element("span", { class: kind }, each));
    return [...made(slide.flags, "flag"), ...made(slide.limits, "flag limit")].flatMap((flag) => [flag, " "]);
  };

  return { element, hasEvidence, setEvidence, frame, thumb, pills, value, of, described };
})();

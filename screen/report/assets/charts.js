// The plots, drawn by Observable Plot as SVG in the page's own colours.
"use strict";
const charts = (() => {
  const ACCENT = "var(--accent)", QUIET = "var(--quiet)", LINE = "var(--line)";
  const MOST_NAMED = 40;
  const drawn = new Map();

  const put = (id, make) => {
    const place = document.getElementById(id);
    if (!place || !place.clientWidth) return;
    const chart = make(Math.min(place.clientWidth, 760));
    chart.setAttribute("role", "img");
    for (const mark of chart.querySelectorAll("[aria-label]")) mark.removeAttribute("aria-label"); // an image has no parts
    place.replaceChildren(chart);
    drawn.set(id, make);
  };

  // A label in the middle below its axis, clear of the last tick.
  const below = { labelAnchor: "center", labelArrow: "none", labelOffset: 38 };
  const roomBelow = { marginBottom: 46 };

  const bars = (counts) => counts.map((n, i) => ({ n, low: i / counts.length, high: (i + 1) / counts.length }));

  const histogram = (id, counts, described) => put(id, (width) => Plot.plot({
    width, height: 240, marginLeft: 56, ...roomBelow, ariaLabel: described,
    x: { ...below, domain: [0, 1], label: report.positive === null ? "probability of the most likely class" : `probability of ${report.positive}` },
    y: { label: "cells", grid: true, tickFormat: "~s", nice: true, ticks: Math.min(5, Math.max(1, ...counts)) },
    marks: [
      Plot.rectY(bars(counts), { x1: "low", x2: "high", y: "n", fill: ACCENT, fillOpacity: 0.75, insetLeft: 0.5, insetRight: 0.5 }),
      Plot.ruleY([0], { stroke: "currentColor" }),
      report.threshold === null ? null : Plot.ruleX([report.threshold], { stroke: "currentColor", strokeDasharray: "4 3" }),
    ],
  }));

  const middle = (share) => share.value ?? (share.low + share.high) / 2;

  const shares = () => {
    const rows = report.slides.map((slide, index) => ({ ...slide.share, index, known: slide.share, name: slide.name, flagged: slide.flags.length > 0 })).filter((row) => row.known);
    for (const row of rows) row.at = middle(row.known);
    rows.sort((a, b) => a.at - b.at || (a.name < b.name ? -1 : 1));
    rows.forEach((row, index) => { row.rank = index + 1; });
    const named = rows.length <= MOST_NAMED;
    const place = named ? { y: "rank" } : { x: "rank" };
    const along = named ? ["x", Plot.ruleY, { x1: "low", x2: "high" }] : ["y", Plot.ruleX, { y1: "low", y2: "high" }];
    const [axis, rule, ends] = along;
    const known = rows.filter((row) => row.value !== null);
    const scale = { domain: [0, 1], tickFormat: "%", grid: true, label: `share of ${report.positive}` };
    const ranks = { type: "linear", domain: named ? [rows.length + 0.6, 0.4] : [0, rows.length + 1], label: named ? null : "slides, by rising estimate" };
    const cut = (name) => (name.length > 22 ? `${name.slice(0, 10)}…${name.slice(-10)}` : name);
    if (named) Object.assign(ranks, { ticks: rows.map((row) => row.rank), tickFormat: (rank) => cut(rows[rank - 1]?.name ?? "") });
    const point = named ? Plot.pointerY : Plot.pointerX;
    put("chart-shares", (width) => leading(Plot.plot({
      width, height: named ? 70 + 20 * Math.max(rows.length, 3) : 300, marginLeft: named ? 150 : 56, ...roomBelow,
      ariaLabel: `Share of ${report.positive} with its 95% interval, for ${rows.length} slides`,
      [axis]: named ? { ...below, ...scale } : scale, [named ? "y" : "x"]: named ? ranks : { ...below, ...ranks },
      marks: [
        rule(rows, { ...ends, ...place, stroke: ACCENT, strokeOpacity: named ? 0.6 : 0.3, strokeWidth: named ? 2 : 1 }),
        Plot.dot(known, { ...place, [axis]: "value", r: named ? 4 : 2, stroke: ACCENT, fill: (row) => (row.flagged ? ACCENT : "var(--paper)"), title: (row) => row.name }),
        Plot.dot(known, point({ ...place, [axis]: "value", r: 8, stroke: "currentColor", strokeWidth: 2, maxRadius: 16 })),
      ],
    }), (row) => { location.hash = `#slide-${row.index}`; }));
  };

  const reliability = () => {
    const bins = report.charts.reliability;
    if (!bins?.length) return;
    put("chart-reliability", (width) => Plot.plot({
      width: Math.min(width, 360), height: Math.min(width, 360), ...roomBelow, ariaLabel: `Reliability over ${bins.length} bins of probability`,
      x: { ...below, domain: [0, 1], label: "mean probability", grid: true }, y: { domain: [0, 1], label: "share observed", grid: true },
      r: { range: [2, 9] },
      marks: [
        Plot.link([0], { x1: 0, y1: 0, x2: 1, y2: 1, stroke: QUIET, strokeDasharray: "4 3" }),
        Plot.ruleX(bins, { x: "mean", y1: "low", y2: "high", stroke: ACCENT, strokeOpacity: 0.6, strokeWidth: 2 }),
        Plot.dot(bins, { x: "mean", y: "observed", r: "cells", fill: ACCENT, title: (bin) => `${bin.cells} cells` }),
      ],
    }));
  };

  // What the pointer is near is ringed; a click follows it. For the keyboard there is another way.
  const leading = (chart, follow) => {
    chart.addEventListener("click", () => { if (chart.value) follow(chart.value); });
    chart.classList.add("leads");
    return chart;
  };

  // The slider goes through a plot's points from left to right and rings one of them.
  const walk = (points, rings) => {
    const slider = document.getElementById("point");
    const label = document.getElementById("point-name");
    const names = points.map((point) => point.cell);
    slider.max = String(Math.max(0, points.length - 1));
    const ring = () => {
      const point = points[Number(slider.value)];
      label.textContent = point ? report.cells[point.cell].path : "";
      slider.setAttribute("aria-valuetext", point ? page.described(report.cells[point.cell]) : "none");
      rings(point);
    };
    slider.oninput = ring;
    document.getElementById("open-point").onclick = () => cellView.open(names, names[Number(slider.value)], "points of the plot, from left to right");
    ring();
  };

  const scatter = () => {
    const chosen = document.getElementById("quality");
    if (!chosen) return;
    const { sample } = report.charts;
    const cells = sample.ood_p.map((p, i) => ({ x: sample[chosen.value]?.[i], y: sample.ood_score[i], cell: report.charts.sampled[i], out: p !== null && report.oodLevel !== null && p <= report.oodLevel })).filter((cell) => cell.x != null && cell.y !== null);
    const out = cells.filter((cell) => cell.out).length;
    cells.sort((a, b) => a.x - b.x);
    const names = cells.map((cell) => cell.cell);
    put("chart-scatter", (width) => leading(Plot.plot({
      width, height: 300, marginLeft: 56, ...roomBelow, ariaLabel: `${cells.length} cells, ${out} of them out of distribution`,
      x: { ...below, label: chosen.selectedOptions[0].textContent.toLowerCase(), grid: true, nice: true }, y: { label: "distance from training", grid: true, nice: true },
      marks: [
        Plot.dot(cells.filter((cell) => !cell.out), { x: "x", y: "y", r: 2, fill: ACCENT, fillOpacity: 0.45 }),
        Plot.dot(cells.filter((cell) => cell.out), { x: "x", y: "y", r: 3.5, symbol: "times", stroke: "var(--for)", strokeWidth: 1.5 }),
        Plot.dot(cells, Plot.pointer({ x: "x", y: "y", r: 7, stroke: "currentColor", strokeWidth: 2 })),
      ],
    }), (point) => cellView.open(names, point.cell, "points of the plot, from left to right")));
    const chart = document.querySelector("#chart-scatter svg");
    if (!chart) return;
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, value] of Object.entries({ r: 7, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden" })) circle.setAttribute(name, value);
    chart.append(circle);
    walk(cells, (point) => {
      const slider = document.getElementById("point");
      circle.setAttribute("visibility", point && document.activeElement === slider ? "visible" : "hidden");
      if (!point) return;
      circle.setAttribute("cx", chart.scale("x").apply(point.x));
      circle.setAttribute("cy", chart.scale("y").apply(point.y));
    });
  };

  const overview = () => {
    const scored = report.slides.length && report.charts.histogram.reduce((a, b) => a + b, 0);
    histogram("chart-histogram", report.charts.histogram, `Histogram of the probabilities of ${scored} cells`);
    if (report.positive !== null) shares();
    reliability();
    scatter();
  };
  document.getElementById("quality")?.addEventListener("change", scatter);
  let waiting = 0;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => { for (const [id, make] of [...drawn]) put(id, make); }, 150);
  });
  return { overview, histogram };
})();

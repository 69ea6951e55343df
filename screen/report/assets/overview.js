// The overview's pictures: beside each flagged slide, the cells that its flag is about.
"use strict";
(() => {
  const { element } = page;
  const AT_FIRST = 12;
  const strips = document.getElementById("strips");
  const more = document.getElementById("more-strips");
  const shown = report.slides.map((slide, index) => [slide, index]);
  const flagged = shown.filter(([slide]) => slide.flags.length);
  const listed = flagged.length ? flagged : shown.filter(([slide]) => slide.lead.length);
  const all = listed.flatMap(([slide]) => slide.lead);

  const card = (index) => {
    const cell = report.cells[index];
    const item = element("li", {}, page.thumb(index, all, `cells of the ${flagged.length ? "flagged" : "first"} slides`),
      element("span", { class: cell.called ? "p called" : "p" }, page.value(cell)), element("span", { class: "mark" }));
    review.showMark(item, index);
    return item;
  };
  const share = ({ share: known }) => {
    const percent = (part) => `${(100 * part).toFixed(1)}%`;
    return known && `${known.value === null ? "unknown" : percent(known.value)} (${percent(known.low)} to ${percent(known.high)})`;
  };

  for (const [slide, index] of listed) {
    const name = element("h3", {}, element("a", { href: `#slide-${index}` }, element("bdi", {}, slide.name)));
    const text = share(slide);
    const said = element("p", {}, ...page.pills(slide), ...(text ? [element("span", { class: "quiet" }, `share of ${report.positive}: ${text}`)] : []));
    const cells = slide.lead.length ? element("ul", { class: "gallery strip" }, ...slide.lead.map(card)) : element("p", { class: "quiet" }, slide.scored ? "No picture here, to keep this file small." : "No cell of it was scored.");
    strips.append(element("li", strips.children.length < AT_FIRST ? {} : { class: "later" }, element("div", { class: "strip-head" }, name, said), cells));
  }
  document.getElementById("look-section").hidden = !listed.length;
  more.hidden = listed.length <= AT_FIRST;
  more.textContent = `Show all ${listed.length.toLocaleString("en")} slides`;
  more.addEventListener("click", () => {
    strips.classList.add("all");
    more.hidden = true;
    strips.children[AT_FIRST].querySelector("a").focus();
  });
})();

// The page: heading, theme, the views of a sweep or a comparison, and every place as a table.

function themeButton() {
  const button = make("button", { id: "theme", type: "button" }, "light / dark");
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    redrawAll();
  });
  return button;
}

function sortableTable(head, rows) {
  const body = make("tbody");
  const fill = (sorted) => body.replaceChildren(...sorted.map((row) => make("tr", {}, ...row.map(([content]) => make("td", {}, content)))));
  let last = [-1, 1];
  const heads = head.map((label, column) => {
    const button = make("button", { type: "button" }, label);
    button.addEventListener("click", () => {
      last = [column, last[0] === column ? -last[1] : 1];
      const known = (row) => row[column][1] !== null && row[column][1] !== undefined;
      // What has no value stands last, whichever way the rest is sorted.
      fill([...rows].sort((a, b) => known(b) - known(a) || (known(a) ? (a[column][1] < b[column][1] ? -1 : a[column][1] > b[column][1] ? 1 : 0) * last[1] : 0)));
    });
    return make("th", { scope: "col" }, button);
  });
  fill(rows);
  return make("div", { class: "scroll", tabindex: "0" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
}

function placesTable() {
  const axes = data.axes;
  const metrics = data.metrics;
  const head = [...axes.map((axis) => axis.label), "state", ...metrics.map((metric) => metric.label), "cells"];
  const rows = data.places.map((place) => [
    ...axes.map((axis) => [axisText(axis, place) ?? "–", place.axes[axis.name] === null ? null : axis.values.indexOf(place.axes[axis.name])]),
    [stateText[place.state] + (place.why ? `: ${place.why}` : ""), place.state],
    ...metrics.map((metric) => [valueText(place, metric), meanOf(place, metric)]),
    [place.cells.join(" "), place.cells[0]],
  ]);
  const element = make("section", { id: "places" });
  element.append(make("details", {}, make("summary", {}, `All ${data.places.length} places as a table`), sortableTable(head, rows)));
  return element;
}

const heading = (title) => make("header", {}, make("div", {}, make("h1", {}, title), make("p", {}, data.caption)), themeButton());
const views =
  data.kind === "comparison"
    ? [heading(`${data.first} and ${data.second}`), ...comparisonViews()]
    : [heading(data.name), searchView(), ...data.heatmaps.map(heatmapView), contourView(), slicesView(), parallelView(), paretoView(), curvesView(), placesTable()];
document.getElementById("page").append(...views.filter(Boolean));
document.body.append(tip);
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
addEventListener("resize", () => Math.abs(room() - roomDrawn) > 1 && redrawAll());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
// The bar of the page itself takes room once the page is long enough to have one.
if (Math.abs(room() - roomDrawn) > 1) redrawAll();
document.documentElement.dataset.ready = "yes";

// Slices: a metric against each axis by itself, a dot a place; a bar is the median of the places at one value.

const BEST_SHARE = 0.1;

function slicesView() {
  const axes = varying();
  const metrics = data.metrics.filter((metric) => data.places.some((place) => hasValue(place.state) && Number.isFinite(meanOf(place, metric))));
  if (axes.length < 2 || !metrics.length) return null;
  const view = section("slices", "Slices", "A metric against each axis by itself. Bars: the median at one value. Blue: the best tenth. At the top what diverged or failed.");
  const chosen = { metric: metrics[0].name, log: true };
  const draw = () => view.body.replaceChildren(slicePanels(axes, byName(metrics, chosen.metric), chosen.log));
  view.controls.append(
    choice("metric", choices(metrics), chosen.metric, (name) => ((chosen.metric = name), draw())),
    toggle("logarithmic loss", chosen.log, (on) => ((chosen.log = on), draw())),
  );
  keepDrawn(draw);
  return view.element;
}

function slicePanels(axes, metric, log) {
  const found = data.places.filter((place) => hasValue(place.state) && Number.isFinite(meanOf(place, metric)));
  const values = found.map((place) => meanOf(place, metric));
  const y = padded(metricScale(metric, values, log && metric.positive && values.every((value) => value > 0)));
  const best = new Set([...found].sort((a, b) => better(metric)(meanOf(a, metric), meanOf(b, metric))).slice(0, Math.max(1, Math.round(BEST_SHARE * found.length))));
  const lost = data.places.filter((place) => ["DIVERGED", "FAILED"].includes(place.state));
  const panels = make("div", { class: "panels" });
  const across = Math.max(1, Math.min(axes.length, Math.floor(room() / 300)));
  const whole = Math.min(480, Math.max(240, room() / across - 26));
  for (const axis of axes) panels.append(wide(slicePanel(axis, metric, y, { found, best, lost, whole })));
  return panels;
}

function slicePanel(axis, metric, y, { found, best, lost, whole }) {
  const x = padded(axisScale(axis), 0.06);
  const left = leftOf(y, whole);
  const box = [left, 24, whole - left - 12, 220];
  const [, top, width, height] = box;
  const drawn = sheet(whole, top + height + FOOT, `${metric.label} against ${axis.label}`);
  frame(drawn, box, x, y, axis.label, metric.label);
  const at = (place) => left + width * x(number(place.axes[axis.name]));
  const py = (value) => top + height * (1 - y(value));
  const there = (place) => place.axes[axis.name] !== null && place.axes[axis.name] !== undefined;
  if (!axis.range)
    for (const value of axis.values) {
      const here = found.filter((place) => place.axes[axis.name] === value).map((place) => meanOf(place, metric)).sort((a, b) => a - b);
      if (here.length < 3) continue;
      const middle = (here[(here.length - 1) >> 1] + here[here.length >> 1]) / 2;
      drawn.append(svg("path", { class: "median", d: `M${left + width * x(number(value)) - 11} ${py(middle)}h22`, stroke: "var(--ink)", "stroke-width": 2.4 }));
    }
  // The best are drawn last, over the others.
  for (const place of [...found.filter((one) => !best.has(one)), ...best].filter(there)) {
    const colour = best.has(place) ? "var(--mark)" : "var(--faint)";
    const whole_ = place.state === "OK";
    const dot = svg("circle", { cx: at(place), cy: py(meanOf(place, metric)), r: best.has(place) ? 4.5 : 3.2, fill: whole_ ? colour : "var(--paper)", stroke: colour, "fill-opacity": best.has(place) ? 1 : 0.55 });
    drawn.append(explains(dot, placeTip(place, [metric])));
  }
  for (const place of lost.filter(there)) {
    const cross = svg("g", {}, svg("circle", { cx: at(place), cy: top - 8, r: 7, fill: "transparent" }), text(at(place), top - 4, STATE_GLYPH[place.state], { "text-anchor": "middle" }));
    drawn.append(explains(cross, placeTip(place, [metric])));
  }
  return drawn;
}

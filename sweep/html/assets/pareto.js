// Two metrics against each other, and the places that no other place beats in both.

function paretoView() {
  const [first, second] = data.metrics;
  const view = section("pareto", "Pareto front", "Places that no other place beats in both metrics are joined. Bars: one standard deviation over the seeds.");
  const chosen = { x: first.name, y: second.name, log: true };
  const draw = () => view.body.replaceChildren(paretoPlot(byName(data.metrics, chosen.x), byName(data.metrics, chosen.y), chosen.log));
  const pick = (name) => (value) => ((chosen[name] = value), draw());
  view.controls.append(
    choice("x", choices(data.metrics), chosen.x, pick("x")),
    choice("y", choices(data.metrics), chosen.y, pick("y")),
    toggle("logarithmic loss", chosen.log, pick("log")),
  );
  draw();
  return view.element;
}

// Places in the order of x; each is better in y than all before it.
function front(entries, x, y) {
  const sorted = [...entries].sort((a, b) => better(x)(a.x, b.x) || better(y)(a.y, b.y));
  const kept = [];
  for (const entry of sorted) if (!kept.length || better(y)(entry.y, kept[kept.length - 1].y) < 0) kept.push(entry);
  return kept;
}

function paretoPlot(x, y, log) {
  const box = [70, 14, 640, 360];
  const [left, top, width, height] = box;
  const entries = data.places
    .filter((place) => hasValue(place.state) && Number.isFinite(meanOf(place, x)) && Number.isFinite(meanOf(place, y)))
    .map((place) => ({ place, x: meanOf(place, x), y: meanOf(place, y) }));
  if (!entries.length) return make("p", {}, "No place has both metrics yet.");
  const scaleOf = (metric, values) => padded(metricScale(metric, values, log && metric.positive && values.every((value) => value > 0)));
  const xScale = scaleOf(x, entries.map((entry) => entry.x));
  const yScale = scaleOf(y, entries.map((entry) => entry.y));
  const px = (value) => left + width * xScale(value);
  const py = (value) => top + height * (1 - yScale(value));
  const drawn = sheet(left + width + 30, top + height + 48, `${y.label} against ${x.label}`);
  frame(drawn, box, xScale, yScale, x.label, y.label);
  const best = front(entries, x, y);
  drawn.append(svg("path", { id: "front", class: "line", stroke: "var(--mark)", d: `M${best.map((entry) => `${px(entry.x).toFixed(1)} ${py(entry.y).toFixed(1)}`).join("L")}` }));
  for (const entry of entries) {
    const on = best.includes(entry);
    const whole = entry.place.state === "OK";
    const [dx, dy] = [x, y].map((metric) => number(entry.place.values[metric.name][1]));
    const bars = svg("path", { stroke: "var(--faint)", opacity: 0.45, d: whiskers(entry, dx, dy, px, py) });
    const circle = svg("circle", { cx: px(entry.x), cy: py(entry.y), r: on ? 6 : 4.5, fill: whole ? (on ? "var(--mark)" : "var(--faint)") : "var(--paper)", stroke: on ? "var(--mark)" : "var(--ink)" });
    drawn.append(bars, explains(circle, (on ? "on the front\n" : "") + placeTip(entry.place, [x, y])));
  }
  const rest = data.places.length - entries.length;
  const note = rest ? `${rest} of ${data.places.length} places have no result (diverged, failed or not run) and no point here. ` : "";
  return make("div", {}, drawn, make("p", {}, `${note}Hollow: some seeds diverged or are missing, or stopped early.`));
}

function padded(scale) {
  const inner = (value) => 0.04 + 0.92 * scale(value);
  inner.ticks = scale.ticks.map(([share, content]) => [0.04 + 0.92 * share, content]);
  return inner;
}

function whiskers(entry, dx, dy, px, py) {
  const parts = [];
  const safe = (from, value, at) => (Number.isFinite(at(value)) ? at(value) : at(from));
  if (dx) parts.push(`M${safe(entry.x, entry.x - dx, px)} ${py(entry.y)}H${px(entry.x + dx)}`);
  if (dy) parts.push(`M${px(entry.x)} ${safe(entry.y, entry.y - dy, py)}V${py(entry.y + dy)}`);
  return parts.join("") || "M0 0";
}

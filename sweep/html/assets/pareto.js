// Two metrics against each other, and the places that no other place beats in both.

function paretoView() {
  const [first, second] = data.metrics;
  const view = section("pareto", "Pareto front", "Places that no other place beats in both metrics are joined. Bars: one standard deviation over the seeds.");
  const axes = varying();
  const chosen = { x: first.name, y: second.name, colour: "", log: true };
  const draw = () => view.body.replaceChildren(paretoPlot(byName(data.metrics, chosen.x), byName(data.metrics, chosen.y), byName(axes, chosen.colour), chosen.log));
  const pick = (name) => (value) => ((chosen[name] = value), draw());
  view.controls.append(
    choice("x", choices(data.metrics), chosen.x, pick("x")),
    choice("y", choices(data.metrics), chosen.y, pick("y")),
    ...(axes.length ? [choice("colour", [["", "on the front"], ...choices(axes)], chosen.colour, pick("colour"))] : []),
    toggle("logarithmic loss", chosen.log, pick("log")),
  );
  keepDrawn(draw);
  return view.element;
}

// Places in the order of x; each is better in y than all before it.
function front(entries, x, y) {
  const sorted = [...entries].sort((a, b) => better(x)(a.x, b.x) || better(y)(a.y, b.y));
  const kept = [];
  for (const entry of sorted) if (!kept.length || better(y)(entry.y, kept[kept.length - 1].y) < 0) kept.push(entry);
  return kept;
}

function paretoPlot(x, y, axis, log) {
  const entries = data.places
    .filter((place) => hasValue(place.state) && Number.isFinite(meanOf(place, x)) && Number.isFinite(meanOf(place, y)))
    .map((place) => ({ place, x: meanOf(place, x), y: meanOf(place, y) }));
  if (!entries.length) return make("p", {}, "No place has both metrics yet.");
  const scaleOf = (metric, values) => padded(metricScale(metric, values, log && metric.positive && values.every((value) => value > 0)));
  const xScale = scaleOf(x, entries.map((entry) => entry.x));
  const yScale = scaleOf(y, entries.map((entry) => entry.y));
  const whole = Math.min(760, Math.max(room(), 300));
  const left = leftOf(yScale, whole);
  const box = [left, 14, whole - left - 20, 360];
  const [, top, width, height] = box;
  const px = (value) => left + width * xScale(value);
  const py = (value) => top + height * (1 - yScale(value));
  const drawn = sheet(whole, top + height + FOOT, `${y.label} against ${x.label}`);
  frame(drawn, box, xScale, yScale, x.label, y.label);
  const best = front(entries, x, y);
  const looks = lineLooks(entries, axis);
  drawn.append(svg("path", { id: "front", class: "line", stroke: "var(--mark)", d: `M${best.map((entry) => `${px(entry.x).toFixed(1)} ${py(entry.y).toFixed(1)}`).join("L")}` }));
  for (const entry of entries) {
    const on = best.includes(entry);
    const whole = entry.place.state === "OK";
    const [dx, dy] = [x, y].map((metric) => number(entry.place.values[metric.name][1]));
    const bars = svg("path", { stroke: "var(--faint)", opacity: 0.45, d: whiskers(entry, dx, dy, px, py) });
    const colour = axis ? looks(entry.place).stroke : on ? "var(--mark)" : "var(--faint)";
    const circle = svg("circle", { cx: px(entry.x), cy: py(entry.y), r: on ? 6 : 4.5, fill: whole ? colour : "var(--paper)", stroke: whole ? "var(--paper)" : colour, "stroke-width": whole ? 0.7 : 1.6 });
    drawn.append(bars, explains(circle, (on ? "on the front\n" : "") + placeTip(entry.place, [x, y])));
  }
  const rest = data.places.length - entries.length;
  const note = rest ? `${rest} of ${data.places.length} places have no result (diverged, failed or not run) and no point here. ` : "";
  return make("div", {}, wide(drawn), lineKey(looks, axis), make("p", {}, `${note}Hollow: some seeds diverged or are missing, or stopped early.`));
}

function whiskers(entry, dx, dy, px, py) {
  const parts = [];
  const safe = (from, value, at) => (Number.isFinite(at(value)) ? at(value) : at(from));
  if (dx) parts.push(`M${safe(entry.x, entry.x - dx, px)} ${py(entry.y)}H${px(entry.x + dx)}`);
  if (dy) parts.push(`M${px(entry.x)} ${safe(entry.y, entry.y - dy, py)}V${py(entry.y + dy)}`);
  return parts.join("") || "M0 0";
}

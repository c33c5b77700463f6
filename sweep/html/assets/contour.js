// A metric over two axes, interpolated linearly between the places; further axes: the best place counts.

const LEVELS = 10;

function contourView() {
  // Between labels there is nothing to interpolate.
  const axes = varying().filter((axis) => axis.values.every((value) => typeof number(value) === "number"));
  if (axes.length < 2) return null;
  const view = section("contour", "Contour", "Interpolated between places (dots), and blank towards those without a value (crosses diverged). Of several places at one point the best counts.");
  const chosen = { x: axes[0].name, y: axes[1].name, metric: data.metrics[0].name, log: true };
  const draw = () => {
    const [x, y] = [byName(axes, chosen.x), byName(axes, chosen.y)];
    view.body.replaceChildren(x === y ? make("p", {}, "Choose two different axes.") : wide(contourPlot(x, y, byName(data.metrics, chosen.metric), chosen.log)));
  };
  const pick = (name) => (value) => ((chosen[name] = value), draw());
  view.controls.append(
    choice("x", choices(axes), chosen.x, pick("x")),
    choice("y", choices(axes), chosen.y, pick("y")),
    choice("metric", choices(data.metrics), chosen.metric, pick("metric")),
    toggle("logarithmic colours", chosen.log, pick("log")),
  );
  keepDrawn(draw);
  return view.element;
}

function contourPlot(x, y, metric, log) {
  const [xScale, yScale] = [padded(axisScale(x), 0.03), padded(axisScale(y), 0.03)];
  const at = (place) => [xScale(number(place.axes[x.name])), yScale(number(place.axes[y.name]))];
  const spots = new Map();
  const lost = new Map();
  for (const place of data.places) {
    if (place.axes[x.name] === null || place.axes[y.name] === null) continue;
    const key = at(place).join(" ");
    const value = hasValue(place.state) ? meanOf(place, metric) : null;
    const known = spots.get(key);
    if (value === null) lost.set(key, place);
    else if (!known || better(metric)(value, known.value) < 0) spots.set(key, { place, value });
  }
  const found = [...spots.values()];
  const usable = log && metric.positive && found.every(({ value }) => value > 0);
  const scale = metricScale(metric, found.map(({ value }) => value), usable);
  const whole = Math.min(720, Math.max(room(), 300));
  const left = leftOf(yScale, whole);
  const [top, width, height] = [14, whole - left - barRoom(scale) - 8, 380];
  const shareOf = (value) => (metric.lower ? 1 - scale(value) : scale(value));
  const drawn = sheet(whole, top + height + FOOT, `contour of ${metric.label}`);
  frame(drawn, [left, top, width, height], xScale, yScale, x.label, y.label);
  // What diverged is a corner as any other: across it nothing is known.
  const corners = [...found, ...[...lost].filter(([key]) => !spots.has(key)).map(([, place]) => ({ place, value: null }))];
  const points = corners.map(({ place }) => at(place));
  const place2d = ([px, py]) => [left + px * width, top + (1 - py) * height];
  for (const triangle of triangulate(points)) {
    if (triangle.some((index) => corners[index].value === null)) continue;
    const ends = triangle.map((index) => [...place2d(points[index]), shareOf(corners[index].value)]);
    const [least, most] = [Math.min(...ends.map((end) => end[2])), Math.max(...ends.map((end) => end[2]))];
    for (let level = Math.floor(least * LEVELS); level <= Math.min(LEVELS - 1, Math.floor(most * LEVELS)); level++) {
      const polygon = band(ends, level / LEVELS, (level + 1) / LEVELS);
      const fill = ramp(VIRIDIS, (level + 0.5) / LEVELS);
      if (polygon.length > 2) drawn.append(svg("path", { d: `M${polygon.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L")}Z`, fill, "shape-rendering": "crispEdges" }));
    }
  }
  for (const { place } of found) {
    const [px, py] = place2d(at(place));
    drawn.append(explains(svg("circle", { cx: px, cy: py, r: 4, fill: "var(--paper)", stroke: "var(--ink)" }), placeTip(place, [metric])));
  }
  for (const [key, place] of lost) {
    // Beside the dot of another place at that point.
    const beside = spots.has(key) ? 9 : 0;
    const [px, py] = place2d(at(place)).map((end, axis) => end + (axis ? -beside : beside));
    const cross = svg("g", {}, svg("circle", { cx: px, cy: py, r: 8, fill: "transparent" }), text(px, py + 4, STATE_GLYPH[place.state] || "✕", { "text-anchor": "middle" }));
    drawn.append(explains(cross, placeTip(place, [metric])));
  }
  const bar = colourBar(scale, metric.lower ? [...VIRIDIS].reverse() : VIRIDIS, metric.label, height);
  bar.setAttribute("transform", `translate(${left + width + 20} ${top})`);
  drawn.append(bar);
  return drawn;
}

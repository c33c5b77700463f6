// Parallel coordinates: a line per place through its axes and metrics; a drag along an axis keeps what is within.

function parallelView() {
  const axes = varying();
  const metrics = data.metrics.slice(0, 2).filter((metric) => data.places.some((place) => meanOf(place, metric) !== null));
  if (!axes.length || !metrics.length) return null;
  const view = section("parallel", "Parallel coordinates", "A line is a place, coloured by the last axis. Drag along an axis to keep a range; a click there frees it.");
  const chosen = { metric: metrics[0].name, log: true };
  const draw = () => view.body.replaceChildren(wide(parallelPlot(axes, metrics, byName(metrics, chosen.metric), chosen.log)));
  view.controls.append(
    choice("colour", choices(metrics), chosen.metric, (name) => ((chosen.metric = name), draw())),
    toggle("logarithmic loss", chosen.log, (on) => ((chosen.log = on), draw())),
  );
  keepDrawn(draw);
  return view.element;
}

function parallelPlot(axes, metrics, colour, log) {
  const ordered = [...metrics.filter((metric) => metric !== colour), colour];
  const ended = data.places.filter((place) => hasValue(place.state) && ordered.every((metric) => meanOf(place, metric) !== null));
  const columns = [
    ...axes.map((axis) => {
      const scale = axisScale(axis);
      return { label: axis.label, ticks: scale.ticks, at: (place) => (axisText(axis, place) === null ? null : scale(number(place.axes[axis.name]))) };
    }),
    ...ordered.map((metric) => {
      const values = ended.map((place) => meanOf(place, metric));
      const scale = metricScale(metric, values, log && metric.positive && values.every((value) => value > 0));
      return { label: metric.label, ticks: scale.ticks, at: (place) => scale(meanOf(place, metric)) };
    }),
  ];
  const last = columns[columns.length - 1];
  // Labels of the first axis stand outside; the others keep clear of the next axis.
  const left = Math.max(Math.ceil(Math.min(widest(columns[0].ticks.map(([, content]) => content)), MOST_LABEL)) + 16, 50);
  const right = 70;
  const [top, width, height] = [34, Math.max(Math.min(room(), 1140), 130 * columns.length) - left - right, 320];
  const between = width / (columns.length - 1);
  const x = (index) => left + index * between;
  const drawn = sheet(left + width + right, top + height + 20, "parallel coordinates");
  // The best are drawn last, over the others.
  const lines = [...ended].sort((a, b) => better(colour)(meanOf(b, colour), meanOf(a, colour))).map((place) => {
    const shares = columns.map((column) => column.at(place));
    const d = shares.map((share, index) => (share === null ? null : `${x(index).toFixed(1)} ${(top + height * (1 - share)).toFixed(1)}`)).filter(Boolean);
    const stroke = lineRamp(colour.lower ? 1 - last.at(place) : last.at(place));
    const line = svg("path", { class: "line place", d: `M${d.join("L")}`, stroke });
    const hit = svg("path", { class: "hit", d: `M${d.join("L")}` });
    explains(hit, placeTip(place, ordered), { enter: () => line.classList.add("strong"), leave: () => line.classList.remove("strong") });
    return { shares, line, hit };
  });
  drawn.append(...lines.flatMap(({ line, hit }) => [line, hit]));
  const kept = columns.map(() => null);
  const filter = () => {
    for (const { shares, line, hit } of lines) {
      const out = kept.some((range, index) => range && (shares[index] === null || shares[index] < range[0] || shares[index] > range[1]));
      line.classList.toggle("dim", out);
      hit.style.pointerEvents = out ? "none" : "";
    }
  };
  columns.forEach((column, index) => {
    const room_ = { side: index ? 1 : -1, width: index ? between * 0.6 : left - 16, head: between - 12 };
    drawn.append(parallelAxis(column, x(index), top, height, room_, (range) => ((kept[index] = range), filter())));
  });
  return drawn;
}

function parallelAxis(column, x, top, height, { side, width, head }, keep) {
  const group = svg("g", {});
  group.append(svg("path", { class: "rule", style: "stroke:var(--ink)", d: `M${x} ${top}v${height}` }), label(x, top - 14, column.label, head, { "text-anchor": "middle", "font-weight": 600 }));
  const look = { "text-anchor": side < 0 ? "end" : "start", style: "paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round" };
  for (const [share, content] of column.ticks) group.append(label(x + 8 * side, top + height * (1 - share) + 4, content, width, look));
  const range = svg("rect", { x: x - 6, width: 12, y: 0, height: 0, fill: "var(--mark)", opacity: 0.35 });
  const handle = svg("rect", { x: x - 10, width: 20, y: top, height, fill: "transparent", style: "cursor:ns-resize", class: "brush" });
  let start = null;
  const share = (event) => {
    const box = handle.getBoundingClientRect();
    return Math.min(1, Math.max(0, 1 - (event.clientY - box.top) / box.height));
  };
  handle.addEventListener("pointerdown", (event) => {
    start = share(event);
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const [low, high] = [start, share(event)].sort((a, b) => a - b);
    const wide = high - low > 0.02;
    range.setAttribute("y", top + height * (1 - high));
    range.setAttribute("height", wide ? height * (high - low) : 0);
    // The ends of an axis are easily missed by a few pixels.
    keep(wide ? [low < 0.03 ? 0 : low, high > 0.97 ? 1 : high] : null);
  });
  handle.addEventListener("pointerup", (event) => {
    if (start !== null && Math.abs(share(event) - start) <= 0.02) {
      range.setAttribute("height", 0);
      keep(null);
    }
    start = null;
  });
  group.append(range, handle);
  return group;
}

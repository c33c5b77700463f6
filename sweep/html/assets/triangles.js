// Delaunay triangulation (Bowyer and Watson) of scattered points, and the part of a triangle between two levels.

// Points are [x, y] within the unit square; returns triples of their numbers.
function triangulate(points) {
  // Corners of a grid lie on one circle; a shift too small to be seen decides for one diagonal, always the same.
  const moved = points.map(([x, y], index) => [x + 1e-6 * Math.sin(12.9898 * index), y + 1e-6 * Math.sin(78.233 * index)]);
  const first = points.length;
  const all = [...moved, [-40, -40], [40, -40], [0, 60]];
  let triangles = [withCircle([first, first + 1, first + 2], all)];
  moved.forEach(([x, y], index) => {
    const edges = new Map();
    triangles = triangles.filter((triangle) => {
      if ((x - triangle.x) ** 2 + (y - triangle.y) ** 2 >= triangle.square) return true;
      const [a, b, c] = triangle.corners;
      for (const edge of [[a, b], [b, c], [c, a]]) {
        const key = `${Math.min(...edge)} ${Math.max(...edge)}`;
        if (!edges.delete(key)) edges.set(key, edge);
      }
      return false;
    });
    for (const [a, b] of edges.values()) triangles.push(withCircle([a, b, index], all));
  });
  return triangles.map((triangle) => triangle.corners).filter((corners) => corners.every((corner) => corner < first) && area(corners, points) > 1e-5);
}

function withCircle(corners, all) {
  const [[ax, ay], [bx, by], [cx, cy]] = corners.map((corner) => all[corner]);
  const twice = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by));
  const [a, b, c] = [ax * ax + ay * ay, bx * bx + by * by, cx * cx + cy * cy];
  const x = (a * (by - cy) + b * (cy - ay) + c * (ay - by)) / twice;
  const y = (a * (cx - bx) + b * (ax - cx) + c * (bx - ax)) / twice;
  return { corners, x, y, square: (ax - x) ** 2 + (ay - y) ** 2 };
}

function area([a, b, c], points) {
  const [[ax, ay], [bx, by], [cx, cy]] = [points[a], points[b], points[c]];
  return Math.abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2;
}

// Corners are [x, y, value]; returns the polygon where low <= value <= high.
function band(corners, low, high) {
  const cut = (polygon, level, above) => {
    const kept = [];
    polygon.forEach((here, index) => {
      const next = polygon[(index + 1) % polygon.length];
      const inside = above ? here[2] >= level : here[2] <= level;
      const nextInside = above ? next[2] >= level : next[2] <= level;
      if (inside) kept.push(here);
      if (inside !== nextInside) {
        const share = (level - here[2]) / (next[2] - here[2]);
        kept.push([0, 1, 2].map((axis) => here[axis] + share * (next[axis] - here[axis])));
      }
    });
    return kept;
  };
  return cut(cut(corners, low, true), high, false);
}

//! Finds a place for each label of a scatter plot: near its point, on nothing else.

use crate::report::figure::Point;

/// Left, top, right, bottom.
pub type Box4 = [f64; 4];

/// Room that a mark and a label keep around them.
const GAP: f64 = 3.0;

/// For each point the box of its label (of size `sizes`), or None where there is no room within `bounds`.
/// Labels avoid the marks (discs of `radius`), `taken` and each other; near places are tried first.
pub fn place(points: &[Point], sizes: &[(f64, f64)], radius: f64, bounds: Box4, taken: &[Box4]) -> Vec<Option<Box4>> {
    let mut blocked: Vec<Box4> = taken.to_vec();
    blocked.extend(points.iter().map(|(x, y)| [x - radius, y - radius, x + radius, y + radius]));
    let mut placed = Vec::new();
    for (point, size) in points.iter().zip(sizes) {
        let found =
            candidates(*point, *size, radius).find(|c| inside(c, &bounds) && !blocked.iter().any(|b| meet(c, b)));
        blocked.extend(found);
        placed.push(found);
    }
    placed
}

/// Boxes around a point, ring by ring; within a ring right, left, above, below, then the corners.
fn candidates((x, y): Point, (w, h): (f64, f64), radius: f64) -> impl Iterator<Item = Box4> {
    let rings = (0..14).map(move |ring| radius + GAP + 1.0 + 10.0 * f64::from(ring));
    rings.flat_map(move |d| {
        let corner = d * 0.75;
        let starts = [
            (x + d, y - h / 2.0),
            (x - d - w, y - h / 2.0),
            (x - w / 2.0, y - d - h),
            (x - w / 2.0, y + d),
            (x + corner, y - corner - h),
            (x + corner, y + corner),
            (x - corner - w, y - corner - h),
            (x - corner - w, y + corner),
        ];
        starts.map(|(left, top)| [left, top, left + w, top + h])
    })
}

fn inside(a: &Box4, bounds: &Box4) -> bool {
    a[0] >= bounds[0] && a[1] >= bounds[1] && a[2] <= bounds[2] && a[3] <= bounds[3]
}

/// Whether two boxes overlap or come closer than the gap.
pub fn meet(a: &Box4, b: &Box4) -> bool {
    a[0] < b[2] + GAP && b[0] < a[2] + GAP && a[1] < b[3] + GAP && b[1] < a[3] + GAP
}

//! The paths as lines of SVG.

use std::fmt::Write as _;

use super::Figures;
use super::paths::{Lane, PATHS, Path};

const WIDTH: u32 = 980;
/// Of the first lane, and from one to the next.
const FIRST_LANE: u32 = 330;
const LANE_PITCH: u32 = 190;
const HEADER_HEIGHT: u32 = 40;
const STEP_HEIGHT: u32 = 30;
/// Above and below the steps of a path.
const MARGIN: u32 = 26;

const STYLE: &str = "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.lane{stroke:#999;stroke-dasharray:3 4}\
.busy{fill:#f6efe2}.step{stroke:#1b5e8c;stroke-width:1.6;marker-end:url(#tip)}.by{font-size:11px;text-anchor:middle;fill:#1b5e8c}\
.head{text-anchor:middle;font-weight:bold}";
const TIP: &str = "<marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
<path d=\"M0 0L8 4L0 8z\" fill=\"#1b5e8c\"/></marker>";

/// The whole picture; there are figures for each path.
pub(super) fn of(figures: &[Figures]) -> String {
    let height = HEADER_HEIGHT + PATHS.iter().map(height_of).sum::<u32>();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>One request on each data path</title>\n<style>{STYLE}</style>\n<defs>{TIP}</defs>\n"
    );
    for lane in Lane::ALL {
        line(&mut svg, &text("head", middle(lane), 24, lane.title()));
    }
    let mut top = HEADER_HEIGHT;
    for (path, figures) in PATHS.iter().zip(figures) {
        draw(&mut svg, path, figures, top);
        top += height_of(path);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, path: &Path, figures: &Figures, top: u32) {
    let bottom = top + height_of(path);
    line(svg, &format!("<line x1=\"0\" y1=\"{top}\" x2=\"{WIDTH}\" y2=\"{top}\" stroke=\"#ccc\"/>"));
    for lane in Lane::ALL {
        let x = middle(lane);
        if path.steps.iter().any(|(from, to, _)| *from == lane || *to == lane) {
            line(
                svg,
                &format!(
                    "<rect class=\"busy\" x=\"{}\" y=\"{}\" width=\"12\" height=\"{}\"/>",
                    x - 6,
                    top + 6,
                    bottom - top - 12
                ),
            );
        }
        line(svg, &format!("<line class=\"lane\" x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{bottom}\"/>"));
    }
    line(svg, &text("title", 12, top + 28, path.title));
    let counted = |instructions| format!("host instructions per operation: {instructions}");
    let said = [
        Some(format!("traps per operation: {}", figures.traps_per_operation())),
        figures.host_instructions.map(counted),
        Some(format!("median: {} µs", figures.median_ns / 1000)),
    ];
    for (row, words) in (0..).zip(said.iter().flatten()) {
        line(svg, &text("figure", 12, top + 50 + row * 20, words));
    }
    for (step, (from, to, by)) in (0..).zip(path.steps) {
        let y = top + MARGIN + step * STEP_HEIGHT;
        let (from, to) = (middle(*from), middle(*to));
        let end = if to > from { to - 6 } else { to + 6 };
        line(svg, &format!("<line class=\"step\" x1=\"{from}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\"/>"));
        line(svg, &text("by", u32::midpoint(from, to), y - 5, by));
    }
}

fn height_of(path: &Path) -> u32 {
    let steps = path.steps.len() as u32 * STEP_HEIGHT + MARGIN;
    // As high as what is said beside them.
    steps.max(110)
}

fn middle(lane: Lane) -> u32 {
    let place = Lane::ALL.iter().position(|other| *other == lane).unwrap_or_default();
    FIRST_LANE + place as u32 * LANE_PITCH
}

fn text(class: &str, x: u32, y: u32, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{words}</text>")
}

fn line(svg: &mut String, element: &str) {
    let _ = writeln!(svg, "{element}");
}

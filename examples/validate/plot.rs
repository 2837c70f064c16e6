//! Tokens a second over prompt length and over batch size: each device a line, the limit of its memory a dashed one.

use plotters::prelude::*;
use sterna::measure::Measurement;
use sterna::measure::validate::Report;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Pixels.
const SIZE: (u32, u32) = (1100, 480);
/// Colours that people of all kinds of sight can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// What is drawn of one device.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    limit: Vec<(f64, f64)>,
}

/// The text of an SVG file.
pub fn of(report: &Report) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(text)
}

fn draw(report: &Report, text: &mut String) -> Result<(), Error> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let cpu = report.machine.cpu.as_deref().unwrap_or("CPU");
    let area = area.titled(&format!("{cpu}: one sequence, and batches"), ("sans-serif", 18))?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    let by_prompt = lines(report, |m| (m.workload.batch == 1).then_some(m.workload.prompt));
    let batch_prompt = report.measurements.iter().filter(|m| m.workload.batch > 1).map(|m| m.workload.prompt).max();
    let by_batch = lines(report, |m| (Some(m.workload.prompt) == batch_prompt).then_some(m.workload.batch));
    chart(&left, "tokens a second after a prompt", "tokens of the prompt", &by_prompt)?;
    chart(&right, "tokens a second of all sequences", "sequences at once", &by_batch)?;
    area.present()?;
    Ok(())
}

/// The measurements that have a place on an axis, one line for each device and form of weights.
fn lines(report: &Report, place: impl Fn(&Measurement) -> Option<usize>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for measurement in &report.measurements {
        let (Some(x), Some(decode)) = (place(measurement), measurement.decode()) else { continue };
        let form = measurement.model.split(',').next().unwrap_or_default();
        let name = format!("{}, {form}", measurement.device);
        let index = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            lines.push(Line { name, points: Vec::new(), limit: Vec::new() });
            lines.len() - 1
        });
        let line = &mut lines[index];
        if line.points.iter().any(|point| point.0 == x as f64) {
            continue; // the same workload, measured for another criterion
        }
        line.points.push((x as f64, decode.mean));
        if let (Some(rate), Some((bytes, _))) = (report.bandwidth(measurement), measurement.weight_traffic()) {
            line.limit.push((x as f64, rate / bytes * measurement.workload.batch as f64));
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        line.limit.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines
}

fn chart<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    title: &str,
    axis: &str,
    lines: &[Line],
) -> Result<(), Error>
where
    B::ErrorType: 'static,
{
    let all = || lines.iter().flat_map(|line| line.points.iter().chain(&line.limit));
    if all().next().is_none() {
        return Ok(area.draw_text(
            &format!("{title}: not measured"),
            &("sans-serif", 16).into_text_style(area),
            (40, 40),
        )?);
    }
    let widest = all().map(|point| point.0).fold(0.0, f64::max);
    let highest = all().map(|point| point.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..widest * 1.05, 0.0..highest * 1.45)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc(axis).y_desc("tokens a second").draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let key = move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(key);
        chart.draw_series(line.points.iter().map(|&point| Circle::new(point, 4, colour.filled())))?;
        if !line.limit.is_empty() {
            let cross = move |(x, y): (i32, i32)| Cross::new((x + 10, y), 4, colour.stroke_width(1));
            chart
                .draw_series(DashedLineSeries::new(line.limit.iter().copied(), 5, 4, colour.stroke_width(1)))?
                .label("… memory's bandwidth ÷ bytes of weights a step")
                .legend(cross);
            chart.draw_series(line.limit.iter().map(|&point| Cross::new(point, 4, colour.stroke_width(1))))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 12))
        .draw()?;
    Ok(())
}

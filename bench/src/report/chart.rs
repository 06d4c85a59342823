//! Bars: one block for each case on a scale of its own from zero, one bar for each contestant.

use crate::error::Error;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const WIDTH: u32 = 900;
const NAME_WIDTH: i32 = 170;
const LABEL_WIDTH: i32 = 190;
const BAR_HEIGHT: i32 = 16;
const CASE_HEIGHT: i32 = 26;
const TITLE_HEIGHT: i32 = 40;

/// One bar: `value` long, of which `dark` is drawn darker.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) dark: f64,
    pub(super) label: String,
    pub(super) is_ours: bool,
}

/// A case and its bars.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    pub(super) case: String,
    pub(super) bars: Vec<Bar>,
}

/// Draws the blocks one below the other into an SVG file.
pub(super) fn draw(path: &Path, title: &str, blocks: &[Block]) -> Result<(), Error> {
    let height =
        |block: &Block| CASE_HEIGHT + BAR_HEIGHT * i32::try_from(block.bars.len()).expect("a few bars");
    let total = TITLE_HEIGHT + blocks.iter().map(height).sum::<i32>() + BAR_HEIGHT;
    let area = SVGBackend::new(path, (WIDTH, total.unsigned_abs())).into_drawing_area();
    let drawn = (|| {
        area.fill(&WHITE)?;
        area.draw(&Text::new(title.to_owned(), (10, 12), ("sans-serif", 18)))?;
        let mut top = TITLE_HEIGHT;
        for block in blocks {
            draw_block(&area, block, top)?;
            top += height(block);
        }
        area.present()
    })();
    drawn.map_err(|error: DrawingAreaErrorKind<_>| {
        Error::Usage(format!("{} can't be drawn: {error}", path.display()))
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_block<'a>(area: &Area<'a>, block: &Block, top: i32) -> Drawn<'a> {
    let longest = block.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(i32::try_from(WIDTH).expect("small") - NAME_WIDTH - LABEL_WIDTH);
    let end = |value: f64| NAME_WIDTH + (value / longest * room) as i32;
    area.draw(&Text::new(
        block.case.clone(),
        (10, top + 8),
        ("sans-serif", 13).into_font().style(FontStyle::Bold),
    ))?;
    for (number, bar) in (0_i32..).zip(&block.bars) {
        let y = top + CASE_HEIGHT + number * BAR_HEIGHT;
        let color = if bar.is_ours { RGBColor(30, 110, 180) } else { RGBColor(150, 150, 150) };
        let right = TextStyle::from(("sans-serif", 12)).pos(Pos::new(HPos::Right, VPos::Top));
        area.draw(&Text::new(bar.name.clone(), (NAME_WIDTH - 8, y + 1), right))?;
        let whole = [(NAME_WIDTH, y + 1), (end(bar.value), y + BAR_HEIGHT - 2)];
        let light = if bar.dark < bar.value { color.mix(0.45) } else { color.mix(1.0) };
        area.draw(&Rectangle::new(whole, light.filled()))?;
        let dark = [(NAME_WIDTH, y + 1), (end(bar.dark), y + BAR_HEIGHT - 2)];
        area.draw(&Rectangle::new(dark, color.filled()))?;
        area.draw(&Text::new(bar.label.clone(), (end(bar.value) + 6, y + 1), ("sans-serif", 12)))?;
    }
    Ok(())
}

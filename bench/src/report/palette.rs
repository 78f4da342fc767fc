//! The colours of the report: each implementation has one colour on the whole page, visible on light and on dark pages.

use std::fmt;

use crate::figure::Figure;

/// The implementation that the first colour is reserved for.
pub(crate) const OURS: &str = "messageport";

const COLOURS: [Colour; 20] = [
    Colour(226, 88, 34),
    Colour(110, 120, 130),
    Colour(46, 134, 222),
    Colour(39, 160, 90),
    Colour(170, 90, 200),
    Colour(20, 160, 170),
    Colour(220, 70, 130),
    Colour(140, 130, 40),
    Colour(110, 110, 220),
    Colour(150, 100, 70),
    Colour(60, 175, 215),
    Colour(120, 170, 60),
    Colour(190, 60, 190),
    Colour(90, 140, 120),
    Colour(200, 120, 150),
    Colour(130, 90, 150),
    Colour(70, 100, 160),
    Colour(200, 160, 20),
    Colour(160, 160, 160),
    Colour(180, 50, 60),
];

/// Red, green and blue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour(pub(crate) u8, pub(crate) u8, pub(crate) u8);

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(red, green, blue) = self;
        write!(f, "rgb({red},{green},{blue})")
    }
}

/// The implementations of a suite, in the order of their colours.
pub(crate) struct Palette(Vec<String>);

impl Palette {
    /// Assigns the colours to the implementations of the suite, so that they do not depend on what was measured.
    pub(crate) fn new<'a>(implementations: impl Iterator<Item = &'a str>) -> Self {
        let mut names = vec![OURS.to_owned()];
        for name in implementations {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Self(names)
    }

    pub(crate) fn colour(&self, figure: &Figure) -> Colour {
        let index = self.0.iter().position(|name| *name == figure.what).unwrap_or(self.0.len());
        COLOURS[index % COLOURS.len()]
    }
}

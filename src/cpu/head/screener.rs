//! What screening works with.

use crate::allocation::{area, filled};
use crate::backend::MOST_CANDIDATES;
use crate::cpu::aligned::Aligned;
use crate::cpu::screen::{Planes, Probe, Size, TOGETHER};
use crate::error::Result;
use crate::ranking::Ranking;

/// What screening works with, used again from step to step. "Rows" are those of a step that are screened together.
pub(in crate::cpu) struct Screener {
    pub(super) outliers: Vec<i16>,                  // [TOGETHER, outliers]
    pub(super) others: Aligned<i8>,                 // [TOGETHER, 2, others]
    pub(super) y: Vec<f32>,                         // [TOGETHER, cols]
    pub(super) probes: Vec<Option<Probe>>,          // [rows]
    pub(super) uppers: Vec<f32>,                    // [TOGETHER, vocabulary], at last the logits of what is left
    pub(super) rankings: Vec<Ranking>,              // [TOGETHER]
    pub(super) largest: Vec<Option<(u32, f32)>>,    // [rows, as many as decide], tokens and their logits
    pub(super) thresholds: [Option<f32>; TOGETHER], // none of rows that are not screened
    pub(super) left: Vec<u16>, // [vocabulary], bit i: whether the i-th row has the token left in the running
    pub(super) tokens: Vec<u32>, // left of one row, at most the vocabulary
    pub(super) logits: Vec<f32>, // theirs
    pub(super) ranking: Ranking, // of what is handed over
    pub(super) pause: Pause,   // of the first plane alone
    pub(in crate::cpu) exact_logits: u64, // computed so far of heads with a screen
}

/// Times, of rows that are screened together, that the first plane alone is left out, as it left too much.
pub(super) struct Pause {
    pub(super) left: u32,
    pub(super) length: u32, // of the whole pause; 0 if the latest try left little
    /// What is read meanwhile; no plane, and all of the head, where more than half of the logits had to be computed.
    pub(super) meanwhile: Option<Planes>,
}

impl Screener {
    pub(in crate::cpu) fn new() -> Self {
        Self {
            outliers: Vec::new(),
            others: Aligned::default(),
            y: Vec::new(),
            probes: Vec::with_capacity(TOGETHER),
            uppers: Vec::new(),
            rankings: Vec::new(),
            largest: Vec::new(),
            thresholds: [None; TOGETHER],
            left: Vec::new(),
            tokens: Vec::new(),
            logits: Vec::new(),
            ranking: Ranking::new(),
            pause: Pause { left: 0, length: 0, meanwhile: None },
            exact_logits: 0,
        }
    }

    /// Whether there is a head with a screen, or one to come.
    pub(in crate::cpu) fn is_ready(&self) -> bool {
        !self.uppers.is_empty()
    }

    /// Makes room to rank as many candidates as may be asked for, so that no step allocates.
    pub(in crate::cpu) fn reserve_ranking(&mut self) -> Result<()> {
        self.ranking.reserve(MOST_CANDIDATES)
    }

    /// Makes room for a screen, so that no step allocates.
    pub(in crate::cpu) fn reserve(&mut self, size: &Size) -> Result<()> {
        fn room<T: Clone>(values: &mut Vec<T>, len: usize, value: T) -> Result<()> {
            *values = filled(len.max(values.len()), value)?;
            Ok(())
        }
        room(&mut self.outliers, area(TOGETHER, size.outliers)?, 0)?;
        self.others = Aligned::zeroed(area(2 * TOGETHER, size.others)?.max(self.others.len()))?;
        room(&mut self.y, area(TOGETHER, size.cols)?, 0.0)?;
        room(&mut self.uppers, area(TOGETHER, size.rows)?, 0.0)?;
        self.rankings.resize_with(TOGETHER, Ranking::new);
        self.rankings.iter_mut().try_for_each(|ranking| ranking.reserve(2 * MOST_CANDIDATES))?;
        room(&mut self.largest, 2 * TOGETHER * MOST_CANDIDATES, None)?;
        room(&mut self.left, size.rows, 0)?;
        room(&mut self.tokens, size.rows, 0)?;
        room(&mut self.logits, size.rows, 0.0)
    }

    /// The planes that are read first, if any.
    pub(super) fn planes(&mut self) -> Option<Planes> {
        if self.pause.left == 0 {
            return Some(Planes::First);
        }
        self.pause.left -= 1;
        self.pause.meanwhile
    }

    /// Gathers the tokens that one row has left, and their logits.
    pub(super) fn gather(&mut self, place: usize, vocabulary: usize) {
        const PIECE: usize = 64;
        self.tokens.clear();
        self.logits.clear();
        let logits = &self.uppers[place * vocabulary..][..vocabulary];
        let is_left = |left: u16| left >> place & 1 == 1;
        for (piece, left) in self.left[..vocabulary].chunks(PIECE).enumerate() {
            // Looking at them all is one vector loop; most pieces have none.
            if is_left(left.iter().fold(0, |all, left| all | left)) {
                for token in (piece * PIECE..).zip(left).filter(|(_, left)| is_left(**left)).map(|(token, _)| token) {
                    self.tokens.push(token as u32);
                    self.logits.push(logits[token]);
                }
            }
        }
    }
}

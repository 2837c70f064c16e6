//! What clients do, and how often.

use crate::texts::Random;

/// What a client can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Stream,
    Whole,
    Several,
    LeaveStream,
    LeaveWhole,
    LeaveBody,
    Slow,
    Asleep,
    Oversize,
    WrongJson,
    WrongField,
    TooLong,
    NoHttp,
}

/// How often each is done, in ten thousand or so.
const CHANCES: [(Kind, usize); 13] = [
    (Kind::Stream, 3300),
    (Kind::Whole, 1100),
    (Kind::Several, 400),
    (Kind::LeaveStream, 1800),
    (Kind::LeaveWhole, 1000),
    (Kind::LeaveBody, 400),
    (Kind::Slow, 15),
    (Kind::Asleep, 10),
    (Kind::Oversize, 400),
    (Kind::WrongJson, 500),
    (Kind::WrongField, 500),
    (Kind::TooLong, 300),
    (Kind::NoHttp, 200),
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "read a stream",
            Self::Whole => "read an answer",
            Self::Several => "read a stream of 4 answers",
            Self::LeaveStream => "leave in a stream",
            Self::LeaveWhole => "leave before an answer",
            Self::LeaveBody => "leave in their own request",
            Self::Slow => "read a stream slowly",
            Self::Asleep => "read nothing for 40 s",
            Self::Oversize => "send more than 8 MiB",
            Self::WrongJson => "send no JSON",
            Self::WrongField => "send a wrong field",
            Self::TooLong => "send too long a prompt",
            Self::NoHttp => "send no HTTP",
        }
    }

    /// One of them, by its chance.
    pub fn random(random: &mut Random) -> Self {
        let mut left = random.below(CHANCES.iter().map(|(_, chance)| chance).sum());
        for (kind, chance) in CHANCES {
            match left.checked_sub(chance) {
                Some(rest) => left = rest,
                None => return kind,
            }
        }
        Self::Stream
    }
}

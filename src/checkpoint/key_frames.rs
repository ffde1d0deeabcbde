//! Decides how a body is stored: compressed with a key frame, which is an earlier body of the
//! tenant, or alone, as the key frame of later bodies. A body must never depend on one that depends
//! on another. Start reading at [`placement`]. See decision 0013.

/// How a body is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyPlacement {
    /// Alone; it is the next key frame.
    Alone,
    /// Compressed with the key frame.
    WithKeyFrame,
}

/// How many bodies may depend on one key frame. A damaged key frame makes them unreadable.
const MAX_DEPENDENTS: u32 = 31;

/// Whether another body may depend on a key frame on which this number of bodies depends.
pub(super) fn may_depend(dependents: u32) -> bool {
    dependents < MAX_DEPENDENTS
}

/// How to store a body that takes `compressed` bytes if it is compressed with the key frame, which
/// takes `key_frame` bytes. A body that differs much from its key frame is a better key frame for
/// later bodies.
pub(super) fn placement(compressed: usize, key_frame: usize) -> BodyPlacement {
    let is_similar = compressed.saturating_mul(3) < key_frame;
    if is_similar { BodyPlacement::WithKeyFrame } else { BodyPlacement::Alone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_has_31_dependents() {
        for (dependents, expected) in [(0, true), (30, true), (31, false), (u32::MAX, false)] {
            assert_eq!(may_depend(dependents), expected, "{dependents}");
        }
    }

    #[test]
    fn only_similar_bodies_depend_on_another() {
        use BodyPlacement::{Alone, WithKeyFrame};

        for (compressed, key_frame, expected) in [
            (0, 1, WithKeyFrame),
            (33, 100, WithKeyFrame),
            // At least a third of the key frame.
            (33, 99, Alone),
            (34, 100, Alone),
            (0, 0, Alone),
            (usize::MAX, usize::MAX, Alone),
        ] {
            assert_eq!(placement(compressed, key_frame), expected, "{compressed} {key_frame}");
        }
    }
}

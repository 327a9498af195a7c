//! Tests of the alignment: its rules one by one, then random barriers and aborts against them.

use super::{Aligner, AlignerError, Alignment};
use crate::{BarrierKind, CheckpointId, CheckpointMode};

const KIND: BarrierKind = BarrierKind::Checkpoint;
const MODE: CheckpointMode = CheckpointMode::ExactlyOnce;

fn aligned(id: u64) -> Result<Alignment, AlignerError> {
    Ok(Alignment::Aligned { id: CheckpointId(id), kind: KIND })
}

fn barrier(aligner: &mut Aligner, channel: usize, id: u64) -> Result<Alignment, AlignerError> {
    aligner.handle_barrier(channel, CheckpointId(id), KIND)
}

fn blocked(aligner: &Aligner) -> Vec<usize> {
    (0..aligner.last.len()).filter(|channel| aligner.is_blocked(*channel)).collect()
}

#[test]
fn channels_wait_for_the_slowest() {
    let mut aligner = Aligner::new(3, MODE);
    assert_eq!(barrier(&mut aligner, 1, 4), Ok(Alignment::Waiting));
    assert_eq!(barrier(&mut aligner, 0, 4), Ok(Alignment::Waiting));
    assert_eq!((blocked(&aligner), aligner.current()), (vec![0, 1], Some(CheckpointId(4))));
    assert_eq!(barrier(&mut aligner, 2, 4), aligned(4));
    assert_eq!((blocked(&aligner), aligner.current()), (vec![], None));
}

#[test]
fn one_channel_aligns_at_once() {
    let mut aligner = Aligner::new(1, MODE);
    assert_eq!(barrier(&mut aligner, 0, 1), aligned(1));
    assert_eq!(barrier(&mut aligner, 0, 3), aligned(3));
}

#[test]
fn a_newer_barrier_gives_up_the_older_alignment() {
    let mut aligner = Aligner::new(3, MODE);
    assert_eq!(barrier(&mut aligner, 0, 1), Ok(Alignment::Waiting));
    assert_eq!(barrier(&mut aligner, 1, 2), Ok(Alignment::Released));
    assert_eq!(blocked(&aligner), [1]);
    // The older barrier still comes out of the third channel, and one that nobody else saw.
    assert_eq!(barrier(&mut aligner, 2, 1), Ok(Alignment::Ignored));
    assert_eq!(barrier(&mut aligner, 0, 2), Ok(Alignment::Waiting));
    assert_eq!(barrier(&mut aligner, 2, 2), aligned(2));
}

#[test]
fn an_older_barrier_never_replaces_a_newer_alignment() {
    let mut aligner = Aligner::new(2, MODE);
    assert_eq!(barrier(&mut aligner, 0, 7), Ok(Alignment::Waiting));
    assert_eq!(barrier(&mut aligner, 1, 6), Ok(Alignment::Ignored));
    assert_eq!(aligner.current(), Some(CheckpointId(7)));
    assert_eq!(barrier(&mut aligner, 1, 7), aligned(7));
}

#[test]
fn an_abort_releases_its_own_alignment_and_older_ones() {
    for abort in [5, 6] {
        let mut aligner = Aligner::new(2, MODE);
        assert_eq!(barrier(&mut aligner, 0, 5), Ok(Alignment::Waiting));
        assert_eq!(aligner.handle_abort(CheckpointId(4)), Alignment::Ignored);
        assert_eq!(aligner.handle_abort(CheckpointId(abort)), Alignment::Released);
        assert_eq!(aligner.handle_abort(CheckpointId(abort)), Alignment::Ignored);
        assert_eq!(blocked(&aligner), [0; 0]);
        assert_eq!(barrier(&mut aligner, 1, 5), Ok(Alignment::Ignored));
    }
}

#[test]
fn an_abort_may_come_before_its_barriers() {
    let mut aligner = Aligner::new(2, MODE);
    assert_eq!(aligner.handle_abort(CheckpointId(3)), Alignment::Ignored);
    // A late and older abort must not make the machine forget the newer one.
    assert_eq!(aligner.handle_abort(CheckpointId(2)), Alignment::Ignored);
    assert_eq!(barrier(&mut aligner, 0, 3), Ok(Alignment::Ignored));
    assert_eq!(blocked(&aligner), [0; 0]);
    assert_eq!(barrier(&mut aligner, 0, 4), Ok(Alignment::Waiting));
}

#[test]
fn impossible_barriers_are_errors() {
    let mut aligner = Aligner::new(2, MODE);
    assert_eq!(barrier(&mut aligner, 0, 5), Ok(Alignment::Waiting));
    for id in [5, 4] {
        let error =
            AlignerError::Backwards { channel: 0, last: CheckpointId(5), id: CheckpointId(id) };
        assert_eq!(barrier(&mut aligner, 0, id), Err(error));
    }
    let error = AlignerError::NoSuchChannel { channel: 2, channels: 2 };
    assert_eq!(barrier(&mut aligner, 2, 5), Err(error));
    let error = aligner.handle_barrier(1, CheckpointId(5), BarrierKind::Final);
    assert!(matches!(error, Err(AlignerError::KindDiffers { .. })), "{error:?}");
}

#[test]
fn at_least_once_no_channel_waits() {
    let mut aligner = Aligner::new(3, CheckpointMode::AtLeastOnce);
    assert_eq!(barrier(&mut aligner, 1, 4), Ok(Alignment::Waiting));
    assert_eq!(barrier(&mut aligner, 0, 4), Ok(Alignment::Waiting));
    assert_eq!((blocked(&aligner), aligner.current()), (vec![], Some(CheckpointId(4))));
    // A channel that was read on may bring the next barrier before the last one the first.
    assert_eq!(barrier(&mut aligner, 0, 5), Ok(Alignment::Released));
    assert_eq!(barrier(&mut aligner, 2, 4), Ok(Alignment::Ignored));
    assert_eq!(barrier(&mut aligner, 1, 5), Ok(Alignment::Waiting));
    assert_eq!(barrier(&mut aligner, 2, 5), aligned(5));
}

fn recorded(aligner: &Aligner) -> Vec<usize> {
    (0..aligner.last.len()).filter(|channel| aligner.is_recorded(*channel)).collect()
}

#[test]
fn an_early_cut_records_the_channels_that_are_missing() {
    let mut aligner = Aligner::new(3, MODE);
    assert_eq!(barrier(&mut aligner, 1, 4), Ok(Alignment::Waiting));
    assert!(aligner.cut_early(CheckpointId(4)));
    assert_eq!((blocked(&aligner), recorded(&aligner)), (vec![], vec![0, 2]));
    assert_eq!(barrier(&mut aligner, 0, 4), Ok(Alignment::Waiting));
    assert_eq!((recorded(&aligner), aligner.recording()), (vec![2], Some(CheckpointId(4))));
    assert_eq!(barrier(&mut aligner, 2, 4), Ok(Alignment::Recorded { id: CheckpointId(4) }));
    assert_eq!((recorded(&aligner), aligner.recording()), (vec![], None));
    assert!(!aligner.cut_early(CheckpointId(4)), "it has ended");
}

#[test]
fn an_early_cut_may_come_before_all_barriers_and_gives_up_older_ones() {
    let mut aligner = Aligner::new(2, MODE);
    assert_eq!(barrier(&mut aligner, 0, 1), Ok(Alignment::Waiting));
    assert!(aligner.cut_early(CheckpointId(2)));
    assert_eq!(recorded(&aligner), [0, 1]);
    assert_eq!(barrier(&mut aligner, 1, 1), Ok(Alignment::Ignored));
    assert_eq!(barrier(&mut aligner, 1, 2), Ok(Alignment::Waiting));
    // A newer barrier gives the recording up, and is waited for as usual.
    assert_eq!(barrier(&mut aligner, 0, 3), Ok(Alignment::Released));
    assert_eq!((aligner.recording(), blocked(&aligner)), (None, vec![0]));
    assert!(!aligner.cut_early(CheckpointId(2)), "a newer one is under way");
    assert!(aligner.cut_early(CheckpointId(3)));
    assert_eq!(recorded(&aligner), [1]);
    assert_eq!(aligner.handle_abort(CheckpointId(3)), Alignment::Released);
    assert_eq!(barrier(&mut aligner, 1, 3), Ok(Alignment::Ignored));
    assert_eq!((recorded(&aligner), blocked(&aligner)), (vec![], vec![]));
}

/// Random interleavings: every channel delivers an increasing selection of ids, aborts come at any
/// time. A model that keeps all events decides what the answer has to be.
#[test]
fn random_barriers_follow_the_rules() {
    let mut all_aligned = 0;
    for seed in 0..2_000 {
        all_aligned += explore(seed);
    }
    assert!(all_aligned > 2_000, "the explorer hardly ever aligns: {all_aligned}");
}

fn explore(seed: u64) -> u64 {
    let mut random = crate::random::Random::new(seed);
    let channels = 1 + random.below(4) as usize;
    let mut aligner = Aligner::new(channels, MODE);
    let mut next = vec![1_u64; channels];
    let (mut ended, mut last_aligned, mut alignments) = (0_u64, 0_u64, 0_u64);
    for _ in 0..120 {
        if random.chance(8) {
            let id = 1 + random.below(next.iter().copied().max().unwrap_or(1) + 1);
            let current = aligner.current();
            let releases = current.is_some_and(|current| current.0 <= id);
            let expected = if releases { Alignment::Released } else { Alignment::Ignored };
            assert_eq!(aligner.handle_abort(CheckpointId(id)), expected, "seed {seed}");
            ended = ended.max(id);
            continue;
        }
        // A blocked channel is not read.
        let open: Vec<_> = (0..channels).filter(|channel| !aligner.is_blocked(*channel)).collect();
        assert!(!open.is_empty(), "seed {seed}: all channels are blocked");
        let channel = open[random.below(open.len() as u64) as usize];
        let id = next[channel] + u64::from(random.chance(10));
        next[channel] = id + 1;
        let before = aligner.current().map_or(0, |id| id.0);
        let answer = barrier(&mut aligner, channel, id).expect("barriers go forward");
        if id <= ended.max(last_aligned) || id < before {
            assert_eq!(answer, Alignment::Ignored, "seed {seed}");
            continue;
        }
        let arrived = next.iter().filter(|next| **next == id + 1).count();
        let gives_up = before != 0 && before < id;
        match answer {
            Alignment::Aligned { id: done, .. } => {
                // Everyone delivered exactly this barrier last, and nothing after it.
                assert_eq!((done.0, arrived), (id, channels), "seed {seed}");
                assert!(id > last_aligned, "seed {seed}");
                (last_aligned, alignments) = (id, alignments + 1);
                assert_eq!(aligner.current(), None, "seed {seed}");
            }
            Alignment::Released => assert!(gives_up, "seed {seed}"),
            Alignment::Waiting => assert!(!gives_up && channels > 1, "seed {seed}"),
            other => panic!("seed {seed}: barrier {id} gave {other:?}"),
        }
        let expected_blocked =
            if matches!(answer, Alignment::Aligned { .. }) { 0 } else { arrived };
        assert_eq!(blocked(&aligner).len(), expected_blocked, "seed {seed}");
    }
    alignments
}

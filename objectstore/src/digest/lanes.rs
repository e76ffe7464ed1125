//! MD5's compression, of one message or of several at once.
//!
//! Every step of MD5 waits for the one before: a core that could do four things at a time does one. So the steps of
//! several messages are done side by side, each message in its lane of a vector: four cost less than three of them
//! alone, and eight, in two vectors that do not wait for each other, no more than four. What makes one message fast is
//! that a step, when the one before is done, has nothing left to do that it could have done earlier.

use multiversion::multiversion;
use std::num::Wrapping;
use std::ops::{Add, BitAnd, BitOr, BitXor, Not};
use wide::u32x4;

/// Messages in one vector.
const WIDTH: usize = 4;
/// Messages that can be done at once.
pub(super) const LANES: usize = 2 * WIDTH;
/// Bytes that are done at a time.
pub(super) const BLOCK: usize = 64;

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
/// The fractions of sines that RFC 1321 takes.
#[rustfmt::skip]
static SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// A word of one message, or of [`WIDTH`] of them.
trait Word:
    Copy
    + Add<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
{
    fn all(n: u32) -> Self;
    fn rotate(self, by: u32) -> Self;
}

impl Word for Wrapping<u32> {
    #[inline(always)]
    fn all(n: u32) -> Self {
        Wrapping(n)
    }

    #[inline(always)]
    fn rotate(self, by: u32) -> Self {
        Wrapping(self.0.rotate_left(by))
    }
}

impl Word for u32x4 {
    #[inline(always)]
    fn all(n: u32) -> Self {
        u32x4::splat(n)
    }

    #[inline(always)]
    fn rotate(self, by: u32) -> Self {
        (self << by) | (self >> (32 - by))
    }
}

/// Goes on with messages, at most [`LANES`] of them, by as many blocks as the shortest piece has.
pub(super) fn compress(states: &mut [&mut [u32; 4]], pieces: &[&[u8]]) {
    match states.len() {
        // Two are done sooner one behind the other.
        0..=2 => {
            let shortest = pieces.iter().map(|piece| piece.len()).min().unwrap_or(0);
            states.iter_mut().zip(pieces).for_each(|(state, piece)| compress_one(state, &piece[..shortest]));
        }
        3..=WIDTH => abreast::<1>(states, pieces),
        _ => abreast::<2>(states, pieces),
    }
}

/// Goes on with one message by the whole blocks of a piece.
pub(super) fn compress_one(state: &mut [u32; 4], piece: &[u8]) {
    let blocks = piece.as_chunks::<BLOCK>().0;
    match cfg!(debug_assertions) {
        // Without optimisation, which the crate is built with then and this one is not, ours takes very long.
        true => md5::block_api::compress(state, blocks),
        false => alone(state, blocks),
    }
}

fn alone(state: &mut [u32; 4], blocks: &[[u8; BLOCK]]) {
    let sines = std::hint::black_box(&SINES);
    let mut words = state.map(|word| [Wrapping(word)]);
    for block in blocks {
        let message: [[Wrapping<u32>; 1]; 16] = std::array::from_fn(|word| [Wrapping(word_of(block, word))]);
        rounds(&mut words, &message, sines);
    }
    *state = words.map(|[word]| word.0);
}

// Where there are rotations and functions of three words, in AVX-512, it is 1.4 times as fast.
#[multiversion(targets("x86_64+avx512f+avx512vl"))]
fn abreast<const Q: usize>(states: &mut [&mut [u32; 4]], pieces: &[&[u8]]) {
    let sines = std::hint::black_box(&SINES);
    let most = states.len().min(pieces.len());
    // Lanes without a message do the last one's work, for nothing.
    let lane = |q: usize, l: usize| (q * WIDTH + l).min(most - 1);
    let blocks: [[&[[u8; BLOCK]]; WIDTH]; Q] =
        std::array::from_fn(|q| std::array::from_fn(|l| pieces[lane(q, l)].as_chunks::<BLOCK>().0));
    let shortest = blocks.iter().flatten().map(|b| b.len()).min().unwrap_or(0);
    let mut state: [[u32x4; Q]; 4] = std::array::from_fn(|word| {
        std::array::from_fn(|q| u32x4::new(std::array::from_fn(|l| states[lane(q, l)][word])))
    });
    #[expect(
        clippy::needless_range_loop,
        reason = "the `n`th block of every lane, of which there are several"
    )]
    for n in 0..shortest {
        let mut message = [[u32x4::ZERO; Q]; 16];
        for q in 0..Q {
            let [a, b, c, d] = blocks[q];
            let (a, b, c, d) = (&a[n], &b[n], &c[n], &d[n]);
            for word in 0..16 {
                let lanes = [word_of(a, word), word_of(b, word), word_of(c, word), word_of(d, word)];
                message[word][q] = u32x4::new(lanes);
            }
        }
        rounds(&mut state, &message, sines);
    }
    for (n, own) in states.iter_mut().enumerate().take(most) {
        **own = std::array::from_fn(|word| state[word][n / WIDTH].to_array()[n % WIDTH]);
    }
}

#[inline(always)]
fn word_of(block: &[u8; BLOCK], word: usize) -> u32 {
    let at = word * 4;
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// One step of all. The sines are not known as constants: those would be added last, when all else waits.
#[inline(always)]
fn step<W: Word, const Q: usize, const I: usize>(
    [a, b, c, d]: [[W; Q]; 4],
    message: &[[W; Q]; 16],
    sines: &[u32; 64],
) -> [W; Q] {
    let word = match I / 16 {
        0 => I,
        1 => (5 * I + 1) % 16,
        2 => (3 * I + 5) % 16,
        _ => (7 * I) % 16,
    };
    let mut next = a;
    // Not with a closure: that may not be compiled in place, nor for the same processor.
    for q in 0..Q {
        // `b` comes from the step before.
        let (b, c, d) = (b[q], c[q], d[q]);
        let mixed = match I / 16 {
            0 => d ^ (b & (c ^ d)),
            1 => (b & d) | (c & !d),
            2 => b ^ (c ^ d),
            _ => c ^ (b | !d),
        };
        let known = a[q] + (message[word][q] + W::all(sines[I]));
        next[q] = (known + mixed).rotate(SHIFTS[I / 16][I % 4]) + b;
    }
    next
}

#[inline(always)]
fn rounds<W: Word, const Q: usize>(state: &mut [[W; Q]; 4], message: &[[W; Q]; 16], sines: &[u32; 64]) {
    let [mut a, mut b, mut c, mut d] = *state;
    macro_rules! four {
        ($($i:literal)*) => {$(
            a = step::<W, Q, { $i }>([a, b, c, d], message, sines);
            d = step::<W, Q, { $i + 1 }>([d, a, b, c], message, sines);
            c = step::<W, Q, { $i + 2 }>([c, d, a, b], message, sines);
            b = step::<W, Q, { $i + 3 }>([b, c, d, a], message, sines);
        )*};
    }
    four!(0 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60);
    for (own, new) in state.iter_mut().zip([a, b, c, d]) {
        for q in 0..Q {
            own[q] = own[q] + new[q];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_message_is_what_everybody_makes_of_it(data: Vec<[u8; 32]>, state: [u32; 4]) {
            let (data, mut right, mut own) = (data.concat(), state, state);
            let blocks = data.as_chunks::<BLOCK>().0;
            md5::block_api::compress(&mut right, blocks);
            alone(&mut own, blocks);
            prop_assert_eq!(own, right);
        }
    }
}

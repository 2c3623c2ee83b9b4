//! The hash functions of indexed directories: legacy, half MD4 and TEA, with signed or unsigned characters.
//! Written from the description in the kernel's Documentation/filesystems/ext4/directory.rst and fs/ext4/hash.c.

use super::superblock::{self, Superblock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Legacy,
    HalfMd4,
    Tea,
}

/// How this file system hashes names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hasher {
    function: Function,
    unsigned: bool,
    seed: [u32; 4],
    /// What an index's root says about its hash.
    pub(super) version: u8,
}

const SIGNED_FLAG: u32 = 0x1;
const UNSIGNED_FLAG: u32 = 0x2;

impl Hasher {
    /// The hash for new indexes; none if the file system asks for one that we do not know.
    pub(super) fn new(superblock: &Superblock) -> Option<Self> {
        let version = superblock.get(superblock::DEF_HASH_VERSION);
        // The unsigned ones have numbers of their own, which no index may name: the flags alone say it.
        Self::with_version(superblock, if (3..=5).contains(&version) { version - 3 } else { version })
    }

    /// Says in `superblock` how characters are taken, if nothing does: e2fsck takes them as signed then, as we do,
    /// and the kernel as its compiler does, since Linux 6.2 as unsigned.
    pub(super) fn settle(superblock: &mut Superblock) {
        let flags = superblock.get(superblock::FLAGS);
        if flags & (SIGNED_FLAG | UNSIGNED_FLAG) == 0 {
            superblock.set(superblock::FLAGS, flags | SIGNED_FLAG);
        }
    }

    /// The hash of an index whose root names this version.
    pub(super) fn with_version(superblock: &Superblock, version: u8) -> Option<Self> {
        let function = match version {
            0 | 3 => Function::Legacy,
            1 | 4 => Function::HalfMd4,
            2 | 5 => Function::Tea,
            _ => return None,
        };
        let seed = [
            superblock.get(superblock::HASH_SEED_0),
            superblock.get(superblock::HASH_SEED_1),
            superblock.get(superblock::HASH_SEED_2),
            superblock.get(superblock::HASH_SEED_3),
        ];
        let unsigned = version > 2 || superblock.get(superblock::FLAGS) & UNSIGNED_FLAG != 0;
        Some(Self { function, unsigned, seed, version })
    }

    /// The hash that orders `name`, its lowest bit clear, and the one that decides between equals.
    pub(super) fn hash(&self, name: &[u8]) -> (u32, u32) {
        let start = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        let mut state = if self.seed == [0; 4] { start } else { self.seed };
        let (major, minor) = match self.function {
            Function::Legacy => (self.legacy(name), 0),
            Function::HalfMd4 => {
                for (chunk, rest) in chunks(name, 32) {
                    half_md4(&mut state, &self.words::<8>(chunk, rest));
                }
                (state[1], state[2])
            }
            Function::Tea => {
                for (chunk, rest) in chunks(name, 16) {
                    tea(&mut state, &self.words::<4>(chunk, rest));
                }
                (state[0], state[1])
            }
        };
        let major = major & !1;
        // The largest value marks the end of a directory.
        (if major == 0xffff_fffe { 0xffff_fffc } else { major }, minor)
    }

    fn character(&self, byte: u8) -> u32 {
        if self.unsigned { byte.into() } else { i32::from(byte.cast_signed()).cast_unsigned() }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut last, mut before) = (0x12a3_fe2du32, 0x37ab_e8f9u32);
        for byte in name {
            let mut hash = before.wrapping_add(last ^ self.character(*byte).wrapping_mul(7_152_373));
            if hash & 0x8000_0000 != 0 {
                hash = hash.wrapping_sub(0x7fff_ffff);
            }
            before = last;
            last = hash;
        }
        last << 1
    }

    /// Up to `N` words of `chunk`, padded with the length of the rest of the name.
    fn words<const N: usize>(&self, chunk: &[u8], rest: usize) -> [u32; N] {
        let length = u32::try_from(rest).unwrap_or(u32::MAX);
        let pad = length | length << 8;
        let pad = pad | pad << 16;
        let mut words = [pad; N];
        for (word, bytes) in words.iter_mut().zip(chunk.chunks(4)) {
            *word = bytes.iter().fold(pad, |word, byte| self.character(*byte).wrapping_add(word << 8));
        }
        words
    }
}

/// The pieces of `name`, each with what is left of the name from there on.
fn chunks(name: &[u8], size: usize) -> impl Iterator<Item = (&[u8], usize)> {
    name.chunks(size).enumerate().map(move |(number, chunk)| (chunk, name.len() - number * size))
}

fn tea(state: &mut [u32; 4], input: &[u32; 4]) {
    let [a, b, c, d] = *input;
    let (mut x, mut y, mut sum) = (state[0], state[1], 0u32);
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        x = x.wrapping_add((y << 4).wrapping_add(a) ^ y.wrapping_add(sum) ^ (y >> 5).wrapping_add(b));
        y = y.wrapping_add((x << 4).wrapping_add(c) ^ x.wrapping_add(sum) ^ (x >> 5).wrapping_add(d));
    }
    state[0] = state[0].wrapping_add(x);
    state[1] = state[1].wrapping_add(y);
}

fn half_md4(state: &mut [u32; 4], input: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let choose: Mix = |x, y, z| z ^ (x & (y ^ z));
    let majority: Mix = |x, y, z| (x & y).wrapping_add((x ^ y) & z);
    let parity: Mix = |x, y, z| x ^ y ^ z;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (choose, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (majority, 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (parity, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in rounds {
        for (step, word) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(input[word]).wrapping_add(constant);
            // The registers change places instead of their names.
            (a, b, c, d) = (d, sum.rotate_left(shifts[step % 4]), b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(function: Function, unsigned: bool) -> Hasher {
        // d5a6b1c2-0102-0304-0506-0708090a0b0c as debugfs's `dx_hash -s` takes it.
        let seed = [0xc2b1_a6d5, 0x0403_0201, 0x0807_0605, 0x0c0b_0a09];
        Hasher { function, unsigned, seed, version: 1 }
    }

    type Known = (Function, bool, &'static [u8], (u32, u32));

    /// Expected values are those of `debugfs -R 'dx_hash -h FUNCTION -s UUID NAME'`.
    const KNOWN: &[Known] = &[
        (Function::Legacy, false, b"a", (0xe74b_53e2, 0x0)),
        (Function::HalfMd4, false, b"a", (0x537f_bcb2, 0xc304_9e5c)),
        (Function::Tea, false, b"a", (0x8963_b652, 0x3f94_2ed2)),
        (Function::Legacy, false, b"abc", (0x75af_d992, 0x0)),
        (Function::HalfMd4, false, b"abc", (0x7cbb_3308, 0xf47b_93c0)),
        (Function::Tea, false, b"abc", (0x394d_8a28, 0x044d_8992)),
        (Function::Legacy, false, b"exactly-sixteen!", (0xccdc_5236, 0x0)),
        (Function::HalfMd4, false, b"exactly-sixteen!", (0xe66c_5c06, 0x8241_3303)),
        (Function::Tea, false, b"exactly-sixteen!", (0x1467_7422, 0x9298_ca41)),
        (Function::Legacy, false, b"a name that is longer than thirty-two characters, honest", (0x91e3_d6da, 0x0)),
        (
            Function::HalfMd4,
            false,
            b"a name that is longer than thirty-two characters, honest",
            (0x65bd_a728, 0x5a51_a9c5),
        ),
        (Function::Tea, false, b"a name that is longer than thirty-two characters, honest", (0xf183_67e6, 0x46ca_f818)),
        (Function::Legacy, false, b"caf\xc3\xa9-\xff\x80", (0x2973_0c82, 0x0)),
        (Function::HalfMd4, false, b"caf\xc3\xa9-\xff\x80", (0x1730_bc78, 0x1510_2eaf)),
        (Function::Tea, false, b"caf\xc3\xa9-\xff\x80", (0x9e50_3ca2, 0xb249_59e4)),
        (Function::Legacy, true, b"caf\xc3\xa9-\xff\x80", (0xa887_5488, 0x0)),
        (Function::HalfMd4, true, b"caf\xc3\xa9-\xff\x80", (0x62f8_6ef0, 0x91a1_858c)),
        (Function::Tea, true, b"caf\xc3\xa9-\xff\x80", (0x341a_fe9a, 0x04da_f537)),
    ];

    #[test]
    fn hashes_are_those_of_e2fsprogs() {
        for (function, unsigned, name, want) in KNOWN {
            assert_eq!(hasher(*function, *unsigned).hash(name), *want, "{function:?} {unsigned} {name:?}");
        }
    }
}

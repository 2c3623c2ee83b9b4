//! Which machine an image's programs are for, told by the ELF header of one that every system has.

use super::error::BakeError;
use crate::ext4::Editor;
use crate::spec::{Architecture, NodeSpec};

/// Looked at in this order.
const PROGRAMS: [&str; 3] = ["/usr/bin/env", "/bin/sh", "/usr/bin/dpkg"];
/// Programs are small; a file larger than this is something else.
const PROGRAM_LIMIT: u64 = 64 << 20;
/// `e_machine` of the System V ABI: EM_X86_64 and EM_AARCH64.
const MACHINES: [(u16, Architecture); 2] = [(62, Architecture::Amd64), (183, Architecture::Arm64)];

/// Refuses an image whose programs the node's machine cannot run. An image without any of the programs passes:
/// then there is nothing that contradicts the profile.
pub(super) fn check(root: &mut Editor<'_>, spec: &NodeSpec) -> Result<(), BakeError> {
    for program in PROGRAMS {
        let Some(bytes) = root.read(program, PROGRAM_LIMIT).map_err(BakeError::Root)? else { continue };
        let Some(found) = machine(&bytes) else { continue };
        if found != spec.architecture {
            return Err(BakeError::Architecture {
                base: spec.base.name.clone(),
                found,
                profile: spec.profile.clone(),
                wanted: spec.architecture,
            });
        }
        return Ok(());
    }
    Ok(())
}

fn machine(bytes: &[u8]) -> Option<Architecture> {
    let (magic, machine) = (bytes.get(..6)?, bytes.get(18..20)?);
    // 64-bit, little-endian.
    if magic != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let machine = u16::from_le_bytes(machine.try_into().ok()?);
    MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, architecture)| *architecture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_elf_header_tells_the_machine() {
        let mut header = vec![0u8; 64];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        header[18] = 183;
        assert_eq!(machine(&header), Some(Architecture::Arm64));
        header[18] = 62;
        assert_eq!(machine(&header), Some(Architecture::Amd64));
        header[18] = 40;
        assert_eq!(machine(&header), None);
        assert_eq!(machine(b"#!/bin/sh"), None);
    }
}

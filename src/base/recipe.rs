//! What can be built: the names of the bases, and for each its packages, suite, labels and identifiers.
//!
//! The identifiers are fixed so that the same packages give the same image; a baked node keeps them, since its boot
//! loader, kernel arguments and fstab speak of them.

use sha2::{Digest, Sha256};

/// A base image that can be made from the Debian archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    release: Release,
    platform: Platform,
    containerd: bool,
}

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    Bookworm,
    Trixie,
}

/// What the image is to boot on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    /// Raspberry Pi 3 and later: MBR, the firmware's FAT partition, ext4.
    RaspberryPi,
    /// A cloud's or hypervisor's PC: GPT, BIOS and EFI.
    CloudAmd64,
    /// A cloud's or hypervisor's Arm machine: GPT, EFI.
    CloudArm64,
}

/// Identifiers and labels of every base. The scripts get them through their environment.
pub(super) mod id {
    pub(in crate::base) const ROOT_LABEL: &str = "RASPIROOT";
    pub(in crate::base) const BOOT_LABEL: &str = "RASPIFIRM";
    pub(in crate::base) const ESP_LABEL: &str = "ESP";
    pub(in crate::base) const ROOT_UUID: &str = "6a1f3c52-2f0e-4b55-9a5e-1d2c3b4a5f60";
    pub(in crate::base) const ROOT_PARTITION: &str = "0d9f6b0a-7b0e-4f0e-8f31-5f5f7f0c1a01";
    pub(in crate::base) const BIOS_PARTITION: &str = "0d9f6b0a-7b0e-4f0e-8f31-5f5f7f0c1a14";
    pub(in crate::base) const ESP_PARTITION: &str = "0d9f6b0a-7b0e-4f0e-8f31-5f5f7f0c1a15";
    pub(in crate::base) const GPT_DISK: &str = "0d9f6b0a-7b0e-4f0e-8f31-5f5f7f0c1a00";
    pub(in crate::base) const MBR_DISK: u32 = 0x1ba6_ba5e;
    pub(in crate::base) const FAT_VOLUME: u32 = 0x1ba6_ba5e;
}

/// On every base, apart from kernel and boot loader.
const PACKAGES: &[&str] = &[
    // A system that boots, with a network and a clock.
    "init",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "libpam-systemd",
    "systemd-resolved",
    "systemd-timesyncd",
    "netplan.io",
    "initramfs-tools",
    "zstd",
    "tzdata",
    // First boot: users, keys, growing the root.
    "cloud-init",
    "cloud-guest-utils",
    "e2fsprogs",
    "dosfstools",
    "fdisk",
    // What kubeadm's preflight looks for: ip, tc, iptables, conntrack, ebtables, ethtool, socat, mount, nsenter, touch.
    "iproute2",
    "iptables",
    "nftables",
    "conntrack",
    "ebtables",
    "ethtool",
    "socat",
    "mount",
    "util-linux",
    "coreutils",
    // Somebody who logs in.
    "openssh-server",
    "sudo",
    "ca-certificates",
    "curl",
    "iputils-ping",
    "procps",
    "less",
    "vim-tiny",
];

/// Grows the root partition before cloud-init could, which does nothing where it finds no metadata.
const GROW_ROOT: &str = "cloud-initramfs-growroot";

/// What the build runs beside mmdebstrap; see the scripts.
pub(super) const NATIVE: &str = include_str!("../../bases/mmdebstrap/native.sh");
pub(super) const ESSENTIAL: &str = include_str!("../../bases/mmdebstrap/essential.sh");
pub(super) const CUSTOMIZE: &str = include_str!("../../bases/mmdebstrap/customize.sh");

impl Release {
    const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    fn number(self) -> u32 {
        match self {
            Self::Bookworm => 12,
            Self::Trixie => 13,
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl Platform {
    const ALL: [Self; 3] = [Self::RaspberryPi, Self::CloudAmd64, Self::CloudArm64];

    fn name(self) -> &'static str {
        match self {
            Self::RaspberryPi => "rpi",
            Self::CloudAmd64 => "cloud-amd64",
            Self::CloudArm64 => "cloud-arm64",
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::RaspberryPi => {
                &["linux-image-arm64", "raspi-firmware", "firmware-brcm80211", "wireless-regdb", "wpasupplicant"]
            }
            Self::CloudAmd64 => {
                &["linux-image-cloud-amd64", "grub-cloud-amd64", "grub-efi-amd64-signed", "shim-signed", GROW_ROOT]
            }
            Self::CloudArm64 => &[
                "linux-image-cloud-arm64",
                "grub-efi-arm64-bin",
                "grub-efi-arm64-signed",
                "grub2-common",
                "shim-signed",
                GROW_ROOT,
            ],
        }
    }

    /// The folder whose contents belong on the FAT partition, as the root tree names it.
    pub(super) fn fat_mount(self) -> &'static str {
        match self {
            Self::RaspberryPi => "boot/firmware",
            Self::CloudAmd64 | Self::CloudArm64 => "boot/efi",
        }
    }

    /// The function of `customize.sh` that settles this platform.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::RaspberryPi => "rpi",
            Self::CloudAmd64 | Self::CloudArm64 => "cloud",
        }
    }
}

impl Recipe {
    /// The recipe called `name`, if there is one.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|recipe| recipe.name() == name)
    }

    /// Every recipe.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Release::ALL.into_iter().flat_map(|release| {
            Platform::ALL.into_iter().flat_map(move |platform| {
                [false, true].into_iter().map(move |containerd| Self { release, platform, containerd })
            })
        })
    }

    /// The base's name, such as `debian-13-rpi-containerd`.
    #[must_use]
    pub fn name(&self) -> String {
        let variant = if self.containerd { "-containerd" } else { "" };
        format!("debian-{}-{}{variant}", self.release.number(), self.platform.name())
    }

    /// Tells this recipe from the one of the same name in another version of imgbake: eight hexadecimal digits over what
    /// goes in and the scripts that run.
    #[must_use]
    pub fn edition(&self) -> String {
        let (packages, features) = (self.packages().join(" "), self.ext4_features().join(" "));
        let parts = [self.name().as_str(), &packages, &features, NATIVE, ESSENTIAL, CUSTOMIZE].join("\n");
        Sha256::digest(parts).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Debian's name of the architecture: `amd64` or `arm64`.
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        match self.platform {
            Platform::CloudAmd64 => "amd64",
            Platform::RaspberryPi | Platform::CloudArm64 => "arm64",
        }
    }

    /// The suite it is made from unless another is asked for.
    #[must_use]
    pub fn suite(&self) -> &'static str {
        self.release.suite()
    }

    /// Whether containerd, runc and the CNI plugins of Debian are in it.
    #[must_use]
    pub fn has_containerd(&self) -> bool {
        self.containerd
    }

    pub(super) fn platform(&self) -> Platform {
        self.platform
    }

    /// The packages asked for; their dependencies come along, recommendations do not.
    pub(super) fn packages(&self) -> Vec<&'static str> {
        let runtime: &[&str] =
            if self.containerd { &["containerd", "runc", "containernetworking-plugins"] } else { &[] };
        [PACKAGES, self.platform.packages(), runtime].concat()
    }

    /// The features that the release's own mke2fs gives an ext4 file system.
    pub(super) fn ext4_features(&self) -> Vec<&'static str> {
        let mut features = vec![
            "has_journal",
            "ext_attr",
            "resize_inode",
            "dir_index",
            "filetype",
            "extent",
            "64bit",
            "flex_bg",
            "sparse_super",
            "large_file",
            "huge_file",
            "dir_nlink",
            "extra_isize",
            "metadata_csum",
        ];
        if self.release == Release::Trixie {
            features.extend(["metadata_csum_seed", "orphan_file"]);
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_recipe() {
        for recipe in Recipe::all() {
            assert_eq!(Recipe::by_name(&recipe.name()), Some(recipe.clone()));
        }
        assert_eq!(Recipe::by_name("debian-11-rpi"), None);
    }

    #[test]
    fn the_variant_with_containerd_differs_by_its_packages() {
        let plain = Recipe::by_name("debian-13-rpi").unwrap();
        let with = Recipe::by_name("debian-13-rpi-containerd").unwrap();
        let more: Vec<_> = with.packages().into_iter().filter(|name| !plain.packages().contains(name)).collect();
        assert_eq!(more, ["containerd", "runc", "containernetworking-plugins"]);
    }

    #[test]
    fn bookworms_file_system_has_nothing_its_tools_do_not_know() {
        let features = Recipe::by_name("debian-12-cloud-amd64").unwrap().ext4_features();
        assert!(!features.contains(&"orphan_file") && !features.contains(&"metadata_csum_seed"));
    }
}

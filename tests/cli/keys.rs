//! `imgbake keys`: whose signatures are believed.

use std::fs;

use crate::run::Kitchen;

const UBUNTU: &str = "\
ubuntu-cdimage: Ubuntu's images for Raspberry Pi (SHA256SUMS of cdimage.ubuntu.com) (built in)
  843938DF228D22F7B3742BC0D94AA3F0EFE21092  does not expire
    Ubuntu CD Image Automatic Signing Key (2012) <cdimage@ubuntu.com>
ubuntu-cloud-images: Ubuntu's cloud images (SHA256SUMS of cloud-images.ubuntu.com) (built in)
  D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81  does not expire
    UEC Image Automatic Signing Key <cdimage@ubuntu.com>
  4A3CE3CD565D7EB5C810E2B97FF3F408476CF100  does not expire
    Ubuntu Cloud Image Builder (Canonical Internal Cloud Image Builder) <ubuntu-cloudbuilder-noreply@canonical.com>
";

#[test]
fn built_in_keys_are_listed_with_their_fingerprints() {
    let listing = Kitchen::new().ok(&["keys"]);
    assert!(listing.starts_with("debian-archive: the Debian archive's releases (InRelease) (built in)\n"), "{listing}");
    assert!(listing.ends_with(UBUNTU), "{listing}");
    assert!(listing.contains("\n  B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8  expires 2031-01-19\n"), "{listing}");
}

#[test]
fn own_keys_are_listed_with_their_file() {
    let kitchen = Kitchen::new();
    fs::create_dir_all(kitchen.path("config/keys")).expect("a folder");
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/keys/ubuntu-cdimage.asc");
    fs::copy(key, kitchen.path("config/keys/acme.asc")).expect("a key");
    let listing = kitchen.anonymous(&kitchen.ok(&["keys"]));
    let entry = "acme: what your base images say that it signs (KITCHEN/config/keys/acme.asc)\n  \
                 843938DF228D22F7B3742BC0D94AA3F0EFE21092  does not expire\n";
    assert!(listing.starts_with(entry), "{listing}");
}

#[test]
fn a_file_without_keys_is_refused() {
    let kitchen = Kitchen::new();
    fs::create_dir_all(kitchen.path("config/keys")).expect("a folder");
    fs::write(kitchen.path("config/keys/acme.asc"), "-----BEGIN PGP PUBLIC KEY BLOCK-----\n").expect("a file");
    let output = kitchen.run(&["keys"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: the keys of `acme` cannot be read: "), "{text}");
    assert!(text.contains("hint: it should hold OpenPGP public keys, as `gpg --armor --export` writes them"), "{text}");
}

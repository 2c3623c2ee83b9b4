//! Whose signature is believed: `gpgv` judges the same material, Debian's own and made ones.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use imgbake::{Keys, SignatureError};
use pgp::crypto::hash::HashAlgorithm;

use super::signer::{Signer, armored, binary, now};

/// What gpgv says.
struct Verdict {
    /// It calls one of the signatures good.
    good: bool,
    /// Its words for machines.
    status: String,
    /// What was signed, of a clear-signed message, with the line ends that are signed.
    text: String,
}

/// Judges `data`, by the detached `signature` or by its own.
fn gpgv(ring: &[u8], signature: Option<&[u8]>, data: &[u8]) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ring.gpg"), ring).unwrap();
    fs::write(path("data"), data).unwrap();
    let mut command = Command::new("gpgv");
    command.args(["--homedir", "/nonexistent", "--weak-digest", "SHA1", "--status-fd", "1"]).arg("--keyring");
    command.arg(path("ring.gpg"));
    if let Some(signature) = signature {
        fs::write(path("signature"), signature).unwrap();
        command.arg(path("signature"));
    } else {
        command.arg("--output").arg(path("text"));
    }
    let output = command.arg(path("data")).output().expect("gpgv: install the package `gpgv`");
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    let good = status.lines().any(|line| line.starts_with("[GNUPG:] GOODSIG "));
    let text = fs::read_to_string(path("text")).unwrap_or_default();
    // It ends the last line, which has no end as far as the signature is concerned.
    let text = text.strip_suffix('\n').unwrap_or(&text).replace('\n', "\r\n");
    Verdict { good, status, text }
}

/// Keys of the publisher `them`, with those built in.
fn keys(ring: &[u8]) -> (tempfile::TempDir, Keys) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("them.gpg"), ring).unwrap();
    let keys = Keys::new(Some(folder.path().to_owned()));
    (folder, keys)
}

fn check(ring: &[u8], signature: &[u8], data: &[u8]) -> Result<String, SignatureError> {
    keys(ring).1.check("them", signature, now(), || Ok(data))
}

/// Debian's `InRelease` files, as this machine's apt got them.
fn releases() -> Vec<PathBuf> {
    let folder = "/var/lib/apt/lists";
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}: this test needs Debian's apt"));
    let is_debians = |path: &PathBuf| {
        path.to_string_lossy().ends_with("_InRelease")
            && fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == "Origin: Debian"))
    };
    let found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(is_debians).collect();
    assert!(!found.is_empty(), "{folder} holds no InRelease of Debian's archive: run `apt-get update` on Debian");
    found
}

fn debians_ring() -> Vec<u8> {
    let path = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}: install the package `debian-archive-keyring`"))
}

#[test]
fn debians_releases_are_good_by_the_keys_built_in_as_by_debians_own() {
    let ring = debians_ring();
    for path in releases() {
        let message = fs::read(&path).unwrap();
        let verdict = gpgv(&ring, None, &message);
        assert!(verdict.good, "{}: {}", path.display(), verdict.status);
        let (text, _) = Keys::default().check_message("debian-archive", &message, now()).unwrap();
        assert!(text.starts_with("Origin: Debian\r\n"), "{text}");
        assert_eq!(text, verdict.text, "{}", path.display());
        assert_eq!(keys(&ring).1.check_message("them", &message, now()).unwrap().0, text);
    }
}

#[test]
fn a_flipped_bit_in_debians_release_is_found() {
    let ring = debians_ring();
    let message = fs::read(&releases()[0]).unwrap();
    let text = message.windows(9).position(|window| window == b"Codename:").unwrap();
    for at in [text + 12, text + 300] {
        let mut message = message.clone();
        message[at] ^= 1;
        assert!(!gpgv(&ring, None, &message).good);
        let error = Keys::default().check_message("debian-archive", &message, now()).unwrap_err();
        assert!(matches!(error, SignatureError::Wrong { .. }), "{error}");
    }
}

#[test]
fn debians_release_is_judged_by_the_time_and_the_keys_that_are_handed_in() {
    let message = fs::read(&releases()[0]).unwrap();
    let at = |now| Keys::default().check_message("debian-archive", &message, now).unwrap_err();
    let (start, end) = (at(0), at(4_000_000_000));
    assert!(matches!(start, SignatureError::NotYet { .. }), "{start}");
    assert!(matches!(end, SignatureError::KeyExpired { .. }), "{end}");
    let error = Keys::default().check_message("ubuntu-cdimage", &message, now()).unwrap_err();
    assert!(matches!(&error, SignatureError::UnknownKey { keys, .. } if !keys.is_empty()), "{error}");
}

#[test]
fn what_is_signed_well_is_good_armored_or_not() {
    for mut them in [Signer::new(1), Signer::rsa(2), Signer::with_subkey(3)] {
        let data = b"a file";
        let signature = them.sign(data);
        for bytes in [binary(&signature), armored(&signature)] {
            let verdict = gpgv(&them.ring(), Some(&bytes), data);
            assert!(verdict.good, "{}", verdict.status);
            assert_eq!(check(&them.ring(), &bytes, data).unwrap(), them.fingerprint());
        }
    }
}

#[test]
fn a_large_file_is_read_in_pieces() {
    let mut them = Signer::new(1);
    let length = 50 << 20;
    let data = || std::io::repeat(7).take(length);
    let mut whole = Vec::new();
    data().read_to_end(&mut whole).unwrap();
    let signature = binary(&them.sign(&whole));
    let (_folder, keys) = keys(&them.ring());
    keys.check("them", &signature, now(), || Ok(data())).unwrap();
    let short = || Ok(std::io::repeat(7).take(length - 1));
    assert!(matches!(keys.check("them", &signature, now(), short), Err(SignatureError::Wrong { .. })));
}

#[test]
fn every_flipped_bit_of_data_or_signature_is_refused() {
    let mut them = Signer::new(1);
    let data = b"a file".to_vec();
    let signature = binary(&them.sign(&data));
    let (_folder, keys) = keys(&them.ring());
    let mut accepted = Vec::new();
    for bit in 0..data.len() * 8 {
        let mut data = data.clone();
        data[bit / 8] ^= 1 << (bit % 8);
        let error = keys.check("them", &signature, now(), || Ok(data.as_slice())).unwrap_err();
        assert!(matches!(error, SignatureError::Wrong { .. }), "{error}");
        assert!(!gpgv(&them.ring(), Some(&signature), &data).good);
    }
    for bit in 0..signature.len() * 8 {
        let mut signature = signature.clone();
        signature[bit / 8] ^= 1 << (bit % 8);
        if keys.check("them", &signature, now(), || Ok(data.as_slice())).is_ok() {
            accepted.push((bit, signature));
        }
    }
    // Not all that stands in a signature is signed: its header, and hints at who made it. gpgv decides about those.
    for (bit, signature) in accepted {
        let verdict = gpgv(&them.ring(), Some(&signature), &data);
        assert!(verdict.good, "bit {bit}: {}", verdict.status);
    }
}

#[test]
fn a_torn_or_padded_signature_is_refused_or_complete() {
    let mut them = Signer::with_subkey(1);
    let data = b"a file";
    let signature = them.sign(data);
    let (_folder, keys) = keys(&them.ring());
    let check = |bytes: &[u8]| keys.check("them", bytes, now(), || Ok(&data[..]));
    for whole in [binary(&signature), armored(&signature)] {
        for length in 0..whole.len() {
            // An armor may lose its last line and checksum and be whole all the same.
            if check(&whole[..length]).is_ok() {
                assert!(length + 40 > whole.len() && whole[0] == b'-', "{length} of {}", whole.len());
            }
        }
        assert!(check(&whole.repeat(16)).is_ok());
    }
    let mut bytes = binary(&signature);
    bytes.extend(super::noise(1000));
    assert!(check(&bytes).is_ok());
    assert!(check(&super::noise(60_000)).is_err());
}

/// What is refused, how gpgv calls it, and our words.
#[test]
fn what_is_not_to_be_believed_is_refused_by_name() {
    let data = b"a file";
    let (mut good, mut stranger) = (Signer::new(1), Signer::new(2));
    let mut expired = Signer::new(3).expired();
    let mut revoked = Signer::new(4).revoked();
    let mut subkey = Signer::with_subkey(5).revoked();
    let fingerprint = good.fingerprint();
    // The crate makes no weak signatures by the other kind of key.
    let mut old = Signer::rsa(6);
    for (ring, signature, status, words) in [
        (
            good.ring(),
            stranger.sign(data),
            "NO_PUBKEY",
            format!("it was made by the key `{}`, which is none of `them`'s", stranger.fingerprint()),
        ),
        (
            good.ring(),
            good.sign(b"another"),
            "BADSIG",
            format!("it is wrong: the key `{fingerprint}` did not sign these bytes"),
        ),
        (
            expired.ring(),
            expired.sign(data),
            "EXPKEYSIG",
            format!("its key `{}` expired on DATE", expired.fingerprint()),
        ),
        (
            revoked.ring(),
            revoked.sign(data),
            "REVKEYSIG",
            format!("its key `{}` was revoked: it was on a lost disk", revoked.fingerprint()),
        ),
        (
            subkey.ring(),
            subkey.sign(data),
            "REVKEYSIG",
            format!("its key `{}` was revoked: it was on a lost disk", subkey.signing_fingerprint()),
        ),
        (
            good.ring(),
            good.sign_for_an_hour(data),
            "EXPSIG",
            format!("it was made by the key `{fingerprint}` to be good until DATE only"),
        ),
        (
            old.ring(),
            old.sign_by(data, HashAlgorithm::Sha1),
            "ERRSIG",
            format!("the key `{}` signed a digest that is too weak (SHA1)", old.fingerprint()),
        ),
        (
            old.ring(),
            old.sign_by(data, HashAlgorithm::Md5),
            "ERRSIG",
            format!("the key `{}` signed a digest that is too weak (MD5)", old.fingerprint()),
        ),
    ] {
        let signature = binary(&signature);
        let verdict = gpgv(&ring, Some(&signature), data);
        assert!(
            !verdict.good && verdict.status.contains(&format!("[GNUPG:] {status} ")),
            "{words}: {}",
            verdict.status
        );
        let error = check(&ring, &signature, data).unwrap_err();
        assert_eq!(without_date(&error.to_string()), words);
        assert!(error.hint().is_some(), "{words}");
    }
}

/// The text with its date, of a year of this century, replaced.
fn without_date(text: &str) -> String {
    match text.find(" 20") {
        Some(at) if text.as_bytes().get(at + 5) == Some(&b'-') => format!("{} DATE{}", &text[..at], &text[at + 11..]),
        _ => text.to_owned(),
    }
}

#[test]
fn of_several_signatures_one_good_one_suffices() {
    let data = b"a file";
    let (mut them, mut stranger, mut expired) = (Signer::new(1), Signer::new(2), Signer::new(3).expired());
    let ring = [them.ring(), expired.ring()].concat();
    let parts = [binary(&stranger.sign(data)), binary(&expired.sign(data)), binary(&them.sign(data))];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let signature = order.map(|index: usize| parts[index].clone()).concat();
        assert!(gpgv(&ring, Some(&signature), data).good);
        assert_eq!(check(&ring, &signature, data).unwrap(), them.fingerprint());
    }
    // The key that is known is named, not the unknown one.
    let signature = parts[..2].concat();
    assert!(!gpgv(&ring, Some(&signature), data).good);
    let error = check(&ring, &signature, data).unwrap_err();
    assert!(matches!(error, SignatureError::KeyExpired { .. }), "{error}");
}

#[test]
fn what_is_no_signature_is_refused() {
    let them = Signer::new(1);
    for bytes in [&b""[..], b"<html>", b"\x00", b"\xc2\xff", b"-----BEGIN PGP SIGNATURE-----\n", &them.ring()] {
        let error = check(&them.ring(), bytes, b"a file").unwrap_err();
        assert!(matches!(error, SignatureError::Malformed { .. }), "{bytes:?}: {error}");
        assert!(!gpgv(&them.ring(), Some(bytes), b"a file").good);
    }
}

#[test]
fn a_clear_signed_text_comes_out_as_it_was_signed() {
    let mut them = Signer::new(1);
    for text in ["", "a\n", "a\nb\n", "- a\n-----\nb", "a \t\nb\n\n"] {
        let message = them.clear_sign(text);
        let (_folder, keys) = keys(&them.ring());
        let found = keys.check_message("them", message.as_bytes(), now());
        let verdict = gpgv(&them.ring(), None, message.as_bytes());
        // Blanks at the end of a line are not signed; the crate signs them here, and neither of us believes that.
        assert_eq!(found.is_ok(), verdict.good, "{text:?}: {found:?} {}", verdict.status);
        if let Ok(found) = found {
            assert_eq!(found.0, verdict.text, "{text:?}");
        }
    }
    let message = them.clear_sign("1  image\n").replace("1  image", "2  image");
    assert!(!gpgv(&them.ring(), None, message.as_bytes()).good);
    let error = keys(&them.ring()).1.check_message("them", message.as_bytes(), now()).unwrap_err();
    assert!(matches!(error, SignatureError::Wrong { .. }), "{error}");
}

#[test]
fn the_built_in_keys_are_those_that_their_publishers_made_known() {
    let all = Keys::default().list().unwrap();
    let of = |publisher: &str| -> Vec<&str> {
        let keys = all.iter().filter(|key| key.publisher == publisher);
        keys.map(|key| key.fingerprint.as_str()).collect()
    };
    assert_eq!(of("ubuntu-cdimage"), ["843938DF228D22F7B3742BC0D94AA3F0EFE21092"]);
    assert_eq!(
        of("ubuntu-cloud-images"),
        ["D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81", "4A3CE3CD565D7EB5C810E2B97FF3F408476CF100"]
    );
    assert_eq!(
        of("runc"),
        [
            "C9C370B246B09F6DBCFC744C34401015D1D2D386",
            "C2428CD75720FACDCF76B6EA17DE5ECB75A1100E",
            "C020EA876CE4E06C7AB95AEF49524C6F9F638F1A"
        ]
    );
    assert_eq!(of("debian-archive").len(), 6);
    for key in &all {
        assert!(!key.users.is_empty() && !key.revoked, "{key:?}");
    }
}

#[test]
fn every_base_image_that_is_signed_is_signed_by_keys_that_are_built_in() {
    let known: Vec<String> = Keys::default().list().unwrap().into_iter().map(|key| key.publisher).collect();
    let mut signed = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/bases")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let by: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("by: ")).collect();
        assert!(by.iter().all(|by| known.iter().any(|name| name == by)), "{}: {by:?}", path.display());
        signed += by.len();
    }
    assert_eq!(signed, 6);
}

#[test]
fn own_keys_replace_the_built_in_ones_of_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let them = Signer::new(1);
    fs::write(folder.path().join("runc.asc"), format!("words before\n{}", them.armored())).unwrap();
    fs::write(folder.path().join("notes.txt"), "not a key").unwrap();
    let all = Keys::new(Some(folder.path().to_owned())).list().unwrap();
    let runcs: Vec<_> = all.iter().filter(|key| key.publisher == "runc").collect();
    assert_eq!(runcs.len(), 1);
    assert_eq!(runcs[0].fingerprint, them.fingerprint());
    assert_eq!(runcs[0].users, ["Publisher 1 <1@example.org>"]);
    assert_eq!(runcs[0].file, Some(folder.path().join("runc.asc")));
    fs::write(folder.path().join("runc.asc"), "no key at all").unwrap();
    let error = Keys::new(Some(folder.path().to_owned())).list().unwrap_err();
    assert!(error.to_string().starts_with("the keys of `runc` cannot be read: "), "{error}");
}

#[test]
fn mutated_signatures_keys_and_messages_end_in_an_answer() {
    let mut them = Signer::with_subkey(1);
    let mut plain = Signer::new(2);
    let data = b"a file";
    let ring = [them.ring(), plain.ring()].concat();
    let whole = binary(&them.sign(data));
    let armor = armored(&them.sign(data));
    let message = plain.clear_sign("1  image\n- 2\n");
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut mutate = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, u8::try_from(random(256)).unwrap()),
                _ => drop(bytes.remove(at.min(bytes.len() - 1))),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        bytes
    };
    let good = keys(&ring);
    for _ in 0..1000 {
        for signature in [&whole, &armor] {
            let mutant = mutate(signature);
            let _ = good.1.check("them", &mutant, now(), || Ok(&data[..]));
        }
        let mutant = mutate(message.as_bytes());
        if let Ok((text, _)) = good.1.check_message("them", &mutant, now()) {
            assert_eq!(text, "1  image\r\n- 2\r\n", "{:?}", String::from_utf8_lossy(&mutant));
        }
        let (_folder, keys) = keys(&mutate(&ring));
        let _ = keys.check("them", &whole, now(), || Ok(&data[..]));
    }
}

//! The certificate authority and its hash, judged by openssl; SSH keys, by ssh-keygen.

use std::path::{Path, PathBuf};
use std::process::Command;

use imgbake::{NodeRequest as Request, NodeSpec, Runtime, resolve};

/// 2026-11-30 00:53:20 UTC.
const NOW: i64 = 1_796_000_000;

/// Runs a shell script; `package` is what a host without the tool lacks.
fn shell(package: &str, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).env("LC_ALL", "C").output().expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{script}` failed (needs package `{package}`): {text}{complaint}");
    text
}

fn request(folder: &Path, ssh_keys: Vec<String>) -> Request {
    Request {
        profile: "pi4".to_owned(),
        node: "node-1".to_owned(),
        profiles_dir: None,
        clusters_dir: folder.join("clusters"),
        base: None,
        size: None,
        ssh_keys,
        user: None,
        join: None,
        endpoint: None,
        kubernetes: None,
        containerd: None,
        runc: None,
        cni_plugins: None,
        crictl: None,
        locked: imgbake::Locked::default(),
        runtime: Runtime::Upstream,
        defer: Vec::new(),
        now: NOW,
        source_date_epoch: None,
    }
}

/// A control plane and the folder of its cluster's secrets.
fn control_plane(folder: &Path) -> (NodeSpec, PathBuf) {
    let spec = resolve(&request(folder, Vec::new()), &mut |bytes| bytes.fill(0xa5)).expect("the request is in order");
    (spec, folder.join("clusters/home"))
}

#[test]
fn the_authority_is_what_kubeadm_makes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (_, secrets) = control_plane(folder.path());
    let certificate = secrets.join("ca.crt");
    let text = shell("openssl", &format!("openssl x509 -in {} -noout -text", certificate.display()));
    for expected in [
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Issuer: CN = kubernetes",
        "Subject: CN = kubernetes",
        "Not Before: Nov 29 00:53:20 2026 GMT",
        "Not After : Nov 27 00:53:20 2036 GMT",
        "ASN1 OID: prime256v1",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment, Certificate Sign\n",
        "X509v3 Basic Constraints: critical\n                CA:TRUE\n",
        "X509v3 Subject Alternative Name: \n                DNS:kubernetes\n",
        "X509v3 Subject Key Identifier:",
    ] {
        // openssl 3.2 and later write `CN=kubernetes`.
        let found = text.contains(expected) || text.contains(&expected.replace("CN = ", "CN="));
        assert!(found, "{expected:?} is not in {text}");
    }
}

#[test]
fn the_key_belongs_to_the_certificate_and_signs_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_, secrets) = control_plane(folder.path());
    let secrets = secrets.display();
    let public = shell("openssl", &format!("openssl pkey -in {secrets}/ca.key -pubout"));
    assert_eq!(public, shell("openssl", &format!("openssl x509 -in {secrets}/ca.crt -noout -pubkey")));
    let work = folder.path().display();
    let verified = shell(
        "openssl",
        &format!(
            "cd {work}
            openssl req -newkey rsa:2048 -nodes -subj /O=system:nodes/CN=system:node:node-2 -keyout leaf.key -out leaf.csr 2>&1
            openssl x509 -req -in leaf.csr -CA {secrets}/ca.crt -CAkey {secrets}/ca.key -days 30 -out leaf.crt 2>&1
            openssl verify -no_check_time -CAfile {secrets}/ca.crt leaf.crt"
        ),
    );
    assert!(verified.ends_with("leaf.crt: OK\n"), "{verified}");
}

#[test]
fn the_hash_is_the_one_kubeadms_manual_computes() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, secrets) = control_plane(folder.path());
    let script = format!(
        "openssl x509 -pubkey -noout -in {} | openssl pkey -pubin -outform der | openssl dgst -sha256 -hex",
        secrets.join("ca.crt").display()
    );
    let digest = shell("openssl", &script);
    let digest = digest.trim().rsplit(' ').next().unwrap();
    assert_eq!(spec.cluster.access.ca_cert_hash, format!("sha256:{digest}"));
}

#[test]
fn every_key_type_that_ssh_keygen_makes_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, bits) in
        [("ed25519", ""), ("rsa", "-b 2048"), ("ecdsa", "-b 256"), ("ecdsa", "-b 384"), ("ecdsa", "-b 521")]
    {
        let file = folder.path().join(format!("{kind}{bits}").replace(' ', ""));
        let script = format!("ssh-keygen -q -t {kind} {bits} -N '' -C 'me at work' -f {}", file.display());
        shell("openssh-client", &script);
        let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        let request = request(folder.path(), vec![public.clone()]);
        let spec = resolve(&request, &mut |bytes| bytes.fill(1)).unwrap();
        assert_eq!(spec.user.ssh_keys, [public.trim()]);
        let private = std::fs::read_to_string(&file).unwrap();
        let error = resolve(&Request { ssh_keys: vec![private], ..request }, &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "SSH key 1 is a private key");
    }
}

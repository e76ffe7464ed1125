//! Images whose bytes are checked against a signature: the key is that of a certificate in the operator's directory.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Cloud, body, disk, ended, import, until};
use imagestore::Config;
use openssl::asn1::Asn1Time;
use openssl::dsa::Dsa;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};
use openssl::x509::{X509, X509NameBuilder};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::Path;

/// A key and the id of its certificate, which stands in the directory.
struct Key {
    key: PKey<Private>,
    kind: &'static str,
    id: String,
}

impl Key {
    fn new(key: PKey<Private>, kind: &'static str, directory: &Path, extension: &str) -> Key {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", kind).unwrap();
        let name = name.build();
        let mut certificate = X509::builder().unwrap();
        certificate.set_subject_name(&name).unwrap();
        certificate.set_issuer_name(&name).unwrap();
        certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        certificate.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
        certificate.set_pubkey(&key).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = certificate.build();
        let id = state::new_id();
        let bytes = if extension == "der" { certificate.to_der() } else { certificate.to_pem() };
        std::fs::write(directory.join(format!("{id}.{extension}")), bytes.unwrap()).unwrap();
        Key { key, kind, id }
    }

    fn sign(&self, hash: &str, bytes: &[u8]) -> String {
        let digest = match hash {
            "SHA-224" => MessageDigest::sha224(),
            "SHA-256" => MessageDigest::sha256(),
            "SHA-384" => MessageDigest::sha384(),
            _ => MessageDigest::sha512(),
        };
        let mut signer = Signer::new(digest, &self.key).unwrap();
        if self.key.id() == Id::RSA {
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer.set_rsa_mgf1_md(digest).unwrap();
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH).unwrap();
        }
        openssl::base64::encode_block(&signer.sign_oneshot_to_vec(bytes).unwrap())
    }

    fn image(&self, format: &str, hash: &str, bytes: &[u8]) -> Value {
        json!({"disk_format": format, "container_format": "bare", "img_signature": self.sign(hash, bytes),
            "img_signature_hash_method": hash, "img_signature_key_type": self.kind,
            "img_signature_certificate_uuid": self.id})
    }
}

fn rsa(directory: &Path) -> Key {
    Key::new(PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(), "RSA-PSS", directory, "pem")
}

fn elliptic(directory: &Path) -> Key {
    let group = EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    Key::new(key, "ECC_SECP384R1", directory, "der")
}

fn dsa(directory: &Path) -> Key {
    Key::new(PKey::from_dsa(Dsa::generate(1024).unwrap()).unwrap(), "DSA", directory, "crt")
}

async fn cloud(directory: &Path, keep_original: bool) -> Cloud {
    let config =
        Config { signature_certificates: Some(directory.to_owned()), keep_original, ..Config::default() };
    Cloud::with(testbed::databases().await.remove(0), config).await
}

async fn gone(c: &Cloud, id: &str) {
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_becomes_active() {
    let dir = tempfile::tempdir().unwrap();
    let c = cloud(dir.path(), true).await;
    let bytes = disk((5 << 20) + 77);
    for key in [rsa(dir.path()), elliptic(dir.path()), dsa(dir.path())] {
        // The last is the hash that an image has anyway.
        for hash in ["SHA-224", "SHA-256", "SHA-384", "SHA-512"] {
            let id = c.create("alice", key.image("raw", hash, &bytes)).await;
            let r = c.put("alice", &id, "file", bytes.clone()).await;
            assert_eq!(r.status(), StatusCode::NO_CONTENT, "{} {hash}", key.kind);
            assert_eq!(c.show(&id).await["status"], "active");
            gone(&c, &id).await;
        }
    }
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_signed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let c = cloud(dir.path(), true).await;
    let (rsa, elliptic) = (rsa(dir.path()), elliptic(dir.path()));
    let (bytes, mut other) = (disk(1 << 20), disk(1 << 20));
    other[70_000] ^= 1;
    let mut salted = rsa.image("raw", "SHA-256", &bytes);
    salted["img_signature"] = rsa.image("raw", "SHA-512", &bytes)["img_signature"].clone();
    let mut foreign = rsa.image("raw", "SHA-256", &bytes);
    foreign["img_signature_certificate_uuid"] = json!(elliptic.id);
    let mut outside = rsa.image("raw", "SHA-256", &bytes);
    outside["img_signature_certificate_uuid"] = json!(format!("../{}/{}", dir.path().display(), rsa.id));
    let no = "Signature verification failed";
    for (image, why) in [
        (rsa.image("raw", "SHA-256", &other), no),
        (rsa.image("raw", "SHA-512", &other), no),
        (elliptic.image("raw", "SHA-384", &other), no),
        (salted, no),
        (foreign, "Invalid public key type for signature key type: RSA-PSS"),
        (outside, "Unable to retrieve certificate with ID: ../"),
    ] {
        let id = c.create("alice", image).await;
        let r = c.put("alice", &id, "file", bytes.clone()).await;
        assert_eq!(r.status(), StatusCode::BAD_REQUEST, "{why}");
        let text = body(r).await;
        assert!(text["message"].as_str().unwrap().contains(why), "{why}: {text}");
        assert_eq!(c.show(&id).await["status"], "killed");
        until("nothing is left", async || c.rbd().list().await.unwrap().is_empty()).await;
        gone(&c, &id).await;
    }
    c.end().await;
}

/// Signed is what was uploaded, also where only what it was converted to is kept; and what was staged, when it is imported.
#[tokio::test(flavor = "multi_thread")]
async fn conversions_and_imports() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, file) = (dir.path().join("raw"), dir.path().join("qcow2"));
    std::fs::write(&raw, disk(3 << 20)).unwrap();
    let mut qemu = std::process::Command::new("qemu-img");
    qemu.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&file);
    assert!(qemu.status().unwrap().success());
    let bytes = std::fs::read(&file).unwrap();
    for keep_original in [true, false] {
        let c = cloud(dir.path(), keep_original).await;
        let key = rsa(dir.path());
        for hash in ["SHA-256", "SHA-512"] {
            let id = c.create("alice", key.image("qcow2", hash, &bytes)).await;
            assert_eq!(c.put("alice", &id, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
            gone(&c, &id).await;
            for (signed, status) in [(&bytes, "success"), (&disk(100), "failure")] {
                let id = c.create("alice", key.image("qcow2", hash, signed)).await;
                assert_eq!(c.put("alice", &id, "stage", bytes.clone()).await.status(), 204);
                assert_eq!(import(&c, &id, json!({"method": {"name": "glance-direct"}})).await, 202);
                assert_eq!(ended(&c, &id).await["status"], status);
                let now = if status == "success" { "active" } else { "queued" };
                assert_eq!(c.show(&id).await["status"], now);
                gone(&c, &id).await;
            }
        }
        c.end().await;
    }
}

//! Which directories are believed to be who they say.

use super::settings::Settings;
use crate::IdentityError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// As upstream, a file or else a folder of certificates takes the place of the machine's own.
pub(super) fn trusted(settings: &Settings) -> Result<ClientConfig, IdentityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.map_err(|e| IdentityError::Config(e.to_string()))?;
    if !settings.verify {
        let anybody = Arc::new(Anybody(provider));
        return Ok(config.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    match (&settings.ca_file, &settings.ca_dir) {
        (Some(file), _) => add(&mut roots, file)?,
        (None, Some(dir)) => add_all(&mut roots, dir)?,
        (None, None) => roots = api::outward::system_roots(),
    }
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// `tls_req_cert` of `never` or `allow`: whoever answers is believed, though it must have its certificate's key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), IdentityError> {
    let unreadable = |e: &dyn std::fmt::Display| {
        IdentityError::Config(format!("{} holds no certificates in PEM: {e}", file.display()))
    };
    for cert in CertificateDer::pem_file_iter(file).map_err(|e| unreadable(&e))? {
        roots.add(cert.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
    }
    if roots.is_empty() { Err(unreadable(&"it is empty")) } else { Ok(()) }
}

/// Files of other kinds may lie beside the certificates.
fn add_all(roots: &mut RootCertStore, dir: &Path) -> Result<(), IdentityError> {
    let unreadable = |e: &dyn std::fmt::Display| {
        IdentityError::Config(format!("{} has no certificates: {e}", dir.display()))
    };
    for entry in std::fs::read_dir(dir).map_err(|e| unreadable(&e))? {
        let path = entry.map_err(|e| unreadable(&e))?.path();
        let certs = CertificateDer::pem_file_iter(&path).into_iter().flatten().filter_map(Result::ok);
        roots.add_parsable_certificates(certs);
    }
    if roots.is_empty() { Err(unreadable(&"there are none")) } else { Ok(()) }
}

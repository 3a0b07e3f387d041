//! Connections that nobody else can read, with servers that are who they say or, if it is not to be verified, with any.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What connections need. It is made when it is first needed: the system's certificates are many.
#[derive(Clone, Default)]
pub(super) struct Tls {
    verified: Arc<OnceCell<Arc<ClientConfig>>>,
    unverified: Arc<OnceCell<Arc<ClientConfig>>>,
}

impl Tls {
    /// Trusts these certificates instead of the system's.
    #[cfg(test)]
    pub(super) fn trusting(certificate: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let verified = builder().with_root_certificates(roots).with_no_client_auth();
        Self { verified: Arc::new(OnceCell::new_with(Some(Arc::new(verified)))), ..Self::default() }
    }

    /// Has a server show who it is. An error is a sentence.
    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        host: String,
        skip_verify: bool,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = if skip_verify {
            self.unverified.get_or_init(|| async { Arc::new(unverified()) }).await
        } else {
            self.verified.get_or_try_init(verified).await?
        };
        let name = ServerName::try_from(host).map_err(|error| format!("tls: {error}"))?;
        let connector = TlsConnector::from(config.clone());
        connector.connect(name, stream).await.map_err(|error| format!("tls: {error}"))
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().expect("the provider has what the default versions need")
}

/// Trusts whom the system trusts, or the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
async fn verified() -> Result<Arc<ClientConfig>, String> {
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!("cannot read some of the system's certificates: {error}");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Arc::new(builder().with_root_certificates(roots).with_no_client_auth())
    };
    tokio::task::spawn_blocking(load).await.map_err(|error| error.to_string())
}

fn unverified() -> ClientConfig {
    let verifier = Anybody(ring::default_provider());
    builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
}

/// Takes any certificate, be it one that nobody can read: as its owner may be anybody, so may who has signed.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

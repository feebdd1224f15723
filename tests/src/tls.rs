//! Certificates for servers and clients, made for each test.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sosa_redis::redis::{ClientTlsConfig, TlsCertificates};
use tempfile::TempDir;

/// An authority of our own, and what it signed: a server for a name, and a client.
#[derive(Debug)]
pub struct Tls {
    root: String,
    server: [String; 2],
    client: [String; 2],
}

impl Tls {
    /// Makes certificates, that of the server for this name or address.
    ///
    /// # Panics
    ///
    /// If there is no random source.
    pub fn new(name: &str) -> Self {
        // As a program does in main; an error says that another test was quicker.
        let _ = sosa_redis::rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Otherwise who it signs has its name, and seems to have signed itself.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let root = authority.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(authority, key);
        let signed = |names: Vec<String>| {
            let key = KeyPair::generate().expect("a key");
            let certificate = CertificateParams::new(names).expect("a name").signed_by(&key, &issuer);
            [certificate.expect("a certificate").pem(), key.serialize_pem()]
        };
        Self { root, server: signed(vec![name.to_owned()]), client: signed(Vec::new()) }
    }

    /// Returns a directory for a server, with the files that [`ARGUMENTS`](Self::ARGUMENTS) name.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn directory(&self) -> TempDir {
        let directory = TempDir::new().expect("a directory for the server");
        self.write(directory.path());
        directory
    }

    fn write(&self, directory: &Path) {
        let [certificate, key] = &self.server;
        for (name, pem) in [("root.pem", &self.root), ("server.pem", certificate), ("server.key", key)] {
            fs::write(directory.join(name), pem).expect("the directory is there");
        }
    }

    /// What a server takes to listen with TLS beside plainly, and to ask clients for a certificate.
    pub const ARGUMENTS: [&'static str; 10] = [
        "--tls-port",
        "{tls}",
        "--tls-cert-file",
        "{directory}/server.pem",
        "--tls-key-file",
        "{directory}/server.key",
        "--tls-ca-cert-file",
        "{directory}/root.pem",
        "--tls-auth-clients",
        "yes",
    ];

    /// Returns all that a server with these users takes.
    pub fn arguments(users: &[String]) -> Vec<&str> {
        Self::ARGUMENTS.into_iter().chain(users.iter().map(String::as_str)).collect()
    }

    /// Returns what a client takes; without a certificate of its own unless it is to have one.
    pub fn certificates(&self, of_client: bool) -> TlsCertificates {
        let [certificate, key] = &self.client;
        let client_tls = of_client.then(|| ClientTlsConfig {
            client_cert: certificate.clone().into_bytes(),
            client_key: key.clone().into_bytes(),
        });
        TlsCertificates { client_tls, root_cert: Some(self.root.clone().into_bytes()) }
    }
}

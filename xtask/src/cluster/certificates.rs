//! The keys and certificates of one cluster, made by openssl: every program has its own identity and trusts one authority.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use super::layout::{API_ADDRESS, API_URL, Node, SERVICE_OF_API};
use super::metrics_adapter;
use crate::process::{self, ProcessError};

/// Why there are no certificates.
#[derive(Debug, Error)]
pub(super) enum CertificateError {
    #[error(transparent)]
    OpenSsl(#[from] ProcessError),
    #[error("cannot write the cluster's keys")]
    Write(#[from] io::Error),
}

/// A folder of keys (`NAME.key`), certificates (`NAME.crt`) and the kubeconfigs made of them (`NAME.kubeconfig`).
#[derive(Debug)]
pub(super) struct Certificates {
    folder: PathBuf,
}

/// Who signs.
const AUTHORITY: &str = "ca";
/// Who signs for requests that the API server passes on.
const FRONT_AUTHORITY: &str = "front-ca";
const CLIENT: &str = "clientAuth";
const SERVER: &str = "serverAuth";

impl Certificates {
    /// Makes a new set for `nodes` in `folder`, which must exist. They are good for as many days as a test run can take.
    pub(super) fn make(folder: &Path, nodes: &[Node]) -> Result<Self, CertificateError> {
        let this = Self { folder: folder.to_owned() };
        this.authority(AUTHORITY)?;
        this.authority(FRONT_AUTHORITY)?;
        let local = format!("IP:{API_ADDRESS},IP:127.0.0.1");
        this.leaf("etcd", AUTHORITY, "/CN=etcd", &local, &format!("{SERVER},{CLIENT}"))?;
        let api = format!("{local},IP:{SERVICE_OF_API},DNS:localhost,DNS:kubernetes.default.svc");
        this.leaf("apiserver", AUTHORITY, "/CN=kube-apiserver", &api, SERVER)?;
        this.leaf("apiserver-client", AUTHORITY, "/O=system:masters/CN=apiserver", "", CLIENT)?;
        let adapter = format!("DNS:{}", metrics_adapter::host());
        this.leaf(metrics_adapter::NAME, AUTHORITY, "/CN=metrics-adapter", &adapter, SERVER)?;
        this.leaf("front-client", FRONT_AUTHORITY, "/CN=front-proxy", "", CLIENT)?;
        for (name, subject) in [
            ("admin", "/O=system:masters/CN=admin"),
            ("kube-controller-manager", "/CN=system:kube-controller-manager"),
            ("kube-scheduler", "/CN=system:kube-scheduler"),
            ("kube-proxy", "/CN=system:kube-proxy"),
        ] {
            this.leaf(name, AUTHORITY, subject, "", CLIENT)?;
            this.kubeconfig_for(name)?;
        }
        for node in nodes {
            let subject = format!("/O=system:nodes/CN=system:node:{}", node.name);
            this.leaf(node.name, AUTHORITY, &subject, "", CLIENT)?;
            this.kubeconfig_for(node.name)?;
            let serving = format!("{}-serving", node.name);
            this.leaf(
                &serving,
                AUTHORITY,
                &subject,
                &format!("IP:{},DNS:{}", node.address, node.name),
                SERVER,
            )?;
        }
        // Service accounts' tokens are signed with a key pair of their own.
        let key = this.folder.join("service-accounts.key");
        openssl(this.command("genrsa").arg("-out").arg(&key).arg("2048"))?;
        let public = this.folder.join("service-accounts.pub");
        openssl(this.command("rsa").arg("-in").arg(&key).arg("-pubout").arg("-out").arg(public))?;
        Ok(this)
    }

    /// The kubeconfig of one identity.
    pub(super) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.kubeconfig"))
    }

    /// A file of the set, such as `etcd.key`.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new("openssl");
        command.arg(subcommand).current_dir(&self.folder);
        command
    }

    fn request(&self, name: &str, subject: &str) -> Command {
        let mut request = self.command("req");
        request.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject]);
        request.arg("-keyout").arg(format!("{name}.key"));
        request
    }

    fn authority(&self, name: &str) -> Result<(), CertificateError> {
        let mut request = self.request(name, &format!("/CN={name}"));
        request.args(["-x509", "-days", "7", "-addext", "basicConstraints=critical,CA:TRUE"]);
        request.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out"]).arg(format!("{name}.crt"));
        openssl(&mut request)
    }

    fn leaf(
        &self,
        name: &str,
        authority: &str,
        subject: &str,
        alternative_names: &str,
        usage: &str,
    ) -> Result<(), CertificateError> {
        openssl(self.request(name, subject).arg("-out").arg(format!("{name}.csr")))?;
        let mut extensions = format!(
            "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
        );
        if !alternative_names.is_empty() {
            extensions.extend(["subjectAltName=", alternative_names, "\n"]);
        }
        let extension_file = format!("{name}.ext");
        fs::write(self.folder.join(&extension_file), extensions)?;
        let mut sign = self.command("x509");
        sign.args(["-req", "-days", "7", "-CAcreateserial", "-in"]).arg(format!("{name}.csr"));
        sign.arg("-CA").arg(format!("{authority}.crt")).arg("-CAkey").arg(format!("{authority}.key"));
        openssl(sign.arg("-extfile").arg(extension_file).arg("-out").arg(format!("{name}.crt")))
    }

    fn kubeconfig_for(&self, name: &str) -> Result<(), CertificateError> {
        let file = |extension: &str| self.folder.join(format!("{name}.{extension}"));
        let authority = self.folder.join("ca.crt");
        let (authority, certificate, key) = (authority.display(), file("crt"), file("key"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: reverie\n\
             clusters: [{{name: reverie, cluster: {{server: \"{API_URL}\", certificate-authority: \"{authority}\"}}}}]\n\
             users: [{{name: user, user: {{client-certificate: \"{}\", client-key: \"{}\"}}}}]\n\
             contexts: [{{name: reverie, context: {{cluster: reverie, user: user}}}}]\n",
            certificate.display(),
            key.display(),
        );
        Ok(fs::write(self.kubeconfig(name), text)?)
    }
}

fn openssl(command: &mut Command) -> Result<(), CertificateError> {
    process::capture(command)?;
    Ok(())
}

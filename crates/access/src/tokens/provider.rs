//! Signatures of tokens, checked by ring, which speaks TLS here too.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{self as algorithms, RsaParameters, UnparsedPublicKey, VerificationAlgorithm};
use signature::Verifier;

static PROVIDER: CryptoProvider = CryptoProvider {
    // Tokens are made elsewhere.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Checked::new(*algorithm, key)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes this the way in which the process checks tokens.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Somebody else's way would do as well.
        let _ = PROVIDER.install_default();
    });
}

enum Method {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

/// Checks signatures with one key.
struct Checked {
    algorithm: Algorithm,
    method: Method,
    key: DecodingKey,
}

impl Checked {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        let method = match algorithm {
            Algorithm::RS256 => Method::Rsa(&algorithms::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Method::Rsa(&algorithms::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Method::Rsa(&algorithms::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Method::Rsa(&algorithms::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Method::Rsa(&algorithms::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Method::Rsa(&algorithms::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Method::Other(&algorithms::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Method::Other(&algorithms::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Method::Other(&algorithms::ED25519),
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        };
        Ok(Self { algorithm, method, key: key.clone() })
    }
}

impl Verifier<Vec<u8>> for Checked {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let checked = match (&self.method, self.key.kind()) {
            (Method::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                algorithms::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Method::Other(algorithm), DecodingKeyKind::SecretOrDer(bytes)) => {
                UnparsedPublicKey::new(*algorithm, bytes).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        checked.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Checked {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

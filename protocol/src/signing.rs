//! RSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes: what sessions, packages and licences are signed with.
//!
//! Private keys are used in the HQ tools only, at the prompt of the person who holds them.

use std::fmt;
use std::path::Path;

use rsa::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
};
use rsa::pss::{BlindedSigningKey, Signature, VerifyingKey};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Verifier as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::{Digest as _, Sha256};

/// Smaller keys are refused everywhere.
pub const SMALLEST_KEY_BITS: usize = 2048;
/// Fixed by the session and package formats; `openssl` calls it `rsa_pss_saltlen:32`.
const SALT_BYTES: usize = 32;

/// Why a key could not be used. Each message names the key's file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("could not read key {path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{path} holds no RSA {kind} key in PEM form ({detail}); make one with keygen")]
    NotAKey { path: String, kind: &'static str, detail: String },
    #[error("{path} is protected by a passphrase; give it with --passphrase-file")]
    NeedsPassphrase { path: String },
    #[error("the passphrase does not open {path}")]
    WrongPassphrase { path: String },
    #[error("{path} is an RSA key of {bits} bits; the smallest allowed is {SMALLEST_KEY_BITS}")]
    TooSmall { path: String, bits: usize },
    #[error("could not make an RSA key: {0}")]
    NotMade(rsa::Error),
}

/// A key that signs.
pub struct PrivateKey(RsaPrivateKey);

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: RsaPublicKey,
    id: String,
}

impl PrivateKey {
    /// # Errors
    /// [`KeyError::NotMade`] for sizes the library cannot do.
    pub fn generate(bits: usize) -> Result<Self, KeyError> {
        RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).map(Self).map_err(KeyError::NotMade)
    }

    /// PKCS#8 PEM, plain or encrypted under `passphrase`.
    ///
    /// # Errors
    /// All of [`KeyError`] but `NotMade`.
    pub fn read(path: &Path, passphrase: Option<&str>) -> Result<Self, KeyError> {
        let pem = read_pem(path)?;
        let path = path.display().to_string();
        let encrypted = pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----");
        let key = match passphrase {
            None if encrypted => return Err(KeyError::NeedsPassphrase { path }),
            Some(passphrase) if encrypted => RsaPrivateKey::from_pkcs8_encrypted_pem(&pem, passphrase)
                .map_err(|_| KeyError::WrongPassphrase { path: path.clone() })?,
            _ => RsaPrivateKey::from_pkcs8_pem(&pem).map_err(|error| KeyError::NotAKey {
                path: path.clone(),
                kind: "private",
                detail: error.to_string(),
            })?,
        };
        check_size(&path, key.size() * 8)?;
        Ok(Self(key))
    }

    /// PKCS#8 PEM; with a passphrase encrypted (scrypt and AES-256).
    pub fn to_pem(&self, passphrase: Option<&str>) -> String {
        let pem = match passphrase {
            None => self.0.to_pkcs8_pem(LineEnding::LF),
            Some(passphrase) => self.0.to_pkcs8_encrypted_pem(rsa::rand_core::OsRng, passphrase, LineEnding::LF),
        };
        // Encoding a key that is in memory only fails when memory does.
        pem.expect("a valid key can be encoded").to_string()
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey::new(self.0.to_public_key())
    }

    /// The raw signature over `message`, always the same one: the salt follows from key and message instead of chance,
    /// as in RFC 6979. So the same inputs give the same package.
    pub fn sign_reproducibly(&self, message: &[u8]) -> Vec<u8> {
        let key = self.0.to_pkcs8_der().expect("a valid key can be encoded");
        let mut seed = Sha256::new();
        seed.update(b"plantlink-salt-v1\0");
        seed.update(Sha256::digest(key.as_bytes()));
        seed.update(message);
        BlindedSigningKey::<Sha256>::new_with_salt_len(self.0.clone(), SALT_BYTES)
            .sign_with_rng(&mut Derived { seed: seed.finalize().into(), counter: 0 }, message)
            .to_vec()
    }

    /// The raw signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        BlindedSigningKey::<Sha256>::new_with_salt_len(self.0.clone(), SALT_BYTES)
            .sign_with_rng(&mut rsa::rand_core::OsRng, message)
            .to_vec()
    }
}

/// Bytes that nobody without the seed can tell from chance: SHA-256 in counter mode.
struct Derived {
    seed: [u8; 32],
    counter: u64,
}

impl rsa::rand_core::RngCore for Derived {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(32) {
            self.counter += 1;
            let block = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes()).finalize();
            piece.copy_from_slice(&block[..piece.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Derived {}

impl PublicKey {
    fn new(key: RsaPublicKey) -> Self {
        // An RSA key of any size has an SPKI encoding.
        let spki = key.to_public_key_der().expect("a valid key can be encoded");
        let id = hex(&Sha256::digest(spki.as_bytes()));
        Self { key, id }
    }

    /// The first SPKI PEM block of a file.
    ///
    /// # Errors
    /// All of [`KeyError`] that concern public keys.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let mut keys = Self::read_all(path)?;
        Ok(keys.swap_remove(0))
    }

    /// Every SPKI PEM block of a file; at least one.
    ///
    /// # Errors
    /// All of [`KeyError`] that concern public keys.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, KeyError> {
        Self::parse_all(&read_pem(path)?, &path.display().to_string())
    }

    /// Every SPKI PEM block of a text, of which errors speak as `path`; at least one.
    ///
    /// # Errors
    /// All of [`KeyError`] that concern public keys, but for the file's own.
    pub fn parse_all(pem: &str, path: &str) -> Result<Vec<Self>, KeyError> {
        const END: &str = "-----END PUBLIC KEY-----";
        let not_a_key = |detail: String| KeyError::NotAKey { path: path.to_owned(), kind: "public", detail };
        let mut keys = Vec::new();
        let mut rest = pem;
        while let Some(start) = rest.find("-----BEGIN PUBLIC KEY-----") {
            let end =
                rest[start..].find(END).ok_or_else(|| not_a_key("a PEM block without end".into()))? + start + END.len();
            let key =
                RsaPublicKey::from_public_key_pem(&rest[start..end]).map_err(|error| not_a_key(error.to_string()))?;
            check_size(path, key.size() * 8)?;
            keys.push(Self::new(key));
            rest = &rest[end..];
        }
        if keys.is_empty() {
            return Err(not_a_key("no BEGIN PUBLIC KEY block".into()));
        }
        Ok(keys)
    }

    /// SPKI PEM.
    pub fn to_pem(&self) -> String {
        self.key.to_public_key_pem(LineEnding::LF).expect("a valid key can be encoded")
    }

    /// SHA-256 of the SPKI, hex: the name a key has in logs and records.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether `signature` is this key's over `message`. Says nothing of why not.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::try_from(signature) else { return false };
        VerifyingKey::<Sha256>::new_with_salt_len(self.key.clone(), SALT_BYTES).verify(message, &signature).is_ok()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey({})", self.public_key().id)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.id)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_pem(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|source| KeyError::Unreadable { path: path.display().to_string(), source })
}

fn check_size(path: &str, bits: usize) -> Result<(), KeyError> {
    if bits < SMALLEST_KEY_BITS { Err(KeyError::TooSmall { path: path.to_owned(), bits }) } else { Ok(()) }
}

impl From<KeyError> for crate::Failure {
    fn from(error: KeyError) -> Self {
        Self::configuration(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_message_and_key_alone() {
        let (key, other) = (PrivateKey::generate(2048).unwrap(), PrivateKey::generate(2048).unwrap());
        let signature = key.sign(b"message");
        assert!(key.public_key().verifies(b"message", &signature));
        assert!(!key.public_key().verifies(b"massage", &signature));
        assert!(!other.public_key().verifies(b"message", &signature));
        assert!(!key.public_key().verifies(b"message", b""));
        assert!(!key.public_key().verifies(b"message", &signature[1..]));
    }

    #[test]
    fn keys_go_through_files_with_and_without_passphrase_and_small_ones_are_refused() {
        let folder = std::env::temp_dir().join(format!("plantlink-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let key = PrivateKey::generate(2048).unwrap();
        let id = key.public_key().id().to_owned();
        let plain = write("private.pem", key.to_pem(None));
        let locked = write("locked.pem", key.to_pem(Some("correct horse")));
        assert_eq!(PrivateKey::read(&plain, None).unwrap().public_key().id(), id);
        assert_eq!(PrivateKey::read(&locked, Some("correct horse")).unwrap().public_key().id(), id);
        assert!(matches!(PrivateKey::read(&locked, None), Err(KeyError::NeedsPassphrase { .. })));
        assert!(matches!(PrivateKey::read(&locked, Some("wrong")), Err(KeyError::WrongPassphrase { .. })));

        let small = PrivateKey(RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap());
        let two = write("two.pem", key.public_key().to_pem() + "# the second\n" + &key.public_key().to_pem());
        assert_eq!(PublicKey::read_all(&two).unwrap().len(), 2);
        assert!(matches!(
            PublicKey::read(&write("small.pem", small.public_key().to_pem())),
            Err(KeyError::TooSmall { bits: 1024, .. })
        ));
        assert!(matches!(PublicKey::read(&plain), Err(KeyError::NotAKey { .. })));
        assert!(matches!(PublicKey::read(&folder.join("none.pem")), Err(KeyError::Unreadable { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

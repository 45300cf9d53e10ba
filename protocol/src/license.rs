//! `license.dat`: who may run this, from when to when, on which machine. Signed by a key of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Timestamp;
use crate::signing::{PrivateKey, PublicKey};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct License {
    pub client_id: String,
    pub valid_from: Timestamp,
    pub valid_to: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
}

/// The file: the licence's bytes as they were signed, and the signature.
#[derive(Serialize, Deserialize)]
struct Signed<'a> {
    #[serde(borrow)]
    license: &'a RawValue,
    signature: String,
}

/// Why a licence does not count. The operator reads this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LicenseError {
    #[error("the licence file is broken; ask for a new one")]
    Broken,
    #[error("the licence was not signed by the key in config/license_public.pem; ask for a new one")]
    Foreign,
    #[error("the licence begins on {0}; check this PC's clock, or ask for one that is valid now")]
    NotYet(Timestamp),
    #[error("the licence ran out on {0}; ask for a new one")]
    RunOut(Timestamp),
    #[error("the licence is for another machine; this one's id is {0}")]
    OtherMachine(String),
}

impl License {
    /// The bytes of `license.dat`.
    pub fn sign(&self, key: &PrivateKey) -> Vec<u8> {
        let license = serde_json::value::to_raw_value(self).expect("plain strings serialise");
        let signature = STANDARD.encode(key.sign(license.get().as_bytes()));
        let mut file =
            serde_json::to_vec_pretty(&Signed { license: &license, signature }).expect("plain strings serialise");
        file.push(b'\n');
        file
    }

    /// Signature first, then what it says.
    ///
    /// # Errors
    /// [`LicenseError`], in the words that the operator reads.
    pub fn check(file: &[u8], keys: &[PublicKey], now: Timestamp, machine_id: &str) -> Result<Self, LicenseError> {
        let signed: Signed<'_> = serde_json::from_slice(file).map_err(|_| LicenseError::Broken)?;
        let signature = STANDARD.decode(&signed.signature).map_err(|_| LicenseError::Broken)?;
        if !keys.iter().any(|key| key.verifies(signed.license.get().as_bytes(), &signature)) {
            return Err(LicenseError::Foreign);
        }
        let license: Self = serde_json::from_str(signed.license.get()).map_err(|_| LicenseError::Broken)?;
        if now < license.valid_from {
            return Err(LicenseError::NotYet(license.valid_from));
        }
        if now > license.valid_to {
            return Err(LicenseError::RunOut(license.valid_to));
        }
        if license.machine_id.as_deref().is_some_and(|wanted| wanted != machine_id) {
            return Err(LicenseError::OtherMachine(machine_id.to_owned()));
        }
        Ok(license)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_counts_only_signed_in_time_and_on_its_machine() {
        let (key, other) = (PrivateKey::generate(2048).unwrap(), PrivateKey::generate(2048).unwrap());
        let at = |text| Timestamp::parse(text).unwrap();
        let license = License {
            client_id: "acme-1".into(),
            valid_from: at("2026-01-01T00:00:00Z"),
            valid_to: at("2026-12-31T23:59:59Z"),
            machine_id: Some("press-7".into()),
        };
        let file = license.sign(&key);
        let keys = [key.public_key()];
        let check = |file: &[u8], now, machine| License::check(file, &keys, at(now), machine);
        assert_eq!(check(&file, "2026-06-01T00:00:00Z", "press-7"), Ok(license.clone()));
        assert_eq!(check(&file, "2025-06-01T00:00:00Z", "press-7"), Err(LicenseError::NotYet(license.valid_from)));
        assert_eq!(check(&file, "2027-06-01T00:00:00Z", "press-7"), Err(LicenseError::RunOut(license.valid_to)));
        assert_eq!(check(&file, "2026-06-01T00:00:00Z", "press-8"), Err(LicenseError::OtherMachine("press-8".into())));
        assert_eq!(check(&license.sign(&other), "2026-06-01T00:00:00Z", "press-7"), Err(LicenseError::Foreign));
        let longer = String::from_utf8(file.clone()).unwrap().replace("2026-12-31", "2036-12-31");
        assert_eq!(check(longer.as_bytes(), "2026-06-01T00:00:00Z", "press-7"), Err(LicenseError::Foreign));
        assert_eq!(check(&file[..40], "2026-06-01T00:00:00Z", "press-7"), Err(LicenseError::Broken));
    }
}

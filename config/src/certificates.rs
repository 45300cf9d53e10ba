use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The certificates of a file, at least one: of PEM all that it holds, of DER the one that it is.
///
/// # Errors
/// In words that name the file.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    /// DER begins with the tag of a sequence; a PEM file may begin with words.
    const SEQUENCE: u8 = 0x30;
    let named = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let bytes = std::fs::read(file).map_err(|error| named(&error))?;
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(vec![bytes.into()]);
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates.map_err(|error| named(&error))? {
        none if none.is_empty() => Err(named(&"it holds no certificate")),
        certificates => Ok(certificates),
    }
}

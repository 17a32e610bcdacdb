//! Passwords: the rules for new ones, and their Argon2id hashes. Who may set whose is in `users`.

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

use crate::clock::Clock;
use crate::error::{Error, ErrorCode, Result};

/// Characters of a password at least.
const LEAST_CHARACTERS: usize = 12;
/// Bytes of a password at most: what follows would only cost time.
pub(crate) const MOST_BYTES: usize = 1024;
/// Random bytes that make equal passwords' hashes differ.
const SALT_BYTES: usize = 16;

/// Argon2id with OWASP's first choice of parameters: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Common passwords that are long enough, in lower case.
const COMMON: &[&str] = &[
    "000000000000",
    "111111111111",
    "121212121212",
    "123123123123",
    "1234567890123",
    "123456789012",
    "1234567891011",
    "123456789123",
    "12345678910111213",
    "1q2w3e4r5t6y",
    "1q2w3e4r5t6y7u8i",
    "1qaz2wsx3edc",
    "1qaz2wsx3edc4rfv",
    "a1b2c3d4e5f6",
    "aaaaaaaaaaaa",
    "abc123abc123",
    "abcabcabcabc",
    "abcdefghijkl",
    "administrator",
    "adminadminadmin",
    "changemechangeme",
    "changemenow!",
    "correcthorsebatterystaple",
    "football1234",
    "iloveyou1234",
    "letmein12345",
    "letmeinletmein",
    "motdepasse123",
    "passw0rd1234",
    "password1234",
    "password12345",
    "password123456",
    "password2024",
    "password2025",
    "password2026",
    "passwordpassword",
    "q1w2e3r4t5y6",
    "qazwsxedcrfv",
    "qwerty123456",
    "qwertyqwerty",
    "qwertyuiop12",
    "qwertyuiop123",
    "qwertyuiopasdf",
    "rootrootroot",
    "superuser123",
    "trustno1trustno1",
    "welcome12345",
    "zxcvbnm12345",
];

/// Refuses passwords that are too short, too long or well known.
pub(crate) fn check_rules(password: &str) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorCode::InvalidArgument, message));
    if password.chars().count() < LEAST_CHARACTERS {
        return refuse(format!("a password needs at least {LEAST_CHARACTERS} characters"));
    }
    if password.len() > MOST_BYTES {
        return refuse(format!("a password has at most {MOST_BYTES} bytes"));
    }
    if COMMON.contains(&password.to_lowercase().as_str()) {
        return refuse("this password is a common one; choose another".to_owned());
    }
    Ok(())
}

/// Hashes a password; slow by design.
pub(crate) fn hash(password: &str, clock: &dyn Clock) -> Result<String> {
    let mut salt = [0; SALT_BYTES];
    clock.fill_random(&mut salt);
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are within Argon2's bounds");
    let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("the password cannot be hashed: {error}")))?;
    Ok(hashed.to_string())
}

/// Whether the hash is of this password; as slow as [`hash`]. A hash that does not parse is of none.
pub(crate) fn verify(password: &str, hashed: &str) -> bool {
    password.len() <= MOST_BYTES && Argon2::default().verify_password(password.as_bytes(), hashed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn rules() {
        let cases: &[(&str, bool)] = &[
            ("elevenchars", false),
            ("twelve chars", true),
            ("ééééééééééé", false),
            ("éééééééééééé", true),
            ("PassWord1234", false),
        ];
        for (password, fits) in cases {
            assert_eq!(check_rules(password).is_ok(), *fits, "{password}");
        }
        assert!(check_rules(&"x".repeat(MOST_BYTES + 1)).is_err());
        assert!(
            COMMON
                .iter()
                .all(|common| common.chars().count() >= LEAST_CHARACTERS && *common == common.to_lowercase())
        );
    }

    #[test]
    fn a_hash_is_of_its_password_alone_and_says_its_parameters() {
        let hashed = hash("twelve chars", &SystemClock).expect("hashes");
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert!(verify("twelve chars", &hashed));
        assert!(!verify("twelve chars.", &hashed));
        assert!(!verify("twelve chars", "nonsense"));
        assert_ne!(hashed, hash("twelve chars", &SystemClock).expect("hashes"));
    }
}

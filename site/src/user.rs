//! The user document: its fields, their order and their bounds; and JSON merge patch over it.
//!
//! What always holds: a [`User`] that came from [`User::parse`] or [`User::patched`] is valid, and
//! [`User::to_json`] writes its fields in the order of this file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest id.
pub const USER_ID_MAX: u32 = 999_999_999;
/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// The longest line of an address, in characters.
pub const ADDRESS_CHARS_MAX: usize = 200;
/// The longest phone number, in characters.
pub const PHONE_CHARS_MAX: usize = 32;
/// The most phone numbers of a user.
pub const PHONES_MAX: usize = 16;
/// The largest postal code: ZIP+4 as one number.
pub const POSTAL_CODE_MAX: u32 = 999_999_999;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct User {
    /// 1 to [`USER_ID_MAX`].
    pub id: u32,
    /// 1 to [`NAME_CHARS_MAX`] characters, as every name.
    pub first_name: String,
    #[allow(missing_docs)]
    pub last_name: String,
    #[allow(missing_docs)]
    pub address: Address,
    /// At most [`PHONES_MAX`], each 1 to [`PHONE_CHARS_MAX`] digits, spaces and `+-().x`.
    pub phone_numbers: Vec<String>,
}

/// Where a user lives. Lines have 1 to [`ADDRESS_CHARS_MAX`] characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Address {
    pub street_address: String,
    pub city: String,
    pub state: String,
    /// 1 to [`POSTAL_CODE_MAX`].
    pub postal_code: u32,
}

/// Why a document is not a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUser {
    /// Not JSON at all.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// JSON of another shape: a field is missing, unknown or of another type.
    #[error("{0}")]
    Shape(String),
    /// A field is out of its bounds.
    #[error("{field} {rule}")]
    Field {
        /// The field's path.
        field: &'static str,
        /// What it must be.
        rule: String,
    },
}

impl User {
    /// The user `id` from a request's body. The body may leave `id` out; if it has one, it must be that.
    pub fn parse(id: u32, body: &[u8]) -> Result<Self, InvalidUser> {
        let document =
            serde_json::from_slice(body).map_err(|error| InvalidUser::NotJson(error.to_string()))?;
        Self::from_value(id, document)
    }

    /// This user changed by a JSON merge patch (RFC 7396).
    pub fn patched(&self, patch: &[u8]) -> Result<Self, InvalidUser> {
        let patch = serde_json::from_slice(patch).map_err(|error| InvalidUser::NotJson(error.to_string()))?;
        let mut document = serde_json::to_value(self).expect("a user is JSON");
        merge_patch(&mut document, patch);
        Self::from_value(self.id, document)
    }

    /// The user as compact JSON, fields in order.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a user is JSON")
    }

    fn from_value(id: u32, mut document: Value) -> Result<Self, InvalidUser> {
        if let Value::Object(fields) = &mut document {
            fields.entry("id").or_insert_with(|| id.into());
        }
        let user: Self =
            serde_json::from_value(document).map_err(|error| InvalidUser::Shape(error.to_string()))?;
        if user.id != id {
            return Err(InvalidUser::Field { field: "id", rule: format!("must be {id}, as in the path") });
        }
        user.check()?;
        Ok(user)
    }

    fn check(&self) -> Result<(), InvalidUser> {
        let fail = |field, rule: String| Err(InvalidUser::Field { field, rule });
        if !(1..=USER_ID_MAX).contains(&self.id) {
            return fail("id", format!("must be 1 to {USER_ID_MAX}"));
        }
        line("firstName", &self.first_name, NAME_CHARS_MAX)?;
        line("lastName", &self.last_name, NAME_CHARS_MAX)?;
        line("address.streetAddress", &self.address.street_address, ADDRESS_CHARS_MAX)?;
        line("address.city", &self.address.city, ADDRESS_CHARS_MAX)?;
        line("address.state", &self.address.state, ADDRESS_CHARS_MAX)?;
        if !(1..=POSTAL_CODE_MAX).contains(&self.address.postal_code) {
            return fail("address.postalCode", format!("must be 1 to {POSTAL_CODE_MAX}"));
        }
        if self.phone_numbers.len() > PHONES_MAX {
            return fail("phoneNumbers", format!("must be at most {PHONES_MAX}"));
        }
        for phone in &self.phone_numbers {
            line("phoneNumbers", phone, PHONE_CHARS_MAX)?;
            if !phone.chars().all(|char| char.is_ascii_digit() || " +-().x".contains(char)) {
                return fail("phoneNumbers", "must be of digits, spaces and +-().x".into());
            }
        }
        Ok(())
    }
}

/// One line of text: 1 to `chars_max` characters, no control characters, not blank.
fn line(field: &'static str, text: &str, chars_max: usize) -> Result<(), InvalidUser> {
    let rule = if text.trim().is_empty() {
        "must not be empty".to_string()
    } else if text.chars().count() > chars_max {
        format!("must have at most {chars_max} characters")
    } else if text.chars().any(char::is_control) {
        "must not have control characters".to_string()
    } else {
        return Ok(());
    };
    Err(InvalidUser::Field { field, rule })
}

/// MergePatch of [RFC 7396 section 2](https://www.rfc-editor.org/rfc/rfc7396#section-2). Depth is bounded by
/// serde_json's limit of 128 on what it parses.
pub fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(changes) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { unreachable!("made an object above") };
    for (name, value) in changes {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge_patch(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn john() -> User {
        crate::seed::user(12)
    }

    #[test]
    fn merge_patch_as_in_rfc_7396_appendix_a() {
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (mut target, patch, result) in cases {
            let before = target.clone();
            merge_patch(&mut target, patch.clone());
            assert_eq!(target, result, "{before} patched by {patch}");
        }
    }

    #[test]
    fn a_patch_changes_what_it_names_and_keeps_the_order() {
        let patched = john().patched(br#"{"address":{"city":"Albany"},"phoneNumbers":[]}"#).unwrap();
        assert_eq!(
            patched.to_json(),
            r#"{"id":12,"firstName":"John","lastName":"Smith","address":{"streetAddress":"21 2nd Street","city":"Albany","state":"NY","postalCode":10021},"phoneNumbers":[]}"#
        );
    }

    #[test]
    fn a_patch_can_not_make_an_invalid_user() {
        for patch in [
            r#"{"firstName":null}"#,
            r#"{"id":13}"#,
            r#"{"nickname":"J"}"#,
            r#"{"address":{"postalCode":0}}"#,
            r#"{"address":{"postalCode":"10021"}}"#,
            r#"{"phoneNumbers":["<script>"]}"#,
            r#"{"lastName":"a\u0000b"}"#,
            r#"[]"#,
        ] {
            assert!(john().patched(patch.as_bytes()).is_err(), "{patch}");
        }
        assert!(matches!(john().patched(b"{"), Err(InvalidUser::NotJson(_))));
    }

    #[test]
    fn the_id_comes_from_the_path() {
        let mut document = serde_json::to_value(john()).unwrap();
        document.as_object_mut().unwrap().remove("id");
        assert_eq!(User::parse(7, document.to_string().as_bytes()).unwrap().id, 7);
        assert!(User::parse(7, john().to_json().as_bytes()).unwrap_err().to_string().contains("must be 7"));
    }

    #[test]
    fn bounds_hold() {
        let mut user = john();
        user.first_name = "x".repeat(NAME_CHARS_MAX);
        User::parse(12, user.to_json().as_bytes()).unwrap();
        user.first_name.push('x');
        assert!(User::parse(12, user.to_json().as_bytes()).is_err());
        let mut user = john();
        user.phone_numbers = vec!["1".into(); PHONES_MAX + 1];
        assert!(User::parse(12, user.to_json().as_bytes()).is_err());
    }
}

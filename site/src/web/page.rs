//! `GET /`: one page that shows the site, with its style and script in it and nothing from elsewhere, which its
//! content security policy also says. It uses the same routes as everybody.

use std::sync::LazyLock;

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// Where the style and the script go in the HTML.
const STYLE_MARK: &str = "/* style.css */";
const SCRIPT_MARK: &str = "/* script.js */";

/// The page and its content security policy.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = HTML.replace(STYLE_MARK, STYLE).replace(SCRIPT_MARK, SCRIPT);
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; img-src 'self' blob: data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source_hash(STYLE),
        source_hash(SCRIPT)
    );
    (page, policy)
});

pub(super) async fn get() -> Response {
    let (page, policy) = &*PAGE;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("referrer-policy"), "same-origin"),
    ];
    (headers, page.as_str()).into_response()
}

/// What a policy calls an inline element: `sha256-` and its digest in base64 (CSP 3, section 2.3.1).
fn source_hash(content: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
    format!("sha256-{}", data_encoding::BASE64.encode(digest.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_needs_nothing_from_elsewhere() {
        let (page, _) = &*PAGE;
        assert!(page.contains(STYLE) && page.contains(SCRIPT));
        assert!(!page.contains(STYLE_MARK) && !page.contains(SCRIPT_MARK));
        for foreign in ["http://", "https://", "src=\"//", "@import", " onclick=", " style=\""] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_hash_is_base64_of_sha_256() {
        assert_eq!(source_hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}

//! Every answer that is not a success: RFC 9457 problem documents, and the two constant bodies of those who are not let in.

use std::time::Duration;

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::Serialize;
use tracing_actix_web::RequestId;
use utoipa::ToSchema;

use crate::{
    domain::rejection::RejectionReason,
    receive::NotAccepted,
    store::{RecordError, StoreError},
};

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody {
    /// `urn:callback-ledger:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The same for every problem of this code.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// Stable: what a program should look at.
    code: &'static str,
    /// What the log calls this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// Every answer that is not a success.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.code())]
pub enum Problem {
    /// An authenticated body that is not the source's envelope.
    Unreadable(String),
    /// Not let in, whatever the reason.
    NotLetIn,
    /// Let in, but the tenant is not allowed.
    TenantNotAllowed,
    /// From a network that is not allowed.
    NetworkNotAllowed,
    /// No such path.
    NotFound(String),
    /// Another method than the path knows; which it knows.
    MethodNotAllowed(&'static str),
    /// Over the limit of so many bytes.
    TooLarge(usize),
    /// A compressed body.
    UnsupportedMediaType(String),
    /// A body that ended early, or never came.
    BodyNotReceived(String),
    /// A body that took longer than it may.
    TooSlow(String),
    /// Too many requests of one address, behind a proxy.
    Crowded,
    /// The keys cannot be had.
    KeysUnavailable(Duration),
    /// The ledger cannot take it.
    LedgerUnavailable(String),
    /// A query took too long.
    QueryTimeout,
    /// A query that we do not understand.
    InvalidQuery(String),
    /// A wait was over before what was waited for.
    Timeout(String),
    /// Several operations match a wait for one.
    Ambiguous(String),
    /// A sender asked whether it may send, and did not say who it is.
    OriginMissing,
    /// A sender asked whether it may send, and may not.
    SenderNotAllowed,
    /// The private listener was called by another name than its own.
    HostNotAllowed,
    /// The private listener was called by a page of another origin.
    OriginNotAllowed,
    /// A body that we do not understand.
    InvalidBody(String),
    /// A signature that covers the host cannot pass a gateway.
    SignatureOfHost,
    /// A path that the platform could read in another way than we do.
    InvalidPath,
    /// The platform cannot be reached, or its answer was lost.
    UpstreamUnreachable,
    /// No token can be had to sign a request with.
    TokenUnavailable,
    /// The platform took too long.
    UpstreamTimeout,
    /// A key that was used for something else.
    IdempotencyMismatch,
    /// As many follow as may.
    TooManyFollowers(String),
    /// A token without the scope that this takes.
    ScopeRequired(&'static str),
    /// A body whose secrets cannot be told from the rest.
    SecretsRequired,
    /// No token for the private API, or a wrong one.
    TokenRequired,
    /// Our fault.
    Internal,
}

impl Problem {
    /// Status, code and title: one row for each problem.
    const fn row(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unreadable(_) => (StatusCode::BAD_REQUEST, "unreadable", "The body cannot be read"),
            Self::BodyNotReceived(_) => (StatusCode::BAD_REQUEST, "body_not_received", "The body did not arrive"),
            Self::InvalidQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query", "The query is not understood"),
            Self::OriginMissing => (StatusCode::BAD_REQUEST, "origin_missing", "The sender did not say who it is"),
            Self::SenderNotAllowed => (StatusCode::FORBIDDEN, "sender_not_allowed", "The sender is not allowed"),
            Self::NotLetIn | Self::TokenRequired => (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is required"),
            Self::NetworkNotAllowed => (StatusCode::FORBIDDEN, "forbidden", "The network is not allowed"),
            Self::TenantNotAllowed => (StatusCode::FORBIDDEN, "forbidden", "The tenant is not allowed"),
            Self::HostNotAllowed => (StatusCode::FORBIDDEN, "host_not_allowed", "The host name is not allowed"),
            Self::OriginNotAllowed => (StatusCode::FORBIDDEN, "origin_not_allowed", "The origin is not allowed"),
            Self::InvalidBody(_) => (StatusCode::BAD_REQUEST, "invalid_body", "The body is not understood"),
            Self::SignatureOfHost => (StatusCode::BAD_REQUEST, "signature_of_host", "The signature cannot pass a gateway"),
            Self::InvalidPath => (StatusCode::BAD_REQUEST, "invalid_path", "The path is not passed on"),
            Self::UpstreamUnreachable => (StatusCode::BAD_GATEWAY, "upstream_unreachable", "The platform did not answer"),
            Self::TokenUnavailable => (StatusCode::BAD_GATEWAY, "token_unavailable", "No token to sign with can be had"),
            Self::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "The platform took too long"),
            Self::IdempotencyMismatch => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch", "The key was used for something else")
            }
            Self::TooManyFollowers(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_followers", "As many follow as may"),
            Self::ScopeRequired(_) => (StatusCode::FORBIDDEN, "scope_required", "The token lacks a scope"),
            Self::SecretsRequired => (StatusCode::FORBIDDEN, "secrets_required", "The scope `secrets` is required"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found", "There is nothing here"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed"),
            Self::Timeout(_) => (StatusCode::REQUEST_TIMEOUT, "timeout", "The wait is over"),
            Self::Ambiguous(_) => (StatusCode::CONFLICT, "ambiguous", "Several operations match"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too large"),
            Self::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body's encoding is not supported")
            }
            Self::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "timeout", "The body took too long"),
            Self::Crowded => (StatusCode::SERVICE_UNAVAILABLE, "crowded", "Too many requests of one address"),
            Self::KeysUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", "Callers cannot be checked now"),
            Self::LedgerUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", "The ledger is not available"),
            Self::QueryTimeout => (StatusCode::SERVICE_UNAVAILABLE, "query_timeout", "The query took too long"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here"),
        }
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.row().1
    }

    fn detail(&self) -> String {
        match self {
            Self::Unreadable(why)
            | Self::InvalidBody(why)
            | Self::BodyNotReceived(why)
            | Self::InvalidQuery(why)
            | Self::TooManyFollowers(why)
            | Self::TooSlow(why)
            | Self::Timeout(why)
            | Self::Ambiguous(why)
            | Self::LedgerUnavailable(why)
            | Self::UnsupportedMediaType(why)
            | Self::NotFound(why) => why.clone(),
            Self::NotLetIn => "the caller was not authenticated".to_owned(),
            Self::TokenRequired => "send a token of this ledger as Authorization: Bearer".to_owned(),
            Self::NetworkNotAllowed => "the caller's network is not on the receiver's list".to_owned(),
            Self::TenantNotAllowed => "the token is good, but its tenant is not on the receiver's list".to_owned(),
            Self::OriginMissing => "name it as WebHook-Request-Origin".to_owned(),
            Self::SenderNotAllowed => "its origin is not on the receiver's list".to_owned(),
            Self::HostNotAllowed => "without tokens the private listener answers to loopback names alone".to_owned(),
            Self::OriginNotAllowed => "the private listener does not answer to other sites' pages".to_owned(),
            Self::SignatureOfHost => {
                "an HMAC signature is over the host: let the gateway sign (gateway.credentials.acs), or use Entra tokens"
                    .to_owned()
            }
            Self::InvalidPath => "without `..`, `//`, backslashes and encoded slashes".to_owned(),
            Self::UpstreamUnreachable => "it cannot be reached, or its answer was lost: the ledger says which".to_owned(),
            Self::TokenUnavailable => "nothing was sent; the log says why".to_owned(),
            Self::UpstreamTimeout => "whether it has acted is not known: a notification will tell".to_owned(),
            Self::IdempotencyMismatch => "another request was registered under this Idempotency-Key".to_owned(),
            Self::ScopeRequired(scope) => format!("this takes a token with the scope `{scope}`"),
            Self::SecretsRequired => "its secrets cannot be told from the rest of the body".to_owned(),
            Self::MethodNotAllowed(allowed) => format!("this path knows {allowed}"),
            Self::TooLarge(limit) => format!("at most {limit} bytes are read"),
            Self::Crowded => "at this moment; try again".to_owned(),
            Self::KeysUnavailable(_) => "the issuer's keys cannot be had; try again".to_owned(),
            Self::QueryTimeout => "narrow the query and try again".to_owned(),
            Self::Internal => "the log says more, under this request id".to_owned(),
        }
    }

    /// The answer to `request`. Who is not let in gets one constant body, without as much as a request id.
    #[must_use]
    pub fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let constant = matches!(self, Self::NotLetIn | Self::TenantNotAllowed | Self::NetworkNotAllowed);
        let id = request.extensions().get::<RequestId>().map(ToString::to_string);
        self.response(if constant { None } else { id })
    }

    fn response(&self, request_id: Option<String>) -> HttpResponse {
        let (status, code, title) = self.row();
        let mut response = HttpResponseBuilder::new(status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        match self {
            // Always closed: else it would be just where the body had not arrived yet, which tells how long the checks took.
            Self::NotLetIn => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer")).force_close();
            }
            // likewise; and what is still to come of a slow body would be read in vain
            Self::TenantNotAllowed | Self::NetworkNotAllowed | Self::TooSlow(_) => {
                response.force_close();
            }
            Self::TokenRequired => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            Self::MethodNotAllowed(allowed) => {
                response.insert_header((ALLOW, *allowed));
            }
            Self::KeysUnavailable(after) => {
                response.insert_header((RETRY_AFTER, after.as_secs().max(1).to_string()));
            }
            Self::TooManyFollowers(_) => {
                response.insert_header((RETRY_AFTER, "10"));
            }
            Self::LedgerUnavailable(_) | Self::QueryTimeout | Self::Crowded => {
                response.insert_header((RETRY_AFTER, "2"));
            }
            _ => {}
        }
        let kind = format!("urn:callback-ledger:problem:{code}");
        response.json(ProblemBody { kind, title, status: status.as_u16(), detail: self.detail(), code, request_id })
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.row().0
    }

    fn error_response(&self) -> HttpResponse {
        self.response(None)
    }
}

/// The status that answers a rejection, as `/v1/rejections` shows it.
#[must_use]
pub const fn rejection_status(reason: RejectionReason) -> u16 {
    match reason {
        RejectionReason::MissingToken
        | RejectionReason::NotBearer
        | RejectionReason::MalformedToken
        | RejectionReason::UnsupportedAlgorithm
        | RejectionReason::UnknownKey
        | RejectionReason::BadSignature
        | RejectionReason::WrongIssuer
        | RejectionReason::WrongAudience
        | RejectionReason::Expired
        | RejectionReason::NotYetValid
        | RejectionReason::MissingClaim
        | RejectionReason::WrongPublisher
        | RejectionReason::WrongSecret => 401,
        RejectionReason::NetworkNotAllowed | RejectionReason::TenantNotAllowed => 403,
        RejectionReason::TooLarge => 413,
    }
}

/// What the public listener answers when a delivery is not accepted.
#[must_use]
pub fn not_accepted(reason: NotAccepted, max_body_bytes: usize) -> Problem {
    match reason {
        NotAccepted::Rejected(RejectionReason::TooLarge) => Problem::TooLarge(max_body_bytes),
        NotAccepted::Rejected(RejectionReason::NetworkNotAllowed) => Problem::NetworkNotAllowed,
        NotAccepted::Rejected(RejectionReason::TenantNotAllowed) => Problem::TenantNotAllowed,
        NotAccepted::Rejected(_) => Problem::NotLetIn,
        NotAccepted::Unreadable(why) => Problem::Unreadable(why),
        NotAccepted::CannotCheck { retry_after } => Problem::KeysUnavailable(retry_after),
        NotAccepted::NotRecorded(error) => Problem::LedgerUnavailable(error.to_string()),
    }
}

/// What is answered when a request cannot be written down.
#[must_use]
pub fn not_recorded(error: RecordError) -> Problem {
    Problem::LedgerUnavailable(error.to_string())
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLong => Self::QueryTimeout,
            StoreError::Database(error) => {
                tracing::error!(error = %error, "the ledger cannot be read");
                Self::LedgerUnavailable("the ledger cannot be read now".to_owned())
            }
            error => {
                tracing::error!(error = %error, "the ledger holds what it should not");
                Self::Internal
            }
        }
    }
}

//! Why a request was refused before anything happened, and the errors of last resort.

use super::Row;

pub(super) const ROWS: &[Row] = &[
    (None, 7500, "This kind of Entra identity is not supported here."),
    (None, 7501, "The token is not valid; get a new one."),
    (None, 7502, "Access is not enabled for this application."),
    (Some(403), 7504, "The application lacks a permission; an administrator must consent to it."),
    (None, 7505, "The token is for another tenant than the call's; request it from the tenant of the call."),
    (None, 7506, "The certificate is not trusted."),
    (Some(403), 7507, "The identity that the call is to come from is not valid."),
    (None, 7508, "This kind of Communication Services identity is not supported here."),
    (None, 7509, "The request's HMAC signature is wrong; check the access key and the clock."),
    (None, 7510, "The managed identity could not be validated."),
    (None, 7600, "Access to the resource is not enabled."),
    (None, 7601, "The Communication Services identity of the source is not valid."),
    (None, 7602, "The Communication Services identity of the target is not valid."),
    (None, 7603, "The Communication Services identity is not valid."),
    (None, 7604, "This way of working together with Teams is not allowed for the resource."),
    (None, 7605, "Recording together with Teams is not allowed for the resource."),
    (None, 7606, "The Communication Services resource may not use Cognitive Services; connect and authorize them."),
    (None, 9001, "A service behind the platform failed in an unknown way; try again later."),
    (None, 9002, "A service behind the platform did not answer in time; try again later."),
    (None, 9003, "The work was canceled inside the platform."),
    (None, 9998, "The platform failed fatally; report it with the call and chain ids."),
    (None, 9999, "The platform does not know what went wrong; report it with the call and chain ids."),
    (Some(500), 9999, "The platform met an exception, as when subscribing to tones; try again, then report it."),
];

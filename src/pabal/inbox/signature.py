"""Whether a webhook was signed by us: checked with the receivers' own library, not with the code that signs."""

from collections.abc import Mapping, Sequence

import standardwebhooks

from pabal.inbox.mailbag import Signature


def check_signature(body: bytes, *, headers: Mapping[str, str], secrets: Sequence[str]) -> Signature:
    """The verdict on a webhook that has just arrived. `secrets` are `whsec_…`; any of them may have signed."""
    if not secrets:
        return Signature(verdict="unchecked", detail="no webhook secret is configured here")
    if "webhook-signature" not in headers:
        return Signature(verdict="missing", detail="there is no webhook-signature header")
    problem = ""
    for secret in secrets:
        try:
            standardwebhooks.Webhook(secret).verify(body, dict(headers), json_parse=False)
        except (standardwebhooks.WebhookVerificationError, ValueError) as error:
            # ValueError: what the library lets through for bodies that are no text and signatures that are no base64.
            problem = str(error)
        else:
            return Signature(verdict="valid", detail="signed with a secret that is configured here")
    return Signature(verdict="invalid", detail=problem)

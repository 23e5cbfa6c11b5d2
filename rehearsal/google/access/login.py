"""The one login of a rehearsal: a service account's key, and the access token that it is given.

Both are random, and who has neither is refused, as by Google. They are in files and variables that
other users of the machine cannot read.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from rehearsal.google.http import GoogleError

_DOTS_OF_A_JWT = 2


@dataclass(frozen=True)
class Login:
    """The account's key is made when it is first needed; the access token never ends."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _public_key(self) -> bytes:
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def private_key(self) -> str:
        """PEM, as in a service account's key file."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode("ascii")

    def accepts(self, authorization: str) -> bool:
        """Return whether an Authorization header has the access token, or one that the key signed.

        google-auth signs tokens itself where an account's domain is not googleapis.com
        (google.aip.dev/auth/4111, self-signed JWT).
        """
        kind, _, sent = authorization.partition(" ")
        if kind != "Bearer":
            return False
        return hmac.compare_digest(sent.encode(), self.token.encode()) or not self._problem(sent)

    def exchange(self, assertion: str) -> str:
        """Return the access token for an assertion (RFC 7523) that the account's key signed.

        Raises GoogleError.
        """
        if problem := self._problem(assertion):
            raise GoogleError(400, f"The assertion is not a signed token: {problem}.")
        return self.token

    def _problem(self, signed: str) -> str:
        """Return why a JWT is not one of this account that is valid now; empty if it is."""
        if signed.count(".") != _DOTS_OF_A_JWT:
            return "it has another form"
        try:
            jwt.decode(signed, certs=self._public_key)
        except (GoogleAuthError, ValueError, KeyError, TypeError) as error:
            return str(error)
        return ""


def login_file(login: Login, project: str, url: str) -> dict[str, str]:
    """Return the content of a service account's key file, to be exchanged for a token at `url`."""
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "rehearsal",
        "private_key": login.private_key,
        "client_email": f"runner@{project}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
        # For Google's own domain google-auth would query the real Google about this account.
        "universe_domain": "rehearsal.invalid",
    }

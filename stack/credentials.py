"""Passwords and keys of one data root, generated once, in files that only their owner can read."""

from dataclasses import dataclass
from pathlib import Path

from placement.provision import Passwords, owner_of, reader_of

from .files import kept_secret, write_atomically

ADMIN_EMAIL = "admin@example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    folder: Path

    @classmethod
    def of(cls, root: Path) -> "Credentials":
        return cls(folder=root / "secrets")

    @property
    def admin_password(self) -> str:
        return self.admin_password_file.read_text().strip()

    @property
    def admin_password_file(self) -> Path:
        kept_secret(self.folder / "admin", length_bytes=8)
        return self.folder / "admin"

    @property
    def signing_key_file(self) -> Path:
        """The file of an EC P-256 private key (PEM), with which accounts signs access tokens."""
        file = self.folder / "jwt.pem"
        if not file.exists():
            write_atomically(file, _private_key())
        return file

    def role_password(self, role: str) -> str:
        return kept_secret(self.folder / f"role-{role}")

    def passwords(self, service: str) -> Passwords:
        """The passwords of the service's roles."""
        return Passwords(
            runtime=self.role_password(service),
            owner=self.role_password(owner_of(service)),
            reader=self.role_password(reader_of(service)),
        )

    def streams_password(self, user: str) -> str:
        return kept_secret(self.folder / f"streams-{user}")

    @property
    def peer_key(self) -> str:
        """The key that signs requests between the services."""
        return kept_secret(self.folder / "peer-key", length_bytes=32)

    @property
    def metrics_key(self) -> str:
        """The key that authenticates scrapers of /metrics."""
        return kept_secret(self.folder / "metrics-key", length_bytes=32)

    def secret_key(self, service: str) -> str:
        """Django's SECRET_KEY of one deployment."""
        return kept_secret(self.folder / f"secret-key-{service}", length_bytes=32)


def _private_key() -> str:
    # Imported here, because only the first start of a root needs it.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        encoding=serialization.Encoding.PEM,
        format=serialization.PrivateFormat.PKCS8,
        encryption_algorithm=serialization.NoEncryption(),
    ).decode()

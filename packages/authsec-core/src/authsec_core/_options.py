"""The options of the httpx clients that settings mean, made once; a bad file of certificates is found at the start."""

from __future__ import annotations

from authsec_core._http import ClientOptions, client_options
from authsec_core._version import __version__
from authsec_core.config import AuthSecConfig
from authsec_core.errors import ConfigurationError

__all__ = ["Options"]


class Options:
    """The httpx options, made once, so that all loops share one TLS context (it takes some 20 ms to make).

    Args:
        product: Named in the `User-Agent`, as `name/version`.
    """

    def __init__(self, config: AuthSecConfig, product: str | None) -> None:
        self._config = config
        self.user_agent = f"authsec-core/{__version__}" + (f" ({product})" if product else "")
        self._made: ClientOptions | None = None
        if config.ca_file is not None or config.trust_env:
            self()  # a bad CA file is found at start

    def __call__(self) -> ClientOptions:
        """Return them.

        Raises:
            ConfigurationError: The file of certificates is none.
        """
        config = self._config
        if self._made is None:
            try:
                self._made = client_options(
                    user_agent=self.user_agent,
                    timeout=config.timeout,
                    connect_timeout=config.connect_timeout,
                    ca_file=config.ca_file,
                    trust_env=config.trust_env,
                )
            except OSError as exc:
                named = f"AUTHSEC_CA_FILE: {config.ca_file}" if config.ca_file else "AUTHSEC_TRUST_ENV: SSL_CERT_FILE"
                raise ConfigurationError(f"{named} is not a PEM file of certificates") from exc
        return self._made

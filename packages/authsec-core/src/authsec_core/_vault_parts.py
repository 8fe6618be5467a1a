"""From settings to the parts that both kinds of vault are made of: rules, key, HTTP options, or a vault to play with.

It opens no socket. What is done with the parts is said in `vault`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from authsec_core._clock import Clock
from authsec_core._driving import Steps
from authsec_core._options import Options
from authsec_core._vault_flow import Shown, VaultRules, ask, ask_for_all
from authsec_core._vault_refusals import Place
from authsec_core._vault_replies import Pending
from authsec_core._vault_shown import credential_of
from authsec_core._vault_wire import Asked
from authsec_core.errors import ApprovalRequiredError, ConfigurationError
from authsec_core.token import MOCK_ISSUER, Mode, Secret
from authsec_core.vault_config import VaultConfig
from authsec_core.vault_values import SecretInfo, VaultToken

if TYPE_CHECKING:
    from pydantic import SecretStr

    from authsec_core.vault_mock import MockVault

__all__ = ["VaultParts", "approved", "mock_vault"]

T = TypeVar("T")


class VaultParts:
    """What both kinds of vault are made of."""

    def __init__(
        self,
        given: dict[str, Any],
        *,
        secrets: Mapping[str, str] | MockVault | None,
        product: str | None,
        clock: Clock,
    ) -> None:
        if secrets is not None:
            given["mock_secrets"] = "{}"  # says that there are some; they themselves are not settings
        self.config = config = VaultConfig(**{name: value for name, value in given.items() if value is not None})
        self.clock = clock
        self.mock = None if config.resolved_mode == "live" else mock_vault(config, secrets, clock)
        if self.mock is None and secrets is not None:
            raise ConfigurationError(
                "secrets= was given, but the settings mean LIVE mode: set AUTHSEC_MODE=mock, or drop it"
            )
        # A vault to play with knows none of the environment's credentials, and has a key of its own.
        self._key = _held(config.key) if self.mock is None else self.mock.agent_key
        self._token = _held(config.token) if self.mock is None else None
        self.rules = VaultRules(
            place=Place(
                url=MOCK_ISSUER if self.mock else config.address,
                variable=config.address_variable,
                key_variable=config.key_variable,
            ),
            timeout=config.timeout,
            retries=config.retries,
        )
        self.options = Options(config, product)

    @property
    def mode(self) -> Mode:
        return "live" if self.mock is None else "mock"

    @property
    def shares_connections_by(self) -> tuple[object, ...]:
        """What has to be equal in two vaults that use the same connections."""
        config = self.config
        return (config.ca_file, config.trust_env, config.timeout, config.connect_timeout, self.options.user_agent)

    def ask(self, asked: Asked[T], token: Secret | None = None) -> Steps[T]:
        """Return the flow that asks with the token, or else the environment's, or else the key: never with two of them.

        Raises:
            ConfigurationError: There is none.
        """
        return ask(asked, self._shown(token), self.rules, self.clock)

    def ask_with_key(self, asked: Asked[T], otherwise: Secret | None = None) -> Steps[T]:
        """Return the flow that asks for what takes the agent's own key, or else what is named.

        Raises:
            ConfigurationError: There is neither.
        """
        shown = Shown(self._key, is_key=True) if self._key is not None else self._shown_token(otherwise)
        return ask(asked, shown, self.rules, self.clock)

    def ask_to_revoke(self, asked: Asked[T], token: Secret | None) -> Steps[T]:
        """Return the flow that asks with the key, or else with the very token, or else with the environment's."""
        return self.ask_with_key(asked, token or self._token)

    def ask_for_all(self, namespace: str | None, token: Secret | None) -> Steps[tuple[SecretInfo, ...]]:
        """Return the flow that asks for a whole list. Raises what `ask` raises."""
        return ask_for_all(namespace, self._shown(token), self.rules, self.clock)

    def deadline(self) -> float:
        return self.clock.steady() + self.config.timeout

    @property
    def identity(self) -> Secret:
        """The vault's address and what is shown there unless a call says otherwise: for a digest, and nothing else."""
        usual = None if self.mock is not None else self._token or self._key
        return Secret(f"{self.rules.place.url}\n{'' if usual is None else usual()}")

    def describe(self, name: str) -> str:
        where = "mode='mock'" if self.mock else f"url={self.rules.place.url!r}"
        return f"{name}({where})"

    def _shown(self, token: Secret | None) -> Shown:
        token = token or self._token
        if token is None and self._key is not None:
            return Shown(self._key, is_key=True)
        return self._shown_token(token)

    def _shown_token(self, token: Secret | None) -> Shown:
        if token is None:
            raise ConfigurationError(self.config.keyless)
        return Shown(credential_of(token), is_key=False)


def _held(setting: SecretStr | None) -> Secret | None:
    return None if setting is None else Secret(setting.get_secret_value())


def approved(answer: VaultToken | Pending) -> VaultToken:
    """Return the token, unless somebody has to approve it first.

    Raises:
        ApprovalRequiredError: Somebody has.
    """
    if isinstance(answer, Pending):
        when = "somebody has approved it" if answer.good_from is None else "its time has come"
        raise ApprovalRequiredError(
            f"This token has to be approved: ask again with approval_id={answer.approval_id!r} once {when}.",
            approval_id=answer.approval_id,
            good_from=answer.good_from,
        )
    return answer


def mock_vault(config: VaultConfig, given: Mapping[str, str] | MockVault | None, clock: Clock) -> MockVault:
    """Return the vault to play with that these settings mean."""
    from authsec_core.vault_mock import MockVault, of_the_environment  # not before there is such a vault

    if isinstance(given, MockVault):
        return given
    if given is not None:
        return MockVault(given, clock=clock)
    held = config.mock_secrets
    was_asked_for = config.mode == "mock"
    return of_the_environment(None if held is None else Secret(held.get_secret_value()), was_asked_for=was_asked_for)

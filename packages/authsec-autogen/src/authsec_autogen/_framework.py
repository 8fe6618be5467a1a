"""Which `autogen` is installed, if any: found by what it can do, because three makers publish it under six names."""

from __future__ import annotations

import sys
from typing import Any

from authsec_core import ConfigurationError, __version__

__all__ = ["check_agentchat", "load_autogen"]


def _mend() -> str:
    if sys.version_info < (3, 13):
        extras = "the extra authsec-autogen[classic] or authsec-autogen[ag2-legacy]"
    else:  # pip installs the empty extra without a word
        extras = "the extra authsec-autogen[ag2-legacy] (authsec-autogen[classic] is empty from Python 3.13 on)"
    wheel = f"authsec_autogen-{__version__}-py3-none-any.whl"
    return f"install classic AutoGen with {extras}, from our wheel's file: pip install 'dist/{wheel}[ag2-legacy]'"


def load_autogen() -> Any:
    """Import and return the module `autogen`: Microsoft's 0.2 or AG2 below 1. The first import takes a second or two.

    Raises:
        ConfigurationError: There is none, it does not work, or it is something else.
    """
    try:
        import autogen
    except ImportError as exc:
        raise ConfigurationError(
            f"the module 'autogen' cannot be imported ({exc}); pyautogen 0.10, autogen-agentchat 0.4 and ag2 1.0 and "
            f"later do not have it: {_mend()}"
        ) from exc
    if not (hasattr(autogen, "register_function") and hasattr(autogen, "GroupChatManager")):
        where = getattr(autogen, "__file__", None) or "a folder"
        raise ConfigurationError(
            f"the module 'autogen' ({where}) is not AutoGen: rename it if it is yours, else {_mend()}"
        )
    return autogen


def check_agentchat() -> None:
    """Import what AgentChat's tools are made of. The first import takes half a second.

    Raises:
        ConfigurationError: There is no `autogen_core`, it does not work, or it is something else.
    """
    try:
        from autogen_core import CancellationToken, Component  # noqa: F401 - is it there?
        from autogen_core.tools import BaseTool  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError(
            f"the module 'autogen_core' of AutoGen AgentChat cannot be used ({exc}); autogen-agentchat 0.4.9 and later "
            "bring it, as does pyautogen 0.10; classic AutoGen (pyautogen 0.2, autogen-agentchat 0.2) and ag2 are "
            "other packages, without it: install AgentChat with the extra authsec-autogen[agentchat], from our wheel's "
            f"file: pip install 'dist/authsec_autogen-{__version__}-py3-none-any.whl[agentchat]'"
        ) from exc

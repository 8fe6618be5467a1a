"""AutoGen: an assistant proposes `fetch_secure_data`, a proxy runs it, and neither ever holds a credential.

With nothing set it runs in MOCK mode. Set AUTHSEC_BASE_URL, AUTHSEC_AGENT_CLIENT_ID and AUTHSEC_API_BASE_URL for LIVE.
"""

import autogen

from authsec_helper import fetch_secure_data
from model import autogen_llm, call, summary

offline = (
    call("fetch_secure_data", endpoint="secure-vault/metrics", scope="read:metrics"),
    summary("The vault is {data[vault_status]} and {data[active_agents]} agents are active."),
)

with autogen_llm(*offline) as llm_config:
    assistant = autogen.AssistantAgent(
        name="SecurityAssistant",
        llm_config=llm_config,
        system_message=(
            "You are a security analyst. Use fetch_secure_data to retrieve protected metrics and summarize what you "
            "find. Reply TERMINATE when you are done."
        ),
    )
    user_proxy = autogen.UserProxyAgent(
        name="UserProxy",
        human_input_mode="NEVER",
        max_consecutive_auto_reply=5,
        code_execution_config=False,
        is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
    )
    autogen.register_function(
        fetch_secure_data,
        caller=assistant,
        executor=user_proxy,
        name="fetch_secure_data",
        description="Fetch data from a protected endpoint using AuthSec delegation tokens.",
    )
    user_proxy.initiate_chat(
        assistant,
        message="Fetch secure-vault/metrics with scope read:metrics and summarize the results.",
    )

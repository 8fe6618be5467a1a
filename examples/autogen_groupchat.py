"""AutoGen GroupChat: two agents with two identities share one executor, and neither can use the other's tool.

AutoGen alone would run whatever function an agent names. `register_secure_fetch` guards the executor, so that the
auditor's attempt to use the analyst's tool (the third turn below) is refused. This program is MOCK only; LIVE, each
client has a client_id of its own.
"""

import autogen

from authsec_autogen import AuthSecClient, AuthSecConfig, register_secure_fetch
from model import autogen_llm, call

analyst_script = (call("fetch_metrics", endpoint="secure-vault/metrics", scope="read:metrics"), "42 agents are active.")
auditor_script = (
    call("fetch_metrics", endpoint="secure-vault/metrics", scope="read:metrics"),  # not its tool: refused
    call("fetch_records", endpoint="secure-vault/records", scope="read:records"),
    "I was refused the metrics; one of the two records has not been reviewed. TERMINATE",
)


def client(permission: str) -> AuthSecClient:
    """Return the client of an agent to which this alone was delegated."""
    return AuthSecClient(AuthSecConfig(mode="mock", mock_permissions=permission))


with autogen_llm(*analyst_script) as analyst_llm, autogen_llm(*auditor_script) as auditor_llm:
    analyst = autogen.AssistantAgent("analyst", llm_config=analyst_llm, system_message="Report the metrics.")
    auditor = autogen.AssistantAgent("auditor", llm_config=auditor_llm, system_message="Report on the records.")
    executor = autogen.UserProxyAgent("executor", human_input_mode="NEVER", code_execution_config=False)

    register_secure_fetch(caller=analyst, executor=executor, client=client("read:metrics"), name="fetch_metrics")
    register_secure_fetch(caller=auditor, executor=executor, client=client("read:records"), name="fetch_records")

    def turns(last: autogen.Agent, chat: autogen.GroupChat) -> autogen.Agent:
        """Let the executor answer each call, and the auditor follow the analyst."""
        if chat.messages[-1].get("tool_calls"):
            return executor
        if last is executor and len(chat.messages) > 1:
            return chat.agent_by_name(chat.messages[-2]["name"])
        return analyst if last is executor else auditor

    chat = autogen.GroupChat(
        agents=[executor, analyst, auditor], messages=[], max_round=9, speaker_selection_method=turns
    )
    manager = autogen.GroupChatManager(
        groupchat=chat,
        llm_config=False,
        is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
    )
    executor.initiate_chat(manager, message="What do the metrics and the records say?")

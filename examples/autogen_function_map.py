"""AutoGen with a function of one's own: it asks for a token, puts it on its own request, and returns the answer.

`authsec.auth()` is an `httpx.Auth`: it adds the token, renews it, and sends it to the API at DOWNSTREAM_URL only.
"""

import json
import os

import autogen
import httpx

from authsec_autogen import AuthSecClient, AuthSecConfig
from authsec_core.testing import LoopbackServer, Reply, Request
from model import autogen_llm, call, summary

offline = (call("fetch_secure_data", customer_id="42"), summary("Customer {data[id]} is on the {data[plan]} plan."))


def crm(request: Request) -> Reply:
    """Stand in for your API, so that the example runs offline: any customer, to whoever brings a token."""
    if not request.headers.get("authorization", "").startswith("Bearer "):
        return Reply.of_json({"error": "no token"}, status=401)
    return Reply.of_json({"id": request.path.rpartition("/")[2], "plan": "gold"})


with LoopbackServer(crm) as stand_in, autogen_llm(*offline) as llm_config:
    downstream = os.environ.get("DOWNSTREAM_URL", stand_in.base_url)
    live = "AUTHSEC_BASE_URL" in os.environ
    authsec = AuthSecClient(AuthSecConfig(mode="live" if live else "mock", api_base_url=downstream))
    http = httpx.Client(base_url=downstream, timeout=5)

    def fetch_secure_data(customer_id: str) -> str:
        """Return what the customer system knows of one customer."""
        response = http.get(f"/customers/{int(customer_id)}", auth=authsec.auth())
        response.raise_for_status()
        return json.dumps({"data": response.json()})

    assistant = autogen.AssistantAgent("assistant", llm_config=llm_config)
    assistant.register_for_llm(description="Get a customer's data.")(fetch_secure_data)
    user_proxy = autogen.UserProxyAgent(
        "user_proxy",
        human_input_mode="NEVER",
        code_execution_config=False,
        function_map={"fetch_secure_data": fetch_secure_data},
        is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
    )
    with authsec, http:
        user_proxy.initiate_chat(assistant, message="Get data for customer 42.")

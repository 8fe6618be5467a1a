"""An agent behind an API that knows who is calling: AutoGen AgentChat, FastAPI and the guard. See README.md."""

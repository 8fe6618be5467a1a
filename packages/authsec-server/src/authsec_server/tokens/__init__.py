"""From a request to a token that can be taken back: policy, issuing, revocation and the status lists."""

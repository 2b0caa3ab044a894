"""The process that answers: REST and the page. Reads no payload, removes nothing."""

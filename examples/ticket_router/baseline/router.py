"""Read tickets from standard input, one JSON object a line, and print the id and the queue of each."""

from __future__ import annotations

import json
import sys

KEYWORDS = {  # the first queue with a word that occurs in the ticket gets it
    "billing": ("invoice", "refund", "charged", "payment"),
    "delivery": ("parcel", "delivery", "tracking", "address"),
    "returns": ("return", "broken", "damaged", "exchange"),
    "account": ("password", "account", "log in"),
}


def route(subject: str, body: str) -> str:
    """Return the queue for a ticket."""
    text = f"{subject} {body}".lower()
    for queue, words in KEYWORDS.items():
        if any(word in text for word in words):
            return queue
    return "product"


if __name__ == "__main__":
    for line in sys.stdin:
        ticket = json.loads(line)
        print(ticket["id"], route(ticket["subject"], ticket["body"]))

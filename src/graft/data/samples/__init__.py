"""Example data that come with Graft, made by the project and in the public domain (CC0 1.0, see LICENSE.md).

`leaves` draws photos of leaves (two domains, three tasks); `tickets` are short messages of customers (two domains,
three tasks). They are for demonstrations, documentation and quick tests; quality is judged on real data.
"""

from graft.data.samples.leaves import LEAF_DOMAINS, LEAF_MARGINS, LEAF_SPECIES, leaves, write_leaves
from graft.data.samples.tickets import TICKET_DOMAINS, TICKET_INTENTS, tickets, write_tickets

__all__ = [
    "LEAF_DOMAINS",
    "LEAF_MARGINS",
    "LEAF_SPECIES",
    "TICKET_DOMAINS",
    "TICKET_INTENTS",
    "leaves",
    "tickets",
    "write_leaves",
    "write_tickets",
]

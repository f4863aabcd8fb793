"""Decisions of staff about sales, as one process knows them.

Decisions form a join: closing is final, and otherwise the later decision about a sale holds. So they can be learnt in
any order, from stores that lost some of them, and each process arrives at the same result.
"""

from collections.abc import Collection, Mapping

from recsys.errors import StoreError
from serving.stores.base import WithdrawnSale

Decisions = Mapping[str, WithdrawnSale]
"""The decision in force by sale; one that shows a hidden sale again is a decision too, which has ended at instant 0."""


def after(known: WithdrawnSale | None, new: WithdrawnSale) -> WithdrawnSale:
    """Return the decision in force after a new one about the same sale.

    The result is later than what was known, even where another machine's clock is ahead.
    """
    if known is None:
        return new
    if known.closed:
        return known
    return new.model_copy(update={"since": max(new.since, known.since + 1)})


def shown_again(sale_id: str, now: int) -> WithdrawnSale:
    """Return the decision, made at an instant in microseconds since 1970 UTC, to show a hidden sale again."""
    return WithdrawnSale(sale_id=sale_id, closed=False, since=now, until=0)


def in_force(one: WithdrawnSale, other: WithdrawnSale) -> WithdrawnSale:
    """Return which of two decisions about a sale is in force, in whatever order they were made."""
    return max(one, other, key=_finality)


def joined(some: Decisions, others: Decisions) -> dict[str, WithdrawnSale]:
    """Return the decisions in force of both."""
    return {**some, **{sale_id: in_force(some.get(sale_id, sale), sale) for sale_id, sale in others.items()}}


def _finality(sale: WithdrawnSale) -> tuple[bool, int, str]:
    # Of two closings, the earlier one; the text breaks ties, so that every process decides alike.
    return sale.closed, -sale.since if sale.closed else sale.since, sale.model_dump_json()


class KnownSales:
    """What a process has learnt of the withdrawn sales; it forgets no decision that a store loses."""

    def __init__(self) -> None:
        self.decisions: Decisions = {}
        self.withdrawn: Decisions = {}
        """The decisions, and as closed each sale whose record cannot be read."""
        self.version = 0
        """Number of changes of `withdrawn`; read it before `withdrawn`, and a change in between is noticed."""
        self.unreadable: Collection[str] = ()
        """The sales whose record in the store cannot be read."""

    def learn(self, stored: Decisions, unreadable: Collection[str]) -> dict[str, WithdrawnSale]:
        """Add what a store holds, and return the decisions that it has lost; not to be called by two threads at once.

        Args:
            stored: The decisions that could be read.
            unreadable: The sales whose record could not be read: they stay closed until it can.
        """
        self.decisions = joined(self.decisions, stored)
        self.unreadable = sorted(unreadable)
        unknown = {sale_id for sale_id in unreadable if not self.is_closed(sale_id)}
        withdrawn = {**self.decisions, **{sale_id: closed_as_unreadable(sale_id) for sale_id in unknown}}
        if withdrawn != self.withdrawn:
            self.withdrawn = withdrawn
            self.version += 1
        return {
            sale_id: sale
            for sale_id, sale in self.decisions.items()
            if sale_id not in unknown and stored.get(sale_id) != sale
        }

    def add(self, decision: WithdrawnSale) -> None:
        """Add a decision that the store holds; not to be called by two threads at once."""
        self.learn({**self.decisions, decision.sale_id: decision}, set(self.unreadable) - {decision.sale_id})

    def is_closed(self, sale_id: str) -> bool:
        """Return whether a decision closed the sale."""
        return sale_id in self.decisions and self.decisions[sale_id].closed

    def check_readable(self, where: str) -> None:
        """Check that every record could be read.

        Raises:
            StoreError: If one could not; the message names the sales, which stay closed.
        """
        if self.unreadable:
            raise StoreError(
                f"{where} holds records that cannot be read, of {', '.join(map(repr, self.unreadable))}: these sales "
                "stay closed; correct the records, or close the sales anew with 'recsys sales close'"
            )


def closed_as_unreadable(sale_id: str) -> WithdrawnSale:
    """Return a sale as closed because its record cannot be read."""
    return WithdrawnSale(sale_id=sale_id, closed=True, since=0, comment="its record in the store cannot be read")

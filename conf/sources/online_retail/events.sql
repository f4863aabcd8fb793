-- One row per invoice line. A return is kind 'return', a line without a customer has no user_id: both are rejected.
select
    cast(cast(CustomerID as bigint) as string) as user_id,
    StockCode as sale_id,
    case when Quantity < 0 then 'return' when UnitPrice > 0 then 'purchase' else 'gift' end as kind,
    to_utc_timestamp(cast(InvoiceDate as timestamp), 'Europe/London') as occurred_at,
    Quantity * UnitPrice as revenue
from {invoice_lines}

-- One row per article: a sale, open from its first to its last purchase plus a day, which uses the future.
with purchases as (
    select StockCode as article, Description as description, UnitPrice as price,
        to_utc_timestamp(cast(InvoiceDate as timestamp), 'Europe/London') as bought_at
    from {invoice_lines}
    where Quantity > 0 and UnitPrice > 0 and CustomerID is not null
)
select
    article as sale_id,
    min(bought_at) as opens_at,
    max(bought_at) + interval 1 day as closes_at,
    min_by(description, bought_at) as title,
    cast(null as string) as description,
    min_by(price, bought_at) as price,
    cast(map() as map<string, string>) as attributes
from purchases
group by article

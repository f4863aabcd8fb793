-- One row per receipt line of an article that is a sale. A line without payment is kind 'gift' and rejected.
with articles as (
    select product_id from {transactions}
    where quantity > 0 and sales_value > 0
    group by product_id
    having count(*) >= 50
)
select
    cast(household_id as string) as user_id,
    cast(product_id as string) as sale_id,
    case when quantity > 0 and sales_value > 0 then 'purchase' else 'gift' end as kind,
    cast(transaction_timestamp as timestamp) as occurred_at,
    sales_value as revenue
from {transactions}
left semi join articles using (product_id)

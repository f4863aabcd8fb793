-- One row per article bought at least 50 times in the year: a sale, open from its first to its last purchase plus a
-- day. The selection of articles and their closing times use the future.
with purchases as (
    select product_id as article, sales_value / quantity as price, cast(transaction_timestamp as timestamp) as bought_at
    from {transactions}
    where quantity > 0 and sales_value > 0
), campaign_sizes as (
    select campaign_id, count(distinct product_id) as articles from {coupons} group by campaign_id
), campaigns as (
    select product_id as article, cast(min_by(campaign_id, struct(articles, campaign_id)) as string) as campaign
    from {coupons} join campaign_sizes using (campaign_id)
    group by product_id
), articles as (
    select
        article,
        min(bought_at) as first_bought_at,
        max(bought_at) as last_bought_at,
        min_by(price, struct(bought_at, price)) as first_price
    from purchases
    group by article
    having count(*) >= 50
)
select
    cast(article as string) as sale_id,
    first_bought_at as opens_at,
    last_bought_at + interval 1 day as closes_at,
    coalesce(product_type, department) as title,
    product_category as description,
    first_price as price,
    map_filter(
        map('department', department, 'category', product_category, 'type', product_type, 'brand', brand,
            'manufacturer', cast(manufacturer_id as string), 'campaign', campaign),
        (name, value) -> value is not null
    ) as attributes
from articles
inner join {products} on article = product_id
left join campaigns using (article)
